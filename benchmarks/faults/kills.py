"""Kill commands at random moments, repeat them, and count those that end as if nothing had happened.

    python benchmarks/faults/kills.py [--kills 3] [--index]

Commands: convert, train (repeated with --resume), evaluate and extract, and with --index: creating an index, adding to
it, and a server to which pictures are sent. A kill is survived if the repeated command succeeds, what it wrote passes
`data check --deep`, `verify` or `index verify`, and no temporary file is left. The moments are spread over the time
that the command takes.
"""

import contextlib
import random
import shutil
import threading
import time
from pathlib import Path

from workspace import call, extraction, parser_of, serving, start, training, upload, workspace

KINDS = ("convert", "train", "evaluate", "extract")
WITH_INDEX = ("create", "add", "serve")
Command = tuple[object, ...]


def command_of(kind: str, folder: Path, out: Path) -> tuple[Command, Command]:
    """Return a command that writes `out`, and the one that checks it."""
    data, extracted = folder / "data", folder / "extracted"
    if kind == "convert":
        return ("data", "convert", data, "--out", out), ("data", "check", out, "--deep")
    if kind == "train":
        return training(folder, out.name), ("verify", out)
    if kind == "evaluate":
        results = ("--json", out / "metrics.json", "--save-scores", out / "scores.npy")
        return ("evaluate", folder / "run", "--data", data, *results), ("metrics", out / "scores.npy", out / "map.npy")
    if kind == "extract":
        return extraction(folder, out.name), ("data", "check", out, "--deep")
    if kind == "create":
        return ("index", folder / "seen", extracted, "--split", "test", "--out", out), ("index", "verify", out)
    return ("index", "add", out, extracted, "--split", "train"), ("index", "verify", out)


def fault_of(kind: str, folder: Path, out: Path) -> str:
    """Repeat a killed command, check what it wrote, and return what is wrong; empty if nothing."""
    command, check = command_of(kind, folder, out)
    code, errors = call(*command, *(["--resume"] if kind == "train" else []))
    # It had ended before the kill, or, for an index, had committed all pictures at once.
    if any(words in errors for words in ("is not empty", "already exists", "is an index already")):
        code = 0
    if code == 0:
        code, errors = call(*check)
    left = [*out.rglob(".*.tmp"), *out.parent.glob(".*.tmp")]
    return f"exit code {code}, {errors.strip()}" if code else f"left {left}" if left else ""


def kill(command: Command, seconds: float | None) -> float:
    """Start a command, kill it after some seconds, and return the seconds that it took. None: let it end."""
    began = time.monotonic()
    process = start(*command)
    with contextlib.suppress(Exception):
        process.wait(seconds)
    took = time.monotonic() - began
    process.kill()
    process.communicate()
    return took


def serve(folder: Path, out: Path, seconds: float) -> str:
    """Kill a server while pictures are sent to it, start another, send them again, and return what is wrong."""
    pictures = sorted((folder / "data" / "dev_pictures").iterdir())
    with serving(out) as (client, process):
        timer = threading.Timer(seconds, process.kill)
        timer.start()
        with contextlib.suppress(Exception):  # the connection is lost
            for picture in pictures:
                upload(client, picture)
        timer.join()
    with serving(out) as (client, _):
        before = client.get("/v1/collection").json()["items"]
        codes = [upload(client, picture).status_code for picture in pictures]
        added = client.get("/v1/collection").json()["items"] - before
    code, errors = call("index", "verify", out)
    is_good = set(codes) <= {200, 201} and added == codes.count(201) and not code
    return "" if is_good else f"answers {codes}, {added} pictures added, {errors.strip()}"


def main() -> None:
    given = parser_of(__doc__, "kills", 3, "kills per command").parse_args()
    numbers, total, kills = random.Random(given.seed), 0, 0
    with workspace(given.index) as folder:
        for kind in KINDS + (WITH_INDEX if given.index else ()):
            survived, early, seconds = 0, 0, 3.0
            for number in range(-1, given.kills):  # the first is not killed, to know the seconds
                out = folder / f"{kind}{number}"
                if kind in ("add", "serve"):
                    shutil.copytree(folder / "index", out)
                if kind == "evaluate":
                    out.mkdir()
                    shutil.copy(folder / "data" / "test_image_of_text.npy", out / "map.npy")
                if kind == "serve":
                    fault = serve(folder, out, numbers.uniform(0.0, seconds))
                elif number < 0:
                    seconds, fault = kill(command_of(kind, folder, out)[0], None), ""
                else:
                    moment = numbers.uniform(0.1, seconds)
                    early += kill(command_of(kind, folder, out)[0], moment) < moment
                    fault = fault_of(kind, folder, out)
                survived += number >= 0 and not fault
                if fault:
                    print(f"{kind} {number}: {fault}", flush=True)
                shutil.rmtree(out)
            print(f"{kind}: {survived} of {given.kills} kills survived ({early} came after the end)", flush=True)
            total, kills = total + survived, kills + given.kills
    print(f"{total} of {kills} kills survived")


if __name__ == "__main__":
    main()
