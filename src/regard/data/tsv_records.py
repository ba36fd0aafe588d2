"""Bottom-up attention's .tsv files and its kin: records with boxes and features in base64."""

import base64
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from regard.data.ids import match_ids
from regard.data.records import Record, Records
from regard.files import InputError, parse_json

COLUMNS = ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features")
ADVICE = "Write the boxes and features of all records as float32."
MAX_NOTES = 3  # skipped lines that are described

TRIED = 3  # whole records of each file whose numbers are tried as other types

_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_LITERAL = re.compile(rb"""b(['"])(.*)\1""", re.DOTALL)  # bytes that Python 3 wrote as text: b'...'


class _Line(NamedTuple):
    """A line whose columns are found; boxes, features and labels are still in base64."""

    name: str
    num_regions: int
    features: bytes
    boxes: bytes | None = None
    size: tuple[int, int] | None = None
    labels: bytes | None = None

    def check_whole(self) -> None:
        """Raise ValueError if the base64 texts do not have the length of `num_regions` regions."""
        if self.num_regions < 1:
            raise ValueError(f"it has {self.num_regions} regions")
        for what, text, row_bytes in (("features", self.features, 4), ("boxes", self.boxes, 16)):
            if text is None:
                continue
            if text.translate(None, _BASE64) or len(text) % 4:
                raise ValueError(f"its {what} are not whole base64")
            num_bytes = len(text) // 4 * 3 - text[-2:].count(b"=")
            if what == "boxes" and num_bytes == 2 * self.num_regions * row_bytes:
                raise InputError(f"has boxes in float64: expected float32. {ADVICE}")
            exact = what == "features" or num_bytes == self.num_regions * row_bytes
            if not num_bytes or num_bytes % (self.num_regions * row_bytes) or not exact:
                raise ValueError(f"its {what} are {num_bytes} bytes for {self.num_regions} regions")


class Tsv(Records):
    """The records of .tsv files, of which the last whole one of each image counts. Other lines are skipped."""

    def __init__(self, paths: Sequence[Path]) -> None:
        super().__init__()
        self._places: dict[str, tuple[Path, int, int]] = {}  # path, byte at which the line starts, line number
        self._broken: dict[str, str] = {}  # by the first column
        skipped: list[str] = []
        for path in paths:
            with open(path, "rb") as file:
                start = tried = 0
                for number, line in enumerate(file, 1):
                    place = f"{path}, line {number}"
                    try:
                        parsed = _parse(line)
                        parsed.check_whole()
                        if tried < TRIED and (other := other_float(base64.b64decode(parsed.features))):
                            raise InputError(f"has features in {other}: expected float32. {ADVICE}")
                        tried += 1
                        self._places[parsed.name] = path, start, number
                    except InputError as error:
                        raise InputError(f"{place} {error}") from None
                    except ValueError as error:
                        why = f"{path.name}, line {number}: {error}"
                        skipped.append(why)
                        self._broken[_text(line.partition(b"\t")[0])] = why
                    start += len(line)
        if not self._places:
            first = skipped[0] if skipped else "they are empty"
            raise InputError(
                f"{paths[0].parent} has no whole record in its .tsv files ({first}). "
                f"Expected the columns {', '.join(COLUMNS)}, or those of LXMERT or VinVL."
            )
        if skipped:
            more = "; ..." if len(skipped) > MAX_NOTES else ""
            what = "1 line is" if len(skipped) == 1 else f"{len(skipped)} lines are"
            self.notes.append(f"{what} skipped ({'; '.join(skipped[:MAX_NOTES])}{more})")

    def ids(self) -> Collection[str]:
        return self._places.keys()

    def why_missing(self, name: str) -> str:
        broken = match_ids([name], self._broken)
        return self._broken[broken[name]] if broken else ""

    def read(self, name: str) -> Record:
        line = self._line(name)
        features, record = _decoded(line.features, line.num_regions), self._outline(line)
        if record.boxes is None and (boxes := _positions(features)) is not None:
            return replace(record, features=features[:, :-6], boxes=boxes)
        return replace(record, features=features)

    def outline(self, name: str) -> Record:
        line = self._line(name)
        return self.read(name) if line.boxes is None else self._outline(line)

    def _line(self, name: str) -> _Line:
        path, start, _ = self._places[name]
        with open(path, "rb") as file:
            file.seek(start)
            return _parse(file.readline())

    def _outline(self, line: _Line) -> Record:
        boxes = None if line.boxes is None else _decoded(line.boxes, line.num_regions)
        labels = None if line.labels is None else _labels(line.labels, line.num_regions)
        return Record(np.empty((line.num_regions, 0), np.float32), boxes, line.size, labels)


def _columns(line: bytes) -> list[bytes]:
    """The columns of a line, without the b'...' that Python 3 writes around bytes."""
    columns = line.rstrip(b"\r\n").split(b"\t")
    return [found[2] if (found := _LITERAL.fullmatch(column)) else column for column in columns]


def _parse(line: bytes) -> _Line:
    """Find the columns of a line. Raises ValueError, with the reason, if they are not those of a known kind."""
    columns = _columns(line)
    if columns == [b""]:
        raise ValueError("it is blank")
    if not (parse := _KINDS.get(len(columns))):
        raise ValueError(f"it has {len(columns)} columns")
    try:
        return parse(columns)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        raise ValueError("its columns are not those of a record") from None


def _parse_bottom_up(columns: Sequence[bytes]) -> _Line:
    width, height, count = map(_whole, columns[1:4])
    return _Line(_text(columns[0]), count, columns[5], columns[4], (width, height))


def _parse_lxmert(columns: Sequence[bytes]) -> _Line:
    """The image id, height, width, then number and confidence of objects and attributes, number, boxes, features."""
    height, width, count = map(_whole, (columns[1], columns[2], columns[7]))
    return _Line(_text(columns[0]), count, columns[9], columns[8], (width, height), columns[3])


def _parse_vinvl(columns: Sequence[bytes]) -> _Line:
    """The image id, and JSON with the number of boxes and features that end with six positions of each box."""
    values = parse_json(columns[1])
    return _Line(_text(columns[0]), int(values["num_boxes"]), values["features"].encode())


_KINDS: dict[int, Callable[[Sequence[bytes]], _Line]] = {6: _parse_bottom_up, 10: _parse_lxmert, 2: _parse_vinvl}


def _whole(text: bytes) -> int:
    return int(float(text))


def _text(name: bytes) -> str:
    return name.strip().decode("utf-8", "replace")


def _decoded(text: bytes, count: int) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f4").reshape(count, -1)


def _labels(text: bytes, count: int) -> np.ndarray | None:
    """The class numbers, int64 or int32; None if they are not one per region."""
    content = base64.b64decode(text)
    kind = {8 * count: "<i8", 4 * count: "<i4"}.get(len(content))
    return np.frombuffer(content, kind).astype(np.int64) if kind else None


def _positions(features: np.ndarray) -> np.ndarray | None:
    """The boxes in VinVL's last six columns, x1 y1 x2 y2 width height as fractions; None if they contain others."""
    if features.shape[1] <= 6:
        return None
    boxes, sides = features[:, -6:-2], features[:, -2:]
    return boxes if np.allclose(boxes[:, 2:] - boxes[:, :2], sides, atol=1e-3) else None


def other_float(content: bytes) -> str | None:
    """Return "float16" or "float64" if little-endian bytes seem to be such numbers and not float32; otherwise None.

    Bytes of another type read as float32 give numbers over very many orders of magnitude. Therefore the type whose
    numbers are finite and spread over half the orders of float32, or less, is the more probable one.
    """
    spread = _spread(np.frombuffer(content, "<f4"))
    for name, kind in (("float16", "<f2"), ("float64", "<f8")):
        if len(content) % np.dtype(kind).itemsize:
            continue
        numbers = np.frombuffer(content, kind)
        halves = numbers[: len(numbers) // 2 * 2].reshape(-1, 2) != 0
        # Of a rounded float32, such as 1.5, the lower half is zero. Therefore both halves must be there as often.
        is_rounded = kind == "<f2" and halves[:, 0].sum() < halves[:, 1].sum() / 2
        if not is_rounded and _spread(numbers) < spread / 2:
            return name
    return None


def _spread(numbers: np.ndarray) -> float:
    """The standard deviation of the order of magnitude of numbers; infinite if they are not finite or too few."""
    if len(numbers) < 8 or not np.isfinite(numbers).all():
        return np.inf
    present = np.abs(numbers[numbers != 0].astype(np.float64))
    return float(np.log2(present).std()) if len(present) else 0.0
