"""From what was extracted to a data folder: which photograph is in which split, with which sentences and relations."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from regard.data.captions import Captions
from regard.data.layout import Files
from regard.data.lines import Lines, write_lines
from regard.data.rows import Rows
from regard.extract.store import Store
from regard.files import InputError, replacing
from regard.relations.from_sentences import parse_split

REST = "rest"  # the split of photographs without sentences, where others have some
SHARES = {"train": 0.8, "dev": 0.9, "test": 1.0}  # of photographs, up to and with each
PARTS = ("ids.txt", "caps.txt", "image_of_text.npy", "boxes.npy", "sizes.npy", "scores.npy", "labels.npy",
         "num_regions.npy", "relations.npz", "text_relations.npz")  # fmt: skip


@dataclass(kw_only=True)
class ExtractionReport:
    """What `extract` made: how many photographs and sentences each split has, and which files were left out and why."""

    splits: dict[str, tuple[int, int]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    extracted: int = 0  # in this run, by this process
    seconds: float = 0.0
    unmatched: list[str] = field(default_factory=list)  # the file of each sentence of no photograph that was read


def gather(
    out: Path,
    store: Store,
    names: Sequence[str],
    classes: Sequence[str],
    table: Captions | None,
    split: str,
    relate: Callable[[Path, str], object],
) -> ExtractionReport:
    """Write the splits of the photographs `names`, from what the store contains of them.

    Without a table of captions all are one split, `test` unless `split` names another. With one, photographs without
    sentences are the split `rest`, and the others `split` if it names one, else those of the table, else eight in ten
    train, one dev and one test: by the hash of the photograph, so that it stays where it is when others come. Splits
    whose photographs and sentences are as before are kept. `relate` makes the relations of those that have none. Raises
    InputError where no photograph could be read.
    """
    row_of, same, skipped = _read(names, store)
    report = ExtractionReport(skipped=skipped)
    said_of: dict[str, list[str]] = {name: [] for name in row_of}
    splits_of: dict[str, set[str]] = {name: set() for name in row_of}
    if table:
        used: set[int] = set()
        for name, rows in table.rows_of(names).items():
            if (first := same.get(name, name)) in row_of:
                said_of[first] += [table.sentences[row] for row in rows]
                splits_of[first] |= {table.splits[row] for row in rows} if table.splits else set()
                used.update(rows)
        report.unmatched = [file for row, file in enumerate(table.files) if row not in used and table.sentences[row]]
    chosen: dict[str, list[str]] = {}
    for name in row_of:
        hash_, default = store.seen[name].hash, None if table else "test"
        where = REST if table and not said_of[name] else _split_of(name, splits_of[name], hash_, split, default)
        chosen.setdefault(where, []).append(name)

    for old in out.glob("*_rows.npy"):
        if old.name.removesuffix("_rows.npy") not in chosen:
            _remove(Files(out, old.name.removesuffix("_rows.npy")))
    if len(classes) > 1:
        write_lines(out / "labels.txt", classes[1:])
    for where, members in chosen.items():
        files, sentences = Files(out, where), [said_of[name] for name in members]
        _write(files, store, members, np.array([row_of[name] for name in members]), sentences, len(classes) > 1)
        if not files.path("relations.npz").exists():
            relate(out, where)
        if any(sentences) and not files.path("text_relations.npz").exists():
            parse_split(out, where)
        report.splits[where] = len(members), sum(map(len, sentences))
    return report


def _read(names: Sequence[str], store: Store) -> tuple[dict[str, int], dict[str, str], dict[str, str]]:
    """The row of each photograph; the other names of some, which are the same; and the names left out, with why."""
    first: dict[int, str] = {}  # the name of each row
    same: dict[str, str] = {}
    skipped: dict[str, str] = {}
    for name in names:
        seen = store.seen.get(name)
        row = store.row_of.get(seen.hash) if seen else None
        if seen is None or row is None:
            skipped[name] = (seen.error if seen else "") or f"{name} was not read."
        elif row in first:
            same[name] = first[row]
            skipped[name] = f"{name} is the same photograph as {first[row]}."
        else:
            first[row] = name
    if not first:
        said = next(iter(skipped.values()))
        raise InputError(f"None of {len(names)} photographs could be read; of the first: {said}")
    return {name: row for row, name in first.items()}, same, skipped


def _split_of(name: str, named: set[str], hash_: str, split: str, default: str | None) -> str:
    names = {own for own in named if own}
    if len(names) > 1 and not split:
        raise InputError(f"{name} is in the splits {' and '.join(sorted(names))}: expected one for all its sentences.")
    if chosen := split or next(iter(names), None) or default:
        return chosen
    return next(where for where, share in SHARES.items() if int(hash_[:8], 16) < share * 16**8)


def _write(
    files: Files, store: Store, names: list[str], rows: np.ndarray, sentences: list[list[str]], labelled: bool
) -> None:
    """A split. Its rows are written last, and are what makes it one: a split half-written is none."""
    texts = [text for own in sentences for text in own]
    image_of_text = np.repeat(np.arange(len(names), dtype=np.int32), [len(own) for own in sentences])
    if _same(files, names, texts, {"rows": rows, "image_of_text": image_of_text}):
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
    if labelled:
        arrays["labels"] = store.arrays["labels"][rows]
    if counts.min() < store.arrays["boxes"].shape[1]:
        arrays["num_regions"] = counts
    for name, values in {**arrays, "rows": rows}.items():
        with replacing(files.path(f"{name}.npy")) as temporary, open(temporary, "wb") as file:
            np.save(file, values)


def _same(files: Files, names: list[str], texts: list[str], arrays: dict[str, np.ndarray]) -> bool:
    """Whether the split is there as it would be written."""
    if not files.path("rows.npy").exists():
        return False
    if not all(np.array_equal(Rows(files.path(f"{name}.npy")).all(), values) for name, values in arrays.items()):
        return False
    return list(Lines(files.path("ids.txt"))) == names and list(Lines(files.path("caps.txt"))) == texts


def _remove(files: Files) -> None:
    for name in ("rows.npy", *PARTS):
        files.path(name).unlink(missing_ok=True)
