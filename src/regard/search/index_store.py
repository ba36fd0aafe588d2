"""The rows of an index on disk: the interface of a store, and the one that keeps them in a LanceDB table.

A change is one transaction: after a crash the table is as before the change or as after it. A snapshot is one version
of the table. It stays valid while others write and compact: files of versions younger than KEEP are never deleted.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from regard.files import InputError, nearest
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

KEEP = timedelta(hours=1)
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
        """Rewrite small files as larger ones, and delete the files of versions older than KEEP."""


def row_of(snapshot: Snapshot, id_: str) -> int:
    """Return the row of a picture by one of its ids. Raises InputError if there is none."""
    row = snapshot.row_of.get(id_)
    if row is None:
        raise InputError(f"The index has no picture {id_!r}. {nearest(id_, snapshot.row_of)}")
    return row


class LanceStore:
    """A LanceDB table in a folder, or at the address of an object store. Raises InputError if it cannot be opened."""

    def __init__(self, folder: Path | str, name: str) -> None:
        self.folder, self.name = str(folder), name

    @cached_property
    def _database(self) -> Any:
        return _lancedb().connect(self.folder)

    def _open(self) -> Any:
        try:
            return self._database.open_table(self.name)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"{self.folder} has no readable table {self.name!r} ({_first_line(error)}).") from None

    def create(self, dim: int) -> None:
        """Create an empty table for summaries of `dim` numbers, unless the table exists."""
        if self.name not in self._database.list_tables().tables:
            self._database.create_table(self.name, schema=_schema(dim, {}))

    def snapshot(self, current: Snapshot | None = None) -> Snapshot:
        table = self._open()
        return current if current and current.version == table.version else LanceSnapshot(table)

    def put(self, records: Iterable[Entry], payload: Mapping[str, str], removed: Sequence[str] = ()) -> None:
        table = self._open()
        present = _payload_types(table.schema)
        if new := {name: kind for name, kind in payload.items() if name not in present}:
            table.add_columns(_fields(new))
        # The order of the columns is that of the table.
        schema = _schema(table.schema.field("summary").type.list_size, present | new)
        reader = _arrow().RecordBatchReader.from_batches(schema, _batches(schema, records))
        merge = table.merge_insert("key").when_matched_update_all().when_not_matched_insert_all()
        if removed:
            merge = merge.when_not_matched_by_source_delete(f"key IN ({', '.join(map(_quoted, removed))})")
        merge.execute(reader)

    def verify(self) -> list[str]:
        faults, seen = [], set[str]()
        try:
            for batch in self._open().search().limit(None).to_batches(BATCH):
                for row in batch.to_pylist():
                    faults += [f"{row['id']}: {fault}" for fault in _faults(row)]
                    if row["key"] in seen:
                        faults.append(f"{row['id']}: the key {row['key']} occurs twice")
                    seen.add(row["key"])
        except (OSError, ValueError, RuntimeError) as error:
            faults.append(f"the table cannot be read to its end: {_first_line(error)}")
        return faults

    def compact(self) -> None:
        self._open().optimize(cleanup_older_than=KEEP)


class LanceSnapshot:
    """One version of a LanceDB table. See Snapshot."""

    def __init__(self, table: Any) -> None:
        self.version = int(table.version)
        table.checkout(self.version)
        self._table = table
        found = self._read(["key", "id", "summary"], None)
        self._row_ids = found["_rowid"].to_numpy()
        self._order = np.argsort(self._row_ids)  # row ids need not be sorted
        self.keys: Sequence[str] = found["key"].to_pylist()
        self.ids: Sequence[str] = found["id"].to_pylist()
        vectors = found["summary"].combine_chunks()
        dim = vectors.type.list_size
        self.summaries: Float[np.ndarray, "row dim"] = vectors.flatten().to_numpy().reshape(len(found), dim)

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def row_of(self) -> dict[str, int]:
        """See Snapshot.row_of."""
        found = self._read(["ids"], None)["ids"].to_pylist()
        return {id_: row for row, ids in enumerate(found) for id_ in ids}

    def links(self) -> list[tuple[Link, ...]]:
        return [links_of(row) for row in self._read(list(LINKS), None).to_pylist()]

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
        try:
            found = self._read(["key"], condition)["_rowid"].to_numpy()
        except ValueError as error:
            raise InputError(f"The condition {condition!r} is wrong: {self._explained(error)}") from None
        return np.sort(self._order[np.searchsorted(self._row_ids, found, sorter=self._order)])

    def payload_types(self) -> dict[str, str]:
        return _payload_types(self._table.schema)

    def _read(self, columns: list[str], condition: str | None) -> Any:
        query = self._table.search().select(columns).with_row_id(True).limit(None)
        return (query if condition is None else query.where(condition)).to_arrow()

    def _take(self, rows: Sequence[int], columns: list[str]) -> Any:
        """The columns of rows, in their order."""
        row_ids = self._row_ids[np.asarray(rows, np.int64)]
        unique = np.unique(row_ids)
        if not len(unique):
            return self._table.schema.empty_table().select(columns)
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


def _batches(schema: Any, records: Iterable[Entry]) -> Iterator[Any]:
    rows = (record.to_row() for record in records)
    while batch := list(islice(rows, BATCH)):
        yield _arrow().RecordBatch.from_pylist(batch, schema=schema)


def _faults(row: dict[str, Any]) -> Iterator[str]:
    if vectors_checksum(np.array(row["summary"], np.float32), row["encoding"]) != row["vectors_crc"]:
        yield "the stored vectors are damaged"
    if record_checksum({name: value for name, value in row.items() if name != "_rowid"}) != row["record_crc"]:
        yield "the stored record is damaged"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__


def _arrow() -> Any:
    import pyarrow  # comes with lancedb

    return pyarrow


def _lancedb() -> Any:
    try:
        import lancedb
    except ImportError:
        raise InputError("An index requires LanceDB: pip install 'regard[search]'.") from None
    return lancedb
