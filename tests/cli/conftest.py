"""A small generated data set, and runs on it, that the tests of the command line share."""

import re
import shutil
from pathlib import Path

import pytest

from commands import TINY, regard


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Generate Scenes, and train one run of CMSEI and one of SCAN on them."""
    folder = tmp_path_factory.mktemp("cli")
    made = regard("data", "scenes", "--out", folder / "data", "--train", 24, "--dev", 8, "--test", 10, "--pictures", 2)
    assert (made.code, made.err) == (0, "")
    assert f"Wrote {folder}/data. Next: regard train cmsei-scenes" in made.out
    for name in ("cmsei", "scan"):
        trained = regard(
            *("train", f"{name}-scenes", "--data", folder / "data", "--out", folder / name, *TINY, f"{name}.dim=16")
        )
        assert (trained.code, trained.err) == (0, "")
        assert re.search(
            rf"{name}: 0\.0\d million trainable parameters; 24 images, 120 sentences, 8 regions x", trained.out
        )
        assert "epoch   1  dev rSum" in trained.out
        assert f"Next: regard evaluate {folder}/{name} --data {folder}/data --split test" in trained.out
    return folder


@pytest.fixture
def data(world, tmp_path):
    """A copy of the data that a test may change."""
    return Path(shutil.copytree(world / "data", tmp_path / "data"))
