"""Replace files by damaged and hostile ones, run commands on them, and count tracebacks.

    python benchmarks/faults/fuzz.py [--inputs 200] [--index] [--cases DIR] [--only KIND]

Each input is one file with flipped bytes, a part cut out, values of other types, or the contents of another file: of a
data folder, a run, extracted photographs, and of the folder --cases, whose commands are those of cases.py. With
--index, it is also a file of an index, or a request to a server. A command may succeed, or fail with one line and exit
code 2 (`check` and `verify`: 1). One that needs the handler of unexpected errors, or prints more than a line, is a
failure and is printed; and so is an answer of the server above 499.
"""

import random
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from cases import cases
from workspace import call, extraction, parser_of, serving, workspace

WORDS = (b"null", b"[]", b"{}", b"-1", b"1e999", b"NaN", b'"x"', b"[" * 5000, b"\xff\xfe", b"\0", b"9" * 40, b"true")
BODY = b'{"queries": [{"sentence": "a dog", "minus": "a cat", "image": ""}], "k": 3, "shortlist": 2, "filters": [], ' \
    b'"cursor": null}'  # fmt: skip
PATHS = ("search", "items", "items/x", "items/x/picture", "explain", "collection", "health", "session", "metrics", "")


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


class Target(NamedTuple):
    """A folder, one file of which is damaged in a copy, and the commands that read the copy."""

    folder: Path
    commands: tuple[Callable[[Path], tuple[object, ...]], ...]


def targets_of(folder: Path, has_index: bool) -> dict[str, Target]:
    """Return the targets by name."""
    run, data, out = folder / "run", folder / "data", folder / "look.png"
    targets = {
        "data": Target(
            data,
            (
                lambda own: ("data", "check", own),
                lambda own: ("data", "check", own, "--deep"),
                lambda own: ("evaluate", run, "--data", own),
                lambda own: ("twins", run, "--data", own),
            ),
        ),
        "run": Target(run, (lambda own: ("verify", own), lambda own: ("evaluate", own, "--data", data))),
        "extracted": Target(
            folder / "extracted",
            (
                lambda own: ("data", "check", own, "--deep"),
                lambda own: extraction(folder, own.name),
                lambda own: ("look", own, "train-0000000.png", "--out", out),
            ),
        ),
    }
    if has_index:
        verbs = (("info",), ("verify",))
        reading = [lambda own, verb=verb: ("index", *verb, own) for verb in verbs]
        targets["index"] = Target(folder / "index", (*reading, lambda own: ("search", own, "a dog", "--k", 2)))
    return targets


def is_fault(code: int, errors: str) -> bool:
    """Whether a command ended otherwise than with success or one line about the input."""
    return "Unexpected " in errors or errors.count("\n") > 1 or code not in (0, 1, 2)


def damage(path: Path, others: list[Path], numbers: random.Random) -> bytes:
    """Damage a file, and return what it contained."""
    whole = path.read_bytes()
    change = numbers.choice(CHANGES)
    path.write_bytes(numbers.choice(others).read_bytes() if numbers.random() < 0.1 else change(whole, numbers))
    return whole


def fault_of(*command: object) -> str:
    """Run a command, and return its errors if it ended otherwise than expected."""
    try:
        code, errors = call(*command)
    except BaseException as error:  # an error of Rust, for example, is no Exception
        if isinstance(error, KeyboardInterrupt):
            raise
        return repr(error)
    return f"exit code {code}: {errors}" if is_fault(code, errors) else ""


def try_target(target: Target, number: int, numbers: random.Random) -> tuple[str, str]:
    """Damage one file of a copy of a folder, run a command on it, and return what was tried and the fault."""
    own = target.folder.parent / f"input{number}"
    shutil.copytree(target.folder, own, ignore=shutil.ignore_patterns("*_pictures"))
    files = sorted(path for path in own.rglob("*") if path.is_file())
    path, command = numbers.choice(files), numbers.choice(target.commands)(own)
    damage(path, files, numbers)
    fault = fault_of(*command)
    shutil.rmtree(own)
    return f"{path.relative_to(own)}, regard {' '.join(map(str, command[:2]))}", fault


def try_case(folder: Path, listed: list[Any], numbers: random.Random) -> tuple[str, str]:
    """Damage one file of a case, run its command, and return what was tried and the fault."""
    case = numbers.choice(listed)
    paths = [Path(part) for part in case.command if isinstance(part, Path) and part.is_relative_to(folder)]
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
    path = numbers.choice(files)
    whole = damage(path, files, numbers)
    fault = fault_of(*case.command)
    path.write_bytes(whole)
    if case.out:
        shutil.rmtree(case.out, ignore_errors=True)
    return f"{path.relative_to(folder)}, regard {' '.join(map(str, case.command[:2]))}", fault


def try_request(client: Any, picture: bytes, numbers: random.Random) -> tuple[str, str]:
    """Send a request to a server, and return what was sent and the answer if it is a fault."""
    is_search = numbers.random() < 0.5
    method, path = ("POST", "search") if is_search else (numbers.choice(("GET", "POST", "DELETE")), "")
    kind, body = ("application/json", BODY) if is_search else ("image/png", picture)
    path = path or numbers.choice(PATHS)
    query = numbers.choice(CHANGES)(b"id=x&sentence=a dog&side=20", numbers).decode("latin1")
    content = numbers.choice(CHANGES)(body, numbers)
    answer = client.request(
        method,
        f"/v1/{path}",
        params=query,
        content=content if method == "POST" else b"",
        headers={"Content-Type": kind},
    )
    return f"{method} {path}, {content[:60]!r}", f"answer {answer.status_code}" if answer.status_code > 499 else ""


def main() -> None:
    parser = parser_of(__doc__, "inputs", 200, "number of inputs")
    parser.add_argument("--cases", type=Path, help="a folder of inputs, as for cases.py")
    parser.add_argument(
        "--only",
        choices=("data", "run", "extracted", "index", "server", "cases"),
        help="one kind; index and server require --index, and cases --cases",
    )
    given = parser.parse_args()
    numbers, tried, faults = random.Random(given.seed), Counter[str](), 0
    with workspace(given.index) as folder, ExitStack() as stack:
        targets, listed = targets_of(folder, given.index), []
        kinds = list(targets)
        if given.index:
            client, _ = stack.enter_context(serving(folder / "index"))
            picture = next((folder / "photos").iterdir()).read_bytes()
            kinds.append("server")
        if given.cases:
            shutil.copytree(given.cases, folder / "cases")
            listed = list(cases(folder / "cases", folder / "outs"))
            kinds.append("cases")
        for number in range(given.inputs):
            kind = numbers.choice([each for each in kinds if given.only in (None, each)])
            if kind == "server":
                what, fault = try_request(client, picture, numbers)
            elif kind == "cases":
                what, fault = try_case(folder / "cases", listed, numbers)
            else:
                what, fault = try_target(targets[kind], number, numbers)
            tried[kind] += 1
            faults += bool(fault)
            if fault:
                print(f"input {number}: {what}: {fault.strip()[:400]}", flush=True)
            if number % 1000 == 999:
                print(f"{number + 1:,} inputs, {faults} tracebacks", flush=True)
    print(f"{given.inputs:,} inputs ({', '.join(f'{tried[kind]:,} {kind}' for kind in kinds)}), {faults} tracebacks")


if __name__ == "__main__":
    main()
