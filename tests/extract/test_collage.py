"""`regard data collage`: what is pasted where, what is said about it, and photographs that cannot be used."""

import json

import numpy as np
import pytest
from PIL import Image

from commands import contents, refused, regard
from regard.data import Split, check
from regard.data.twins import Twins
from regard.explain.image_contents import find_photograph
from regard.extract.collage import make_collages
from regard.extract.extraction import extract
from regard.files import InputError
from regard.relations.places import CONVERSE, PREDICATES

COLOURS = {"apple": (220, 30, 30), "leaf": (30, 200, 30), "sea": (30, 30, 220)}
BOX = [0.2, 0.2, 0.7, 0.8]


@pytest.fixture
def photos(tmp_path):
    """Thirty grey photographs with a box of the colour of its class, and a file of their boxes."""
    folder = tmp_path / "photos"
    folder.mkdir()
    lines = []
    for number in range(30):
        name = list(COLOURS)[number % 3]
        picture = Image.new("RGB", (200, 150), (120, 120, 120 + 4 * number))
        picture.paste(COLOURS[name], (40, 30, 140, 120))
        picture.save(folder / f"{number}.png")
        lines.append({"file": f"{number}.png", "boxes": [{"label": name, "box": BOX}]})
    write(tmp_path / "boxes.jsonl", lines)
    return folder


def write(path, lines):
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def make(photos, out, **options):
    sizes = {"train": 4, "dev": 0, "test": 0, **options}
    return make_collages(photos, out, {"regions": 4}, boxes=photos.with_name("boxes.jsonl"), **sizes)


def test_things_are_where_the_boxes_and_sentences_say(photos, tmp_path):
    assert make(photos, tmp_path / "out", train=8) == {"train": 30}
    split = Split.open(tmp_path / "out", "train")
    images, twins = split.images(range(8)), Twins.of(split)
    assert split.classes == ("none", "apple", "leaf", "sea")
    assert split.predicates == PREDICATES
    assert (twins.first.tolist(), twins.second.tolist()) == ([0, 2, 4, 6], [1, 3, 5, 7])
    assert set(twins.kind) == {"exchange"}
    kinds = set()
    for row in range(8):
        picture = Image.open(tmp_path / "out" / "train_pictures" / f"{split.ids[row]}.jpg")
        assert list(picture.size) == split.sizes[row].tolist() == [640, 480]
        pixels = np.asarray(picture, int)
        for region in (1, 2):  # after the whole picture
            name = split.classes[images.labels[row, region]]
            x1, y1, x2, y2 = (images.boxes[row, region].numpy() * np.tile(picture.size, 2)).round().astype(int)
            near = np.abs(pixels - COLOURS[name]).max(-1) < 40
            ys, xs = near.nonzero()
            assert np.abs([xs.min() - x1, xs.max() + 1 - x2, ys.min() - y1, ys.max() + 1 - y2]).max() <= 6
            assert near.sum() > 0.85 * (x2 - x1) * (y2 - y1)
        assert (images.labels[row, [0, 3]] == 0).all()
        one, other = (split.classes[images.labels[row, region]] for region in (1, 2))
        predicate = images.relations[row, 1, 2]
        assert images.relations[row, 2, 1] == CONVERSE[predicate]
        assert images.relations[row].count_nonzero() == 2
        kinds.add(PREDICATES[predicate])
        texts = [split.captions[text] for text in np.flatnonzero(split.image_of_text == row)]
        assert len(set(texts)) == 5
        for text in texts:
            stated = PREDICATES[predicate if text.index(one) < text.index(other) else CONVERSE[predicate]]
            assert stated.split()[0] in text, (stated, text)
    assert kinds == {"left of", "right of", "above", "below"}


def test_a_twin_exchanges_the_centres_and_nothing_else(photos, tmp_path):
    make(photos, tmp_path / "out")
    split = Split.open(tmp_path / "out", "train")
    images = split.images([0, 1])
    boxes = images.boxes[:, 1:3].numpy()
    centres, sizes = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    assert centres[0] == pytest.approx(centres[1, ::-1], abs=1 / 480)
    assert sizes[0] == pytest.approx(sizes[1], abs=1e-6)
    assert (images.labels[0] == images.labels[1]).all()
    assert images.relations[0, 1, 2] == images.relations[1, 2, 1] != 0
    texts = [split.captions[text] for text in range(10)]
    words = {"left": "right", "right": "left", "above": "below", "below": "above"}
    for own, other in zip(texts[:5], texts[5:], strict=True):
        assert " ".join(words.get(word, word) for word in own.split()) == other


def test_the_same_seed_makes_the_same_pictures_and_splits_share_no_photograph(photos, tmp_path):
    assert make(photos, tmp_path / "one", train=8, test=6) == {"train": 21, "test": 9}
    make(photos, tmp_path / "two", train=8, test=6)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    make(photos, tmp_path / "three", train=8, test=6, seed=1)
    assert contents(tmp_path / "one") != contents(tmp_path / "three")
    assert not check(tmp_path / "one").errors
    backgrounds = []
    for split in ("train", "test"):
        corners = [Image.open(path).getpixel((2, 2))[2] for path in (tmp_path / "one" / f"{split}_pictures").iterdir()]
        backgrounds.append({round((blue - 120) / 4) for blue in corners})
    assert not backgrounds[0] & backgrounds[1]


def test_small_covered_and_crowded_things_are_not_cut_out_but_count(photos, tmp_path):
    """Only photographs 0 and 1 can be cut; 2 shows a leaf, so it is no background for an apple and a leaf."""
    lines = [
        {"file": "0.png", "boxes": [{"label": "apple", "box": BOX}]},
        {"file": "1.png", "boxes": [{"label": "leaf", "box": BOX}]},
        {"file": "2.png", "boxes": [{"label": "leaf", "box": [0, 0, 0.1, 0.1]}]},
        {"file": "3.png", "gt": [{"label": "leaf", "box": BOX, "crowd": 1}]},
        {"file": "4.png", "boxes": None},
        {"file": "5.png", "boxes": [{"label": "leaf", "box": BOX}, {"label": "sea", "box": [0.25, 0.2, 0.75, 0.8]}]},
    ]
    write(tmp_path / "boxes.jsonl", lines)
    with pytest.raises(InputError, match="The 5 photographs of train have no two things of different classes"):
        make(photos, tmp_path / "out")
    write(tmp_path / "boxes.jsonl", [*lines, {"file": "6.png", "boxes": []}])
    make(photos, tmp_path / "out", train=2)
    picture = np.asarray(Image.open(tmp_path / "out" / "train_pictures" / "train-000000.jpg"), int)
    assert np.abs(picture[2, 2] - [120, 120, 144]).max() <= 2  # photograph 6
    assert np.abs(picture - COLOURS["sea"]).max(-1).min() > 40


def test_a_thin_thing_is_not_cut_out(photos, tmp_path):
    """Pasted, it would be narrower than the edge that fades."""
    Image.new("RGB", (1200, 1200)).save(photos / "1.png")
    lines = [{"file": "0.png", "boxes": [{"label": "apple", "box": BOX}]}, {"file": "2.png", "boxes": []}]
    for width, is_usable in ((0.05, False), (0.2, True)):
        box = {"label": "leaf", "box": [0.1, 0.05, 0.1 + width, 0.9]}
        write(tmp_path / "boxes.jsonl", [*lines, {"file": "1.png", "boxes": [box]}])
        if is_usable:
            make(photos, tmp_path / "out", train=2)
        else:
            with pytest.raises(InputError, match="no two things of different classes"):
                make(photos, tmp_path / "out", train=2)


def test_the_options_of_an_extracted_folder_are_taken_over(photos, tmp_path):
    extract(photos, tmp_path / "data", {"regions": 5})
    boxes = photos.with_name("boxes.jsonl")
    result = regard("data", "collage", photos, "--boxes", boxes, "--like", tmp_path / "data", "--out", tmp_path / "out",
                    "--train", 2, "--dev", 0, "--test", 0)  # fmt: skip
    assert result.code == 0
    assert "train from 30 photographs" in result.out
    assert Split.open(tmp_path / "out", "train").num_regions == 5
    assert find_photograph(Split.open(tmp_path / "out", "train"), 0).name == "train-000000.jpg"


def test_unusable_input_is_refused_in_one_line(photos, tmp_path):
    boxes, call = tmp_path / "boxes.jsonl", ("data", "collage", photos, "--out", tmp_path / "out")
    assert "pass --boxes FILE, --detector MODEL or --like DIR" in refused(*call)
    assert "expected a folder that `regard extract` wrote" in refused(*call, "--like", photos)
    sizes = ("--dev", 0, "--test", 0, "--boxes", boxes)
    assert "Expected two pictures or more" in refused(*call, *sizes, "--train", 0)
    assert "--train 5: expected even numbers" in refused(*call, *sizes, "--train", 5)
    assert "--sure 7.0: expected a score from 0 to 1" in refused(*call, *sizes, "--sure", 7)
    for line in ("[]", '{"file": "0.png"}', '{"file": "0.png", "boxes": [{"label": "a", "box": [10, 0, 20, 9]}]}', "x"):
        boxes.write_text(line + "\n")
        assert "boxes.jsonl, line 1: expected" in refused(*call, "--boxes", boxes)
    write(boxes, [{"file": "other.png", "boxes": []}])
    assert "names no photograph of" in refused(*call, "--boxes", boxes)
    (photos / "0.png").write_bytes(b"")
    write(boxes, [{"file": "0.png", "boxes": []}])
    assert "0.png is empty" in refused(*call, "--boxes", boxes)
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_text("")
    assert "exists and is not empty" in refused(*call, "--boxes", boxes)
