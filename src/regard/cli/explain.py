"""The verb look."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from regard.cli.common import OutputFile, console


def look(
    data: Path,
    image: str,
    *,
    out: Annotated[OutputFile, Parameter(name=("--out", "-o"))],
    split: str | None = None,
    photographs: Path | None = None,
    regions: int = 12,
    relations: int = 12,
    sentences: int = 5,
) -> None:
    """Draw an image with its regions, relations and sentences.

    The relations are drawn as a graph between the regions, and each sentence as a graph of its words.

    Parameters
    ----------
    data
        Data folder.
    image
        Id of the image, as in {split}_ids.txt.
    out
        PNG file to write.
    split
        Split to look in. Default: all splits.
    photographs
        Folder of the photographs. Default: the folder that the data folder names, or the data folder's own pictures.
    regions
        Largest number of regions to draw: first those of the relations, then the largest.
    relations
        Largest number of relations to draw, the most confident first. If the image has more, at most two per region
        and no repetitions are drawn.
    sentences
        Largest number of sentences to draw.
    """
    from regard.explain import ImageContents, draw_image
    from regard.explain.image_contents import find_image, find_photograph

    opened, row = find_image(data, image, split)
    photograph = find_photograph(opened, row, photographs)
    contents = ImageContents.of(opened, row, photograph, regions=regions, relations=relations, sentences=sentences)
    draw_image(contents, out)
    console.print(f"{image}   {contents.summary()}", markup=False)
    source = f"with {photograph}" if photograph else "without the photograph (--photographs names its folder)"
    console.print(f"Wrote {out}, {source}", markup=False)
