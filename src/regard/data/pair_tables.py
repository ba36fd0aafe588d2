"""Tables of probes: an image with a sentence and a harder one (SugarCrepe), or two of each (Winoground)."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regard.data.caption_tables import FILE, SkippedRow
from regard.files import InputError, parse_json

CAPTION = ("caption", "sentence", "positive", "true_caption")
NEGATIVE = ("negative", "negative_caption", "hard_negative", "false_caption")
CATEGORY = ("category", "tag", "type", "kind")
ALL = "all"  # the category of a table without categories


@dataclass(frozen=True)
class Probe:
    """One row: images and sentences. Sentence k describes image k; with one image, the second sentence is wrong."""

    images: tuple[str, ...]  # one or two
    captions: tuple[str, str]
    category: str = ALL


@dataclass(frozen=True)
class PairTable:
    """The rows of a table, all of one form, and those that cannot be read."""

    path: Path
    probes: list[Probe]
    skipped: tuple[SkippedRow, ...]

    @classmethod
    def read(cls, path: Path) -> "PairTable":
        """Read a table with a header, or JSON records: a list, lines, or a dictionary of records.

        Columns are image, caption, negative and perhaps category; or image_0, image_1, caption_0, caption_1 and perhaps
        category. SugarCrepe's names are accepted too. A row without these values is skipped. Raises InputError if no
        row has them, or if there are rows of both forms.
        """
        probes: list[Probe] = []
        skipped: list[SkippedRow] = []
        for place, record in read_table(path):
            if probe := _probe(record):
                probes.append(probe)
            else:
                skipped.append(SkippedRow(place, f"{record!r:.60}: expected image, caption and negative"))
        if not probes:
            example = f" The first is {skipped[0].why}" if skipped else ""
            raise InputError(
                f"{path} contains no pairs: expected the columns image, caption, negative[, category], or image_0, "
                f"image_1, caption_0, caption_1[, category].{example}"
            )
        if len({len(probe.images) for probe in probes}) > 1:
            raise InputError(f"{path} contains rows with one image and rows with two: write two tables.")
        return cls(path, probes, tuple(skipped))


def read_table(path: Path) -> list[tuple[str, Any]]:
    """Return the rows of a table with a header, or of JSON records, as dictionaries with their places.

    Raises InputError if the file cannot be read.
    """
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}. Expected a table.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} cannot be read as UTF-8 text ({error}).") from None
    try:
        if text.lstrip()[:1] == "[" or (text.lstrip()[:1] == "{" and "\n{" not in text):
            content = parse_json(text)
            return [(f"record {key}", record) for key, record in _items(content)]
        if text.lstrip()[:1] == "{":
            lines = enumerate(text.split("\n"), 1)  # not splitlines, which also cuts at U+2028
            return [(f"line {number}", parse_json(line)) for number, line in lines if line.strip()]
    except ValueError as error:
        raise InputError(f"{path} begins like JSON and is not ({error}). Save it again.") from None
    separator = next((mark for mark in "\t;" if mark in text.partition("\n")[0]), ",")
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    try:
        return [(f"line {reader.line_num}", row) for row in reader]
    except csv.Error as error:
        where = f"{path}, line {reader.line_num}"
        raise InputError(f"{where}: {error}. Look for a quotation mark that is not closed.") from None


def _items(content: Any) -> list[tuple[Any, Any]]:
    if isinstance(content, dict) and not any(isinstance(value, dict) for value in content.values()):
        content = [content]  # one record
    return list(content.items() if isinstance(content, dict) else enumerate(content))


def _probe(record: Any) -> Probe | None:
    """The probe in a row; None if values are missing, or if the row has more cells than the header (key None)."""
    if not isinstance(record, dict) or None in record:
        return None
    values = cells_of(record)
    category = first_of(values, CATEGORY) or ALL
    two = [values.get(name, "") for name in ("image_0", "image_1", "caption_0", "caption_1")]
    if all(two):
        return Probe((two[0], two[1]), (two[2], two[3]), category)
    image, caption, negative = (first_of(values, names) for names in (FILE, CAPTION, NEGATIVE))
    return Probe((image,), (caption, negative), category) if image and caption and negative else None


def cells_of(record: Mapping[Any, Any]) -> dict[str, str]:
    """Return the cells of a row as text, by their columns in lower case."""
    return {str(key).strip().lower(): str(value).strip() for key, value in record.items() if value is not None}


def first_of(values: Mapping[str, str], names: tuple[str, ...]) -> str:
    """Return the first cell that is not empty of the columns `names`; empty if there is none."""
    return next((values[name] for name in names if values.get(name)), "")
