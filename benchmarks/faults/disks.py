"""Run commands on a disk that is full at some size, and count those that end with one line and leave nothing partial.

    python benchmarks/faults/disks.py [--sizes 4] [--index]

A full disk is a limit of the size of files (RLIMIT_FSIZE): from some size on, each write fails. Sizes are spread
between 100 bytes and 100 KB. Afterwards the same command must succeed without the limit. A server (--index) must
refuse a picture, go on answering, and be left with an index that passes `index verify`.
"""

import resource
import shutil
from pathlib import Path

from workspace import call, extraction, parser_of, serving, training, upload, workspace


def limit(size: int, process: int = 0) -> None:
    """Let no file that a process (by default, this one) writes grow beyond `size` bytes."""
    limits = resource.prlimit(process, resource.RLIMIT_FSIZE)
    resource.prlimit(process, resource.RLIMIT_FSIZE, (size, limits[1]))


def fault_of(size: int, command: tuple[object, ...], folder: Path) -> str:
    """Run a command on a full disk and again without, and return what is wrong; empty if nothing."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    limit(size)
    try:
        code, errors = call(*command)
    finally:
        limit(before)
    left = list(folder.rglob(".*.tmp"))
    if errors.count("\n") > 1 or "Unexpected" in errors or left:
        return f"{errors.strip()}, left {left}"
    if code:
        code, errors = call(*command, *(["--resume"] if command[0] == "train" else []))
    return errors.strip() if code else ""


def server_fault_of(size: int, folder: Path, out: Path) -> str:
    """Send a picture to a server on a full disk, and return what is wrong; empty if nothing."""
    shutil.copytree(folder / "index", out)
    picture = next((folder / "data" / "dev_pictures").iterdir())
    with serving(out) as (client, process):
        limit(size, process.pid)
        refused = upload(client, picture).status_code
        found = client.post("/v1/search", json={"queries": [{"sentence": "a dog"}]}).status_code
    code, errors = call("index", "verify", out)
    with serving(out) as (client, _):
        added = upload(client, picture).status_code
    is_good = refused in (201, 409, 503, 507) and found == 200 and not code and added in (200, 201)
    return "" if is_good else f"answers {refused}, {found}, {added}, {errors.strip()}"


def main() -> None:
    given = parser_of(__doc__, "sizes", 4, "sizes per command").parse_args()
    good = total = 0
    with workspace(given.index) as folder:
        data, run, extracted = folder / "data", folder / "run", folder / "extracted"
        for number in range(given.sizes):
            size, out = int(100 * 1000 ** (number / max(1, given.sizes - 1))), folder / f"out{number}"
            results = ("--json", out / "metrics.json", "--save-scores", out / "scores.npy")
            commands: list[tuple[object, ...]] = [
                ("data", "convert", data, "--out", out / "converted"),
                ("data", "scenes", "--out", out / "scenes", "--train", 12, "--dev", 2, "--test", 2),
                training(folder, f"out{number}/run"),
                ("evaluate", run, "--data", data, *results),
                extraction(folder, f"out{number}/extracted"),
            ]
            if given.index:
                commands.append(("index", folder / "seen", extracted, "--split", "test", "--out", out / "index"))
                commands.append(("index", "add", out / "more", extracted, "--split", "train"))
                shutil.copytree(folder / "index", out / "more")
            faults = {" ".join(map(str, command[:2])): fault_of(size, command, folder) for command in commands}
            if given.index:
                faults["serve"] = server_fault_of(size, folder, out / "served")
            for name, fault in faults.items():
                good, total = good + (not fault), total + 1
                if fault:
                    print(f"{size} bytes, {name}: {fault}", flush=True)
    print(f"{good} of {total} full disks: one line, nothing partial, and the command succeeds afterwards")


if __name__ == "__main__":
    main()
