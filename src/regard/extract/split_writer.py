"""Write the splits of a data folder from extracted photographs: images, sentences and relations of each split."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from regard.data.caption_tables import SkippedRow
from regard.data.captions import Captions
from regard.data.layout import Files
from regard.data.lines import Lines, write_lines
from regard.data.rows import Rows, save_array
from regard.extract.store import Store
from regard.files import InputError
from regard.relations.from_sentences import parse_split
from regard.words.scripts import is_english

REST = "rest"  # the split of photographs without sentences, if others have sentences
SHARES = {"train": 0.8, "dev": 0.9, "test": 1.0}  # cumulative shares of the photographs
PARTS = ("ids.txt", "caps.txt", "image_of_text.npy", "boxes.npy", "sizes.npy", "scores.npy", "labels.npy",
         "num_regions.npy", "relations.npz", "text_relations.npz")  # fmt: skip


@dataclass(kw_only=True)
class ExtractionReport:
    """The result of `extract`."""

    splits: dict[str, tuple[int, int]] = field(default_factory=dict)  # numbers of photographs and sentences
    skipped: dict[str, str] = field(default_factory=dict)  # file -> why it was skipped
    unparsed: list[str] = field(default_factory=list)  # splits whose sentences do not look like English
    extracted: int = 0  # photographs extracted in this run, by all processes
    seconds: float = 0.0
    unmatched: list[str] = field(default_factory=list)  # the file of each sentence without a readable photograph
    embedded: dict[str, dict[str, int]] = field(default_factory=dict)  # images of each split, by embedding model
    skipped_rows: Sequence[SkippedRow] = ()  # rows of the table of sentences that could not be read


def write_splits(
    out: Path,
    store: Store,
    names: Sequence[str],
    classes: Sequence[str],
    table: Captions | None,
    split: str,
    write_relations: Callable[[Path, str], object],
) -> ExtractionReport:
    """Write the splits of the photographs `names` from the contents of the store.

    Without a table of captions, all photographs are one split: `split`, or "test" if that is empty. With a table, the
    photographs without sentences are the split "rest". The others are in `split`, or else in the split that the table
    names, or else 80 % are in "train", 10 % in "dev" and 10 % in "test". The latter depends on the hash of the
    photograph, so that a photograph keeps its split when others are added.

    A split is not rewritten if its photographs and sentences have not changed. `write_relations(out, split)` is called
    for each split without relations. Raises InputError if no photograph could be read.
    """
    row_of, first_of, skipped = _find_rows(names, store)
    report = ExtractionReport(skipped=skipped)
    sentences_of: dict[str, list[str]] = {name: [] for name in row_of}
    splits_of: dict[str, set[str]] = {name: set() for name in row_of}
    if table:
        report.skipped_rows = table.skipped
        used: set[int] = set()
        for name, rows in table.rows_of(names).items():
            if (first := first_of.get(name, name)) in row_of:
                sentences_of[first] += [table.sentences[row] for row in rows]
                splits_of[first] |= {table.splits[row] for row in rows} if table.splits else set()
                used.update(rows)
        report.unmatched = [file for row, file in enumerate(table.files) if row not in used and table.sentences[row]]
    members_of: dict[str, list[str]] = {}  # split -> photographs
    for name in row_of:
        hash_, default = store.records[name].hash, None if table else "test"
        is_rest = table and not sentences_of[name]
        own = REST if is_rest else _choose_split(name, splits_of[name], hash_, split, default)
        members_of.setdefault(own, []).append(name)

    for old in out.glob("*_rows.npy"):
        if old.name.removesuffix("_rows.npy") not in members_of:
            _remove(Files(out, old.name.removesuffix("_rows.npy")))
    if len(classes) > 1:
        write_lines(out / "labels.txt", classes[1:])
    for own, members in members_of.items():
        files, sentences = Files(out, own), [sentences_of[name] for name in members]
        _write_split(files, store, members, np.array([row_of[name] for name in members]), sentences, len(classes) > 1)
        if not files.path("relations.npz").exists():
            write_relations(out, own)
        if any(sentences) and not files.path("text_relations.npz").exists():
            if is_english(Lines(files.path("caps.txt"))):
                parse_split(out, own)
            else:
                report.unparsed.append(own)
        report.splits[own] = len(members), sum(map(len, sentences))
    return report


def _find_rows(names: Sequence[str], store: Store) -> tuple[dict[str, int], dict[str, str], dict[str, str]]:
    """Find the row of each photograph in the store.

    Returns the row of each different photograph; the first name with the same content for each other name; and the
    reason for each name that is skipped.
    """
    first_name: dict[int, str] = {}  # row -> name
    first_of: dict[str, str] = {}
    skipped: dict[str, str] = {}
    for name in names:
        record = store.records.get(name)
        row = store.row_of.get(record.hash) if record else None
        if record is None or row is None:
            skipped[name] = (record.error if record else "") or f"{name} was not read."
        elif row in first_name:
            first_of[name] = first_name[row]
            skipped[name] = f"{name} is the same photograph as {first_name[row]}."
        else:
            first_name[row] = name
    if not first_name:
        reason = next(iter(skipped.values()))
        raise InputError(f"None of {len(names)} photographs could be read. The first: {reason}")
    return {name: row for row, name in first_name.items()}, first_of, skipped


def _choose_split(name: str, in_table: set[str], hash_: str, split: str, default: str | None) -> str:
    named = {own for own in in_table if own}
    if len(named) > 1 and not split:
        raise InputError(f"{name} is in the splits {' and '.join(sorted(named))}: expected one for all its sentences.")
    if chosen := split or next(iter(named), None) or default:
        return chosen
    return next(own for own, share in SHARES.items() if int(hash_[:8], 16) < share * 16**8)


def _write_split(
    files: Files, store: Store, names: list[str], rows: np.ndarray, sentences: list[list[str]], has_labels: bool
) -> None:
    """Write the files of a split, unless they are unchanged.

    `rows.npy` is written last. Without it the folder has no such split, so an interruption leaves no partial split.
    """
    texts = [text for own in sentences for text in own]
    image_of_text = np.repeat(np.arange(len(names), dtype=np.int32), [len(own) for own in sentences])
    if _is_unchanged(files, names, texts, {"rows": rows, "image_of_text": image_of_text}):
        return
    _remove(files)
    write_lines(files.path("ids.txt"), names)
    write_lines(files.path("caps.txt"), texts)
    counts = store.arrays["counts"][rows]
    arrays = {
        "image_of_text": image_of_text,
        "boxes": store.arrays["boxes"][rows],
        "sizes": store.arrays["sizes"][rows],
        "scores": store.arrays["scores"][rows],
    }
    if has_labels:
        arrays["labels"] = store.arrays["labels"][rows]
    if counts.min() < store.arrays["boxes"].shape[1]:
        arrays["num_regions"] = counts
    for name, values in {**arrays, "rows": rows}.items():
        save_array(files.path(f"{name}.npy"), values)


def _is_unchanged(files: Files, names: list[str], texts: list[str], arrays: dict[str, np.ndarray]) -> bool:
    if not files.path("rows.npy").exists():
        return False
    if not all(np.array_equal(Rows(files.path(f"{name}.npy")).all(), values) for name, values in arrays.items()):
        return False
    return list(Lines(files.path("ids.txt"))) == names and list(Lines(files.path("caps.txt"))) == texts


def _remove(files: Files) -> None:
    """Remove the files of a split, `rows.npy` first."""
    for name in ("rows.npy", *PARTS):
        files.path(name).unlink(missing_ok=True)
    for path in files.folder.glob(f"{files.split}_embeddings_*.safetensors"):
        path.unlink()
