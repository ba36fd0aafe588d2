"""`regard extract` as people type it."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from commands import refused, regard, room_for
from regard.data import Split

REAL = Path(__file__).parents[2].parent / "shared" / "real"


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(12):
        Image.fromarray(random.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(folder / f"{number:02}.png")
    return folder


def test_extract_says_what_it_did_and_what_is_next(photos, tmp_path):
    (photos / "empty.jpg").touch()
    out = tmp_path / "data"
    told = regard("extract", photos, "--out", out, "--regions", 7)
    assert (told.code, told.err) == (0, "")
    pattern = r"""12 photographs extracted in [\d.]+ s, \d+ ms each
  test   12 photographs, 0 sentences
1 files skipped \(.*skipped.tsv lists them\):
  empty.jpg is empty: copy it again.
Next: regard data check .*data
"""
    assert re.fullmatch(pattern, told.out), told.out
    assert regard("data", "check", out).code == 0
    again = regard("extract", photos, "--out", out)
    assert again.out.startswith("0 photographs extracted\n  test   12 photographs")
    assert Split.open(out, "test").num_regions == 7


def test_a_split_without_sentences_is_checked_converted_and_searched_but_not_measured(photos, tmp_path):
    out = tmp_path / "data"
    regard("extract", photos, "--out", out, "--regions", 3)
    assert "0 errors" in regard("data", "check", out).out
    assert regard("data", "convert", out, "--out", tmp_path / "compact").code == 0
    one, other = Split.open(out, "test"), Split.open(tmp_path / "compact", "test")
    assert one.images(range(12)).features.equal(other.images(range(12)).features)


def test_bad_input_is_one_line(photos, tmp_path):
    out = tmp_path / "data"
    assert "gone is not a folder" in refused("extract", tmp_path / "gone", "--out", out)
    (tmp_path / "none").mkdir()
    assert "none contains no photographs: expected files that" in refused("extract", tmp_path / "none", "--out", out)
    assert "gone.csv is not there" in refused("extract", photos, "--out", out, "--captions", tmp_path / "gone.csv")
    assert "pass --detector too" in refused("extract", photos, "--out", out, "--classes", __file__)
    assert not out.exists() or not list(out.glob("*.npy"))
    regard("extract", photos, "--out", out, "--regions", 3)
    said = refused("extract", photos, "--out", out, "--regions", 4)
    assert "was extracted with --regions 3, not 4" in said


def test_heic_without_its_library_is_told(photos, tmp_path, monkeypatch):
    import sys

    (photos / "a.heic").write_bytes(b"something")
    for library in ("pi_heif", "pillow_heif"):
        monkeypatch.setitem(sys.modules, library, None)
    told = regard("extract", photos, "--out", tmp_path / "data", "--regions", 1)
    assert "a.heic is a HEIC file, which needs another library: pip install pi-heif." in told.out


def test_a_full_disk_leaves_what_is_whole_and_the_same_command_goes_on(photos, tmp_path):
    out = tmp_path / "data"
    with room_for(4000):
        assert "The disk is full" in refused("extract", photos, "--out", out, "--regions", 20)
    assert not list(out.rglob("*.npy"))
    assert not list(out.rglob("*.tmp"))
    assert regard("extract", photos, "--out", out).code == 0
    assert Split.open(out, "test").num_regions == 20  # as the first run was told


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/real")
def test_real_photographs_land_in_the_space_of_the_real_set(tmp_path):
    """The mean and spread of each feature over 20 photographs are near those of another set's, extracted by others."""
    photos, models, pictures = tmp_path / "photos", REAL / "models", REAL / "pictures"
    photos.mkdir()
    for name in sorted(os.listdir(pictures / "images"))[:20]:
        (photos / name).symlink_to(pictures / "images" / name)
    told = regard("extract", photos, "--out", tmp_path / "data", "--regions", 20, "--captions",
                  pictures / "captions.tsv", "--split", "test", "--detector", models / "yolox_nano_coco80.onnx",
                  "--features", models / "mobilenet_v2_float.onnx", "--pixels", "raw", "--project",
                  models / "mobilenet_v2_projection.npz")  # fmt: skip
    assert told.code == 0, told
    assert "test   20 photographs, 100 sentences" in told.out
    split = Split.open(tmp_path / "data", "test")
    assert {"boxes", "labels", "relations", "roles"} <= split.fields
    found = split.images(range(20))
    ours = found.features[found.mask].float().numpy()
    theirs = np.load(REAL / "f8k" / "dev_ims.npy", mmap_mode="r")[:100].astype(np.float32).reshape(-1, 320)
    assert np.abs(ours.mean(0) - theirs.mean(0)).mean() < 0.35 * theirs.std(0).mean()
    assert np.corrcoef(np.log(ours.std(0)), np.log(theirs.std(0)))[0, 1] > 0.9
