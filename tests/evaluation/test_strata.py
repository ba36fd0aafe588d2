"""Strata of sentences whose properties are known, and recalls in them."""

import json
from dataclasses import replace

import numpy as np
import pytest

import made
from regard.data import Split
from regard.data.captions import Captions
from regard.evaluation.compare import difference, intervals
from regard.evaluation.strata import Strata, divide
from regard.evaluation.stratum_report import measure_strata
from regard.files import InputError
from regard.metrics import galleries, ranks


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return Split.open(made.folder(tmp_path_factory.mktemp("strata") / "data"), "train")


def with_captions(split, *captions):
    """The split with other sentences: each image has two, which repeat the given ones in turn."""
    return replace(split, captions=[captions[text % len(captions)] for text in range(24)])


def groups(strata):
    """The names of the strata of the first sentences."""
    return [strata.names[place] if place >= 0 else None for place in strata.of_text.tolist()]


def test_sentences_are_divided_by_their_relations(plain):
    sentences = (
        "two brown dogs",
        "a dog chases a man",
        "a man riding a horse holds a flag",
        "a man in a hat rides a horse near a tree",
    )
    found = divide(with_captions(plain, *sentences), "relations")
    assert groups(found)[:4] == ["0", "1", "2", "3 or more"]
    assert divide(with_captions(plain, *sentences[:2]), "relations").names == ("0", "1")  # only those that occur


def test_sentences_are_divided_by_length(plain):
    lengths = (0, 7, 8, 10, 11, 14, 15, 40)
    found = divide(with_captions(plain, *(" ".join(["dog,"] * length) for length in lengths)), "words")
    names = ("0 to 7", "8 to 10", "11 to 14", "15 or more")
    assert groups(found)[:8] == [name for name in names for _ in range(2)]


def test_sentences_are_divided_by_words_of_place(plain):
    found = divide(with_captions(plain, "A dog, Left of a man.", "a dog on a mat", "leftover food"), "spatial")
    assert groups(found)[:3] == ["with", "without", "without"]


def test_sentences_are_divided_by_the_regions_of_their_image(plain):
    counts = np.array([1, 1, 1, 1, 2, 2, 3, 4, 5, 5, 5, 5])
    found = divide(replace(plain, region_counts=counts), "regions")
    assert found.names == ("1", "2 to 4", "5")
    assert np.array_equal(found.of_text, np.array([0] * 4 + [1] * 4 + [2] * 4).repeat(2))
    assert divide(replace(plain, region_counts=None), "regions").names == ("5",)


def table(path, rows, header="image,sentence,category,score"):
    path.write_text("\n".join([header, *rows]) + "\n", "utf-8")
    return Captions.read(path)


def test_sentences_are_divided_by_a_column(plain, tmp_path):
    split = replace(plain, captions=[f"sentence {text}" for text in range(24)])
    rows = [
        "train0,Sentence 0.,sport,1", "train0,sentence 1,home,1",  # by the sentence
        "train1,other,home,2", "train1,another,home,3",  # by what all rows of the image have
        "train2,other,home,4", "train2,another,sport,4",  # they differ
        "train3,sentence 6,,5", "train3,sentence 7,sport,5",  # one is empty
    ]  # fmt: skip
    found = divide(split, "category", table(tmp_path / "table.csv", rows))
    assert groups(found) == ["sport", "home", "home", "home", None, None, None, "sport"] + [None] * 16
    report = measure_strata(ranks(np.eye(12)[:, plain.image_of_text], plain.image_of_text), found)
    assert [(each.name, each.num_texts) for each in report.results] == [("home", 3), ("sport", 2), ("all", 24)]
    assert report.num_left_out == 19
    assert "19 sentences are in no stratum" in report.render()


def test_many_values_are_gathered_and_numbers_are_divided_into_thirds(plain, tmp_path):
    split = replace(plain, captions=[f"sentence {text}" for text in range(24)])
    rows = [f"train{text // 2},sentence {text},c{max(text, 3):02},{text / 2}" for text in range(24)]
    by_name = divide(split, "category", table(tmp_path / "table.csv", rows))
    assert len(by_name.names) == 21
    assert by_name.names[0] == "c03"
    assert by_name.names[-1] == "other values"
    assert (by_name.of_text == 20).sum() == 1
    by_number = divide(split, "score", table(tmp_path / "table.csv", rows))
    assert by_number.names == ("0 to 3.5", "4 to 7.5", "8 to 11.5")
    assert np.array_equal(by_number.of_text, np.arange(24) // 8)


def test_what_cannot_divide_is_refused(plain, tmp_path):
    with pytest.raises(
        InputError, match=r"no strata 'relation'. Did you mean 'relations'\? For a column .* --by-table"
    ):
        divide(plain, "relation")
    read = table(tmp_path / "table.csv", ["train0,a dog,sport,1"])
    with pytest.raises(InputError, match=r"table.csv has no column 'topic' .* Its columns are category, score\."):
        divide(plain, "topic", read)
    bare = table(tmp_path / "bare.csv", ["train0,a dog"], "image,sentence")
    with pytest.raises(InputError, match=r"bare.csv has no column 'topic' .* It has no other columns\."):
        divide(plain, "topic", bare)
    with pytest.raises(InputError, match=r"table.csv names 'elsewhere' and others, and none of them"):
        divide(plain, "category", table(tmp_path / "table.csv", ["elsewhere,a dog,sport,1"]))
    with pytest.raises(InputError, match=r"has a value of 'category' for no sentence of \S+ train: its sentences are"):
        divide(plain, "category", table(tmp_path / "table.csv", ["train0,other words,,1"]))


def test_names_of_columns_are_found_as_they_are_written_and_in_json(plain, tmp_path):
    rows = [f"train{text // 2},sentence {text},c{text % 3},{text}" for text in range(24)]
    split = replace(plain, captions=[f"sentence {text}" for text in range(24)])
    upper = table(tmp_path / "upper.csv", rows, "Image,Sentence,Words,Score")
    assert divide(split, "Words", upper).names == ("c0", "c1", "c2")  # not the lengths of the sentences
    records = [dict(zip(("image", "caption", "Category"), row.split(","), strict=False)) for row in rows]
    (tmp_path / "records.json").write_text(json.dumps(records))
    found = divide(split, "Category", Captions.read(tmp_path / "records.json"))
    assert found.names == ("c0", "c1", "c2")
    assert np.array_equal(found.of_text, np.arange(24) % 3)


def made_ranks(signal=1.5, num_images=60, seed=0):
    """Ranks of random scores, of 60 images with two sentences each; `signal` may differ by sentence."""
    image_of_text = np.arange(2 * num_images) // 2
    scores = np.random.default_rng(seed).normal(size=(num_images, len(image_of_text)))
    scores[image_of_text, np.arange(len(image_of_text))] += signal
    return ranks(scores, image_of_text), scores


def odd_and_even(count=120):
    return Strata("parity", ("even", "odd"), np.arange(count) % 2)


def test_a_stratum_has_the_recalls_of_its_sentences_among_all_images():
    found, _ = made_ranks()
    report = measure_strata(found, odd_and_even(), resamples=100)
    for number, result in enumerate(report.results[:2]):
        own = found.t2i[number::2]
        expected = {f"t2i r{k}": 100 * (own <= k).mean() for k in (1, 5, 10)}
        assert result.recalls == pytest.approx(expected)
        assert result.sum == pytest.approx(sum(expected.values()))
        assert (result.num_texts, result.num_images) == (60, 60)
        assert result.sum_interval.low < result.sum < result.sum_interval.high
        for key, interval in result.intervals.items():
            assert interval.low <= result.recalls[key] <= interval.high


def test_images_are_queries_if_all_their_sentences_are_in_one_stratum():
    found, _ = made_ranks()
    halves = Strata("half", ("first", "second"), np.arange(120) // 60)
    report = measure_strata(found, halves, resamples=100)
    assert report.results[0].recalls["i2t r1"] == pytest.approx(100 * (found.i2t[:30] == 1).mean())
    assert report.results[1].recalls["t2i r5"] == pytest.approx(100 * (found.t2i[60:] <= 5).mean())
    assert [each.num_images for each in report.results] == [30, 30, 60]


def test_all_sentences_have_the_usual_metrics_intervals_and_test():
    """The same draws as those of `regard metrics` give the same numbers."""
    (ours, scores), (theirs, others) = made_ranks(), made_ranks(1.0, seed=1)
    halves = Strata("half", ("first", "second"), np.arange(120) // 60)
    whole = measure_strata(ours, halves, theirs).results[-1]
    usual = intervals(galleries(scores, ours.image_of_text))
    assert (whole.sum_interval.low, whole.sum_interval.high) == pytest.approx((usual.rsum.low, usual.rsum.high))
    assert whole.intervals["i2t r5"].low == pytest.approx(usual.i2t["r5"].low)
    tested = difference(galleries(scores, ours.image_of_text), galleries(others, ours.image_of_text))
    found = whole.difference
    assert (found.rsum, found.low, found.high, found.p) == pytest.approx(
        (tested.rsum, tested.low, tested.high, tested.p)
    )


def test_a_model_that_is_better_on_one_stratum_is_found_better_there_only():
    """The other model has the same scores for even sentences, and no signal for odd ones."""
    ours, scores = made_ranks(2.0)
    weaker = scores.copy()
    odd = np.arange(1, 120, 2)
    weaker[odd // 2, odd] -= 2.0
    even, other, whole = measure_strata(ours, odd_and_even(), ranks(weaker, ours.image_of_text)).results
    # Odd sentences of the same image do not compete in text to image: each sentence ranks images.
    assert (even.difference.rsum, even.difference.low, even.difference.high, even.difference.p) == (0, 0, 0, 1)
    assert other.difference.low > 0
    assert other.difference.p == pytest.approx(2 * 2 / 2001)  # Holm: the smaller of two
    assert whole.difference.rsum == pytest.approx(other.difference.rsum / 2)


def test_more_strata_have_wider_intervals_and_more_draws():
    found, _ = made_ranks()
    texts = np.arange(120)
    few = measure_strata(found, Strata("x", ("a", "b"), (texts > 30).astype(int)))
    many = measure_strata(found, Strata("x", tuple(map(str, range(32))), np.minimum(texts, 31)))
    assert (few.level, few.resamples) == (97.5, 2000)
    assert (many.level, many.resamples) == (100 - 5 / 32, 6400)
    one, same = few.results[1], many.results[31]  # the same sentences but one
    assert (one.num_texts, same.num_texts) == (89, 89)
    assert same.sum_interval.low < one.sum_interval.low
    assert same.sum_interval.high > one.sum_interval.high
    alone = many.results[0]  # one sentence, which is not in every draw: its recalls are known where it is
    assert alone.sum_interval.low == alone.sum == alone.sum_interval.high


def test_the_report_is_written_and_printed():
    (ours, _), (theirs, _) = made_ranks(), made_ranks(1.0, seed=1)
    report = measure_strata(ours, odd_and_even(), theirs, resamples=400)
    kept = json.loads(json.dumps(report.to_dict()))
    assert [each["name"] for each in kept["strata"]] == ["even", "odd", "all"]
    first = kept["strata"][0]
    assert first["sum"] == pytest.approx(sum(first["t2i"].values()))
    assert "i2t" not in first
    assert first["intervals"]["t2i"].keys() == {"r1", "r5", "r10"}
    assert first["difference"].keys() == {"rsum", "low", "high", "p"}
    lines = report.render("runs/other").splitlines()
    assert lines[0].split()[:6] == ["by", "parity", "texts", "images", "t2i", "R@1"]
    assert f"{first['sum']:.1f}" in lines[1]
    assert "95 % for all strata together (97.5 % each)" in report.render()
    assert "from runs/other" in report.render("runs/other")
