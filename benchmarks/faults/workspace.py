"""What the scripts of this folder share: options, small folders and runs, commands, and a server."""

import argparse
import contextlib
import csv
import io
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from regard.cli import main
from regard.data import Split

SMALL = ("train.epochs=1", "train.batch_size=24", "words.word_dim=8", "words.min_count=1")
TOKEN = "a-token-of-these-scripts"


def parser_of(description: str | None, what: str, default: int, about: str) -> argparse.ArgumentParser:
    """Return a parser of the options that the scripts share: how many, the seed, and --index."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(f"--{what}", type=int, default=default, help=about)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--index", action="store_true", help="also an index and a server (regard[search,serve])")
    return parser


@contextmanager
def workspace(has_index: bool) -> Iterator[Path]:
    """Yield a folder with `data`, `converted` and `run`, and with `photos`, their `extracted` data, and a `copy` of it.

    With `has_index`, also with `seen`, a run on the extracted data, and an `index` of them.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data, extracted = folder / "data", folder / "extracted"
        do("data", "scenes", "--out", data, "--train", 64, "--dev", 6, "--test", 6, "--pictures", 24)
        do("data", "convert", data, "--out", folder / "converted")
        do(*training(folder, "run"))
        (data / "train_pictures").rename(folder / "photos")
        _write_captions(Split.open(data, "train"), folder / "captions.csv")
        do(*extraction(folder, "extracted"))
        if has_index:
            do(*training(folder, "seen", "vse-infinity-f8k", "extracted"))
            do("index", folder / "seen", extracted, "--split", "test", "--out", folder / "index")
        yield folder


def _write_captions(split: Split, path: Path) -> None:
    """Write a table of two sentences of each of the first photographs, and their splits."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "sentence", "split"])
        for text, image in enumerate(split.image_of_text.tolist()):
            if image < 24 and text % 5 < 2:
                part = ("test", "dev", "train", "train")[image % 4]
                rows.writerow([f"{split.ids[image]}.png", split.captions[text], part])


def training(folder: Path, out: str, recipe: str = "scan-scenes", data: str = "data") -> tuple[object, ...]:
    """Return the command that trains a small run."""
    model = recipe.rpartition("-")[0].replace("-", "_")
    settings = [part for setting in (*SMALL, f"{model}.dim=16") for part in ("--set", setting)]
    return ("train", recipe, "--data", folder / data, "--out", folder / out, *settings)


def extraction(folder: Path, out: str) -> tuple[object, ...]:
    """Return the command that extracts the photographs."""
    captions = ("--captions", folder / "captions.csv")
    return ("extract", folder / "photos", "--out", folder / out, "--regions", 8, *captions)


def call(*arguments: object) -> tuple[int, str]:
    """Run the command line in this process, and return its exit code and its errors."""
    before, sys.argv = sys.argv, ["regard", *map(str, arguments)]
    out, errors = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            main()
    except SystemExit as end:
        return int(end.code or 0), errors.getvalue()
    finally:
        sys.argv = before
    raise AssertionError("the command line did not exit")


def do(*arguments: object) -> None:
    """Run a command that must succeed."""
    code, errors = call(*arguments)
    if code:
        raise SystemExit(f"{' '.join(map(str, arguments[:2]))}: {errors}")


def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Start the command line in a process of its own."""
    command = [sys.executable, "-m", "regard", *map(str, arguments)]
    return subprocess.Popen(command, **{"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, **options}, text=True)


@contextmanager
def serving(index: Path) -> Iterator[tuple[Any, subprocess.Popen[str]]]:
    """Serve an index in a process of its own. Yield an HTTP client, and the process."""
    import httpx

    environment = os.environ | {"REGARD_TOKEN": TOKEN}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "env": environment}
    with start("serve", index, "--port", 0, "--device", "cpu", **options) as process:
        try:
            assert process.stdout is not None
            found = next((at for line in process.stdout if (at := re.search(r"http://[\d.:]+", line))), None)
            assert found, "the server ended"
            headers = {"Authorization": f"Bearer {TOKEN}"}
            with httpx.Client(base_url=found[0], headers=headers, timeout=60) as client:
                while True:
                    with contextlib.suppress(httpx.TransportError):
                        client.get("/v1/health")
                        break
                    time.sleep(0.05)
                yield client, process
        finally:
            process.kill()


def upload(client: Any, path: Path) -> Any:
    """Send a picture to a server, and return the response."""
    return client.post("/v1/items", content=path.read_bytes(), headers={"Content-Type": "image/png"})
