"""Sentences of photographs from a table: CSV, TSV, or Flickr30K's `|`; one sentence a row."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from regard.files import InputError

FILE = ("file", "filename", "file_name", "image", "image_name", "photo", "photograph", "picture", "path")
SENTENCE = ("sentence", "caption", "comment", "text", "description")
SPLIT = ("split",)


@dataclass(frozen=True)
class Captions:
    """The rows of a table: a photograph, a sentence, and perhaps the split that it belongs to."""

    path: Path
    files: list[str]
    sentences: list[str]
    splits: list[str] | None

    @classmethod
    def read(cls, path: Path) -> "Captions":
        """A table with columns named file, sentence and perhaps split (or as FILE and SENTENCE say), or without names:
        then the file is first and the sentence last. Commas, tabs or bars part the columns; `a.jpg#3` is `a.jpg`.
        Raises InputError, with the line.
        """
        try:
            text = path.read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            why = "is not there" if isinstance(error, FileNotFoundError) else f"cannot be read as UTF-8 ({error})"
            raise InputError(f"{path} {why}. Give a table of photographs and sentences.") from None
        lines = text.splitlines(keepends=True)
        head = lines[0] if lines else ""
        mark = next((mark for mark in "\t|" if mark in head), ",")
        quoting = csv.QUOTE_MINIMAL if mark == "," else csv.QUOTE_NONE  # a sentence may begin with a quotation mark
        reader = csv.reader(lines, delimiter=mark, quoting=quoting, skipinitialspace=True)  # type: ignore[arg-type]
        names = [name.strip().strip('"').lower() for name in next(csv.reader([head], delimiter=mark), [])]
        columns = [
            next((names.index(name) for name in known if name in names), None) for known in (FILE, SENTENCE, SPLIT)
        ]
        if columns[0] is None or columns[1] is None:
            columns = [0, -1, None]
        else:
            next(reader)
        found = []
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            try:
                found.append([row[column].strip() if column is not None else "" for column in columns])
                if len(row) < 2:
                    raise IndexError
            except IndexError:
                want = "want a photograph and a sentence, parted by commas or tabs."
                raise InputError(f"{path}, line {reader.line_num} is {mark.join(row)!r:.60}: {want}") from None
        if not found:
            raise InputError(f"{path} holds no sentences: want a table of photographs and sentences.")
        files, sentences, splits = (list(column) for column in zip(*found, strict=True))
        files = [re.sub(r"#\d+$", "", file) for file in files]
        return cls(
            path, files, [" ".join(sentence.split()) for sentence in sentences], None if columns[2] is None else splits
        )

    def rows_of(self, names: Sequence[str]) -> dict[str, list[int]]:
        """The table's rows of each photograph: by its path in the folder, else by its file name, with or without the
        suffix, where that is one photograph's alone. Raises InputError where no row is any of these photographs'.
        """
        keys: dict[str, set[str]] = {}
        for name in names:
            path = PurePosixPath(name)
            for key in {name, path.name, path.stem}:
                keys.setdefault(key, set()).add(name)
        found: dict[str, list[int]] = {}
        for row, (file, sentence) in enumerate(zip(self.files, self.sentences, strict=True)):
            path = PurePosixPath(file.replace("\\", "/"))
            for key in (str(path), path.name, path.stem):
                own = keys.get(key, set())
                if key in own or len(own) == 1:
                    if sentence:
                        found.setdefault(key if key in own else next(iter(own)), []).append(row)
                    break
        if not found:
            raise InputError(f"{self.path} names {self.files[0]!r} and so on, and none is a photograph of the folder.")
        return found
