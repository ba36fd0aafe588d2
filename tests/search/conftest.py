"""A made data folder, runs with random weights, and an index."""

import shutil

import pytest

import made
from regard.search.encoder import Encoder
from regard.search.index import Index
from regard.training.trained_run import TrainedRun

pytest.importorskip("lancedb", reason="an index requires LanceDB")


@pytest.fixture(scope="session")
def collection(tmp_path_factory):
    """A data folder `data`, and runs `cmsei`, `other` (other weights) and `vse`."""
    folder = tmp_path_factory.mktemp("collection")
    made.folder(folder / "data")
    made.run(folder / "cmsei", folder / "data")
    made.run(folder / "other", folder / "data", seed=1)
    made.run(folder / "vse", folder / "data", "vse-infinity-f8k")
    Index.create(folder / "index", Encoder(TrainedRun(folder / "cmsei"))).add(folder / "data")
    return folder


@pytest.fixture
def index(collection, tmp_path):
    """A copy of the index that a test may change."""
    shutil.copytree(collection / "index", tmp_path / "index")
    return Index(tmp_path / "index")
