"""Files that carry their checksum: every changed bit is found, and files without a checksum are still read."""

import numpy as np
import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from regard.checksums import check_arrays, check_file, check_tensors, save_arrays, save_tensors
from regard.data.rows import Rows, save_array
from regard.files import InputError


def flips(path):
    """Flip one bit of each byte of a file in turn, and yield the number of the byte."""
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        yield at
    path.write_bytes(whole)


def test_every_flipped_bit_of_tensors_is_found(tmp_path):
    path = tmp_path / "model.safetensors"
    save_tensors(path, {"weight": torch.arange(6.0).view(2, 3).T, "bias": torch.ones(2)}, {"model": "scan"})
    assert check_tensors(path)
    assert load_file(path)["weight"].tolist() == [[0, 3], [1, 4], [2, 5]]

    def read():
        check_tensors(path)
        with safe_open(path, "pt") as file:
            return file.metadata()

    for at in flips(path):
        with pytest.raises((InputError, SafetensorError)):
            print(at, read())
    assert read()["model"] == "scan"


def test_every_flipped_bit_of_an_array_is_found(tmp_path):
    path = tmp_path / "boxes.npy"
    save_array(path, np.arange(12, dtype=np.float32).reshape(3, 4))
    assert np.load(path).tolist() == Rows(path).all().tolist() == np.arange(12).reshape(3, 4).tolist()
    size = path.stat().st_size - 24
    assert check_file(path, size)
    for _ in flips(path):
        with pytest.raises(InputError, match=r"boxes\.npy is damaged"):
            check_file(path, size)


def test_every_flipped_bit_of_an_npz_is_found(tmp_path):
    path = tmp_path / "relations.npz"
    save_arrays(path, {"image": np.arange(5), "names": np.array(["none", "on"])})
    assert check_arrays(path)
    with np.load(path) as file:
        assert file["image"].tolist() == [0, 1, 2, 3, 4]
    for _ in flips(path):
        with pytest.raises(InputError, match=r"relations\.npz is damaged"):
            check_arrays(path)
    np.savez(path, image=np.arange(5))
    assert not check_arrays(path)


def test_files_of_others_have_no_checksum(tmp_path):
    save_file({"weight": torch.ones(2)}, tmp_path / "model.safetensors")
    np.save(tmp_path / "boxes.npy", np.ones(3))
    assert not check_tensors(tmp_path / "model.safetensors")
    assert not check_file(tmp_path / "boxes.npy", (tmp_path / "boxes.npy").stat().st_size)
