"""Readers of tables of sentences: delimited text, lists of `name#0 sentence`, and the JSON files of the field.

There is one function per form. `read_rows` looks at the content, not at the name of the file.
"""

import ast
import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from regard.files import InputError, parse_json

FILE = (
    "file", "filename", "file_name", "filepath", "file_path", "image", "image_name", "image_path", "img", "img_path",
    "photo", "photograph", "picture", "path", "image_id",
)  # fmt: skip
SENTENCE = ("sentence", "caption", "comment", "text", "description", "title", "raw", "captions", "sentences")
SPLIT = ("split",)
SPLIT_NAME = re.compile(r"[A-Za-z0-9_-]+")
SEPARATORS = "\t|;,"
LONGEST_CELL = 20  # lines of a cell in quotation marks

_NUMBERED = re.compile(r"(?:sentence|caption|comment|text)s?[ _]?\d+")  # caption_0 to caption_4
_FLICKR = re.compile(r"(\S.*?\.\w+)#(?:\w+#)?\d+\s+(\S.*)")  # 1000268201.jpg#0 A child; 1000268201.jpg#zhm#0 ...


class Row(NamedTuple):
    """One sentence of a table."""

    place: str  # for messages: "line 3"
    file: str
    sentence: str
    split: str = ""
    others: dict[str, str] | None = None  # other columns of the table


class SkippedRow(NamedTuple):
    """A row that cannot be read, with the reason."""

    place: str
    why: str


RowReader = Iterator[Row | SkippedRow]


def read_rows(path: Path) -> RowReader:
    """Yield the rows of a table of sentences in any known form, those that cannot be read too.

    Raises InputError if the file cannot be read as text.
    """
    text = _text(path)
    if text.lstrip()[:1] in ("{", "["):
        return _read_json(path, text)
    lines = re.split(r"\r\n|\r|\n", text)
    some = [line for line in lines if line.strip()][:20]
    if some and all(map(_FLICKR.fullmatch, some)):
        return _read_flickr(lines)
    return _read_delimited(lines)


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        return content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path} is not there. Expected a table of photographs and sentences.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}. Expected a table.") from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} cannot be read as UTF-8 ({error}). Save it as UTF-8; if it is Latin-1, by "
            f"iconv -f latin1 -t utf-8 {path.name}."
        ) from None


# Text -----------------------------------------------------------------------------------------------------------------


def _read_flickr(lines: Sequence[str]) -> RowReader:
    """Lines of a file name, `#` and a number, white space, and a sentence."""
    for number, line in enumerate(lines, 1):
        if found := _FLICKR.fullmatch(line.strip()):
            yield Row(f"line {number}", found[1], _unquoted(found[2]))
        elif line.strip():
            yield SkippedRow(f"line {number}", f"{line!r:.60}: expected NAME#0 and a sentence")


class _Columns(NamedTuple):
    """The columns of a table with a header, or of one without: the file first and the sentence last."""

    names: list[str]
    file: int
    sentences: list[int]
    split: int | None

    @classmethod
    def of(cls, names: Sequence[str]) -> "_Columns | None":
        """Find the columns by the names in a header; None if it names no file or no sentence."""
        names = [name.lower() for name in names]
        accepted = (FILE, SENTENCE, SPLIT)
        file, sentence, split = (next((names.index(own) for own in known if own in names), None) for known in accepted)
        numbered = [place for place, name in enumerate(names) if _NUMBERED.fullmatch(name)]
        sentences = numbered if sentence is None else [sentence]
        return None if file is None or not sentences else cls(names, file, sentences, split)

    def row(self, place: str, cells: Sequence[str]) -> Iterator[Row]:
        """Yield a row for each sentence in the cells."""
        used = {self.file, self.split, *self.sentences}
        others = {name: cells[at] for at, name in enumerate(self.names) if name and at not in used}
        split = "" if self.split is None else cells[self.split]
        for sentence in (each for at in self.sentences for each in _listed(cells[at])):
            yield Row(place, cells[self.file], sentence, split, others)


def _read_delimited(lines: Sequence[str]) -> RowReader:
    """Lines of cells with a separator, perhaps after a header."""
    first = next((number for number, line in enumerate(lines) if line.strip()), None)
    if first is None:
        return
    separator, columns = _find_columns(lines, first)
    start = first + bool(columns.names)
    width = len(columns.names) or columns.sentences[0] + 1
    for number, cells, text in _split(lines, start, separator):
        place = f"line {number}"
        cells = _fitted(cells, text, separator, width, columns)
        if len(cells) == width:
            yield from columns.row(place, cells)
        else:
            have = f"{len(cells)} columns" if cells else "with quotation marks that do not fit"
            yield SkippedRow(place, f"{text!r:.60}, {have}: expected {width} columns")


def _find_columns(lines: Sequence[str], first: int) -> tuple[str, _Columns]:
    """The separator and the columns: those of a header that names them, or else those of the first line."""
    header = lines[first]
    for separator in SEPARATORS:
        if columns := _Columns.of([_unquoted(name) for name in header.split(separator)]):
            return separator, columns
    # Without a header: the separator that follows the name of a file, or else that which occurs first.
    occurring = sorted((mark for mark in SEPARATORS if mark in header), key=header.index) or [","]
    named = (mark for mark in occurring if re.search(r"\.\w{2,4}\"?$", header.partition(mark)[0].strip()))
    separator = next(named, occurring[0])
    some = [cells for _, cells, _ in _split(lines[: first + 20], first, separator)]
    # A number between the file and the sentence is a column; a comma there belongs to the sentence, as do others.
    between = all(len(cells) >= 3 and cells[1].isdecimal() for cells in some)
    return separator, _Columns([], 0, [2 if between else 1], None)


def _split(lines: Sequence[str], start: int, separator: str) -> Iterator[tuple[int, list[str], str]]:
    """Yield the line number, the cells and the text of each row. A row that cannot be parsed has no cells.

    Only commas and semicolons are used with quotation marks around cells: such a cell may go on in the next lines. In
    tables with tabs or bars, a sentence may begin with a quotation mark.
    """
    number = start
    while number < len(lines):
        line = lines[number]
        number += 1
        if not line.strip(f" {separator}\t"):
            continue
        if separator in "\t|":
            yield number, list(map(_unquoted, line.split(separator))), line
            continue
        for end in range(number, min(number + LONGEST_CELL, len(lines) + 1)):
            text = "\n".join(lines[number - 1 : end])
            cells, is_open = _parse(text, separator)
            if not is_open:
                break
        yield (number, cells, text) if cells else (number, cells, line)
        number = end if cells else number


def _parse(text: str, separator: str) -> tuple[list[str], bool]:
    """The cells of a row, none if it is malformed; and whether a quotation mark is not closed."""
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
        return list(map(str.strip, next(reader))), False
    except csv.Error as error:
        return [], "unexpected end" in str(error)


def _fitted(cells: list[str], text: str, separator: str, width: int, columns: _Columns) -> list[str]:
    """The cells without empty ones at the end, and with those of one sentence that contains separators joined."""
    while len(cells) > width and not cells[-1]:
        cells = cells[:-1]
    if len(cells) == width or len(columns.sentences) > 1:
        return cells
    before = columns.sentences[0]
    left = text.split(separator, before)
    if cells and any('"' in cell for cell in left[:-1]):  # a separator may be within quotation marks
        after = len(cells) - (width - 1 - before)
        return [*cells[:before], f"{separator} ".join(cells[before:after]), *cells[after:]]
    joined = [*left[:-1], *left[-1].rsplit(separator, width - 1 - before)]
    if len(joined) != width or (not cells and joined[before].count('"') % 2):
        return cells
    return list(map(_unquoted, joined))


def _unquoted(cell: str) -> str:
    """A cell without the quotation marks that spreadsheets put around cells in tables with tabs."""
    cell = cell.strip()
    return cell[1:-1].replace('""', '"') if re.fullmatch(r'"(?:[^"]|"")*"', cell) else cell


def _listed(cell: str) -> list[str]:
    """The sentences of a cell: those of a list written as text, as `['a', 'b']`, or the cell itself."""
    if re.fullmatch(r"\[\s*(['\"]).*\1\s*\]", cell, re.DOTALL):
        for parse in (parse_json, ast.literal_eval):
            try:
                listed = parse(cell)
            except (ValueError, SyntaxError, RecursionError):
                continue
            if all(isinstance(each, str) for each in listed):
                return list(listed)
    return [cell]


# JSON -----------------------------------------------------------------------------------------------------------------


def _read_json(path: Path, text: str) -> RowReader:
    """Karpathy's `dataset_*.json`, COCO's `captions_*.json`, or records with an image and its sentences."""
    try:
        content = parse_json(text)
    except ValueError as error:
        try:
            content = [parse_json(line) for line in text.split("\n") if line.strip()]
        except ValueError:
            raise InputError(f"{path} begins like JSON and is not ({error}). Save it again.") from None
    if isinstance(content, dict) and isinstance(content.get("annotations"), list):
        return _read_coco(content)
    records = content["images"] if isinstance(content, dict) and isinstance(content.get("images"), list) else content
    if isinstance(records, dict) and _Columns.of(list(records)):
        records = [records]  # one line of JSON lines
    if isinstance(records, dict):  # from the image to its sentences
        records = [
            {"image": name, **(own if isinstance(own, dict) else {"caption": own})} for name, own in records.items()
        ]
    return _read_records(records if isinstance(records, list) else [])


def _read_records(records: Sequence[Any]) -> RowReader:
    for number, record in enumerate(records):
        place, columns = f"record {number}", _Columns.of(list(record)) if isinstance(record, dict) else None
        if columns is None:
            yield SkippedRow(place, f"{record!r:.60}: expected an image and its caption")
            continue
        values = list(record.values())
        folder = str(record["filepath"]) + "/" if {"filepath", "filename"} <= set(record) else ""
        file = folder + str(record["filename"] if folder else values[columns.file])
        split = "" if columns.split is None else str(values[columns.split])
        used = {columns.file, columns.split, *columns.sentences}
        own = {name: values[at] for at, name in enumerate(columns.names) if at not in used and name != "filepath"}
        others = {name: str(value) for name, value in own.items() if isinstance(value, str | int | float)}
        for sentence in (each for at in columns.sentences for each in _sentences(values[at])):
            yield Row(place, file, sentence, split, others)


def _sentences(value: Any) -> list[str]:
    """The sentences of a value: text, a list of texts, or a list of records with `raw` (Karpathy's)."""
    values = value if isinstance(value, list) else [value]
    texts = [each.get("raw", each.get("caption")) if isinstance(each, dict) else each for each in values]
    return [text for text in texts if isinstance(text, str)]


def _read_coco(content: dict[str, Any]) -> RowReader:
    """Annotations with `image_id` and `caption`, and images with `id` and `file_name`."""
    images = content.get("images")
    listed = images if isinstance(images, list) else []
    files = {each.get("id"): each.get("file_name") for each in listed if isinstance(each, dict)}
    for number, each in enumerate(content["annotations"]):
        image = each.get("image_id") if isinstance(each, dict) else None
        if image is None or not isinstance(each.get("caption"), str):
            yield SkippedRow(f"annotation {number}", f"{each!r:.60}: expected image_id and caption")
        else:
            yield Row(f"annotation {number}", str(files.get(image) or image), each["caption"], "", {})
