"""One picture of an index: what is shown of it, why it matches a sentence, and the encoding of a picture outside."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from regard.explain.explanation import Explanation
from regard.files import InputError
from regard.search.encoder import Encoder, Stored
from regard.search.entries import Entry
from regard.search.source import Source, extract_like, sources_of
from regard.training.trained_run import TrainedRun


@dataclass(frozen=True)
class Item:
    """A picture of an index, without its vectors."""

    id: str
    ids: tuple[str, ...]
    paths: tuple[str, ...]
    width: int | None
    height: int | None
    boxes: list[list[float]]  # x1 y1 x2 y2, fractions of the image
    labels: list[str]  # class name per region; "" if it has none
    relations: list[tuple[int, str, int]]  # subject region, predicate, object region
    captions: tuple[str, ...]
    payload: dict[str, Any]  # the columns to filter by, and `split`


def item_of(entry: Entry) -> Item:
    """Return what is shown of a picture."""
    content = entry.content
    payload = {"split": entry.links[0].split, **entry.payload}
    return Item(
        id=entry.links[0].id,
        ids=tuple(link.id for link in entry.links),
        paths=tuple(link.path for link in entry.links if link.path),
        width=entry.payload.get("width"),
        height=entry.payload.get("height"),
        boxes=content["boxes"],
        labels=content["labels"],
        relations=[(subject, predicate, object_) for subject, predicate, object_ in content["relations"]],
        captions=tuple(content["captions"]),
        payload=payload,
    )


def explain_entry(
    run: TrainedRun | None,
    entry: Entry,
    id_: str,
    sentence: str,
    against: str | None,
    opened: dict[tuple[str, str], Source],
) -> Explanation:
    """Explain the score of a picture of an index and a sentence.

    `opened` keeps the splits that were opened, by folder and name, for the next call. Raises InputError if the data
    folder that the picture was added from is gone, or if there is no run.
    """
    if run is None:
        raise InputError("This index has an embedding model and no run: there is nothing to explain.")
    link = next((link for link in entry.links if Path(link.source).is_dir()), None)
    if link is None:
        raise InputError(f"{id_} was added from {entry.links[0].source}, which is no longer there: add it again.")
    source = opened.setdefault((link.source, link.split), Source(Path(link.source), link.split, run))
    row = source.row_of.get(link.name)
    if row is None:
        raise InputError(f"{link.source} no longer contains {id_}: `regard index sync` updates the index.")
    return Explanation.of_row(run.model, source.split, row, sentence, id_, against)


def encode_file(encoder: Encoder, path: str, device: str) -> Stored:
    """Return a picture that is not in the index, extracted as the data of the run were and encoded."""
    with TemporaryDirectory() as folder:
        photographs = Path(folder) / "photographs"
        photographs.mkdir()
        shutil.copy(path, photographs)
        run = encoder.run
        if extract_like(photographs, Path(folder) / "data", run, device=device):
            raise InputError(f"{path} cannot be read: expected a picture.")
        (source,) = sources_of(Path(folder) / "data", run)
        return encoder.stored(*encoder.encode_images(source, np.array([0])))
