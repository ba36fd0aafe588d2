"""The lines of a text file as a lazy sequence: one offset per line is in memory, and lines are read on access."""

import codecs
import mmap
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import SupportsIndex, overload

import numpy as np

from regard.data.ids import without_sentence_number
from regard.files import InputError

BLOCK = 2**24  # bytes searched for line ends at a time


class Lines(Sequence[str]):
    """The stripped lines of a UTF-8 file, without the blank lines at its end.

    Raises InputError, with the line number, if a line is not UTF-8.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            with open(self.path, "rb") as file:
                empty = os.fstat(file.fileno()).st_size == 0
                self._bytes = b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise InputError(f"{self.path} is not there.") from None
        self._bounds = _bounds(self._bytes)
        while len(self) and not self.raw(len(self) - 1).strip():
            self._bounds = self._bounds[:-1]

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __reduce__(self) -> tuple[type["Lines"], tuple[Path]]:  # another process opens the file itself
        return Lines, (self.path,)

    @overload
    def __getitem__(self, line: SupportsIndex) -> str: ...
    @overload
    def __getitem__(self, line: slice) -> list[str]: ...
    def __getitem__(self, line: SupportsIndex | slice) -> str | list[str]:
        if isinstance(line, slice):
            return [self[i] for i in range(*line.indices(len(self)))]
        line = range(len(self))[line]
        try:
            return self.raw(line).decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise InputError(
                f"{self.path}, line {line + 1} is not UTF-8 ({error.reason} at byte {error.start + 1}). "
                f"Save the file as UTF-8."
            ) from None

    def raw(self, line: int) -> bytes:
        """Return the bytes of a line, without the byte order mark of a file."""
        found = self._bytes[self._bounds[line] : self._bounds[line + 1]]
        return found if line else found.removeprefix(codecs.BOM_UTF8)

    def keys(self, numbered: bool = False) -> np.ndarray:
        """Return an int64 hash per line, equal for equal lines, to find repeats among millions of lines.

        If the lines are `numbered`, the number of a sentence at their end does not count.
        """
        lines = (self.raw(line).strip() for line in range(len(self)))
        if numbered:
            lines = (without_sentence_number(line.decode("utf-8", "replace")).encode() for line in lines)
        return np.fromiter(map(hash, lines), np.int64, len(self))


class NamedLines(Sequence[str]):
    """The lines at `places` (all, if None): the ids of images.

    A line is replaced by its name in `names` if it has one. If the lines are `numbered`, they lose the number of a
    sentence, such as `#0`.
    """

    def __init__(self, lines: Lines, places: np.ndarray | None, names: dict[str, str], numbered: bool = False) -> None:
        self.lines, self.places, self.names, self.numbered = lines, places, names, numbered

    def __len__(self) -> int:
        return len(self.lines) if self.places is None else len(self.places)

    @overload
    def __getitem__(self, item: SupportsIndex) -> str: ...
    @overload
    def __getitem__(self, item: slice) -> list[str]: ...
    def __getitem__(self, item: SupportsIndex | slice) -> str | list[str]:
        if isinstance(item, slice):
            return [self[i] for i in range(*item.indices(len(self)))]
        line = self.lines[self.line(range(len(self))[item])]
        line = without_sentence_number(line) if self.numbered else line
        return self.names.get(line, line)

    def line(self, item: int) -> int:
        """Return the line number, from 0, of an item."""
        return item if self.places is None else int(self.places[item])

    def keys(self) -> np.ndarray:
        """See Lines.keys."""
        keys = self.lines.keys(self.numbered)
        return keys if self.places is None else keys[self.places]


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write one line per item. Line breaks within an item become spaces."""
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{' '.join(line.splitlines())}\n" for line in lines)


def _bounds(text: bytes | mmap.mmap) -> np.ndarray:
    """The byte at which each line starts, and the end of the last line. Lines may end as on the first Macintosh, CR."""
    for end in (b"\n", b"\r"):
        if text.find(end) >= 0:
            break
    ends = [np.zeros(1, np.int64)]
    for first in range(0, len(text), BLOCK):
        block = np.frombuffer(text, np.uint8, min(BLOCK, len(text) - first), first)
        ends.append(np.flatnonzero(block == ord(end)) + first + 1)
    bounds = np.concatenate(ends)
    return bounds if bounds[-1] == len(text) else np.append(bounds, len(text))
