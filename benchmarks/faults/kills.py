"""Kill commands at random moments, repeat them, and count those that end as if nothing had happened.

    python benchmarks/faults/kills.py [--kills 6] [--index]

Commands: convert, train (repeated with --resume) and (--index) adding to an index. A kill is survived if the repeated
command succeeds, its result passes `data check --deep`, `verify` or `index verify`, and no temporary file is left.
"""

import argparse
import random
import tempfile
import time
from pathlib import Path

from workspace import call, make, start, training


def kill_after(seconds: float, *arguments: object) -> bool:
    """Start a command, kill it after some seconds, and return whether it was still running."""
    process = start(*arguments)
    time.sleep(seconds)
    was_running = process.poll() is None
    process.kill()
    process.communicate()
    return was_running


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=6, help="kills per command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--index", action="store_true", help="also kill `regard index add` (needs regard[search])")
    given = parser.parse_args()
    numbers = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, given.index)
        for kind in ("convert", "train", *(["index"] if given.index else [])):
            survived = early = 0
            for number in range(given.kills):
                out = folder / f"{kind}{number}"
                command: tuple[object, ...] = ("data", "convert", folder / "data", "--out", out)
                again, check = command, ("data", "check", out, "--deep")
                if kind == "train":
                    command = training(folder, out.name)
                    again, check = (*command, "--resume"), ("verify", out)
                elif kind == "index":
                    command = again = ("index", "add", folder / "index", folder / "data", "--split", "dev")
                    check = ("index", "verify", folder / "index")
                early += not kill_after(numbers.uniform(0.3, 3.0 if kind == "convert" else 8.0), *command)
                code, errors = call(*again)
                if "is not empty" in errors or "already exists" in errors:  # it had ended before the kill
                    code = 0
                left = list(folder.glob(".*.tmp")) + list(folder.glob("*/.*.tmp"))
                code = code or call(*check)[0]
                survived += not code and not left
                if code or left:
                    print(f"{kind} {number}: exit code {code}, {errors.strip()}, left {left}", flush=True)
            print(f"{kind}: {survived} of {given.kills} kills survived ({early} came after the end)", flush=True)


if __name__ == "__main__":
    main()
