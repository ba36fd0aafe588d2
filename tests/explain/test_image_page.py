"""`regard look`: the page that is drawn, and the command."""

import numpy as np
import pytest
from PIL import Image
from test_graph_layout import overlaps

from commands import contents, refused, regard
from regard.data import Split
from regard.explain import ImageContents, draw_image
from regard.explain.image_page import region_graph
from regard.explain.palette import COLOURS


def test_a_region_has_one_colour_in_the_photograph_the_graph_and_the_sentence(data, tmp_path):
    """One region of the class "man" on black: red in all three parts of the page."""
    (data / "test_caps.txt").write_text("a man\n" * 30)
    (data / "test_text_relations.npz").unlink()
    labels, boxes = np.load(data / "test_labels.npy"), np.load(data / "test_boxes.npy")
    counts = np.load(data / "test_num_regions.npy")
    labels[0, 0], boxes[0, 0], counts[0] = 1, [0.25, 0.25, 0.75, 0.75], 1
    for name, array in (("labels", labels), ("boxes", boxes), ("num_regions", counts)):
        np.save(data / f"test_{name}.npy", array)
    (data / "test_relations.npz").unlink()
    found = ImageContents.of(Split.open(data, "test"), 0, Image.new("RGB", (300, 200), "#101010"), sentences=1)
    assert (found.labels, found.relations, found.aspect) == (("man",), (), 1.5)
    draw_image(found, tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as picture:
        drawn = np.asarray(picture.convert("RGB")).astype(int)
    red = np.abs(drawn - [int(COLOURS[0][at : at + 2], 16) for at in (1, 3, 5)]).sum(2) < 12
    # The photograph is 6 by 4 inches of 120 dots, 0.3 from the left and 0.9 from the top.
    photograph, graph, below = red[108:588, 36:756], red[108:588, 780:], red[594:]
    rows, columns = np.flatnonzero(photograph.any(1)), np.flatnonzero(photograph.any(0))
    assert abs(columns.min() - 180) < 6
    assert abs(columns.max() - 540) < 6
    assert abs(rows.max() - 360) < 6
    assert graph.sum() > 800
    assert below.sum() > 800


@pytest.mark.parametrize("aspect", [0.2, 1.0, 6.0])
def test_crowded_images_are_drawn_and_no_nodes_overlap(data, tmp_path, aspect):
    rng = np.random.default_rng(2)
    count = 36
    boxes = np.sort(rng.uniform(0.4, 0.6, size=(6, count, 2, 2)), axis=2).reshape(6, count, 4).astype(np.float32)
    np.save(data / "test_ims.npy", np.zeros((6, count, 4), np.float16))
    np.save(data / "test_boxes.npy", boxes)
    np.save(data / "test_labels.npy", rng.integers(1, 30, (6, count)).astype(np.int16))
    np.save(data / "test_sizes.npy", np.tile(np.array([round(600 * aspect), 600], np.int32), (6, 1)))
    pairs = {"subject": np.arange(25), "object": np.arange(1, 26), "predicate": np.ones(25, int)}
    columns = {**np.load(data / "test_relations.npz"), "image": np.zeros(25, int), **pairs, "confidence": np.ones(25)}
    np.savez(data / "test_relations.npz", **columns)
    (data / "test_num_regions.npy").unlink()
    split = Split.open(data, "test")
    assert len(ImageContents.of(split, 0).relations) <= 12
    found = ImageContents.of(split, 0, regions=36, relations=25)
    assert len(found.relations) == 25
    assert overlaps(region_graph(found, dict.fromkeys(found.regions, COLOURS[0]), (6.5, 4.0))) == 0
    draw_image(found, tmp_path / "page.png")
    assert size_of(tmp_path / "page.png")[0] > 1400


def test_an_image_without_boxes_labels_relations_and_sentences(tmp_path):
    np.save(tmp_path / "dev_ims.npy", np.ones((1, 3, 4), np.float16))
    (tmp_path / "dev_ids.txt").write_text("one\n")
    (tmp_path / "dev_caps.txt").write_text("")
    np.save(tmp_path / "dev_image_of_text.npy", np.zeros(0, np.int32))
    found = ImageContents.of(Split.open(tmp_path, "dev"), 0)
    assert (found.regions, found.labels, found.boxes, found.relations) == ((0, 1, 2), ("", "", ""), None, ())
    draw_image(found, tmp_path / "page.png")
    assert size_of(tmp_path / "page.png")[0] > 1400


def size_of(path):
    with Image.open(path) as picture:
        return picture.size


# The command ----------------------------------------------------------------------------------------------------------


def test_the_command_prints_a_summary_and_writes_the_page(scenes, tmp_path):
    result = regard("look", scenes, "test-0000000", "-o", tmp_path / "page.png")
    assert (result.code, result.err) == (0, "")
    first, second = result.out.splitlines()
    assert first.startswith("test-0000000   test   ·   ")
    assert second == f"Wrote {tmp_path}/page.png, with {scenes}/test_pictures/test-0000000.png"
    result = regard("look", scenes, "test-0000005", "--out", tmp_path / "bare.png", "--split", "test", "--regions", 1)
    assert result.out.endswith(f"Wrote {tmp_path}/bare.png, without the photograph (--photographs names its folder)\n")
    assert sorted(contents(tmp_path)) == ["bare.png", "page.png"]


def test_bad_input_is_one_line_and_writes_nothing(data, tmp_path):
    out, ask = tmp_path / "page.png", ("look", data, "test-0000000", "-o", tmp_path / "page.png")
    assert "Did you mean 'test-000000" in refused("look", data, "test-0000009", "-o", out)
    assert refused(*ask, "--regions", -1) == "Expected 0 or more regions, got -1."
    assert "is not a folder. Give the folder that contains" in refused("look", tmp_path / "no", "a", "-o", out)
    assert "Did you mean 'test'?" in refused(*ask, "--split", "tset")
    assert "contains no photograph of test-0000000" in refused(*ask, "--photographs", tmp_path)
    (data / "test_pictures" / "test-0000000.png").write_text("no picture")
    assert "test-0000000.png cannot be read" in refused(*ask)
    assert "is a folder: expected the name of a file" in refused("look", data, "test-0000001", "-o", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
