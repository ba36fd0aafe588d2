import json
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

from regard.data import Split, check
from regard.data.layout import check_splits
from regard.data.pickles import read_pickle
from regard.files import InputError


def refusal(call):
    with pytest.raises(InputError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_scan_stores_images_once_or_five_times_and_ids_decide(scan):
    for name in ("train", "dev"):
        split = Split.open(scan, name)
        assert (split.num_images, split.num_texts) == (2, 10)
        assert list(split.ids) == [f"{name}0", f"{name}1"]
        assert split.image_of_text.tolist() == [0] * 5 + [1] * 5
        assert split.images([1, 0]).features[:, 0, 0].tolist() == [1, 0]


def test_one_sentence_per_image_is_not_mistaken_for_five(make):
    maker = make()
    maker.features(10)
    maker.lines("ids.txt", range(10))
    maker.lines("caps.txt", [f"s{text}" for text in range(10)])
    assert Split.open(maker.folder, "dev").image_of_text.tolist() == list(range(10))


def test_images_with_unequal_numbers_of_sentences(make):
    maker = make()
    maker.features(4)
    maker.lines("ids.txt", ["a", "a", "a", "b"])
    maker.lines("caps.txt", "wxyz")
    assert Split.open(maker.folder, "dev").image_of_text.tolist() == [0, 0, 0, 1]


def test_vse_infinitys_inner_folder_and_names_of_pictures(make):
    maker = make(under="data/precomp")
    maker.features(2)
    maker.lines("ids.txt", ["17", "5"])
    maker.lines("caps.txt", "wxyz")
    (maker.folder.parent / "id_mapping.json").write_text(json.dumps({"17": "a.jpg"}))
    split = Split.open(maker.folder.parent, "dev")
    assert list(split.ids) == ["a.jpg", "5"]
    assert split.image_of_text.tolist() == [0, 0, 1, 1]


def test_counts_that_contradict_each_other_are_refused(make):
    maker = make()
    maker.features(2)
    maker.lines("ids.txt", list("aaaaabbbbb"))
    maker.lines("caps.txt", [f"s{text}" for text in range(10)])

    # A name for one expression: a def would be four lines.
    def open_(**options):
        return Split.open(maker.folder, "dev", **options)

    assert list(open_(captions_per_image=5).ids) == ["a", "b"]
    maker.lines("ids.txt", list("aaaaabbbcc"))
    assert refusal(open_) == (
        f"{maker.path('ims.npy')} has 2 rows, {maker.path('ids.txt')} has 10: expected one id per row, or one per "
        "sentence."
    )

    maker.lines("ids.txt", "ab")
    maker.lines("caps.txt", "wxy")
    counts = f"{maker.path('ims.npy')} has 2 rows and {maker.path('caps.txt')} 3 lines"
    assert refusal(open_) == f"{counts}: expected a whole multiple of 2, or dev_image_of_text.npy."
    assert refusal(lambda: open_(captions_per_image=5)).startswith(f"{counts}: expected 10 lines")

    maker.lines("ids.txt", "aa")
    maker.lines("caps.txt", "wxyz")
    assert "repeats 'a' on line 2. Repeated ids mean one row per sentence" in refusal(open_)

    maker.features(4)
    maker.lines("ids.txt", "abab")
    assert "has 'a' on lines 1 and 3 with other ids between them" in refusal(open_)

    maker.lines("ids.txt", "aabb")
    assert "has 'a' 2 times from line 1: captions_per_image=1 expects 1" in refusal(lambda: open_(captions_per_image=1))


def test_without_ids_the_caller_passes_the_captions_per_image(make):
    maker = make()
    maker.features(4)
    maker.lines("caps.txt", range(4))

    # A name for one expression: a def would be four lines.
    def open_(**options):
        return Split.open(maker.folder, "dev", **options)

    assert "Pass captions_per_image (SCAN's data has 5)." in refusal(open_)
    assert open_(captions_per_image=1).image_of_text.tolist() == [0, 1, 2, 3]
    twice = open_(captions_per_image=2)
    assert (twice.image_of_text.tolist(), list(twice.ids)) == ([0, 0, 1, 1], ["0", "1"])
    assert twice.images([1]).features[0, 0, 0] == 2
    assert "expected 12 lines" in refusal(lambda: open_(captions_per_image=3))


def test_a_map_from_sentences_to_images_is_checked(make):
    maker = make()
    maker.features(2)
    maker.lines("caps.txt", "xyz")
    maker.array("image_of_text.npy", [0, 2, 1])
    assert refusal(lambda: Split.open(maker.folder, "dev")) == (
        f"{maker.path('image_of_text.npy')}, row 1 is 2: expected an image row from 0 to 1."
    )
    maker.array("image_of_text.npy", [0, 1])
    assert "expected an image row for each of 3 sentences" in refusal(lambda: Split.open(maker.folder, "dev"))


PIXELS = np.array([[[0, 0, 50, 100], [25, 50, 50, 75], [0, 0, 10, 10]]] * 2, np.float32)
FRACTIONS = PIXELS[0] / [50, 100, 50, 100]


def test_boxes_of_every_family_become_fractions(scan, make):
    maker = make("dev")

    # A name for one expression: a def would be four lines.
    def open_():
        return Split.open(scan, "dev").images([1, 0]).boxes.numpy()

    maker.array("boxes.npy", np.broadcast_to(FRACTIONS, (2, 3, 4)), np.float32)  # ours, once an image
    np.testing.assert_allclose(open_(), [FRACTIONS] * 2, rtol=1e-6)

    maker.array("boxes.npy", PIXELS.repeat(5, 0))  # CAMERA's, as often as the features
    assert "expected dev_sizes.npy, int32 [image, 2] of width and height" in refusal(open_)
    maker.array("img_sizes.npy", [[50, 100]] * 10)
    np.testing.assert_allclose(open_(), [FRACTIONS] * 2, rtol=1e-6)

    maker.path("boxes.npy").unlink()
    maker.path("img_sizes.npy").unlink()
    maker.array("ims_bbx.npy", PIXELS.repeat(5, 0))  # GSMN's, with sizes as pickled dictionaries
    sizes = [{"image_w": 50, "image_h": np.int64(100)}] * 5 + [{"image_w": np.float32(25), "image_h": 200}] * 5
    maker.array("ims_size.npy", sizes, object)
    np.testing.assert_allclose(open_(), [FRACTIONS * [2, 0.5, 2, 0.5], FRACTIONS], rtol=1e-6)


def test_boxes_stored_for_each_sentence_beside_features_stored_once(scan, make):
    boxes = np.broadcast_to(np.arange(10).repeat(12).reshape(10, 3, 4) / 10, (10, 3, 4))
    make("train").array("boxes.npy", boxes, np.float32)
    assert Split.open(scan, "train").images([1, 0]).boxes[:, 0, 0].tolist() == [0.5, 0]


def test_pfans_file_is_refused_with_the_reason(scan, make):
    make("dev").array("boxes.npy", np.zeros((10, 3, 15)))
    assert "if it is PFAN's file of grid cells and weights, move it away" in refusal(lambda: Split.open(scan, "dev"))


def test_boxes_of_another_number_of_images_are_refused(scan, make):
    make("dev").array("boxes.npy", np.zeros((7, 3, 4)))
    assert "has 7 rows: expected one for each of 2 images" in refusal(lambda: Split.open(scan, "dev"))


def test_sizes_are_checked(scan, make):
    maker = make("dev")
    maker.array("ims_bbx.npy", PIXELS)
    maker.array("ims_size.npy", [{"image_w": 50}] * 2, object)
    assert "row 0 is {'image_w': 50}: expected image_w and image_h" in refusal(lambda: Split.open(scan, "dev"))
    maker.array("sizes.npy", [[50, 100], [0, 5]])
    assert "row 1 is [0, 5]: expected a width and a height above 0" in refusal(lambda: Split.open(scan, "dev"))


class Harm:
    def __reduce__(self):
        return print, ("run",)


def test_a_pickle_that_names_code_is_refused_and_not_run(tmp_path, capsys):
    path = tmp_path / "sizes.npy"
    np.save(path, np.array([{"image_w": Harm()}], object))
    assert "is a pickle that names builtins.print, which could run code, so it is not read" in refusal(
        lambda: read_pickle(path)
    )
    assert not capsys.readouterr().out
    path.write_bytes(path.read_bytes()[:-3])
    assert "so it is not read" in refusal(lambda: read_pickle(path)) or "not a complete pickle" in refusal(
        lambda: read_pickle(path)
    )


def test_plain_pickles_are_read(tmp_path):
    path = tmp_path / "side.pkl"
    value = {"a": [1, (2.5, "x")], "b": np.arange(6, dtype=">i2").reshape(2, 3), "c": np.float64(0.5)}
    for protocol in (0, 2, 4, 5):
        path.write_bytes(pickle.dumps(value, protocol))
        read = read_pickle(path)
        assert read["a"] == [1, (2.5, "x")]
        assert read["b"].tolist() == [[0, 1, 2], [3, 4, 5]]
        assert read["c"] == 0.5
    path.write_bytes(pickle.dumps(np.zeros(2, [("x", int)])))
    assert "a numpy dtype 'V8'" in refusal(lambda: read_pickle(path))


def test_missing_files_are_named(scan, tmp_path):
    assert refusal(lambda: Split.open(scan, "tain")).endswith("tain_ims.npy is not there. Did you mean 'train'?")
    assert "is not a folder" in refusal(lambda: Split.open(tmp_path / "none", "dev"))
    assert "nor any other *_ims.npy" in refusal(lambda: Split.open(tmp_path, "dev"))
    assert check_splits(scan) == ["train", "dev"]
    assert refusal(lambda: check_splits(tmp_path)) == (
        f"{tmp_path} contains no *_ims.npy: expected a data folder, such as `regard data convert` writes."
    )
    (tmp_path / "all.tsv").touch()
    assert "contains .tsv files: run `regard data convert" in refusal(lambda: Split.open(tmp_path, "dev"))


def test_a_feature_file_that_is_cut_short_or_no_features_is_refused(scan, make):
    path = make("dev").path("ims.npy")
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    message = (
        f"{path} is cut short: {len(whole) - 4} bytes where (10, 3, 4) of float32 needs {len(whole)}. Copy it again."
    )
    assert refusal(lambda: Split.open(scan, "dev")) == message
    path.write_bytes(whole[:50])
    assert "is not a complete .npy file" in refusal(lambda: Split.open(scan, "dev"))
    np.save(path, np.zeros((10, 4)))
    assert "is float64 [10, 4]: expected floats [image, region, feature]" in refusal(lambda: Split.open(scan, "dev"))
    np.save(path, np.zeros((10, 3, 4), order="F"))
    assert "is in Fortran order" in refusal(lambda: Split.open(scan, "dev"))


def test_a_line_in_another_encoding_is_reported_with_its_number(scan, make):
    make("dev").lines("caps.txt", ["a", "b", "café", *"defghij"], "latin-1")
    split = Split.open(scan, "dev")
    assert split.captions[1] == "b"
    assert "dev_caps.txt, line 3 is not UTF-8" in refusal(lambda: split.captions[2])


def test_lines_are_stripped_and_lose_their_byte_order_mark(tmp_path):
    from regard.data.lines import Lines

    path = tmp_path / "lines.txt"
    path.write_bytes("\ufeffone\r\n\n three ".encode())
    assert list(Lines(path)) == ["one", "", "three"]
    assert Lines(path)[-1] == "three"
    path.write_bytes(b"")
    assert len(Lines(path)) == 0


def test_threads_and_other_processes_read_the_same(scan):
    split = Split.open(scan, "dev")
    found = [None] * 8

    def read(place):
        found[place] = all(split.images([1, 0, 1]).features[:, 0, 0].tolist() == [1, 0, 1] for _ in range(50))

    threads = [threading.Thread(target=read, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found)
    again = pickle.loads(pickle.dumps(split))
    assert again.images([1]).features[0, 0, 0] == 1
    assert again.captions[9] == "sentence 4 of dev 1"


MEMORY = """
import resource, sys
import numpy as np
from regard.data import Split, check
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
split = Split.open(sys.argv[1], "train")
draw = np.random.default_rng(0)
for _ in range(20):
    assert split.images(draw.integers(0, split.num_images, 128)).features.shape == (128, 36, 2048)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_memory_does_not_follow_the_size_of_the_file(make):
    maker = make("train")
    num_images = 8 * 2**30 // (36 * 2048 * 2)  # 8 GB that take no room on the disk
    with open(maker.path("ims.npy"), "wb") as file:
        header = {"descr": "<f2", "fortran_order": False, "shape": (num_images, 36, 2048)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + num_images * 36 * 2048 * 2)
    if maker.path("ims.npy").stat().st_blocks * 512 > 2**24:
        pytest.skip("the file system has no sparse files")
    maker.lines("ids.txt", range(num_images))
    maker.lines("caps.txt", range(num_images))
    run = subprocess.run([sys.executable, "-c", MEMORY, maker.folder], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 200, "megabytes for twenty batches of 19 MB"


@pytest.mark.parametrize("form", ["{}.jpg", "{}.jpg#{}"])
def test_one_id_per_sentence_gives_the_images_by_its_runs(make, form):
    maker = make()
    maker.features(3)
    runs = [("a", 2), ("b", 4), ("c", 1)]
    maker.lines("ids.txt", [form.format(name, number) for name, count in runs for number in range(count)])
    maker.lines("caps.txt", "tuvwxyz")
    split = Split.open(maker.folder, "dev")
    assert split.image_of_text.tolist() == [0, 0, 1, 1, 1, 1, 2]
    assert list(split.ids) == ["a.jpg", "b.jpg", "c.jpg"]
    assert "Leave captions_per_image out" in refusal(lambda: Split.open(maker.folder, "dev", captions_per_image=5))
    Split.open(maker.folder, "dev")


def test_ids_with_numbers_that_are_not_those_of_sentences_are_kept(make):
    maker = make()
    maker.features(2)
    maker.lines("ids.txt", ["page#0", "page#0b"])
    maker.lines("caps.txt", "wx")
    assert list(Split.open(maker.folder, "dev").ids) == ["page#0", "page#0b"]


@pytest.mark.parametrize("ids", [["a", "b"], list(range(10))])
def test_rows_that_store_each_image_five_times(make, ids):
    maker = make()
    maker.array("ims.npy", np.repeat([1.0, 2.0], 5)[:, None, None] * np.ones((10, 3, 4)), np.float32)
    maker.lines("ids.txt", ids)
    maker.lines("caps.txt", [f"s{text}" for text in range(10)])
    message = str(check(maker.folder)) if len(ids) == 10 else refusal(lambda: Split.open(maker.folder, "dev"))
    assert "stored 5 times, pass captions_per_image=5." in message
    split = Split.open(maker.folder, "dev", captions_per_image=5)
    assert split.image_of_text.tolist() == [0] * 5 + [1] * 5
    assert list(split.ids) == [str(ids[0]), str(ids[len(ids) // 2])]
    assert split.images([0, 1]).features[:, 0, 0].tolist() == [1, 2]
    maker.features(10)  # ten different images
    assert "rows 0 and 4 differ" in refusal(lambda: Split.open(maker.folder, "dev", captions_per_image=5))


def test_lines_of_other_systems_and_blank_lines_at_the_end(make):
    maker = make()
    maker.features(2)
    maker.path("ids.txt").write_bytes(b"a\rb\r\r")
    maker.path("caps.txt").write_bytes("\ufeffone\r\ntwo \r\n\r\n \n".encode())
    split = Split.open(maker.folder, "dev")
    assert list(split.ids) == ["a", "b"]
    assert list(split.captions) == ["one", "two"]


def test_the_advice_on_grids_and_vectors_works(make):
    maker = make()
    maker.lines("ids.txt", "ab")
    maker.lines("caps.txt", "wx")
    grid = np.random.default_rng(0).random((2, 4, 3, 5)).astype("f4")
    maker.array("ims.npy", grid)
    advice = refusal(lambda: Split.open(maker.folder, "dev")).rpartition(": ")[2].rstrip(".")
    maker.array("ims.npy", np.ascontiguousarray(eval(advice, {"a": grid})))
    assert np.array_equal(Split.open(maker.folder, "dev").images([1]).features[0, 7], grid[1, :, 1, 2])
    maker.array("ims.npy", grid[:, :, 0, 0])
    assert "one vector per image as [image, 1, feature]" in refusal(lambda: Split.open(maker.folder, "dev"))
    maker.array("ims.npy", grid[:, None, :, 0, 0])
    assert Split.open(maker.folder, "dev").num_regions == 1
