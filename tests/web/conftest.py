"""An index of drawn photographs that `regard extract` has read, and servers of it."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from commands import TINY, regard
from regard.data import Split
from regard.scenes import make_scenes
from sharded import make_collection

pytest.importorskip("fastapi", reason="the page and the API require fastapi")
pytest.importorskip("uvicorn", reason="the page and the API require uvicorn")
pytest.importorskip("lancedb", reason="the page and the API require lancedb")

DESCRIPTION, GPS, DETAILS, TAKEN = 0x010E, 0x8825, 0x8769, 0x9003  # EXIF tags


@pytest.fixture(scope="session")
def web_world(tmp_path_factory) -> Path:
    """A folder with photographs, a run that was trained on them, and an index of them."""
    folder = tmp_path_factory.mktemp("web")
    make_scenes(folder / "drawn", train=24, dev=4, test=4, pictures=24)
    split = Split.open(folder / "drawn", "train")
    (folder / "photos").mkdir()
    with open(folder / "captions.csv", "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "sentence", "split", "place", "secret"])
        for row, name in enumerate(split.ids):
            photograph = Image.open(folder / "drawn" / "train_pictures" / f"{name}.png").convert("RGB")
            exif = Image.Exif()
            exif[DESCRIPTION], exif[GPS] = "described in secret", {1: "N", 2: (48.0, 51.0, 29.0)}
            exif[DETAILS] = {TAKEN: "2024:05:31 10:00:00"}
            photograph.save(folder / "photos" / f"{row:02}.jpg", exif=exif)
            part = "test" if row % 4 == 0 else "dev" if row % 4 == 1 else "train"
            for text in np.flatnonzero(split.image_of_text == row)[:2]:
                place = "the bird's nest" if row % 2 else 'a "far" place'
                rows.writerow([f"{row:02}.jpg", split.captions[text], part, place, "hush"])
    captions = ("--captions", folder / "captions.csv")
    run("extract", folder / "photos", "--out", folder / "data", *captions, "--regions", 8)
    tiny = (*TINY, "train.twins=false", "--set", "vse_infinity.dim=16")
    run("train", "vse-infinity-scenes", "--data", folder / "data", "--out", folder / "run", *tiny)
    run("index", folder / "run", folder / "data", "--out", folder / "index", "--device", "cpu")
    return folder


def run(*arguments: object) -> None:
    result = regard(*arguments)
    assert (result.code, result.err) == (0, ""), result


@pytest.fixture
def index_folder(web_world, tmp_path) -> Path:
    """A copy of the index that a test may change."""
    return Path(shutil.copytree(web_world / "index", tmp_path / "index"))


@pytest.fixture(scope="session")
def sharded(tmp_path_factory) -> Path:
    """A collection as one index and as shards; see `make_collection`."""
    return make_collection(tmp_path_factory.mktemp("sharded"))
