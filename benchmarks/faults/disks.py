"""Run commands on a disk that is full at some size, and count those that end with one line and leave nothing partial.

    python benchmarks/faults/disks.py [--sizes 4] [--index]

A full disk is a limit of the size of files (RLIMIT_FSIZE): from some size on, each write fails. Sizes are spread
between 100 bytes and 100 KB. Afterwards the same command must succeed without the limit.
"""

import argparse
import resource
import tempfile
from pathlib import Path

from workspace import call, make, training


def limited(size: int, *arguments: object) -> tuple[int, str]:
    """Run a command while no file may grow beyond `size` bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        return call(*arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, default=4, help="sizes per command")
    parser.add_argument("--index", action="store_true", help="also fill the disk of an index (needs regard[search])")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, given.index)
        data, run = folder / "data", folder / "run"
        good = total = 0
        for number in range(given.sizes):
            size = int(100 * 1000 ** (number / max(1, given.sizes - 1)))
            out = folder / f"out{number}"
            commands: list[tuple[object, ...]] = [
                ("data", "convert", data, "--out", out / "converted"),
                ("data", "scenes", "--out", out / "scenes", "--train", 12, "--dev", 2, "--test", 2),
                training(folder, f"run{number}"),
                ("evaluate", run, "--data", data, "--json", out / "metrics.json", "--save-scores", out / "scores.npy"),
            ]
            if given.index:
                commands.append(("index", run, data, "--split", "test", "--out", out / "index"))
            for command in commands:
                code, errors = limited(size, *command)
                left = list(folder.rglob(".*.tmp"))
                again = (*command, "--resume") if command[0] == "train" else command
                is_good = errors.count("\n") <= 1 and "Unexpected" not in errors and not left
                if code:
                    is_good = is_good and call(*again)[0] == 0
                good, total = good + is_good, total + 1
                if not is_good:
                    print(f"{size} bytes, {' '.join(map(str, command[:2]))}: {errors.strip()}, left {left}", flush=True)
        print(f"{good} of {total} full disks: one line, nothing partial, and the command succeeds afterwards")


if __name__ == "__main__":
    main()
