"""Flip single bits of files that carry checksums, and count the flips that are found.

    python benchmarks/faults/corruption.py [--flips 50] [--index]

Files: the weights and the checkpoint of a run, each converted array, and (--index) each file of an index.
"""

import argparse
import random
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from workspace import call, make

from regard.files import InputError
from regard.training.verification import verify


def count(paths: list[Path], flips: int, is_found: Callable[[], bool], numbers: random.Random) -> Counter[bool]:
    """Flip one random bit at a time, and count whether it was found."""
    found: Counter[bool] = Counter()
    for _ in range(flips):
        path = numbers.choice(paths)
        whole = path.read_bytes()
        at = numbers.randrange(len(whole))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << numbers.randrange(8)]) + whole[at + 1 :])
        found[is_found()] += 1
        path.write_bytes(whole)
    return found


def is_damaged(run: Path) -> bool:
    """Whether `regard verify` finds a fault."""
    try:
        return any(error for _, error in verify(run))
    except InputError:
        return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=50, help="flips per kind of file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--index", action="store_true", help="also damage an index (needs regard[search])")
    given = parser.parse_args()
    numbers = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, given.index)
        run, converted, index = folder / "run", folder / "converted", folder / "index"
        kinds: dict[str, tuple[list[Path], Callable[[], bool]]] = {
            "weights": ([run / "model.safetensors"], lambda: is_damaged(run)),
            "checkpoint": ([run / "last.pt"], lambda: is_damaged(run)),
            "arrays": (sorted(converted.glob("*.npy")), lambda: call("data", "check", converted, "--deep")[0] != 0),
        }
        if given.index:
            files = sorted(path for path in index.rglob("*.lance") if path.is_file())
            kinds["index"] = (files, lambda: call("index", "verify", index)[0] != 0)
        for kind, (paths, is_found) in kinds.items():
            found = count(paths, given.flips, is_found, numbers)
            print(f"{kind}: {found[True]} of {given.flips} flips found", flush=True)


if __name__ == "__main__":
    main()
