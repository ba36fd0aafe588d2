"""Flip single bits of files that carry checksums, and count the flips that are found.

    python benchmarks/faults/corruption.py [--flips 50] [--index]

Files: the weights and the checkpoint of a run, each converted array, the shards of an extraction, and (--index) each
file of an index. The files of LanceDB contain bytes from which no row is read: a flip after which all rows are as
before is counted apart.
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workspace import call, parser_of, workspace

from regard.files import InputError
from regard.training.verification import verify


def count(
    paths: list[Path], flips: int, is_found: Callable[[], bool], numbers: random.Random, rows: Callable[[], Any]
) -> tuple[int, int]:
    """Flip one random bit at a time, and return how many flips were found, and how many changed nothing in `rows`."""
    found = idle = 0
    before = rows()
    for _ in range(flips):
        path = numbers.choice(paths)
        whole = path.read_bytes()
        at = numbers.randrange(len(whole))
        bit = numbers.randrange(8)
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
        if is_found():
            found += 1
        elif before and rows() == before:
            idle += 1
        else:
            print(f"{path.name}: bit {bit} of byte {at:,} of {len(whole):,} was not found", flush=True)
        path.write_bytes(whole)
    return found, idle


def rows_of(index: Path) -> list[Any]:
    """Return the rows of an index."""
    import lancedb

    rows: list[Any] = lancedb.connect(index / "store").open_table("main").to_arrow().to_pylist()
    return rows


def is_damaged(run: Path) -> bool:
    """Whether `regard verify` finds a fault."""
    try:
        return any(error for _, error in verify(run))
    except InputError:
        return True


def main() -> None:
    given = parser_of(__doc__, "flips", 50, "flips per kind of file").parse_args()
    numbers, total, flips = random.Random(given.seed), 0, 0
    with workspace(given.index) as folder:
        run, converted, extracted, index = (folder / name for name in ("run", "converted", "extracted", "index"))
        shards = sorted((extracted / "photographs").glob("*.np[yz]"))
        kinds: dict[str, tuple[list[Path], Callable[[], bool]]] = {
            "weights": ([run / "model.safetensors"], lambda: is_damaged(run)),
            "checkpoint": ([run / "last.pt"], lambda: is_damaged(run)),
            "arrays": (sorted(converted.glob("*.np[yz]")), lambda: call("data", "check", converted, "--deep")[0] != 0),
            "shards": (shards, lambda: call("data", "check", extracted, "--deep")[0] != 0),
        }
        if given.index:
            files = sorted(path for path in index.rglob("*.lance") if path.is_file())
            kinds["index"] = (files, lambda: call("index", "verify", index)[0] != 0)
        for kind, (paths, is_found) in kinds.items():
            rows = (lambda: rows_of(index)) if kind == "index" else list
            found, idle = count(paths, given.flips, is_found, numbers, rows)
            note = f", {idle} change no row" if idle else ""
            print(f"{kind}: {found} of {given.flips} flips found{note}", flush=True)
            total, flips = total + found, flips + given.flips - idle
    print(f"{total} of {flips} flips found")


if __name__ == "__main__":
    main()
