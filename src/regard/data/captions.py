"""Read sentences of photographs from a table: CSV, TSV, or the `|` format of Flickr30K; one sentence per row."""

import csv
import io
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from regard.files import InputError

FILE = ("file", "filename", "file_name", "image", "image_name", "photo", "photograph", "picture", "path")
SENTENCE = ("sentence", "caption", "comment", "text", "description")
SPLIT = ("split",)
SPLIT_NAME = re.compile(r"[A-Za-z0-9_-]+")
OTHER_NAMES = {"val": "dev", "valid": "dev", "validation": "dev", "restval": "train", "training": "train"}


@dataclass(frozen=True)
class Captions:
    """The rows of a table: a photograph, a sentence, and perhaps a split and other columns."""

    path: Path
    files: list[str]
    sentences: list[str]
    splits: list[str] | None
    others: dict[str, list[str]]  # by the name in the header

    @classmethod
    def read(cls, path: Path) -> "Captions":
        """Read a table of photographs and sentences.

        Columns are named file, sentence and perhaps split (see FILE, SENTENCE and SPLIT for other accepted names).
        Without a header, the first column is the file and the last one the sentence. Columns are separated by commas,
        tabs or bars; `a.jpg#3` means `a.jpg`. Raises InputError, with the line.
        """
        try:
            text = path.read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            why = "is not there" if isinstance(error, FileNotFoundError) else f"cannot be read as UTF-8 ({error})"
            raise InputError(f"{path} {why}. Expected a table of photographs and sentences.") from None
        head = text.partition("\n")[0]
        separator = next((mark for mark in "\t|" if mark in head), ",")
        # In tables with tabs or bars, a sentence may begin with a quotation mark.
        quoting: Any = csv.QUOTE_MINIMAL if separator == "," else csv.QUOTE_NONE
        reader = csv.reader(
            io.StringIO(text, newline=""), delimiter=separator, quoting=quoting, skipinitialspace=True, strict=True
        )
        rows: list[tuple[int, list[str]]] = []
        try:
            for row in filter(lambda row: any(map(str.strip, row)), reader):
                rows.append((reader.line_num, list(map(_unquoted, row))))
        except csv.Error as error:
            after = rows[-1][0] if rows else 0
            raise InputError(f"{path}, after line {after}: {error}. Is a quotation mark not closed?") from None
        names = [name.lower() for name in rows[0][1]] if rows else []
        known = (FILE, SENTENCE, SPLIT)
        columns = [next((names.index(name) for name in accepted if name in names), None) for accepted in known]
        width = len(names)
        if columns[0] is None or columns[1] is None:
            columns, width, names = [0, 1, None], 2, []
        else:
            del rows[0]
        for line, row in rows:
            while len(row) > width and not row[-1]:
                row.pop()
            if len(row) != width:
                expected = f"expected {width} columns; put sentences with commas in quotation marks."
                raise InputError(f"{path}, line {line} is {separator.join(row)!r:.60}, {len(row)} columns: {expected}")
        if not rows:
            raise InputError(f"{path} contains no sentences: expected a table of photographs and sentences.")
        files, sentences, splits = (
            [row[column] if column is not None else "" for _, row in rows] for column in columns
        )
        for (line, _), name in zip(rows, splits, strict=True):
            if name and not SPLIT_NAME.fullmatch(name):
                raise InputError(f"{path}, line {line}: the split is {name!r}; expected letters, digits, - and _.")
        return cls(
            path,
            [re.sub(r"#\d+$", "", file) for file in files],
            [" ".join(sentence.split()) for sentence in sentences],
            None if columns[2] is None else [_common_name(name) for name in splits],
            {name: [row[at] for _, row in rows] for at, name in enumerate(names) if name and at not in columns},
        )

    def rows_of(self, names: Sequence[str]) -> dict[str, list[int]]:
        """Return the rows of the table with a sentence for each of the photographs `names`.

        A file matches a photograph by its path in the folder; otherwise by the end of either path, with or without the
        suffix, if that identifies one photograph. Raises InputError if no row matches.
        """
        exact, whole, ends = set(names), dict[str, set[str]](), dict[str, set[str]]()
        for name in names:
            path = PurePosixPath(_key(name))
            for own in {path, path.with_suffix("")} if path.name else {path}:
                whole.setdefault(str(own), set()).add(name)
                for first in range(len(own.parts)):
                    ends.setdefault("/".join(own.parts[first:]), set()).add(name)
        rows: dict[str, list[int]] = {}
        for row, (file, sentence) in enumerate(zip(self.files, self.sentences, strict=True)):
            path = PurePosixPath(_key(file.replace("\\", "/")))
            inner = ["/".join(path.parts[first:]) for first in range(1, len(path.parts))]
            matches = {file} if file in exact else whole.get(str(path)) or ends.get(str(path))
            matches = matches or next((whole[end] for end in inner if end in whole), set())
            if len(matches) == 1 and sentence:
                rows.setdefault(next(iter(matches)), []).append(row)
        if not rows:
            raise InputError(
                f"{self.path} names {self.files[0]!r} and others, and none of them is a photograph of the folder."
            )
        return rows


def _unquoted(cell: str) -> str:
    """A cell without the quotation marks that spreadsheets put around cells in tables with tabs."""
    cell = cell.strip()
    return cell[1:-1].replace('""', '"') if re.fullmatch(r'"(?:[^"]|"")*"', cell) else cell


def _common_name(split: str) -> str:
    """The split under its common name: train, dev or test. Other names are kept."""
    name = OTHER_NAMES.get(split.lower(), split.lower())
    return name if name in ("train", "dev", "test") else split


def _key(name: str) -> str:
    """A key that is equal for names that differ only in the encoding of accents or in case."""
    return unicodedata.normalize("NFC", name).casefold()
