"""Small data in the layouts that people have."""

import importlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch

import axis_checks
from hub_server import TOKEN, serving

axis_checks.install()
# The tests must not depend on what was built on this machine; those of the kernels turn them on.
os.environ["REGARD_KERNELS"] = "0"
torch.set_num_threads(1)  # the tests' tensors are tiny: a second thread costs more than it brings


class Maker:
    """Writes the files of one split, `{folder}/{split}_{name}`."""

    def __init__(self, folder: Path, split: str = "dev") -> None:
        self.folder, self.split = folder, split
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, name):
        return self.folder / f"{self.split}_{name}"

    def array(self, name, array, dtype=None):
        np.save(self.path(name), np.asarray(array, dtype))

    def features(self, num_rows, num_regions=3, dim=4, dtype=np.float32, each=1):
        """Features that tell their image: image i is filled with i."""
        images = np.arange(num_rows // each, dtype=dtype).repeat(each)
        self.array("ims.npy", np.broadcast_to(images[:, None, None], (num_rows, num_regions, dim)))

    def lines(self, name, lines, encoding="utf-8"):
        self.path(name).write_bytes("".join(f"{line}\n" for line in lines).encode(encoding))


@pytest.fixture
def make(tmp_path):
    return lambda split="dev", under="data": Maker(tmp_path / under, split)


@pytest.fixture
def scan(make):
    """SCAN's layout: train contains each of two images once, dev each of two images five times."""
    for split, num_rows, each in (("train", 2, 1), ("dev", 10, 5)):
        maker = make(split)
        maker.features(num_rows, each=each)
        maker.lines("ids.txt", [f"{split}{row // each}" for row in range(num_rows)])
        maker.lines("caps.txt", [f"sentence {text % 5} of {split} {text // 5}" for text in range(10)])
    return maker.folder


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A server of the hub in this process, an empty cache, and the token of its user."""
    constants = pytest.importorskip("huggingface_hub.constants", reason="the extra regard[hub] is not installed")
    with serving() as server:
        settings = {
            "ENDPOINT": server.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": server.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(tmp_path / "cache"),
            "HF_TOKEN_PATH": str(tmp_path / "token"),
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,  # its protocol is another one than HTTP's
            "HF_HUB_DISABLE_TELEMETRY": True,
        }
        for name, value in settings.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server
        importlib.import_module("huggingface_hub").close_session()
