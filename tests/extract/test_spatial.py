"""`regard data spatial`: sentences, boxes, relations and twins of a small folder, with and without photographs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import made
from commands import refused, regard
from regard.data import Split, check
from regard.data.convert import convert
from regard.data.loader import Loader
from regard.data.twins import Twins
from regard.evaluation.evaluate import scores_of
from regard.evaluation.twin_accuracy import TwinAnswers, twin_answers
from regard.extract.extraction import extract
from regard.extract.spatial import make_spatial
from regard.files import InputError
from regard.relations.places import LEFT, MIRRORED, PREDICATES, RIGHT
from regard.training.trained_run import TrainedRun

REAL = Path(__file__).parents[2].parent / "shared" / "real"

# Region 0 is the whole image. In image 0 a dog is left of an apple; in image 1 a dog is above an apple; in image 2 are
# two dogs; image 3 is image 0 with a doubtful apple.
LEFT_BOX, RIGHT_BOX, LOW_BOX = (0.1, 0.4, 0.3, 0.6), (0.6, 0.4, 0.8, 0.6), (0.1, 0.8, 0.3, 1.0)
LABELS = [
    [[1, "dog", 0.9], [2, "apple", 0.8]],
    [[1, "dog", 0.9], [2, "apple", 0.8]],
    [[1, "dog", 0.9], [2, "dog", 0.8]],
    [[1, "dog", 0.9], [2, "apple", 0.1]],
]
SENTENCES = [f"picture {row} of {text}" for row in range(4) for text in ("a dog", "an animal")]


@pytest.fixture
def source(tmp_path):
    """Splits train and dev of four images with three regions, of features only."""
    folder = tmp_path / "source"
    folder.mkdir()
    boxes = np.zeros((4, 3, 4), np.float32)
    boxes[:, 0], boxes[:, 1], boxes[:, 2], boxes[1, 2] = (0, 0, 1, 1), LEFT_BOX, RIGHT_BOX, LOW_BOX
    for seed, split in enumerate(("train", "dev")):
        features = np.random.default_rng(seed).normal(size=(4, 3, 8))
        np.save(folder / f"{split}_ims.npy", features.astype(np.float16))
        np.save(folder / f"{split}_boxes.npy", boxes)
        (folder / f"{split}_labels.json").write_text(json.dumps(LABELS))
        (folder / f"{split}_ids.txt").write_text("".join(f"{split}{row}.jpg\n" for row in range(4)))
        (folder / f"{split}_caps.txt").write_text("".join(f"{text}\n" for text in SENTENCES))
    return folder


def test_a_picture_and_its_mirror_image_differ_in_what_is_left(source, tmp_path):
    report = make_spatial(source, tmp_path / "out")
    assert report.splits == {"train": (3, 15, 1), "dev": (3, 15, 1)}
    assert "same features at mirrored boxes" in report.notes[0]
    split, origin = Split.open(tmp_path / "out", "dev"), Split.open(source, "dev")
    assert list(split.ids) == ["dev0.jpg", "dev0.jpg (mirrored)", "dev1.jpg"]
    images, own = split.images(range(3)), origin.images([0, 0, 1])
    assert (images.features == own.features).all()
    assert images.boxes[0].tolist() == own.boxes[0].tolist()
    assert images.boxes[1].numpy() == pytest.approx(
        np.float32([[0, 0, 1, 1], [0.7, 0.4, 0.9, 0.6], [0.2, 0.4, 0.4, 0.6]])
    )
    assert (images.labels == own.labels).all()
    assert split.classes == origin.classes
    assert split.predicates == PREDICATES
    assert images.relations[0, 1, 2] == LEFT
    assert images.relations[0, 2, 1] == RIGHT
    assert (images.relations[1].numpy() == MIRRORED[images.relations[0].numpy()]).all()
    assert (images.relations[:, 0] == 0).all()  # the whole image is no thing

    twins = Twins.of(split)
    assert (twins.first.tolist(), twins.second.tolist(), twins.kind.tolist()) == ([0], [1], ["mirror"])
    of_image = [[split.captions[text] for text in np.flatnonzero(split.image_of_text == row)] for row in range(3)]
    for own, mirror in zip(of_image[0], of_image[1], strict=True):
        assert mirror != own
        assert mirror.replace("right", "*").replace("left", "right").replace("*", "left") == own
    assert all("above" in text or "below" in text for text in of_image[2])
    assert split.text_relations is not None


def test_features_are_linked_and_a_converted_folder_stands_alone(source, tmp_path):
    make_spatial(source, tmp_path / "out")
    stored = sorted((tmp_path / "out" / "photographs").iterdir())
    assert [path.is_symlink() for path in stored] == [True, True]
    report = check(tmp_path / "out")
    assert not report.errors
    assert "rows of linked feature files" in str(report)
    convert(tmp_path / "out", tmp_path / "alone")
    shutil.rmtree(source)
    assert (tmp_path / "alone" / "dev_twins.npz").exists()
    assert Split.open(tmp_path / "alone", "dev").images([1]).features.any()
    with pytest.raises(InputError, match=r"is not there"):
        Split.open(tmp_path / "out", "dev").images([1])


def test_captions_are_kept_and_places_added_to_train_only(source, tmp_path):
    report = make_spatial(source, tmp_path / "out", captions=True, sentences=2)
    assert report.splits == {"train": (5, 8 + 3 * 2, 1), "dev": (4, 8, 0)}
    dev, train = (Split.open(tmp_path / "out", name) for name in ("dev", "train"))
    assert list(dev.captions) == SENTENCES
    assert dev.predicates == train.predicates == PREDICATES
    assert not (tmp_path / "out" / "dev_twins.npz").exists()
    assert sorted(set(train.captions) & set(SENTENCES)) == sorted(SENTENCES)
    # A batch that has a sentence of the twins has that of the other twin too, and no caption is followed by one.
    loader = Loader(train, str.split, 2, twins=True)
    for text, partner in enumerate(loader.partner.tolist()):
        if partner >= 0:
            assert {train.captions[text].count("left"), train.captions[partner].count("left")} == {0, 1}
    assert (loader.partner >= 0).sum() == 4


def test_an_embedding_scores_twins_equally(source, tmp_path):
    make_spatial(source, tmp_path / "out")
    trained = TrainedRun(made.run(tmp_path / "run", tmp_path / "out", "vse-infinity-f8k"))
    split = trained.open_split("dev", tmp_path / "out")
    answers = twin_answers(scores_of(trained.model, split), split)
    assert answers == {"mirror": TwinAnswers(0.0, 50.0, 100.0, 10)}


def test_mirrored_photographs_are_described_anew(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    random = np.random.default_rng(0)
    for name in "ab":
        Image.fromarray(random.integers(0, 255, (60, 80, 3), np.uint8)).save(photos / f"{name}.png")
    extract(photos, tmp_path / "data", {"regions": 6})
    # The windows are taken for detections: 2 and 3 are side by side.
    labels = np.zeros((2, 6), np.int16)
    labels[:, 1], labels[:, 2] = 1, 2
    np.save(tmp_path / "data" / "test_labels.npy", labels)
    np.save(tmp_path / "data" / "test_scores.npy", (labels > 0).astype(np.float16))
    (tmp_path / "data" / "labels.txt").write_text("dog\napple\n")
    report = make_spatial(tmp_path / "data", tmp_path / "out")
    assert report.splits == {"test": (4, 20, 2)}
    assert "described anew" in report.notes[0]
    split = Split.open(tmp_path / "out", "test")
    mirrors = photos.with_name("mirrors")
    mirrors.mkdir()
    for name in "ab":
        Image.open(photos / f"{name}.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(mirrors / f"{name}.png")
    extract(mirrors, tmp_path / "mirrored", {"regions": 6})
    wanted = Split.open(tmp_path / "mirrored", "test").images([0, 1])
    found = split.images([1, 3])
    # Windows of the mirrored photograph are the mirrored windows, in another order.
    for picture in range(2):
        for box, feature in zip(found.boxes[picture], found.features[picture], strict=True):
            same = (wanted.boxes[picture] - box).abs().amax(1) < 1e-5
            if same.any():
                assert (wanted.features[picture][same] - feature).abs().amax() < 0.01
    assert (split.images([0]).features == Split.open(tmp_path / "data", "test").images([0]).features).all()
    assert (split.images([0]).features != split.images([1]).features).any()

    (photos / "b.png").unlink()
    with pytest.raises(InputError, match=r"b\.png cannot be read .*: run `regard extract"):
        make_spatial(tmp_path / "data", tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/real")
def test_the_twins_of_flickr8k(tmp_path):
    report = make_spatial(REAL / "f8k", tmp_path / "out", sentences=2)
    assert report.splits == {"train": (1424, 2848, 424), "dev": (126, 252, 33), "test": (128, 256, 35)}
    split = Split.open(tmp_path / "out", "train")
    twins = Twins.of(split)
    one, other = split.images(twins.first), split.images(twins.second)
    assert (one.features == other.features).all()
    assert (other.relations.numpy() == MIRRORED[one.relations.numpy()]).all()
    assert (other.boxes[..., [0, 2]] + one.boxes[..., [2, 0]] - 1).abs().max() < 1e-6


def test_the_command_says_what_twins_test_and_refuses_what_it_cannot_use(source, tmp_path):
    result = regard("data", "spatial", source, "--out", tmp_path / "out", "--sentences", 2)
    assert result.code == 0
    assert "3 pictures, 6 sentences, 1 pairs of twins" in result.out
    assert "A model that reads neither gives both the same score." in result.out
    again = ("data", "spatial", source, "--out", tmp_path / "out")
    assert "exists and is not empty" in refused(*again)
    new = (*again[:-1], tmp_path / "new")
    assert "--sure is 2.0" in refused(*new, "--sure", 2)
    assert "--sentences is 0" in refused(*new, "--sentences", 0)
    assert "no picture has a thing clearly left or right" in refused(*new, "--sure", 0.95)
    (source / "train_ims.npy").rename(source / "other_ims.npy")
    for name in ("boxes.npy", "labels.json", "ids.txt", "caps.txt"):
        (source / f"train_{name}").rename(source / f"other_{name}")
    assert "has no split train, to which --captions adds" in refused(*new, "--captions")
    (source / "dev_labels.json").write_text('[[[1, "dog", null]], [], [], []]')
    assert "dev_labels.json, image 0: the confidence of 'dog' is None" in refused(*new)
    (source / "dev_boxes.npy").unlink()
    assert "dev has no boxes: sentences of place are made from" in refused(*new)
    assert not (tmp_path / "new").exists()
