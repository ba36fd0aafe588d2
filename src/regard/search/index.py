"""An index: a collection of pictures on disk that answers sentences.

index.json          the vector set in use, and for each set its run, fingerprint and measured recall
store/NAME.lance    the rows of the vector set NAME (index_store.py), unless they are in an object store
extracted/          data folders of the photographs that were added directly
lock                held by the one process that writes

A picture is known by its content (`Entry.key`), so that a file that was moved or renamed is the same row. Each change
is one transaction of the store; searching goes on in the version that was opened.
"""

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from regard.explain.explanation import Explanation
from regard.extract.extraction import Progress
from regard.files import InputError, nearest
from regard.search.encoder import Encoder, Shortlist
from regard.search.entries import Entry
from regard.search.index_store import LanceStore, Snapshot, row_of
from regard.search.item import Item, encode_file, explain_entry, item_of
from regard.search.manifest import (
    FORMAT,
    LOCK,
    STORE,
    WAIT,
    check_address,
    copy_index,
    is_index,
    read_manifest,
    store_of,
    write_manifest,
    writing,
)
from regard.search.milvus import MilvusShortlist, collection_of
from regard.search.opened import Opened
from regard.search.plan import ChangeReport, ImageEncoder, Plan, encode_again
from regard.search.query import DEFAULT_SHORTLIST, Answer, Query, SearchOptions, answer_queries, measure_recall
from regard.search.sentences import encode_sentences_again, rank_sentences, remove_orphans, sentence_entries
from regard.search.source import check_extraction, extract_like, extraction_folder, is_data_folder, sources_of
from regard.search.stages import encoder_of, nearest_of, settings_of
from regard.training.trained_run import TrainedRun

EXTRACTED = "extracted"
TEXTS = "-texts"  # after the name of a vector set: its sentences
FIRST = "main"  # name of the first vector set


class Index:
    """A collection on disk. Opening reads the summary vectors into memory; several threads may search at once."""

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        run: Path | None = None,
        first: Shortlist | None = None,
        device: str = "cpu",
    ) -> None:
        """Open an index.

        `run` replaces the recorded folder of the run, which may have been moved. `first` is the first stage of an index
        that was made with one of the user's own, such as OwnVectors.

        Raises InputError if the folder is not an index, or if the run is gone or has another fingerprint.
        """
        self.folder, self.device, self._run, self._first = Path(folder), device, run, first
        self._place, self._changing = store_of(self.folder), threading.RLock()
        self._state = self._load()

    @classmethod
    def create(cls, folder: str | os.PathLike[str], encoder: Encoder, device: str = "cpu", store: str = "") -> "Index":
        """Create an empty index, or open the empty one that an interrupted call left.

        `store` is the address of an object store for the rows, such as s3://bucket/pictures. Raises InputError if the
        folder or the store exists and contains anything else.
        """
        folder, place = Path(folder), check_address(store) if store else Path(folder) / STORE
        if is_index(folder):
            index = cls(folder, first=encoder.first, device=device)
            if len(index) or index.fingerprint != encoder.fingerprint or index._place != place:
                raise InputError(f"{folder} is an index already: `regard index add` adds to it. Expected a new folder.")
            return index
        if folder.exists() and (not folder.is_dir() or {path.name for path in folder.iterdir()} - {STORE, LOCK}):
            raise InputError(f"{folder} is not empty. Expected a new folder.")
        folder.mkdir(parents=True, exist_ok=True)
        table = LanceStore(place, FIRST)
        table.create(encoder.dim)
        if len(table.snapshot()):
            raise InputError(f"{table.path} has rows of another index: expected a new place.")
        manifest = {"format": FORMAT, "using": FIRST, "sets": {FIRST: settings_of(encoder)}}
        write_manifest(folder, manifest | ({"store": store} if store else {}))
        return cls(folder, first=encoder.first, device=device)

    # Reading ----------------------------------------------------------------------------------------------------------

    def _load(self, name: str | None = None) -> Opened:
        manifest = read_manifest(self.folder)
        name = name or manifest["using"]
        entry = manifest["sets"][name]
        encoder = encoder_of(entry, self.device, self._run, self._first)
        snapshot, sentences = self._store(name).snapshot(), self._sentences(name, entry)
        return Opened(name, entry, snapshot, encoder, sentences, nearest_of(entry, snapshot))

    def _sentences(self, name: str, entry: dict[str, Any], current: Snapshot | None = None) -> Snapshot | None:
        return self._store(name, TEXTS).snapshot(current) if entry.get("texts") else None

    def _stores(self) -> list[LanceStore]:
        """The stores of all vector sets."""
        sets = read_manifest(self.folder)["sets"]
        return [self._store(name, kind) for name in sets for kind in ("", TEXTS) if not kind or sets[name].get("texts")]

    def _store(self, name: str, kind: str = "") -> LanceStore:
        return LanceStore(self._place, name + kind)

    @property
    def opened(self) -> Opened:
        """The version that is open, of which several things can be read without a change in between."""
        return self._state

    @property
    def version(self) -> int:
        """The version of the collection that is open."""
        return self._state.snapshot.version

    @property
    def fingerprint(self) -> str:
        """The fingerprint of what encoded the pictures."""
        return self._state.fingerprint

    @property
    def run(self) -> TrainedRun | None:
        """The run that scores exactly."""
        return self._state.encoder.run

    @property
    def name(self) -> str:
        """The name of the vector set in use."""
        return self._state.name

    def __len__(self) -> int:
        return len(self._state.snapshot)

    def refresh(self) -> bool:
        """Open the latest version, if there is a newer one. A search that has begun keeps the version that it reads."""
        if not self._changing.acquire(blocking=False):
            return False  # another thread changes the index, and opens what it has written
        try:
            before, self._state = self._state, self._latest(self._state)
            return self._state is not before
        finally:
            self._changing.release()

    def _latest(self, state: Opened) -> Opened:
        manifest = read_manifest(self.folder)
        name = manifest["using"]
        if name != state.name or manifest["sets"][name]["fingerprint"] != state.entry["fingerprint"]:
            self._run = None  # it was the run of the other vector set
            return self._load()
        entry, snapshot = manifest["sets"][name], self._store(name).snapshot(state.snapshot)
        sentences = self._sentences(name, entry, state.sentences)
        if snapshot is state.snapshot and sentences is state.sentences and entry == state.entry:
            return state
        nearest = nearest_of(entry, snapshot)
        # The sources are opened again, because what was added may have changed them.
        return replace(state, entry=entry, snapshot=snapshot, sentences=sentences, nearest=nearest, sources={})

    def ping(self) -> None:
        """Raise InputError if a server chooses the shortlists and does not answer."""
        if isinstance(self._state.nearest, MilvusShortlist):
            self._state.nearest.ping()

    def search(self, queries: Sequence[Query | str], **options: Any) -> list[Answer]:
        """Return the best pictures of each query; see `answer_queries`. `options` are the fields of SearchOptions.

        The picture of a query is the id of a picture of the index, or, with `files`, the path of a file.
        """
        state, given = self._state, SearchOptions(**options)
        asked = [Query(query) if isinstance(query, str) else query for query in queries]
        files = {query.image for query in asked if query.image and query.image not in state.snapshot.row_of}
        found = filter(os.path.isfile, files if given.files else ())
        pictures = {path: encode_file(state.encoder, path, self.device).summaries[0] for path in found}
        return answer_queries(
            state.snapshot,
            state.encoder,
            asked,
            given,
            fingerprint=state.fingerprint,
            nearest=state.nearest,
            pictures=pictures,
            recall=state.recall,
        )

    def sentences_of(self, image: str, *, k: int = 10, shortlist: int = DEFAULT_SHORTLIST) -> list[tuple[str, float]]:
        """Return the best sentences of a picture with their scores, of those that were added with `texts`.

        `image` is the id of a picture of the index, or the path of a file. `shortlist` sentences are scored exactly; 0:
        all. Raises InputError if the index has no sentences.
        """
        state = self._state
        if not state.sentences:
            raise InputError("This index has no sentences: add them with `regard index add INDEX SOURCE --texts`.")
        if image not in state.snapshot.row_of and Path(image).is_file():
            stored = encode_file(state.encoder, image, self.device)
        else:
            row = row_of(state.snapshot, image)
            stored = state.encoder.stored(state.snapshot.summaries[row : row + 1], state.snapshot.fetch([row]))
        return rank_sentences(state.sentences, state.encoder, stored, k, shortlist)

    def item(self, id_: str) -> Item:
        """Return a picture by one of its ids. Raises InputError if there is none."""
        return item_of(self._record(id_))

    def items(self, ids: Sequence[str]) -> list[Item]:
        """Return pictures by their first ids."""
        snapshot = self._state.snapshot
        return [item_of(entry) for entry in snapshot.records([row_of(snapshot, id_) for id_ in ids])]

    def picture(self, id_: str) -> Path | None:
        """Return the path of a picture's file, if it is there."""
        paths = (Path(link.path) for link in self._record(id_).links if link.path)
        return next((path for path in paths if path.is_file()), None)

    def columns(self) -> dict[str, str]:
        """Return the columns to filter by, and their types: integer, number, text, or texts (a list)."""
        return {"id": "text", "split": "text", **self._state.snapshot.payload_types()}

    def explain(self, id_: str, sentence: str, against: str | None = None) -> Explanation:
        """Explain the score of a picture and a sentence; see `Explanation`.

        Raises InputError if the data folder that the picture was added from is gone.
        """
        state = self._state
        return explain_entry(state.encoder.run, self._record(id_), id_, sentence, against, state.sources)

    def sentences(self, count: int) -> list[str]:
        """Return up to `count` sentences of the pictures, one per picture, spread evenly over the index."""
        rows = np.unique(np.linspace(0, max(len(self) - 1, 0), min(count, len(self))).astype(int))
        captions = (record.content["captions"] for record in self._state.snapshot.records(rows.tolist()))
        return [own[0] for own in captions if own]

    def info(self) -> dict[str, Any]:
        """Return what the index contains: pictures, version, vector sets, columns and size on disk."""
        return {
            "folder": str(self.folder),
            "store": str(self._place),
            "pictures": len(self),
            "version": self.version,
            "using": self.name,
            "sets": read_manifest(self.folder)["sets"],
            "columns": self.columns(),
            "bytes": sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file()),
        }

    def _record(self, id_: str) -> Entry:
        snapshot = self._state.snapshot
        return snapshot.records([row_of(snapshot, id_)])[0]

    # Changing ---------------------------------------------------------------------------------------------------------

    @contextmanager
    def locked(self, wait: float = WAIT) -> Iterator[None]:
        """Be the only writer during the block. Raises InputError if another process writes for longer than `wait`."""
        with self._changing, writing(self.folder, wait):
            yield

    def add(
        self,
        source: str | os.PathLike[str],
        *,
        split: str | None = None,
        prefix: str = "",
        captions: Path | None = None,
        mirror: bool = False,
        dry_run: bool = False,
        texts: bool = False,
        progress: Progress | None = None,
        encode: Callable[[Plan], ImageEncoder] | None = None,
    ) -> ChangeReport:
        """Add the pictures of a data folder, or of a folder of photographs, in one transaction.

        Photographs are extracted first, with the options of the run's own data. A picture that is known by its content
        gets another id and path. A picture whose content changed under the same id of the same source is replaced.

        Parameters
        ----------
        source
            Data folder or folder of photographs.
        split
            The one split of a data folder to add. Default: all.
        prefix
            Put before each id, to tell apart pictures of several sources that have the same id.
        captions
            Table of sentences of photographs, whose other columns can be filtered by.
        mirror
            Also remove what this source contributed and no longer contains.
        dry_run
            Only report what would change.
        texts
            Also keep the sentences of the source, which pictures can then be answered with.
        encode
            Encodes the pictures of the change elsewhere, in place of the encoder of the index.

        Raises InputError if the source does not fit the index.
        """
        began, source = time.monotonic(), Path(source)
        with self.locked():
            self._state = state = self._load()
            run, unreadable = state.encoder.run, list[str]()
            folder = source.resolve()
            if not is_data_folder(source):
                folder = extraction_folder(self.folder.resolve() / EXTRACTED, source)
                unreadable = extract_like(source, folder, run, captions=captions, device=self.device, progress=progress)
            if run:
                check_extraction(folder, run)
            sources = sources_of(folder, run, split)
            for each in sources:
                state.encoder.check(each)
            plan = Plan.of(state.snapshot, sources, prefix, mirror, unreadable)
            if not (plan.is_empty or dry_run):
                plan.carry_out(self._store(state.name), encode(plan) if encode else state.encoder, progress)
            if texts and not dry_run:
                store = self._store(state.name, TEXTS)
                store.create(state.encoder.dim)
                self._record_settings(state.name, texts=True)  # of what exists
                known = set(store.snapshot().keys)
                store.put(sentence_entries(state.encoder, sources, plan.keys, known), {})
            self._reopen()
        added, seconds = sum(map(len, plan.new.values())), time.monotonic() - began
        return ChangeReport(
            added, len(plan.relinked), plan.unchanged, len(plan.removed), unreadable, self.version, seconds
        )

    def remove(self, ids: Sequence[str] = (), where: str = "") -> ChangeReport:
        """Remove pictures by id or by a condition, in one transaction. Raises InputError if an id is unknown."""
        began = time.monotonic()
        with self.locked():
            self._state = state = self._load()
            rows = [row_of(state.snapshot, id_) for id_ in ids]
            rows += state.snapshot.where(where).tolist() if where else []
            keys = sorted({state.snapshot.keys[row] for row in rows})
            if keys:
                self._store(state.name).put((), {}, keys)
            self._reopen()
        return ChangeReport(removed=len(keys), version=self.version, seconds=time.monotonic() - began)

    def build(self, encoder: Encoder, name: str, progress: Progress | None = None) -> ChangeReport:
        """Encode the pictures of the set in use by another model, as a vector set `name` beside it.

        What an earlier, interrupted call encoded is kept; each batch is one transaction. Raises InputError if a data
        folder that pictures were added from is gone, or if the set `name` is in use or has another fingerprint.
        """
        began = time.monotonic()
        with self.locked():
            self._state = state = self._load()
            manifest = read_manifest(self.folder)
            if name == state.name:
                raise InputError(f"The vector set {name} is in use: give another name.")
            store, settings = self._store(name), settings_of(encoder)
            earlier = manifest["sets"].get(name)
            if earlier and earlier["fingerprint"] != settings["fingerprint"]:
                raise InputError(f"The vector set {name} was made by another model: give another name.")
            store.create(encoder.dim)
            known = set(store.snapshot().keys)
            missing = [row for row, key in enumerate(state.snapshot.keys) if key not in known]
            for records in encode_again(encoder, state.snapshot, missing, progress):
                store.put(records, state.snapshot.payload_types())
            if state.sentences is not None:
                settings["texts"] = True
                encode_sentences_again(encoder, state.sentences, self._store(name, TEXTS))
            stale = sorted(known - set(state.snapshot.keys))
            if stale:
                store.put((), {}, stale)
            manifest["sets"][name] = settings
            write_manifest(self.folder, manifest)
        version, seconds = store.snapshot().version, time.monotonic() - began
        return ChangeReport(len(missing), 0, len(known) - len(stale), len(stale), version=version, seconds=seconds)

    def use(self, name: str) -> None:
        """Search with the vector set `name` from now on.

        Raises InputError if it has other pictures than the set in use, or lacks sentences.
        """
        with self.locked():
            manifest = read_manifest(self.folder)
            if name not in manifest["sets"]:
                raise InputError(f"{self.folder} has no vector set {name!r}. {nearest(name, manifest['sets'])}")
            current, other = self._load(), self._load(name)
            if what := current.difference(other):
                raise InputError(
                    f"The vector set {name} differs from {current.name} in {what}: run `regard index build` with its "
                    f"run and its name again."
                )
            write_manifest(self.folder, manifest | {"using": name})
            self._state = other

    # Care -------------------------------------------------------------------------------------------------------------

    def verify(self) -> list[str]:
        """Read every row of every vector set, and return one line per fault."""
        return [f"{store.name}: {fault}" for store in self._stores() for fault in store.verify()]

    def compact(self) -> None:
        """Rewrite small files as larger ones, and delete old versions; see `IndexStore.compact`.

        The features of photographs that were added directly are deleted if no picture of any vector set has them.
        """
        with self.locked():
            referred = set()  # by name, as the index may have been moved
            for store in self._stores():
                store.compact()
                referred |= {Path(link.source).name for links in store.snapshot().links() for link in links}
            for folder in (self.folder / EXTRACTED).glob("*"):
                if folder.name not in referred:
                    shutil.rmtree(folder)
            self._reopen()

    def check(self, sentences: Sequence[str], k: int = 10, progress: Progress | None = None) -> dict[int, float]:
        """Measure and record the recall of shortlists: the percentage of the exact top `k` that each length finds.

        The exact top `k` is that of all pictures, scored for each sentence. Raises InputError without sentences, and
        for an index without a run, whose summary vectors are its scores.
        """
        state = self._state
        if state.encoder.run is None:
            raise InputError("This index has no run: it is ranked by its summary vectors, without a shortlist.")
        if not sentences:
            raise InputError("There is no sentence to measure with: expected at least one.")
        recall = measure_recall(state.snapshot, state.encoder, sentences, k, state.nearest, progress)
        with self.locked():
            found = {str(length): value for length, value in recall.items()}
            self._record_settings(state.name, recall=found, measured_on=len(state.snapshot))
        self.refresh()
        return recall

    def mirror(self, address: str, collection: str = "regard", progress: Progress | None = None) -> int:
        """Let Milvus at an address choose the shortlists from now on: copy keys and summary vectors to a collection.

        The name of the collection begins with `collection`; this index and its model make the rest. Returns how many
        vectors were sent or removed. After a change of the index, the product in memory chooses until the next call. An
        `address` of "" ends it. Raises InputError if the server does not answer.
        """
        with self.locked():
            state, changed, settings = self._load(), 0, None
            if address:
                name = collection_of(self.folder, state.fingerprint, collection)
                changed = MilvusShortlist(address, name).mirror(state.snapshot, progress)
                settings = {"address": address, "collection": name, "version": state.snapshot.version}
            self._record_settings(state.name, milvus=settings, ann=None, recall=None)  # which was of other shortlists
        self.refresh()
        return changed

    def approximate(self, is_wanted: bool = True) -> None:
        """Let LanceDB's approximate index choose the shortlists from now on; see `LanceStore.approximate`."""
        with self.locked():
            name = self._load().name
            self._store(name).approximate(is_wanted)
            self._record_settings(name, ann=is_wanted or None, milvus=None, recall=None)
        self.refresh()

    def _record_settings(self, name: str, **settings: Any) -> None:
        """Record settings of a vector set in the manifest, and remove those that are None."""
        manifest = read_manifest(self.folder)
        entry = manifest["sets"][name] | settings
        manifest["sets"][name] = {
            key: value for key, value in entry.items() if key not in settings or value is not None
        }
        write_manifest(self.folder, manifest)

    def backup(self, target: str | os.PathLike[str]) -> None:
        """Copy the index to the new folder `target`, as it is now. Raises InputError if `target` exists."""
        with self.locked():
            copy_index(self.folder, Path(target))

    def _reopen(self) -> None:
        """Open the version that was written, and remove sentences whose pictures are gone."""
        state = self._load()
        if state.sentences:
            store = self._store(state.name, TEXTS)
            remove_orphans(store, state.sentences, set(state.snapshot.keys))
            state = replace(state, sentences=store.snapshot(state.sentences))
        self._state = replace(state, encoder=self._state.encoder)


def restore(backup: str | os.PathLike[str], folder: str | os.PathLike[str]) -> None:
    """Copy a backup to the new folder `folder`. Raises InputError if the backup is damaged or `folder` exists."""
    if faults := Index(backup).verify():
        raise InputError(f"{backup} has {len(faults)} faults, the first: {faults[0]}. Restore another backup.")
    copy_index(Path(backup), Path(folder))
