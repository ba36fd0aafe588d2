import contextlib
import json
import pathlib
import re
import time

import numpy as np
import pytest

from regard.evaluation.compare import RECALLS, difference, intervals, measure, read_image_of_text, read_matrix
from regard.files import InputError
from regard.metrics import galleries, recalls, render


def made(num_images=60, signal=2.0, seed=0, texts_per_image=5):
    """Random scores where matches are higher, and the image of each text."""
    rng = np.random.default_rng(seed)
    image_of_text = np.arange(num_images * texts_per_image) // texts_per_image
    scores = rng.normal(size=(num_images, len(image_of_text)))
    scores[image_of_text, np.arange(len(image_of_text))] += signal
    return scores.astype(np.float32), image_of_text


@pytest.fixture
def saved(tmp_path):
    """Saves arrays as tmp_path/NAME.npy and gives their paths."""

    def save(**arrays):
        for name, array in arrays.items():
            np.save(tmp_path / f"{name}.npy", array)
        return [tmp_path / f"{name}.npy" for name in arrays]

    return save


def test_the_interval_of_a_recall_is_the_binomials():
    scores, image_of_text = made(num_images=400, texts_per_image=1)
    found = intervals(galleries(scores, image_of_text))
    share = recalls(scores, image_of_text).i2t.r10 / 100
    half = 100 * 1.96 * np.sqrt(share * (1 - share) / 400)
    assert found.i2t["r10"].low == pytest.approx(100 * share - half, abs=1)
    assert found.i2t["r10"].high == pytest.approx(100 * share + half, abs=1)


def test_texts_are_drawn_with_their_image():
    # The texts of an image share their fate here, so that 60 images tell no more with five texts each than with one.
    scores, image_of_text = made(texts_per_image=1)
    single = intervals(galleries(scores, image_of_text)).t2i["r10"]
    fivefold = intervals(galleries(np.repeat(scores, 5, axis=1), np.repeat(image_of_text, 5))).t2i["r10"]
    assert (fivefold.low, fivefold.high) == (single.low, single.high)


@pytest.mark.parametrize("protocol", ["full", "5fold"])
def test_intervals_hold_the_values(protocol):
    scores, image_of_text = made(num_images=100)
    found, value = intervals(galleries(scores, image_of_text, protocol)), recalls(scores, image_of_text, protocol)
    assert found.rsum.low < value.rsum < found.rsum.high
    for way, level in RECALLS:
        interval = getattr(found, way)[level]
        assert interval.low <= getattr(getattr(value, way), level) <= interval.high


def test_the_same_matrix_does_not_differ_from_itself():
    parts = galleries(*made())
    found = difference(parts, parts)
    assert (found.rsum, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_a_better_matrix_is_found_better_and_the_other_way_round_worse():
    scores, image_of_text = made()
    better = scores.copy()
    better[image_of_text, np.arange(len(image_of_text))] += 0.5
    parts, other = galleries(better, image_of_text), galleries(scores, image_of_text)
    found, turned = difference(parts, other), difference(other, parts)
    assert found.rsum == pytest.approx(recalls(better, image_of_text).rsum - recalls(scores, image_of_text).rsum)
    assert 0 < found.low < found.rsum < found.high
    assert found.p < 0.01
    assert (turned.rsum, turned.low, turned.high) == pytest.approx((-found.rsum, -found.high, -found.low))


def test_matrices_of_equal_worth_are_rarely_found_different():
    found = [
        difference(*(galleries(*made(seed=seed)) for seed in (2 * trial, 2 * trial + 1)), resamples=400).p
        for trial in range(20)
    ]
    assert sum(p < 0.05 for p in found) <= 4  # one expected; five or more have a chance of 0.3 %


def test_pairing_makes_the_test_sharper():
    scores, image_of_text = made(num_images=200)
    noise = 0.1 * np.random.default_rng(5).normal(size=scores.shape).astype(np.float32)
    one, other = galleries(scores, image_of_text), galleries(scores + noise, image_of_text)
    paired = difference(one, other)
    alone = intervals(one).rsum
    assert paired.high - paired.low < 0.8 * (alone.high - alone.low)


def test_draws_are_seeded():
    parts = galleries(*made())
    assert intervals(parts, seed=3) == intervals(parts, seed=3) != intervals(parts, seed=4)


def test_two_thousand_draws_of_a_thousand_images_take_seconds():
    parts = galleries(*made(num_images=1000))
    start = time.process_time()
    difference(parts, parts)
    assert time.process_time() - start < 5


def test_a_paired_test_needs_the_same_texts():
    scores, image_of_text = made()
    with pytest.raises(InputError, match="belong to different images or texts"):
        difference(galleries(scores, image_of_text), galleries(scores[:, ::-1], image_of_text[::-1]))


def test_measure_tells_and_keeps_everything(saved):
    scores, image_of_text = made()
    other, _ = made(seed=1, signal=1.0)
    paths = saved(ours=scores, owners=image_of_text, theirs=other)
    report = measure(paths[0], paths[1], against=paths[2], resamples=200)

    kept = json.loads(json.dumps(report.to_dict()))
    expected = recalls(scores, image_of_text).to_dict()
    assert {name: kept[name] for name in expected} == expected
    assert kept["against"]["rsum"] == recalls(other, image_of_text).rsum
    assert kept["difference"]["rsum"] == pytest.approx(kept["rsum"] - kept["against"]["rsum"])
    assert list(kept["intervals"]["t2i"]["r5"]) == ["low", "high"]

    told = report.render()
    assert f"rSum           {expected['rsum']:6.1f}" in told
    assert "95 % intervals, 200 draws of the images" in told
    assert re.search(r"rSum differs by \+\d+\.\d \(95 % \+\d.* p = 0.010\): a clear difference", told)


def test_measure_of_one_matrix(saved):
    scores, image_of_text = made()
    paths = saved(scores=scores, owners=image_of_text)
    report = measure(*paths, protocol="5fold", resamples=100)
    assert report.scores.recalls == recalls(scores, image_of_text, "5fold")
    assert "against" not in report.to_dict()
    assert "differs" not in report.render()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(7), r"scores.npy has the shape \[7\]: expected a matrix of \[image, text\] scores"),
        (np.zeros((2, 3), int), "scores.npy has the dtype int64: expected float16, float32 or float64"),
        (np.zeros((2, 3), ">f4"), "scores.npy has the dtype >f4"),
        (
            np.array([[None]]),
            "scores.npy cannot be read as an array .*: expected a complete file written by numpy.save",
        ),
    ],
)
def test_what_is_no_matrix_is_refused(saved, array, message):
    (path,) = saved(scores=array)
    with pytest.raises(InputError, match=message):
        read_matrix(path)


def test_a_damaged_header_is_refused(saved):
    """Whatever numpy raises for it: it reads the header as Python."""
    (path,) = saved(scores=np.zeros((2, 3)))
    whole = path.read_bytes()
    for place in range(130):
        for byte in b"\0(-9":
            path.write_bytes(whole[:place] + bytes([byte]) + whole[place + 1 :])
            with contextlib.suppress(InputError):
                read_matrix(path)


def test_files_that_are_no_arrays_are_refused(saved, tmp_path):
    (path,) = saved(scores=np.zeros((50, 50)))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match=r"cannot be read as an array .*without Python objects"):
        read_matrix(path)
    path.write_text("0.1,0.2\n")
    with pytest.raises(InputError, match="cannot be read as an array"):
        read_matrix(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="cannot be read as an array"):
        read_matrix(path)
    with pytest.raises(InputError, match=r"absent.npy cannot be opened: No such file or directory."):
        read_matrix(tmp_path / "absent.npy")


@pytest.mark.parametrize("array", [np.zeros((5, 1), int), np.zeros(5)])
def test_what_is_no_image_of_text_is_refused(saved, array):
    (path,) = saved(owners=array)
    with pytest.raises(InputError, match="expected a vector of integers, the image row of each text"):
        read_image_of_text(path)


def test_errors_name_the_file(saved):
    scores, image_of_text = made(num_images=6)
    turned, broken, owners = saved(turned=scores.T, broken=scores * np.nan, owners=image_of_text)
    with pytest.raises(InputError, match=r"turned.npy: The scores are 30 by 6 .* look transposed"):
        measure(turned, owners)
    with pytest.raises(InputError, match=r"broken.npy: 180 scores are NaN, the first at image 0, text 0"):
        measure(broken, owners)


def test_the_example_of_the_documentation(tmp_path, monkeypatch):
    page = (pathlib.Path(__file__).parents[2] / "docs" / "evaluation.md").read_text("utf-8")
    monkeypatch.chdir(tmp_path)
    exec(re.search(r"```python\n(.*?)```", page, re.S).group(1), {})
    report = measure("ours.npy", "image_of_text.npy", against="theirs.npy")
    assert f"```text\n{report.render()}\n```" in page
    folds = measure("ours.npy", "image_of_text.npy", protocol="5fold", resamples=1)
    assert f"```text\n{folds.scores.name}\n{render(folds.scores.recalls)}\n```" in page
    constant = recalls(np.zeros((1000, 5000), np.float32), np.load("image_of_text.npy"))
    assert f"```text\n{render(constant)}\n```" in page


def test_each_direction_may_have_its_own_matrix(saved):
    scores, image_of_text = made(num_images=20)
    reranked = made(num_images=20, seed=1)[0]
    tied = np.where(reranked > 0, 1, 0).astype(np.float32)
    paths = saved(i2t=scores, map=image_of_text, t2i=np.ascontiguousarray(tied.T), turned=tied)
    for protocol in ("full", "5fold"):
        report = measure(*paths[:2], protocol=protocol, resamples=20, text_to_image=paths[2])
        one, other = recalls(scores, image_of_text, protocol), recalls(tied, image_of_text, protocol)
        assert report.scores.recalls.i2t == one.i2t
        assert report.scores.recalls.t2i == other.t2i != one.t2i
        assert 0 < report.scores.recalls.ties < other.ties
    with pytest.raises(
        InputError, match=r"turned.npy: The scores are \[20, 100\]: expected \[100, 20\], \[text, image\]"
    ):
        measure(*paths[:2], text_to_image=paths[3])
