"""The verb search."""

from pathlib import Path

from regard.cli.common import Device, Json, console, write_json
from regard.files import InputError


def search(
    run: Path,
    *sentences: str,
    data: Path | None = None,
    split: str = "test",
    count: int = 10,
    shortlist: int = 100,
    json_: Json = None,
    device: Device = "auto",
) -> None:
    """Find the images of a split that answer a sentence best.

    Parameters
    ----------
    run
        A run folder.
    sentences
        One or more, each in quotes.
    data
        The data folder; by default the one that the run was trained on.
    split
        Which split of it.
    count
        How many images to tell.
    shortlist
        Score exactly only so many best images by summary vectors; 0: all.
    json_
        Write the images found there.
    device
        auto, cpu or cuda.
    """
    from regard.runtime import device_named
    from regard.search.gallery import Index
    from regard.training.checkpoint import data_of, load, open_for

    if not sentences:
        raise InputError('Give at least one sentence, in quotes: regard search RUN "a dog runs after a man".')
    model = load(run, device_named(device))
    opened = open_for(run, data or data_of(run), split)
    with console.status(f"reading {opened.num_images:,} images"):
        found = Index.of(model, opened).ask(sentences, count, shortlist or None)
    for sentence, hits in zip(sentences, found, strict=True):
        console.print(sentence, markup=False)
        for hit in hits:
            said = next(iter(opened.captions[row] for row in (opened.image_of_text == hit.image).nonzero()[0]), "")
            console.print(f"  {hit.score:8.4f}  {hit.id}  {said}", markup=False)
    answers = dict(zip(sentences, found, strict=True))
    write_json(json_, {sentence: [vars(hit) for hit in hits] for sentence, hits in answers.items()})
