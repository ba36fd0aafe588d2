"""Arrays on disk that are read by rows, and .npy files that are written block by block.

Memory follows the rows that are read, never the size of the file.
"""

import math
import os
import re
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from regard.checksums import ChecksummedFile, check_file
from regard.files import InputError, replacing

BLOCK = 2**25  # bytes of an array in memory at a time

# The header of a .npy file: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }. Python 2 wrote 3L for 3.
_HEADER_SIZE = 10_000  # bytes
_HEADER_FIELDS = (
    rb"'descr': *'([<>|=]?[biufcOSUV]\d*)'",
    rb"'fortran_order': *(True|False)",
    rb"'shape': *\(((?:\d+L?(?:, *\d+L?)*,?)?)\)",
)


class Column(ABC):
    """An array with one row per image."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @abstractmethod
    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows at `rows` (integers from 0, in any order, repeats allowed), in `dtype`."""

    def __len__(self) -> int:
        return self.shape[0]

    def all(self) -> np.ndarray:
        """Return all rows. Use it only for the small arrays beside the features."""
        return self.read(np.arange(len(self)))

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the row numbers in order, in blocks of some megabytes."""
        row_bytes = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        step = max(1, BLOCK // max(1, row_bytes))
        for first in range(0, len(self), step):
            yield np.arange(first, min(first + step, len(self)))


class Rows(Column):
    """A .npy array of plain numbers on disk, read by rows of its first axis. Threads may share it.

    With `index`, row i is row index[i] of the file. Raises InputError if the file is absent, is not a .npy file, is cut
    short, contains Python objects or is in Fortran order.
    """

    def __init__(self, path: str | os.PathLike[str], index: np.ndarray | None = None) -> None:
        self.path, self.index = Path(path), index
        self.stored, self.dtype, self._start = _header(self.path)
        self.shape = self.stored if index is None else (len(index), *self.stored[1:])
        self._descriptor = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)

    def __len__(self) -> int:
        return self.shape[0]

    def __reduce__(self) -> tuple[type["Rows"], tuple[Path, np.ndarray | None]]:
        return Rows, (self.path, self.index)  # another process opens the file itself

    def take(self, index: np.ndarray | None) -> "Rows":
        """Return the rows at `index` (all, if None) as a new array."""
        return self if index is None else Rows(self.path, index)

    def read(self, rows: np.ndarray) -> np.ndarray:
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self)):
            raise IndexError(f"rows {rows.min()} to {rows.max()} requested from {self.path}, which has {len(self)}")
        stored_rows = rows if self.index is None else self.index[rows]
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        if out.size:
            _read(self.path, self._descriptor, self._start, stored_rows, out.reshape(len(rows), -1).view(np.uint8))
        return out


def _read(path: Path, descriptor: int, start: int, rows: np.ndarray, places: Iterable[np.ndarray]) -> None:
    """Read rows of an open file whose numbers begin at byte `start`, each into its place."""
    for place, row in zip(places, rows.tolist(), strict=True):
        if os.preadv(descriptor, [place.data], start + row * len(place)) != len(place):
            raise InputError(f"{path} became shorter while being read: row {row} is not complete. Copy it again.")


class Shards(Column):
    """The rows `index` of several .npy files with rows of one shape, numbered as if the files were joined.

    Files are open only while they are read, because there may be thousands. Raises InputError as Rows does, and if an
    index is beyond the files or the rows of the files differ.
    """

    def __init__(self, paths: Sequence[Path], index: np.ndarray) -> None:
        self.paths, self.index = list(paths), index
        self.path = paths[0].parent if paths else Path()
        headers = [_header(path) for path in paths]
        if len({(shape[1:], dtype) for shape, dtype, _ in headers}) != 1:
            have = " and ".join(sorted({f"{dtype} {list(shape[1:])}" for shape, dtype, _ in headers})) or "no file"
            raise InputError(f"The .npy files of {self.path} contain {have}: expected one.")
        shape, self.dtype, _ = headers[0]
        self._starts = [start for _, _, start in headers]
        self.ends = np.cumsum([shape[0] for shape, _, _ in headers])
        if len(index) and (index.min() < 0 or index.max() >= self.ends[-1]):
            raise InputError(
                f"Row {index.max()} was requested from {self.path}, which has {self.ends[-1]} rows. Extract again."
            )
        self.shape = (len(index), *shape[1:])

    def read(self, rows: np.ndarray) -> np.ndarray:
        stored_rows = self.index[rows]
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        if not out.size:
            return out
        shard = np.searchsorted(self.ends, stored_rows, "right")
        places = out.reshape(len(rows), -1).view(np.uint8)
        for number in np.unique(shard).tolist():
            here = np.flatnonzero(shard == number)
            first = self.ends[number - 1] if number else 0
            with open(self.paths[number], "rb", buffering=0) as file:
                _read(
                    self.paths[number],
                    file.fileno(),
                    self._starts[number],
                    stored_rows[here] - first,
                    [places[place] for place in here],
                )
        return out

    def take(self, index: np.ndarray | None) -> "Shards":
        """See Rows.take."""
        return self if index is None else Shards(self.paths, self.index[index])


class ArrayColumn(Column):
    """An array in memory, as a column."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def read(self, rows: np.ndarray) -> np.ndarray:
        return self.array[rows]


class ScaledColumn(Column):
    """A column divided by `divisors` [image, value], one row per image. It converts pixels to fractions."""

    def __init__(self, column: Column, divisors: np.ndarray) -> None:
        self.column, self.divisors = column, divisors.astype(np.float32)
        self.shape, self.dtype = column.shape, np.dtype(np.float32)

    def read(self, rows: np.ndarray) -> np.ndarray:
        return self.column.read(rows).astype(np.float32) / self.divisors[rows][:, None]


class ConstantColumn(Column):
    """The same row for every image."""

    def __init__(self, row: np.ndarray, count: int) -> None:
        self.row, self.shape, self.dtype = row, (count, *row.shape), row.dtype

    def read(self, rows: np.ndarray) -> np.ndarray:
        return np.repeat(self.row[None], len(rows), 0)


class RenumberedColumn(Column):
    """A column of small numbers, each replaced by its entry in `numbers`, which may be larger than they are."""

    def __init__(self, column: Column, numbers: np.ndarray) -> None:
        self.column, self.numbers = column, numbers.astype(np.int64)
        self.shape, self.dtype = column.shape, np.dtype(np.int64)

    def read(self, rows: np.ndarray) -> np.ndarray:
        values = self.column.read(rows).astype(np.int64)
        if values.size and not 0 <= values.min() <= values.max() < len(self.numbers):
            where = getattr(self.column, "path", "A file of labels")
            raise InputError(
                f"{where} contains numbers between {values.min()} and {values.max()}; expected 0 to "
                f"{len(self.numbers) - 1}, for which there are names."
            )
        return self.numbers[values]


class NpyWriter(ChecksummedFile):
    """Write a .npy file of known shape block by block. A full disk is an OSError; a memory map would crash."""

    def __init__(self, path: str | os.PathLike[str], shape: tuple[int, ...], dtype: str) -> None:
        super().__init__(path)
        self.dtype = np.dtype(dtype)
        header = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self, header)

    def write_rows(self, block: np.ndarray) -> None:
        """Write the next rows, converted to the dtype of the file."""
        self.write(np.ascontiguousarray(block, self.dtype))


def save_array(path: str | os.PathLike[str], array: np.ndarray) -> None:
    """Write a .npy file with a checksum, whole or not at all."""
    with replacing(path) as temporary, NpyWriter(temporary, array.shape, array.dtype.str) as writer:
        writer.write_rows(array)


def _header(path: Path) -> tuple[tuple[int, ...], np.dtype, int]:
    """Shape, dtype and the byte at which the numbers start. Checks that the file is long enough."""
    try:
        with open(path, "rb") as file:
            shape, fortran, dtype = read_header(file)
            start = file.tell()
            have = os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        raise InputError(f"{path} is not there.") from None
    except OSError:
        raise
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is not a complete .npy file ({error}). Copy it again.") from None
    if dtype.hasobject:
        raise InputError(f"{path} contains Python objects: expected plain numbers. Save it with a numeric dtype.")
    if not shape or (fortran and len(shape) > 1) or not dtype.isnative:
        order = "one number" if not shape else "Fortran order" if fortran else f"byte order {dtype.str}"
        raise InputError(f"{path} is in {order}: expected rows in C order. Save numpy.ascontiguousarray of it.")
    want = start + math.prod(shape) * dtype.itemsize
    if have < want:
        raise InputError(f"{path} is cut short: {have} bytes where {shape} of {dtype} needs {want}. Copy it again.")
    return shape, dtype, start


def check_array(path: Path) -> bool:
    """Return whether a .npy file has a checksum. Raises InputError if the file is damaged or not of its size."""
    shape, dtype, start = _header(path)
    return check_file(path, start + math.prod(shape) * dtype.itemsize)


def read_numbers(path: Path, num_axes: int, *, whole: bool = True) -> Rows:
    """Open a .npy file of numbers with `num_axes` axes; of integers (or integers in floats) if they must be `whole`.

    Raises InputError for other contents, and if a number of a `whole` array is not finite or has a fraction.
    """
    rows = Rows(path)
    if len(rows.shape) != num_axes or rows.dtype.kind not in "iuf":
        kind = "whole numbers" if whole else "numbers"
        raise InputError(f"{path} has shape {rows.shape} of {rows.dtype}: expected {kind} with {num_axes} axes.")
    if whole and rows.dtype.kind == "f":
        for block in rows.blocks():
            if not np.equal(values := rows.read(block), np.round(values)).all() or np.isinf(values).any():
                raise InputError(f"{path} contains numbers that are not whole, such as NaN: expected whole numbers.")
    return rows


def read_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return shape, Fortran order and dtype of an open .npy file, and leave the file at the start of its numbers.

    numpy's reader is not used: it evaluates the header as Python, which warns about damaged ones and about those that
    Python 2 wrote, and warnings can be silenced for the whole process only.
    """
    version, _ = np.lib.format.read_magic(file)
    size = int.from_bytes(file.read(2 if version == 1 else 4), "little")
    header = file.read(size) if size <= _HEADER_SIZE else b""
    descr, order, shape = (re.search(field, header) for field in _HEADER_FIELDS)
    if len(header) < size or not (descr and order and shape):
        raise ValueError("its header is damaged, or lists several columns")
    sizes = tuple(int(number) for number in re.findall(rb"\d+", shape[1]))
    return sizes, order[1] == b"True", np.dtype(descr[1].decode())
