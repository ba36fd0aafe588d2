"""The verb look."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from regard.cli.common import check_writable, console


def look(
    data: Path,
    image: str,
    *,
    out: Annotated[Path, Parameter(name=("--out", "-o"), validator=check_writable)],
    split: str | None = None,
    photographs: Path | None = None,
    regions: int = 12,
    relations: int = 12,
    sentences: int = 5,
) -> None:
    """Draw an image of a data folder: its regions, their relations as a graph, and the graphs of its sentences.

    Parameters
    ----------
    data
        The data folder.
    image
        An image's id, as in {split}_ids.txt.
    out
        The picture, a PNG file.
    split
        Look only there; by default in every split.
    photographs
        The folder of the photographs; by default the one that the data folder names, or its own pictures.
    regions
        How many regions are drawn at most: those of the relations, then the largest.
    relations
        How many relations are drawn at most, the surest first. Where there are more, two a region and no repeats.
    sentences
        How many sentences are drawn at most.
    """
    from regard.explain.image import draw_look, find, legend, photograph_of
    from regard.explain.image import look as seen

    opened, row = find(data, image, split)
    photograph = photograph_of(opened, row, photographs)
    found = seen(opened, row, photograph, regions=regions, relations=relations, sentences=sentences)
    draw_look(found, out)
    console.print(f"{image}   {legend(found)}", markup=False)
    where = f"with {photograph}" if photograph else "without its photograph (--photographs says where it lies)"
    console.print(f"Wrote {out}, {where}", markup=False)
