"""Changes of a small index, the same changes of a model of it in memory, and a process that makes them.

A source is a data folder that contains pictures by name. The content of a picture is a number below CONTENTS, so that
a test can put the same picture into several sources and under several names.
"""

import itertools
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

import made
from regard.files import InputError, replacing
from regard.search.encoder import Encoder
from regard.search.index import Index
from regard.search.source import Source
from regard.training.trained_run import TrainedRun

CONTENTS = 8
SENTENCE = "w1 near w2"


def write_source(folder: Path, contents: Mapping[str, int]) -> Path:
    """Write the data folder with these pictures, in place of an earlier one."""
    shutil.rmtree(folder, ignore_errors=True)
    with replacing(folder) as temporary:
        temporary.mkdir()
        features = [np.random.default_rng(content).normal(size=(4, 8)) for content in contents.values()]
        np.save(temporary / "dev_ims.npy", np.array(features, np.float16))
        np.save(temporary / "dev_image_of_text.npy", np.arange(len(contents), dtype=np.int32))
        (temporary / "dev_ids.txt").write_text("".join(f"{name}\n" for name in contents))
        (temporary / "dev_caps.txt").write_text("".join(f"w{content}\n" for content in contents.values()))
    return folder


class Model:
    """What an index must contain."""

    def __init__(self, links: Mapping[str, tuple[int, str]] | None = None) -> None:
        self.links = dict(links or {})  # content and source of each id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Model) and self.links == other.links

    def __hash__(self) -> int:
        return hash(frozenset(self.links.items()))

    def added(self, source: Path, contents: Mapping[str, int], prefix: str = "", mirror: bool = False) -> "Model":
        """Return the model after a source was added. Raises InputError if an id belongs to another picture."""
        found = {prefix + name: (content, str(source)) for name, content in contents.items()}
        kept = {}
        for id_, (content, folder) in self.links.items():
            if folder != str(source) and found.get(id_, (content,))[0] != content:
                raise InputError(f"The id {id_} is another picture")
            if not (mirror and folder == str(source)):
                kept[id_] = (content, folder)
        return Model(kept | found)

    def removed(self, ids: set[str]) -> "Model":
        """Return the model after the pictures with some ids were removed, with all their other ids."""
        contents = {self.links[id_][0] for id_ in ids}
        return Model({id_: link for id_, link in self.links.items() if link[0] not in contents})

    @property
    def pictures(self) -> dict[frozenset[str], int]:
        """The ids of each picture, and its content."""
        contents = {content for content, _ in self.links.values()}
        return {frozenset(id_ for id_, (own, _) in self.links.items() if own == each): each for each in contents}


class Collection:
    """A run with random weights, what it computes of every content, and a new index."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = TrainedRun(made.run(folder / "run", made.folder(folder / "data"), "vse-infinity-f8k"))
        self.encoder = Encoder(self.run)
        everything = write_source(folder / "all", {str(content): content for content in range(CONTENTS)})
        source = Source(everything, "dev", self.run)
        vectors, _ = self.encoder.encode_images(source, np.arange(CONTENTS))
        self.scores = vectors @ self.encoder.encode_texts([SENTENCE]).summaries[0]

    def new_index(self, folder: Path) -> Index:
        return Index.create(folder, self.encoder)

    def differs(self, index: Index, model: Model) -> bool:
        """Return whether an index has other ids than the model, or the same ids for other pictures."""
        try:
            self.check(index, model)
        except AssertionError:
            return True
        return False

    def check(self, index: Index, model: Model) -> None:
        """Compare ids, links and the answer of an index with the model."""
        snapshot = index._state.snapshot
        links = snapshot.links()
        assert {link.id: link.source for own in links for link in own} == {
            id_: source for id_, (_, source) in model.links.items()
        }
        assert sorted(map(sorted, ([link.id for link in own] for own in links))) == sorted(map(sorted, model.pictures))
        assert sorted(snapshot.row_of) == sorted(model.links)
        expected = {ids: self.scores[content] for ids, content in model.pictures.items()}
        hits = index.search([SENTENCE], k=3 * CONTENTS)[0].hits
        found = {frozenset(index.item(hit.id).ids): hit.score for hit in hits}
        assert len(found) == len(hits) == len(expected)
        assert all(abs(found[ids] - score) < 1e-5 for ids, score in expected.items())
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


# Processes ------------------------------------------------------------------------------------------------------------


Sources = list[tuple[Path, dict[str, int]]]  # folder and contents of each source


def change(index: Index, sources: Sources, number: int) -> None:
    """Make the change with a number: an addition, another one, a removal or a compaction."""
    if number % 4 == 3:
        index.compact()
    elif number % 4 == 2:
        index.remove(where=" OR ".join(f"array_has(ids, '{id_}')" for id_ in _removed(number)))
    else:
        index.add(sources[number % 3][0], prefix=_prefix(number), mirror=_mirror(number))


def changed(model: Model, sources: Sources, number: int) -> Model:
    """Return the model after the change with a number."""
    if number % 4 == 3:
        return model
    if number % 4 == 2:
        return model.removed(_removed(number) & model.links.keys())
    return model.added(*sources[number % 3], _prefix(number), _mirror(number))


def _prefix(number: int) -> str:
    return f"{number % 3}{number % 4}/"


def _mirror(number: int) -> bool:
    return number % 8 == 1


def _removed(number: int) -> set[str]:
    return {f"{source}{kind}/{number % 6}" for source in range(3) for kind in range(2)}


def change_forever(folder: Path, sources: Sources, first: int, log: Path) -> None:
    """Make changes from a number on until the process is killed, with a line in `log` after each."""
    torch.set_num_threads(1)
    index = Index(folder)
    with open(log, "a", buffering=1) as file:
        for number in itertools.count(first):
            change(index, sources, number)
            file.write(f"{number}\n")


def add_once(folder: Path, source: Path, prefix: str, mirror: bool, ready: Path, go: Path | None = None) -> None:
    """Add a source once the file `go` exists, after creating the file `ready`."""
    torch.set_num_threads(1)
    index = Index(folder)
    ready.touch()
    while go and not go.exists():
        os.sched_yield()
    index.add(source, prefix=prefix, mirror=mirror)


def search_until(folder: Path, ready: Path, stop: Path) -> None:
    """Search until the file `stop` exists, and compare each answer with the first."""
    torch.set_num_threads(1)
    index = Index(folder)
    first = index.search([SENTENCE], k=3 * CONTENTS)[0].hits
    ready.touch()
    while not stop.exists():
        assert index.search([SENTENCE], k=3 * CONTENTS)[0].hits == first
        assert len(index.items([hit.id for hit in first])) == len(first)
