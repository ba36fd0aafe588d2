"""Checksums that files carry in themselves, so that a file and its checksum are replaced together.

A safetensors file has its checksum in the metadata. Other files end with a trailer, which their readers (numpy, torch)
ignore; in an .npz file, it is the comment of the archive. The checksum is CRC-32: it finds each changed bit and each
burst of up to 32 bits, and the standard library computes it at more than 1 GB per second, faster than most disks read.
"""

import os
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, TypeVar

import numpy as np
from safetensors.torch import save
from torch import Tensor

from regard.files import InputError, replacing

F = TypeVar("F", bound="ChecksummedFile")

BLOCK = 2**22  # bytes that are read at a time
KEY = "checksum"
NONE = "crc32:00000000"  # in place of the checksum while it is computed
TRAILER = re.compile(rb"\n#regard crc32:([0-9a-f]{8})\n")
TRAILER_BYTES = 24


def save_tensors(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file with a checksum, whole or not at all. A full disk is an OSError."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = bytearray(save(state, {**metadata, KEY: NONE}))
    at = content.index(NONE.encode())
    content[at : at + len(NONE)] = f"crc32:{zlib.crc32(content):08x}".encode()
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def check_tensors(path: str | os.PathLike[str]) -> bool:
    """Return whether a safetensors file has a checksum. Raises InputError if it does not fit the content."""
    with open(path, "rb") as file:
        start = file.read(8)
        size = int.from_bytes(start, "little")
        header = file.read(size) if size <= os.fstat(file.fileno()).st_size else b""
        found = re.search(rb'"checksum" *: *"crc32:([0-9a-f]{8})"', header)
        if not found:
            if b"crc32:" in header or b'"checksum"' in header:
                raise _damaged(path)
            return False
        plain = header.replace(found[0], found[0].replace(found[1], NONE[-8:].encode()))
        if int(found[1], 16) != _crc_of(file, zlib.crc32(plain, zlib.crc32(start))):
            raise _damaged(path)
    return True


class ChecksummedFile:
    """A binary file opened for writing, which gets a trailer with its checksum when it is closed without an error."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = open(path, "wb")  # noqa: SIM115 - closed by __exit__
        self._crc = 0

    def write(self, data: Any) -> int:
        """Write bytes, or anything that contains bytes, such as a contiguous array."""
        self._crc = zlib.crc32(data, self._crc)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def __enter__(self: F) -> F:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._file:
            if error is None:
                self._file.write(_trailer(self._crc))


def check_file(path: str | os.PathLike[str], size: int | None = None) -> bool:
    """Return whether a file ends with a trailer. Raises InputError if the trailer does not fit the content.

    `size` is the number of bytes before the trailer, if it is known; then more bytes without a trailer are damage too.
    """
    have = Path(path).stat().st_size
    with open(path, "rb") as file:
        file.seek(max(0, have - TRAILER_BYTES))
        found = TRAILER.fullmatch(file.read())
        if not found:
            if size is not None and have != size:
                raise _damaged(path)
            return False
        file.seek(0)
        if int(found[1], 16) != _crc_of(file, 0, have - TRAILER_BYTES):
            raise _damaged(path)
    return True


def save_arrays(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray]) -> None:
    """Write an .npz file with a checksum, whole or not at all. The CRCs of a zip archive do not cover its headers."""
    with replacing(path) as temporary, open(temporary, "wb+") as file:
        np.savez(file, **dict(arrays))  # type: ignore[arg-type]  # an array is no `allow_pickle`
        file.seek(-2, os.SEEK_END)
        file.write(TRAILER_BYTES.to_bytes(2, "little"))  # the length of the comment
        file.seek(0)
        file.write(_trailer(_crc_of(file, 0)))


def check_arrays(path: str | os.PathLike[str]) -> bool:
    """Return whether an .npz file has a checksum. Raises InputError if it is damaged, also if it has none."""
    try:
        with zipfile.ZipFile(path) as archive:
            has_checksum = b"#regard" in archive.comment or b"crc32:" in archive.comment
            is_whole = check_file(path) if has_checksum else archive.testzip() is None
    except Exception:  # zipfile and zlib raise anything for a damaged file
        raise _damaged(path) from None
    if not is_whole:
        raise _damaged(path)
    return has_checksum


def _trailer(crc: int) -> bytes:
    return f"\n#regard crc32:{crc:08x}\n".encode()


def _crc_of(file: BinaryIO, crc: int, size: int | None = None) -> int:
    """Continue `crc` with the next `size` bytes of a file (default: all)."""
    while block := file.read(BLOCK if size is None else min(BLOCK, size)):
        crc = zlib.crc32(block, crc)
        size = None if size is None else size - len(block)
    return crc


def _damaged(path: str | os.PathLike[str]) -> InputError:
    return InputError(f"{path} is damaged (its checksum does not fit its content): copy it again, or make it again.")
