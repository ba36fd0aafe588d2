"""Sentences of photographs from a table: one sentence per row, in any of the forms of `caption_tables`."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from regard.data.caption_tables import SPLIT_NAME, Row, SkippedRow, read_rows
from regard.data.ids import match_numbers, show_ids, without_sentence_number
from regard.files import InputError, is_utf8

OTHER_NAMES = {"val": "dev", "valid": "dev", "validation": "dev", "restval": "train", "training": "train"}


@dataclass(frozen=True)
class Captions:
    """The rows of a table: a photograph, a sentence, and perhaps a split and other columns."""

    path: Path
    files: list[str]
    sentences: list[str]
    splits: list[str] | None
    others: dict[str, list[str]]  # by the name in the header; empty if there are no other columns
    skipped: tuple[SkippedRow, ...] = ()  # rows that cannot be read

    @classmethod
    def read(cls, path: Path) -> "Captions":
        """Read a table of photographs and sentences.

        A header names the columns file, sentence (or caption_0, caption_1 and so on) and perhaps split; see FILE,
        SENTENCE and SPLIT of `caption_tables` for other accepted names. Without a header, the first column is the file
        and the last one the sentence. Columns are separated by tabs, bars, semicolons or commas; `a.jpg#3` means
        `a.jpg`. Karpathy's, COCO's and BLIP's JSON files are read too. A row that cannot be read is skipped. Raises
        InputError if this applies to more rows than are read, and for the name of a split with other characters.
        """
        rows: list[Row] = []
        skipped: list[SkippedRow] = []
        for row in read_rows(path):
            if isinstance(row, SkippedRow):
                skipped.append(row)
            elif not is_utf8("".join((row.file, row.sentence, *(row.others or {}).values()))):
                skipped.append(SkippedRow(row.place, f"{ascii(row.sentence)[:60]}: expected characters of Unicode"))
            else:
                rows.append(row)
        if len(skipped) > len(rows):
            place, why = skipped[0]
            raise InputError(f"{path}, {place} is {why}. {len(skipped)} rows cannot be read; this is the first.")
        if not rows:
            raise InputError(f"{path} contains no sentences: expected a table of photographs and sentences.")
        for row in rows:
            if row.split and not SPLIT_NAME.fullmatch(row.split):
                raise InputError(f"{path}, {row.place}: the split is {row.split!r}; expected letters, digits, - and _.")
        names = dict.fromkeys(name for row in rows for name in row.others or ())
        return cls(
            path,
            [without_sentence_number(row.file) for row in rows],
            [" ".join(row.sentence.split()) for row in rows],
            [_common_name(row.split) for row in rows] if any(row.split for row in rows) else None,
            {name: [(row.others or {}).get(name, "") for row in rows] for name in names},
            tuple(skipped),
        )

    def rows_of(self, names: Sequence[str]) -> dict[str, list[int]]:
        """Return the rows of the table with a sentence for each of the photographs `names`.

        A file matches a photograph by its path in the folder; otherwise by the end of either path, with or without the
        suffix, if that identifies one photograph; otherwise by its number (`match_numbers`). Raises InputError if no
        row matches.
        """
        exact, whole, ends = set(names), dict[str, set[str]](), dict[str, set[str]]()
        for name in names:
            path = PurePosixPath(_key(name))
            for own in {path, path.with_suffix("")} if path.name else {path}:
                whole.setdefault(str(own), set()).add(name)
                for first in range(len(own.parts)):
                    ends.setdefault("/".join(own.parts[first:]), set()).add(name)
        rows: dict[str, list[int]] = {}
        by_number = match_numbers(dict.fromkeys(self.files), names)
        for row, (file, sentence) in enumerate(zip(self.files, self.sentences, strict=True)):
            path = PurePosixPath(_key(file.replace("\\", "/")))
            inner = ["/".join(path.parts[first:]) for first in range(1, len(path.parts))]
            matches = {file} if file in exact else whole.get(str(path)) or ends.get(str(path))
            matches = matches or next((whole[end] for end in inner if end in whole), set())
            if not matches and file in by_number:
                matches = {by_number[file]}
            if len(matches) == 1 and sentence:
                rows.setdefault(next(iter(matches)), []).append(row)
        if not rows:
            raise InputError(
                f"{self.path} names {self.files[0]!r} and others, and none of them is a photograph of the folder, "
                f"which contains {show_ids(names)}."
            )
        return rows


def _common_name(split: str) -> str:
    """The split under its common name: train, dev or test. Other names are kept."""
    name = OTHER_NAMES.get(split.lower(), split.lower())
    return name if name in ("train", "dev", "test") else split


def _key(name: str) -> str:
    """A key that is equal for names that differ only in the encoding of accents or in case."""
    return unicodedata.normalize("NFC", name).casefold()
