"""The verbs look and explain."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from regard.cli.common import Device, OutputFile, Run, RunData, SplitName, console, write_json
from regard.files import InputError

if TYPE_CHECKING:
    from regard.explain import Explanation
    from regard.explain.relation_effects import RelationEffects

FORMS = (".png", ".html", ".json")


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
    console.print(f"{image}   {contents.summary()}")
    source = f"with {photograph}" if photograph else "without the photograph (--photographs names its folder)"
    console.print(f"Wrote {out}, {source}")


def explain(
    run: Run,
    image: str,
    sentence: str,
    *,
    out: Annotated[OutputFile, Parameter(name=("--out", "-o"))],
    against: str | None = None,
    data: RunData = None,
    split: SplitName = "test",
    photographs: Path | None = None,
    device: Device = "auto",
) -> None:
    """Explain the score of an image and a sentence.

    The explanation contains the region that each word matches, the parts of the score, what the score loses without
    each word, and what each relation of the image adds, beside random relations as noise.

    Parameters
    ----------
    image
        Id of the image, as in {split}_ids.txt.
    sentence
        The sentence, in quotes.
    out
        File to write: a picture (.png), a page (.html) or the numbers (.json).
    against
        Another sentence: also show which words and which relations decide between the two.
    photographs
        Folder of the photographs. Default: the folder that the data folder names, or the data folder's own pictures.
    """
    check_form(out)

    from regard.encode import check_inputs
    from regard.explain import Explanation
    from regard.explain.image_contents import find_photograph, find_row
    from regard.runtime import device_named
    from regard.training.trained_run import TrainedRun

    trained = TrainedRun(run, device_named(device))
    opened = trained.open_split(split, data)
    check_inputs(trained.model, opened)
    row = find_row(opened, image)
    explanation = Explanation.of_row(trained.model, opened, row, sentence, image, against)
    width, height = opened.sizes[row].tolist() if opened.sizes is not None else (4, 3)
    write_explanation(explanation, out, find_photograph(opened, row, photographs), width / height)


def check_form(out: Path) -> None:
    """Raise InputError if `out` does not end in .png, .html or .json."""
    if out.suffix.lower() not in FORMS:
        raise InputError(f"{out} ends in {out.suffix or 'nothing'}: expected .png, .html or .json.")


def write_explanation(explanation: "Explanation", out: Path, photograph: Path | None, aspect: float = 4 / 3) -> None:
    """Write an explanation in the form that the suffix of `out` names, and print its summary."""
    form = out.suffix.lower()
    if form == ".json":
        write_json(out, explanation.to_dict())
    elif form == ".png":
        from regard.explain import draw_explanation  # imports matplotlib

        draw_explanation(explanation, out, photograph, aspect)
    else:
        from regard.explain import write_explanation_page

        write_explanation_page(explanation, out, photograph, aspect)
    for line in summary(explanation):
        console.print(line)
    console.print(f"Wrote {out}")


def summary(explanation: "Explanation") -> list[str]:
    """Return a few lines: the score and its parts, the costliest word, the notable relations, and what decides."""
    from regard.explain.alignment import arrow_name

    def relations(title: str, effects: "RelationEffects | None") -> list[str]:
        if effects is None or not effects.relations:
            return []
        order = abs(effects.effects).argsort(kind="stable")[::-1]
        names = explanation.name_relations()
        notable = [f"{arrow_name(names[at])} {effects.effects[at]:+.4f}" for at in order if effects.notable[at]]
        noise = "unknown" if effects.noise is None else f"{effects.noise:.4f}"
        return [f"{title}: {', '.join(notable[:3]) or 'none'}   (noise {noise})"]

    parts = " + ".join(f"{name} {value:.4f}" for name, value in explanation.parts.items())
    lines = [f"score {explanation.score:.4f} = {parts}"]
    if explanation.without:
        lines.append("without " + ", ".join(f"{name}: {value:.4f}" for name, value in explanation.without.items()))
    word = explanation.costliest_word
    lines.append(f"costliest word: {explanation.alignment.words[word]} {explanation.word_costs[word]:+.4f}")
    lines += relations("relations above the noise", explanation.relations)
    if explanation.against is not None:
        lines.append(f"score of the other sentence {explanation.against.score:.4f}, margin {explanation.margin:+.4f}")
        decisive = ", ".join(f"{each} {each.effect:+.4f}" for each in explanation.differences[:3])
        lines.append(f"words that decide: {decisive or 'none'}")
        lines += relations("relations that decide", explanation.decisive_relations)
    return lines
