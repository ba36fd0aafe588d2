"""The rows of an index on disk: the interface of a store, and the one that keeps them in a LanceDB table.

A change is one transaction: after a crash the table is as before the change or as after it. A snapshot is one version
of the table. It stays valid while others write and compact, until KEEP after a newer version replaced it.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from regard.files import InputError, missing_extra, nearest
from regard.search.entries import (
    CHECKSUMS,
    COLUMNS,
    LINKS,
    VECTORS,
    Entry,
    Link,
    entry_of,
    links_of,
    record_checksum,
    vectors_checksum,
)

KEEP, NEVER = timedelta(hours=1), timedelta(days=36_500)
MARGIN = 0.25  # of KEEP, by which LanceDB may read the clock later
ANN = "summary_ann"  # name of the approximate index
RETRIES = {"client_max_retries": "2", "client_retry_timeout": "10", "connect_timeout": "3s"}  # of an object store
BATCH = 512  # rows that are written or read at a time
KEY = {"lance-schema:unenforced-primary-key": "true"}  # without it, two writers could both insert a key


@runtime_checkable
class Snapshot(Protocol):
    """One version of a store, for reading. Rows are numbered from 0. Several threads may read at once."""

    version: int

    def __len__(self) -> int: ...

    @property
    def keys(self) -> Sequence[str]:
        """The key of each row."""

    @property
    def ids(self) -> Sequence[str]:
        """The first id of each row."""

    @property
    def row_of(self) -> Mapping[str, int]:
        """The row of each id, of which a row may have several."""

    @property
    def summaries(self) -> Float[np.ndarray, "row dim"]:
        """The summary vectors, in memory."""

    def links(self) -> list[tuple[Link, ...]]:
        """Return the links of each row."""

    def fetch(self, rows: Sequence[int]) -> list[bytes]:
        """Return the encodings of rows. Raises InputError if one is damaged."""

    def records(self, rows: Sequence[int]) -> list[Entry]:
        """Return everything else of rows; their encodings are empty."""

    def where(self, condition: str) -> Int[np.ndarray, " row"]:
        """Return the rows that satisfy an SQL condition. Raises InputError if it is wrong or a column is unknown."""

    def payload_types(self) -> dict[str, str]:
        """Return the columns of the payload, and their types."""


@runtime_checkable
class IndexStore(Protocol):
    """Where an index keeps its rows. One writer at a time: see `Index.locked`."""

    def snapshot(self, current: Snapshot | None = None) -> Snapshot:
        """Return the latest version: `current` itself if there is no newer one."""

    def put(self, records: Iterable[Entry], payload: Mapping[str, str], removed: Sequence[str] = ()) -> None:
        """Insert rows, replace those with the same key, and remove the rows with the keys `removed`: one transaction.

        `payload` has the type of each column of the payload, as in `Snapshot.payload_types`.
        """

    def verify(self) -> list[str]:
        """Read every row, and return one line for each fault."""

    def compact(self) -> None:
        """Rewrite small files as larger ones, and delete the files of versions that newer ones replaced KEEP ago."""


def row_of(snapshot: Snapshot, id_: str) -> int:
    """Return the row of a picture by one of its ids. Raises InputError if there is none."""
    row = snapshot.row_of.get(id_)
    if row is None:
        raise InputError(f"The index has no picture {id_!r}. {nearest(id_, snapshot.row_of)}")
    return row


class LanceNearest:
    """Shortlists by the approximate index that `LanceStore.approximate` builds. See regard.search.query.Nearest."""

    def nearest(
        self, snapshot: Any, vectors: Float[np.ndarray, "query dim"], count: int
    ) -> list[Int[np.ndarray, " best"]]:
        return [snapshot.nearest(vector, count) for vector in vectors]


class LanceStore:
    """A LanceDB table in a folder, or at the address of an object store. Raises InputError if it cannot be opened."""

    def __init__(self, folder: Path | str, name: str) -> None:
        self.folder, self.name = str(folder), name

    @cached_property
    def _database(self) -> Any:
        return _lancedb().connect(self.folder, storage_options=RETRIES if "://" in self.folder else None)

    @property
    def path(self) -> str:
        """Where the table is, for messages."""
        return f"{self.folder}/{self.name}.lance"

    def _open(self) -> Any:
        with _errors_named(self.path):
            return self._database.open_table(self.name)

    def create(self, dim: int) -> None:
        """Create an empty table for summaries of `dim` numbers, unless the table exists."""
        with _errors_named(self.path):
            try:
                self._database.open_table(self.name)
            except ValueError:  # it is not there, or is a folder without a version, which a full disk leaves
                self._database.create_table(self.name, schema=_schema(dim, {}), exist_ok=True)

    def snapshot(self, current: Snapshot | None = None) -> Snapshot:
        table = self._open()
        return current if current and current.version == table.version else LanceSnapshot(table, self.path)

    def put(self, records: Iterable[Entry], payload: Mapping[str, str], removed: Sequence[str] = ()) -> None:
        table, failures = self._open(), list[Exception]()
        present = _payload_types(table.schema)
        new = {name: kind for name, kind in payload.items() if name not in present}
        # The order of the columns is that of the table.
        schema = _schema(table.schema.field("summary").type.list_size, present | new)
        reader = _arrow().RecordBatchReader.from_batches(schema, _batches(schema, records, failures))
        merge = table.merge_insert("key").when_matched_update_all().when_not_matched_insert_all()
        if removed:
            merge = merge.when_not_matched_by_source_delete(f"key IN ({', '.join(map(_quoted, removed))})")
        try:
            with _errors_named(self.path):
                if new:
                    table.add_columns(_fields(new))
                merge.execute(reader)
        except (InputError, OSError):
            if failures:  # it is LanceDB's account of an error of `records`
                raise failures[0] from None
            raise

    def verify(self) -> list[str]:
        faults, seen = [], set[str]()
        try:
            with _errors_named(self.path):
                for batch in self._open().search().limit(None).to_batches(BATCH):
                    for row in batch.to_pylist():
                        faults += [f"{row['id']}: {fault}" for fault in _faults(row)]
                        if row["key"] in seen:
                            faults.append(f"{row['id']}: the key {row['key']} occurs twice")
                        seen.add(row["key"])
        except (InputError, OSError) as error:
            faults.append(str(error))
        return faults

    def compact(self) -> None:
        table = self._open()
        with _errors_named(self.path):
            table.optimize(cleanup_older_than=NEVER)  # which takes long, and the age of versions counts from its end
            now, times = datetime.now(), [version["timestamp"] for version in table.list_versions()]
            # A version that was the latest one KEEP ago may have been opened since.
            oldest = max((time for time in times if time <= now - KEEP), default=min(times))
            # As there is no other writer, files that belong to no version were left by one that was killed.
            table.optimize(cleanup_older_than=now - oldest + MARGIN * KEEP, delete_unverified=True)

    def approximate(self, is_wanted: bool) -> None:
        """Build LanceDB's approximate index of the summaries, or remove it. Later rows are searched beside it."""
        from lancedb.index import IvfFlat

        table = self._open()
        with _errors_named(self.path):
            if is_wanted:
                table.create_index("summary", config=IvfFlat(distance_type="dot"), name=ANN)
            elif any(index.name == ANN for index in table.list_indices()):
                table.drop_index(ANN)


class LanceSnapshot:
    """One version of a LanceDB table. See Snapshot."""

    def __init__(self, table: Any, path: str) -> None:
        self.version, self._table, self._path = int(table.version), table, path
        with _errors_named(path):
            table.checkout(self.version)
        found = self._read(["key", "id", "summary"])
        self._row_ids = found["_rowid"].to_numpy()
        self._order = np.argsort(self._row_ids)  # row ids need not be sorted
        self.keys: Sequence[str] = found["key"].to_pylist()
        self.ids: Sequence[str] = found["id"].to_pylist()
        parts = [chunk.flatten().to_numpy() for chunk in found["summary"].chunks]
        vectors = np.concatenate([np.zeros(0, np.float32), *parts])  # in one piece, and writable, as torch requires
        dim = found["summary"].type.list_size
        self.summaries: Float[np.ndarray, "row dim"] = vectors.reshape(len(found), dim)

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def row_of(self) -> dict[str, int]:
        """See Snapshot.row_of."""
        found = self._read(["ids"])["ids"].to_pylist()
        return {id_: row for row, ids in enumerate(found) for id_ in ids}

    def links(self) -> list[tuple[Link, ...]]:
        return [links_of(row) for row in self._read(list(LINKS)).to_pylist()]

    def fetch(self, rows: Sequence[int]) -> list[bytes]:
        found = self._take(rows, ["encoding", "vectors_crc"])
        encodings, checksums = found["encoding"].to_pylist(), found["vectors_crc"].to_pylist()
        for row, encoding, checksum in zip(rows, encodings, checksums, strict=True):
            if vectors_checksum(self.summaries[row], encoding) != checksum:
                raise InputError(
                    f"The stored encoding of {self.ids[row]} is damaged: `regard index verify` names all such rows; "
                    f"remove them and add them again, or restore a backup."
                )
        return encodings

    def records(self, rows: Sequence[int]) -> list[Entry]:
        names = [name for name in self._table.schema.names if name not in (*VECTORS, *CHECKSUMS)]
        found = self._take(rows, names).to_pylist()
        return [entry_of(row, self.summaries[at]) for at, row in zip(rows, found, strict=True)]

    def where(self, condition: str) -> Int[np.ndarray, " row"]:
        with _errors_named(self._path):
            try:
                found = self._all(["key"]).where(condition).to_arrow()["_rowid"].to_numpy()
            except ValueError as error:
                raise InputError(f"The condition {condition!r} is wrong: {self._explained(error)}") from None
        return self._rows(found)

    def nearest(self, vector: Float[np.ndarray, " dim"], count: int) -> Int[np.ndarray, " best"]:
        """Return about `count` rows with the largest inner products, sorted, by LanceDB's search of vectors."""
        with _errors_named(self._path):
            search = self._table.search(vector, vector_column_name="summary").distance_type("dot").with_row_id(True)
            found = search.select(["key", "_distance"]).limit(count).to_arrow()
        return self._rows(found["_rowid"].to_numpy())

    def _rows(self, row_ids: np.ndarray) -> Int[np.ndarray, " row"]:
        return np.sort(self._order[np.searchsorted(self._row_ids, row_ids, sorter=self._order)])

    def payload_types(self) -> dict[str, str]:
        return _payload_types(self._table.schema)

    def _all(self, columns: list[str]) -> Any:
        return self._table.search().select(columns).with_row_id(True).limit(None)

    def _read(self, columns: list[str]) -> Any:
        with _errors_named(self._path):
            return self._all(columns).to_arrow()

    def _take(self, rows: Sequence[int], columns: list[str]) -> Any:
        """The columns of rows, in their order."""
        row_ids = self._row_ids[np.asarray(rows, np.int64)]
        unique = np.unique(row_ids)
        if not len(unique):
            return self._table.schema.empty_table().select(columns)
        with _errors_named(self._path):
            found = self._table.take_row_ids(unique.tolist()).select([*columns, "_rowid"]).to_arrow()
        order = np.argsort(found["_rowid"].to_numpy())
        return found.take(order[np.searchsorted(unique, row_ids)])

    def _explained(self, error: ValueError) -> str:
        """The part of LanceDB's message that concerns the user, and the columns that exist."""
        if unknown := re.search(r"No field named (\S+?)\.(?:\s|$)", str(error)):
            why = f"there is no column {unknown[1].strip('`')}"
        elif syntax := re.search(r"sql parser error: (.*?)\)?$", _first_line(error)):
            why = syntax[1]
        else:
            why = re.sub(r",? /\S+", "", _first_line(error)).removeprefix("Invalid input, ")
        return f"{why}. The columns are {', '.join(['id', 'split', *self.payload_types()])}."


# Rows and columns -----------------------------------------------------------------------------------------------------


def _schema(dim: int, payload: Mapping[str, str]) -> Any:
    arrow = _arrow()
    text = arrow.string()
    return arrow.schema(
        [
            arrow.field("key", text, nullable=False, metadata=KEY),
            arrow.field("id", text),
            arrow.field("split", text),
            *(arrow.field(name, arrow.list_(text)) for name in LINKS),
            arrow.field("content", text),
            arrow.field("summary", arrow.list_(arrow.float32(), dim)),
            arrow.field("encoding", arrow.large_binary()),
            arrow.field("vectors_crc", arrow.int64()),
            arrow.field("record_crc", arrow.int64()),
            *_fields(payload),
        ]
    )


def _fields(payload: Mapping[str, str]) -> list[Any]:
    arrow = _arrow()
    types = {
        "integer": arrow.int64(),
        "number": arrow.float64(),
        "text": arrow.string(),
        "texts": arrow.list_(arrow.string()),
    }
    return [arrow.field(name, types[kind]) for name, kind in payload.items()]


def _payload_types(schema: Any) -> dict[str, str]:
    names = {"int64": "integer", "double": "number", "string": "text"}
    return {field.name: names.get(str(field.type), "texts") for field in schema if field.name not in COLUMNS}


def _batches(schema: Any, records: Iterable[Entry], failures: list[Exception]) -> Iterator[Any]:
    """Yield records as batches of rows, and note an error of `records`, of which LanceDB keeps only the text."""
    rows = (record.to_row() for record in records)
    try:
        while batch := list(islice(rows, BATCH)):
            yield _arrow().RecordBatch.from_pylist(batch, schema=schema)
    except Exception as error:
        failures.append(error)
        raise


def _faults(row: dict[str, Any]) -> Iterator[str]:
    if vectors_checksum(np.array(row["summary"], np.float32), row["encoding"]) != row["vectors_crc"]:
        yield "the stored vectors are damaged"
    if record_checksum({name: value for name, value in row.items() if name != "_rowid"}) != row["record_crc"]:
        yield "the stored record is damaged"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@contextmanager
def _errors_named(path: str) -> Iterator[None]:
    """Raise an error of LanceDB in the block as InputError, or as OSError if the system refused, and name the table."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if not isinstance(error, OSError | ValueError | RuntimeError) and type(error).__name__ != "RustPanic":
            raise
        if refused := re.search(r"\(os error (\d+)\)", str(error)):
            raise OSError(int(refused[1]), os.strerror(int(refused[1])), path) from None
        if "RetryError" in str(error):  # of a request to an object store
            why = re.search(r"<Code>(\w+)", str(error)) or re.search(r"(?:status|kind): (\w+)", str(error))
            told = why[1] if why else type(error).__name__
            raise InputError(
                f"The object store of the table {path} does not answer, or refuses ({told}): check the address, and in "
                f"the environment AWS_ENDPOINT, AWS_REGION and the credentials."
            ) from None
        line = re.sub(r", /\S+:\d+:\d+$", "", _first_line(error))  # without the place in LanceDB's own source
        raise InputError(
            f"The table {path} cannot be read or written ({line}): open the index again if it was compacted meanwhile, "
            f"or restore a backup."
        ) from None


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__


def _arrow() -> Any:
    import pyarrow  # comes with lancedb

    return pyarrow


def _lancedb() -> Any:
    try:
        import lancedb
    except ImportError:
        raise missing_extra("An index requires LanceDB", "search") from None
    return lancedb
