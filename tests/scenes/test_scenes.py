"""The made world: the same bytes for the same seed, twins that differ in one fact, true sentences."""

import filecmp
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from regard.files import InputError
from regard.scenes import make_scenes
from regard.scenes.catalogue import KINDS
from regard.scenes.grammar import FORMS, PER_IMAGE, sentences
from regard.scenes.kinds import COLOURS
from regard.scenes.pen import Canvas, Pen
from regard.scenes.predicates import PREDICATE_KINDS, PREDICATES, TWIN_KINDS, TWIN_PREDICATES
from regard.scenes.scene import REGIONS, Scene, SceneRandom, make_twin, random_scene
from regard.scenes.scene_folder import CHUNK, draw_images
from regard.scenes.scene_layout import lay_out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scenes") / "data"
    make_scenes(out, train=CHUNK + 7, dev=10, test=3, seed=5, pictures=2)
    return out


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_same_seed_gives_the_same_bytes_whatever_the_number_of_processes(folder: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    make_scenes(again, train=CHUNK + 7, dev=10, test=3, seed=5, pictures=2, workers=2)
    assert files(again) == files(folder)
    same, different, errors = filecmp.cmpfiles(folder, again, files(folder), shallow=False)
    assert (different, errors) == ([], [])
    assert len(same) == len(files(folder))


def test_another_seed_gives_other_images(folder: Path, tmp_path: Path) -> None:
    make_scenes(tmp_path / "other", train=0, dev=10, test=0, seed=6, pictures=0)
    assert (tmp_path / "other" / "dev_caps.txt").read_text() != (folder / "dev_caps.txt").read_text()
    assert not list((tmp_path / "other").glob("t*"))


def test_an_image_does_not_depend_on_how_many_there_are(folder: Path, tmp_path: Path) -> None:
    make_scenes(tmp_path / "few", train=9, dev=0, test=0, seed=5, pictures=1)
    for name in ("ims", "boxes", "labels", "num_regions", "sizes"):
        few, many = np.load(tmp_path / "few" / f"train_{name}.npy"), np.load(folder / f"train_{name}.npy")
        np.testing.assert_array_equal(few, many[:9])
    few_lines = (tmp_path / "few" / "train_caps.txt").read_text().splitlines()
    assert few_lines == (folder / "train_caps.txt").read_text().splitlines()[: 9 * PER_IMAGE]


def test_the_folder_has_the_compact_form(folder: Path) -> None:
    for split, size in (("train", CHUNK + 7), ("dev", 10), ("test", 3)):
        ims = np.load(folder / f"{split}_ims.npy", mmap_mode="r")
        real = np.arange(REGIONS) < np.load(folder / f"{split}_num_regions.npy")[:, None]
        boxes, labels = np.load(folder / f"{split}_boxes.npy"), np.load(folder / f"{split}_labels.npy")
        assert ims.dtype == np.float16
        assert ims.shape[:2] == labels.shape == boxes.shape[:2] == (size, REGIONS)
        assert ims.shape[2] <= 256
        assert np.isfinite(ims).all()
        assert not ims[~real].any()
        assert ((labels > 0) == real).all()
        assert labels.max() <= len((folder / "labels.txt").read_text().splitlines())
        assert (boxes >= 0).all()
        assert (boxes <= 1).all()
        assert (boxes[real][:, 2:] > boxes[real][:, :2]).all()
        assert len((folder / f"{split}_ids.txt").read_text().splitlines()) == size
        lines = (folder / f"{split}_caps.txt").read_text().splitlines()
        assert len(lines) == len(np.load(folder / f"{split}_image_of_text.npy")) == size * PER_IMAGE
        assert len(list((folder / f"{split}_pictures").iterdir())) == 2
        with np.load(folder / f"{split}_relations.npz") as relations:
            assert tuple(relations["predicates"]) == PREDICATES
            assert (np.diff(relations["image"]) >= 0).all()
            assert set(relations["image"]) == set(range(size))
            for end in ("subject", "object"):
                assert real[relations["image"], relations[end]].all()
            assert (relations["confidence"] == 1).all()
        with np.load(folder / f"{split}_twins.npz") as twins:
            assert list(twins["first"]) == [row for row in range(size) if row % 5 == 0 and row + 1 < size]
            np.testing.assert_array_equal(twins["second"], twins["first"] + 1)
            for first, second in zip(twins["first"], twins["second"], strict=True):
                assert Counter(labels[first]) == Counter(labels[second])


@pytest.mark.parametrize("kind", ["relation", "attribute"])
def test_twins_share_their_things_and_differ_in_the_stated_fact(kind: str) -> None:
    for row in range(40):
        (scene, _), (twin, _) = draw_images(kind, 3, 0, row)
        assert [thing.kind for thing in scene.things] == [thing.kind for thing in twin.things]
        assert Counter(thing.colour for thing in scene.things) == Counter(thing.colour for thing in twin.things)
        if kind == "relation":
            assert scene.things == twin.things
            assert scene.near[0] != twin.near[0]
        else:
            assert scene.facts == twin.facts
            assert scene.things != twin.things
        assert scene.near[1:] == twin.near[1:]
        assert not set(sentences(scene, SceneRandom(3, 0, row, 1))) & set(sentences(twin, SceneRandom(3, 0, row, 1)))
        assert make_twin(twin) == scene


@pytest.mark.parametrize("kind", ["relation", "attribute"])
def test_twins_have_the_rest_of_the_picture_in_common(kind: str) -> None:
    for row in range(40):
        original = random_scene(SceneRandom(3, 0, row, 2), kind)
        moved = {i for fact in original.near for i in (fact.subject, fact.object)}
        places, others = (lay_out(each, SceneRandom(3, 0, row, 3), 100) for each in (original, make_twin(original)))
        for i in set(range(len(places))) - moved:
            assert places[i] == others[i]
        assert (places == others) == (kind == "attribute")


def test_every_sentence_of_attribute_twins_names_both_colours() -> None:
    for row in range(40):
        (scene, _), _ = draw_images("attribute", 3, 0, row)
        ends = [scene.things[scene.near[0].subject].colour, scene.things[scene.near[0].object].colour]
        for sentence in sentences(scene, SceneRandom(3, 0, row, 1)):
            assert not Counter(ends) - Counter(sentence.split())


def test_an_image_has_five_different_sentences_of_its_things() -> None:
    nouns = {name: thing.name for thing in KINDS.values() for name in thing.names}
    for row in range(100):
        scene = random_scene(SceneRandom(4, 0, row, 2), "")
        said = sentences(scene, SceneRandom(4, 0, row, 1))
        assert len(set(said)) == PER_IMAGE
        kinds = {thing.kind.name for thing in scene.things}
        colours = {thing.colour for thing in scene.things}
        main = {scene.things[i].kind.name for i in (scene.near[0].subject, scene.near[0].object)}
        for sentence in said:
            words = sentence.split()
            named = {nouns[word] for word in words if word in nouns}
            assert main <= named <= kinds
            assert {word for word in words if word in COLOURS} <= colours
            assert all(thing.size for thing in scene.things if f"big {thing.kind.name}" in sentence)


def test_the_predicates_have_forms_and_roles() -> None:
    assert set(FORMS) == set(PREDICATE_KINDS) == set(PREDICATES[1:])
    assert all(len(forms) >= PER_IMAGE for forms in FORMS.values())
    assert set(TWIN_PREDICATES) == set(TWIN_KINDS)


class Lucky(SceneRandom):
    """Random choices in which everything that can happen happens."""

    def chance(self, probability: float) -> bool:
        return True


def test_no_scene_has_more_things_than_there_are_regions() -> None:
    sizes = {len(random_scene(rng(9, 0, row, 2), "").things) for row in range(200) for rng in (SceneRandom, Lucky)}
    assert min(sizes) == 2
    assert max(sizes) == REGIONS


def centres(scene: Scene, boxes: np.ndarray) -> tuple[float, float, float, float]:
    """The centres of the main fact's subject and object: x, y, x, y."""
    fact = scene.near[0]
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    return (*map(float, middle[fact.subject]), *map(float, middle[fact.object]))


@pytest.mark.parametrize("twin", ["", "relation"])
def test_the_boxes_agree_with_the_relations(twin: str) -> None:
    seen: Counter[str] = Counter()
    drawn = [each for row in range(0, 600, 5) for each in draw_images(twin, 8, 0, row)]
    for scene, drawing in drawn:
        fact = scene.near[0]
        boxes = drawing.boxes
        subject, object_ = boxes[fact.subject], boxes[fact.object]
        sx, sy, ox, oy = centres(scene, boxes)
        seen[fact.predicate] += 1
        match fact.predicate:
            case "left of":
                assert subject[2] <= object_[0]
            case "chasing":
                facing = scene.things[fact.subject].facing
                assert facing == scene.things[fact.object].facing
                assert sx * facing < ox * facing
            case "pulling":
                facing = scene.things[fact.subject].facing
                assert sx * facing > ox * facing
            case "above":
                assert subject[3] <= object_[1]
                assert subject[0] < object_[2]
                assert object_[0] < subject[2]
            case "on" | "riding":
                assert sy < oy
                assert object_[0] <= sx <= object_[2]
            case "under":
                assert sy > oy
                assert object_[0] <= sx <= object_[2]
            case "wearing":
                assert subject[1] - 20 < sy
                assert oy < sy
            case "inside":
                assert object_[0] <= sx <= object_[2]
                assert subject[3] <= object_[3]
            case "holding":
                assert subject[0] - 60 < ox < subject[2] + 60
            case "behind":
                assert subject[3] < object_[3]
                assert subject[0] < object_[2]
                assert object_[0] < subject[2]
    assert set(seen) == (set(PREDICATE_KINDS) if not twin else set(TWIN_KINDS) - {"on or under"} | {"under"})


def test_a_box_is_tight_around_the_visible_part() -> None:
    canvas = Canvas((255, 255, 255))
    Pen(canvas, 1, 0, 100).block((255, 0, 0), 10, 20, 40, 50)
    red = (np.asarray(canvas.picture()) == (255, 0, 0)).all(2)
    rows, columns = np.flatnonzero(red.any(1)), np.flatnonzero(red.any(0))
    tight = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    assert np.abs(canvas.box(1) - tight).max() <= 1
    Pen(canvas, 2, 0, 100).block((0, 0, 255), 25, 0, 60, 60)  # nearer: it hides the right half
    assert np.abs(canvas.box(1) - np.array([*tight[:2], 25, tight[3]])).max() <= 1


def test_an_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_scenes(tmp_path / "data", train=100, dev=0, test=0, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_every_image(tmp_path: Path) -> None:
    counts: list[int] = []
    make_scenes(tmp_path / "data", train=CHUNK + 1, dev=2, test=1, pictures=0, progress=counts.append)
    assert counts == [CHUNK, 1, 2, 1]


def test_an_existing_folder_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(InputError, match="exists and is not empty"):
        make_scenes(tmp_path, train=1)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"train": -1}, "Expected train to be a whole number from 0 to"),
        ({"workers": 0}, "Expected workers to be a whole number from 1 to"),
        ({"train": 0, "dev": 0, "test": 0}, "Expected at least one image, got 0 for train, dev and test"),
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path: Path, given: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_scenes(tmp_path / "data", **given)
