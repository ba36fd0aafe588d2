"""The rows of an index: what is stored of each picture or sentence, and the checksums that detect damage."""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from regard.batch import Batch, Vectors
from regard.files import InputError, parse_json

VECTORS = ("summary", "encoding")  # the columns that the model computed
CHECKSUMS = ("vectors_crc", "record_crc")


class Link(NamedTuple):
    """One place where the content of a row was found. Files with the same content are links of one row."""

    id: str
    name: str  # its id in the source; `id` may have a prefix before it
    path: str  # of the picture's file; "" if there is none
    source: str  # data folder that the features are read from
    split: str


@dataclass(frozen=True)
class Entry:
    """One row of an index: a picture, or a sentence."""

    key: str  # hash of the content
    links: tuple[Link, ...]  # at least one; the id of the first one is shown
    summary: np.ndarray  # float32 [dim]
    encoding: bytes  # of `pack`; empty if nothing is scored exactly
    content: dict[str, Any] = field(default_factory=dict)  # boxes, labels, relations and captions, as JSON values
    payload: dict[str, Any] = field(default_factory=dict)  # columns to filter by: numbers, strings, lists of strings

    def to_row(self) -> dict[str, Any]:
        """Return the row of the table, with its checksums."""
        links = dict(zip(LINKS, map(list, zip(*self.links, strict=True)), strict=True))
        row: dict[str, Any] = {
            "key": self.key,
            "id": self.links[0].id,
            "split": self.links[0].split,
            **links,
            "content": json.dumps(self.content, ensure_ascii=False),
            **self.payload,
        }
        return row | {
            "summary": self.summary,
            "encoding": self.encoding,
            "vectors_crc": vectors_checksum(self.summary, self.encoding),
            "record_crc": record_checksum(row),
        }


LINKS = ("ids", "names", "paths", "sources", "splits")
COLUMNS = ("key", "id", "split", *LINKS, "content", *VECTORS, *CHECKSUMS)  # all but the payload


def vectors_checksum(summary: np.ndarray, encoding: bytes) -> int:
    """Return a checksum of what the model computed."""
    return zlib.crc32(encoding, zlib.crc32(np.ascontiguousarray(summary, np.float32).tobytes()))


def record_checksum(row: Mapping[str, Any]) -> int:
    """Return a checksum of the other columns. Columns that are None do not count, so that columns can be added."""
    told = {name: value for name, value in row.items() if value is not None and name not in (*VECTORS, *CHECKSUMS)}
    return zlib.crc32(json.dumps(told, sort_keys=True, ensure_ascii=False).encode())


def pack(encoding: Batch) -> list[bytes]:
    """Return the encoding of each item as bytes: its tensors in float16, without padding."""
    narrow = encoding.to(torch.float16)
    items = (narrow[row : row + 1] for row in range(len(narrow)))
    return [save({name: tensor.contiguous() for name, tensor in item.trimmed().tensors().items()}) for item in items]


def unpack(kind: type[Batch], items: Sequence[bytes]) -> Any:
    """Return the items that `pack` stored as one encoding: of the class `kind`, or Vectors if there is nothing else.

    Raises InputError if an item is damaged.
    """
    alike: dict[bytes, list[int]] = {}  # the places of items with the same header, so with tensors of the same shapes
    for place, item in enumerate(items):
        alike.setdefault(item[: 8 + int.from_bytes(item[:8], "little")], []).append(place)
    try:
        stacked = [_stacked(header, [items[place] for place in places]) for header, places in alike.items()]
        kind = Vectors if stacked[0].keys() == {"vectors"} else kind
        joined = kind.cat([kind(**tensors) for tensors in stacked])
        return joined if len(stacked) == 1 else joined[np.argsort(np.concatenate(list(alike.values())))]
    except (SafetensorError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"A stored encoding cannot be read ({error}): `regard index verify` names the rows.") from None


def _stacked(header: bytes, items: Sequence[bytes]) -> dict[str, torch.Tensor]:
    """The tensors of items with the same header, joined. Reading the header of each would take most of the time."""
    first, described = load(items[0]), json.loads(header[8:])
    tensors = {}
    for name, tensor in first.items():
        begin, end = (len(header) + offset for offset in described[name]["data_offsets"])
        data = bytearray().join(memoryview(item)[begin:end] for item in items)
        joined = torch.frombuffer(data, dtype=tensor.dtype) if data else tensor
        tensors[name] = joined.view(len(items), *tensor.shape[1:])
    return tensors


def links_of(row: Mapping[str, Any]) -> tuple[Link, ...]:
    """Return the links in a row of the table."""
    return tuple(Link(*values) for values in zip(*(row[name] for name in LINKS), strict=True))


def entry_of(row: Mapping[str, Any], summary: np.ndarray, encoding: bytes = b"") -> Entry:
    """Return the record in a row of the table, whose vectors are passed separately.

    Raises InputError if its content is damaged.
    """
    payload = {name: value for name, value in row.items() if name not in (*COLUMNS, "_rowid") and value is not None}
    try:
        content = parse_json(row["content"])
    except ValueError as error:
        raise InputError(
            f"The stored content of {row['key']} is damaged ({error}): restore a backup, or make the index again."
        ) from None
    return Entry(row["key"], links_of(row), summary, encoding, content, payload)
