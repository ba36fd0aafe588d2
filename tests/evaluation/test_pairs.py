"""Tables of pairs: their forms, and the answers of a model to them."""

import json
from dataclasses import replace

import numpy as np
import pytest

import made
from regard.data.pair_tables import PairTable, Probe
from regard.evaluation.evaluate import scores_of
from regard.evaluation.pairs import measure_pairs
from regard.files import InputError
from regard.training.trained_run import TrainedRun

ONE = [Probe(("a.jpg",), ("a man, and a dog", "a dog, and a man"), "swap"), Probe(("b.jpg",), ("x", "y"), "add")]
TWO = [Probe(("a.jpg", "b.jpg"), ("a man", "a dog"), "swap")]


def read(tmp_path, text):
    (tmp_path / "pairs").write_text(text, "utf-8")
    return PairTable.read(tmp_path / "pairs")


SUGAR = {
    "0": {"filename": "a.jpg", "caption": ONE[0].captions[0], "negative_caption": ONE[0].captions[1], "tag": "swap"},
    "1": {"filename": "b.jpg", "caption": "x", "negative_caption": "y", "tag": "add"},
}


@pytest.mark.parametrize(
    ("text", "probes"),
    [
        (
            'image,caption,negative,category\na.jpg,"a man, and a dog","a dog, and a man",swap\nb.jpg,x,y,add\n',
            ONE,
        ),
        ("category\tnegative\tcaption\timage\nswap\ta dog, and a man\ta man, and a dog\ta.jpg\nadd\ty\tx\tb.jpg", ONE),
        (json.dumps(SUGAR), ONE),
        (json.dumps(list(SUGAR.values())), ONE),
        ("\n".join(map(json.dumps, SUGAR.values())), ONE),
        ('{"image": "a", "caption": "b\u2028", "negative": "c"}\n{}', [Probe(("a",), ("b", "c"))]),
        ('image,caption,negative\na,"b\u2028d",c\n', [Probe(("a",), ("b\u2028d", "c"))]),
        ("image_0,image_1,caption_0,caption_1,tag\na.jpg,b.jpg,a man,a dog,swap\n", TWO),
        ('{"image_0": "a.jpg", "image_1": "b.jpg", "caption_0": "a man", "caption_1": "a dog", "tag": "swap"}', TWO),
    ],
)
def test_tables_of_many_kinds(tmp_path, text, probes):
    assert read(tmp_path, text).probes == probes


def test_bad_rows_are_skipped_and_other_tables_refused(tmp_path):
    table = read(tmp_path, "image,caption,negative\na,b,c\na,b\na,b, and c,d\n,b,c\n")
    assert table.probes == [Probe(("a",), ("b", "c"))]
    assert [place for place, _ in table.skipped] == ["line 3", "line 4", "line 5"]
    for text in ("", "[]", "[1]", "image,caption\na,b\n"):
        with pytest.raises(InputError, match="contains no pairs: expected the columns image, caption, negative"):
            read(tmp_path, text)
    with pytest.raises(InputError, match=r"line 1: field larger than field limit .* quotation mark that is not closed"):
        read(tmp_path, 'image,caption,negative\na,"' + 200_000 * "b")
    with pytest.raises(InputError, match="rows with one image and rows with two"):
        read(tmp_path, json.dumps([SUGAR["0"], {f"{name}_{k}": "z" for name in ("image", "caption") for k in (0, 1)}]))


@pytest.fixture
def run(tmp_path):
    """A run, a split, and the score of each image with each of its sentences."""
    trained = TrainedRun(made.run(tmp_path / "run", made.folder(tmp_path / "data")))
    split = trained.open_split("dev")
    return trained.model, split, scores_of(trained.model, replace(split, text_relations=None)).numpy()


def test_a_model_is_measured_by_the_scores_of_its_pairs(run, tmp_path):
    model, split, scores = run
    draw = np.random.default_rng(0)
    picks = [
        (int(draw.integers(split.num_images)), *draw.choice(split.num_texts, 2, replace=False)) for _ in range(150)
    ]
    keys = ("image", "caption", "negative", "category")
    rows = [
        dict(zip(keys, (split.ids[i], split.captions[one], split.captions[other], f"c{i % 2}"), strict=True))
        for i, one, other in picks
    ]
    report = measure_pairs(model, split, read(tmp_path, json.dumps(rows)))
    right = np.array([scores[i, one] > scores[i, other] for i, one, other in picks])
    assert 0 < right.mean() < 1
    assert report.categories["all"].count == 150
    assert report.categories["all"].correct == {"correct": pytest.approx(100 * right.mean())}
    odd = np.array([i % 2 == 1 for i, *_ in picks])
    assert report.categories["c1"].correct["correct"] == pytest.approx(100 * right[odd].mean())
    assert list(report.categories) == ["c0", "c1", "all"]


def test_winogrounds_three_scores(run, tmp_path):
    model, split, scores = run
    draw = np.random.default_rng(1)
    picks = [(*draw.choice(split.num_images, 2, replace=False), *draw.choice(split.num_texts, 2, replace=False))
             for _ in range(90)]  # fmt: skip
    keys = ("image_0", "image_1", "caption_0", "caption_1")
    rows = [
        dict(zip(keys, (split.ids[i], split.ids[j], split.captions[a], split.captions[b]), strict=True))
        for i, j, a, b in picks
    ]
    found = measure_pairs(model, split, read(tmp_path, json.dumps(rows))).categories["all"].correct
    s = [(scores[i, a], scores[i, b], scores[j, a], scores[j, b]) for i, j, a, b in picks]
    text = np.array([ia > ib and jb > ja for ia, ib, ja, jb in s])
    image = np.array([ia > ja and jb > ib for ia, ib, ja, jb in s])
    expected = {"text": text, "image": image, "group": text & image}
    assert found == {name: pytest.approx(100 * values.mean()) for name, values in expected.items()}
    assert found["text"] > 0


def test_a_tie_is_wrong_or_half_right(run, tmp_path):
    model, split, _ = run
    same = {"image": split.ids[0], "caption": "a dog", "negative": "a dog"}
    report = measure_pairs(model, split, read(tmp_path, json.dumps([same])))
    assert report.categories["all"].correct == {"correct": 0}
    assert report.categories["all"].half_credit == {"correct": 50}
    assert "(50.0)" in report.render()


def test_images_that_the_split_does_not_have_are_counted(run, tmp_path):
    model, split, _ = run
    rows = [{"image": name, "caption": "a dog", "negative": "a cat"} for name in (split.ids[0], "other.jpg")]
    report = measure_pairs(model, split, read(tmp_path, json.dumps([*rows, {}])))
    assert (report.categories["all"].count, report.num_skipped, report.unmatched) == (1, 1, ["other.jpg"])
    assert "1 images are not in the split, such as 'other.jpg'" in report.render()
    with pytest.raises(InputError, match=r"pairs names 'other.jpg', and .*dev has none of these images, but '"):
        measure_pairs(model, split, read(tmp_path, json.dumps(rows[1:])))
