"""A small data folder of the made world, which the tests of this folder share."""

import shutil
from pathlib import Path

import pytest

from regard.scenes import make_scenes


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("look") / "data"
    make_scenes(folder, train=3, dev=3, test=6, pictures=5)
    return folder


@pytest.fixture
def data(scenes, tmp_path):
    """A copy that a test may change."""
    return Path(shutil.copytree(scenes, tmp_path / "data"))
