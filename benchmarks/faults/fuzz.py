"""Replace files by damaged and hostile ones, run commands on them, and count tracebacks.

    python benchmarks/faults/fuzz.py [--inputs 200] [--cases DIR]

Each input is one file of a data folder or of a run, with flipped bytes, a part cut out, values of other types, or the
contents of another file. A command may succeed, or fail with one line and exit code 2 (`check` and `verify`: 1). One
that needs the handler of unexpected errors, or prints more than a line, is a failure and is printed. `--cases` is a
folder of files, each of which is given to `regard data check` in a folder of its own.
"""

import argparse
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from workspace import call, make

WORDS = (b"null", b"[]", b"{}", b"-1", b"1e999", b"NaN", b'"x"', b"[" * 5000, b"\xff\xfe", b"\0", b"9" * 40, b"true")


def flip(content: bytes, numbers: random.Random) -> bytes:
    """Change up to eight bytes."""
    out = bytearray(content)
    for _ in range(numbers.randint(1, 8)):
        if out:
            out[numbers.randrange(len(out))] = numbers.randrange(256)
    return bytes(out)


def cut(content: bytes, numbers: random.Random) -> bytes:
    """Leave a part out."""
    first, last = sorted(numbers.randint(0, len(content)) for _ in range(2))
    return content[:first] + content[last:]


def put(content: bytes, numbers: random.Random) -> bytes:
    """Put a value of another type in place of a value, or of the whole."""
    word = numbers.choice(WORDS)
    if numbers.random() < 0.3 or not content:
        return word
    places = [place for place, byte in enumerate(content[:4000]) if byte in b':=[,"\n']
    first = numbers.choice(places or [0]) + 1
    return content[:first] + word + content[first + numbers.randint(0, 12) :]


CHANGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (flip, cut, put)


def is_fault(code: int, errors: str) -> bool:
    """Whether a command ended otherwise than with success or one line about the input."""
    return "Unexpected " in errors or errors.count("\n") > 1 or code not in (0, 1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=Path, help="a folder of inputs, each of which is checked too")
    given = parser.parse_args()
    numbers, faults = random.Random(given.seed), 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder)
        data, run = folder / "data", folder / "run"
        commands = {
            data: [("data", "check", data), ("evaluate", run, "--data", data), ("twins", run, "--data", data)],
            run: [("verify", run), ("evaluate", run, "--data", data)],
        }
        files = {root: sorted(path for path in root.iterdir() if path.is_file()) for root in commands}
        for number in range(given.inputs):
            root = numbers.choice(list(files))
            path, command = numbers.choice(files[root]), numbers.choice(commands[root])
            whole = path.read_bytes()
            if numbers.random() < 0.1:
                path.write_bytes(numbers.choice(files[root]).read_bytes())
            else:
                path.write_bytes(numbers.choice(CHANGES)(whole, numbers))
            try:
                code, errors = call(*command)
                message = errors if is_fault(code, errors) else ""
            except Exception as error:  # also a fault
                message = repr(error)
            if message:
                faults += 1
                print(f"input {number}: {path.name}, regard {command[0]}: {message.strip()[:400]}", flush=True)
            path.write_bytes(whole)
        cases = sorted(path for path in given.cases.rglob("*") if path.is_file()) if given.cases else []
        for case in cases:
            (folder / "case").mkdir()
            shutil.copy(case, folder / "case")
            code, errors = call("data", "check", folder / "case")
            if is_fault(code, errors):
                faults += 1
                print(f"{case}: {errors.strip()[:400]}", flush=True)
            shutil.rmtree(folder / "case")
    print(f"{given.inputs + len(cases):,} inputs, {faults} tracebacks")


if __name__ == "__main__":
    main()
