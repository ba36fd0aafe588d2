"""Rows of a .npy file, read where they lie: memory and time follow the rows asked for, never the file."""

import os
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from regard.files import InputError


class Rows:
    """A .npy array of plain numbers on disk, read by rows of its first axis. Safe to share between threads.

    Raises InputError where the file is absent, is no .npy, is cut short, holds Python objects or lies in Fortran order.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.shape, self.dtype, self._start = _header(self.path)
        self._descriptor = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)

    def __len__(self) -> int:
        return self.shape[0]

    def __reduce__(self) -> tuple[type["Rows"], tuple[Path]]:  # a worker process opens the file for itself
        return Rows, (self.path,)

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The rows at `rows` (integers from 0, any order, repeats allowed), in the dtype of the file."""
        if len(rows) and not (rows.min() >= 0 and rows.max() < len(self)):
            raise IndexError(f"rows {rows.min()} to {rows.max()} asked of {self.path}, which has {len(self)}")
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        size, places = self.row_bytes, out.reshape(len(rows), -1).view(np.uint8)
        for place, row in zip(places, rows.tolist(), strict=True):
            if os.preadv(self._descriptor, [place], self._start + row * size) != size:
                raise InputError(f"{self.path} became shorter while being read: row {row} is not whole. Copy it again.")
        return out

    def all(self) -> np.ndarray:
        """Everything: for the small arrays beside the features."""
        return self.read(np.arange(len(self)))

    def blocks(self, megabytes: int = 32) -> Iterator[tuple[int, np.ndarray]]:
        """The whole array in order, as (first row, some rows) of about `megabytes` each."""
        step = max(1, megabytes * 2**20 // max(1, self.row_bytes))
        for first in range(0, len(self), step):
            yield first, self.read(np.arange(first, min(first + step, len(self))))


def _header(path: Path) -> tuple[tuple[int, ...], np.dtype, int]:
    """Shape, dtype and where the numbers start; the file is long enough for them."""
    try:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(file)
            start = file.tell()
            have = os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        raise InputError(f"{path} is not there.") from None
    except ValueError as error:
        raise InputError(f"{path} is no whole .npy file ({error}). Copy it again.") from None
    if dtype.hasobject:
        raise InputError(f"{path} holds Python objects: want plain numbers. Save it with a numeric dtype.")
    if not shape or (fortran and len(shape) > 1) or not dtype.isnative:
        order = "one number" if not shape else "Fortran order" if fortran else f"byte order {dtype.str}"
        raise InputError(f"{path} holds {order}: want rows in C order. Save numpy.ascontiguousarray of it.")
    want = start + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if have < want:
        raise InputError(f"{path} is cut short: {have} bytes where {shape} of {dtype} needs {want}. Copy it again.")
    return shape, dtype, start
