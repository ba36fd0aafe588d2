"""Metrics with several right answers: against plain loops, against `eccv_caption`, and on its real lists."""

import json
import math
import warnings

import numpy as np
import pytest

import made
from commands import refused, regard
from regard.data import Split
from regard.evaluation.relevance import ABSENT, Relevance, measure_relevance
from regard.files import InputError
from regard.metrics import recalls


@pytest.fixture(scope="module")
def library():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns without tqdm and ujson
        return pytest.importorskip("eccv_caption", reason="the lists of CxC and ECCV Caption are in eccv_caption")


KS = (1, 5, 10)


def made_relevance(shape, seed=0, grades=(1.0,)):
    random = np.random.default_rng(seed)
    pairs = [(int(i), int(t)) for i, t in np.argwhere(random.random(shape) < 0.2)]
    return Relevance.of([(i, t, float(random.choice(grades))) for i, t in pairs])


def plain(scores, relevance):
    """The metrics by sorting each query's items: wrong ones first among equals, then those of the smallest grade."""
    found = {}
    for name, rows, answers in (("i2t", scores, relevance.i2t), ("t2i", scores.T, relevance.t2i)):
        values = []
        for query in sorted(set(answers.query.tolist())):
            own = answers.query == query
            grade = dict(zip(answers.item[own].tolist(), answers.grade[own].tolist(), strict=True))
            order = sorted(range(rows.shape[1]), key=lambda item: (-rows[query, item], grade.get(item, 0)))
            hits = [item in grade for item in order]
            count = len(grade)
            precisions = [sum(hits[: k + 1]) / (k + 1) if hits[k] else 0 for k in range(count)]
            gain = sum(grade.get(item, 0) / math.log2(2 + place) for place, item in enumerate(order))
            ideal = sum(g / math.log2(2 + place) for place, g in enumerate(sorted(grade.values(), reverse=True)))
            top = [any(hits[:k]) for k in (1, 5, 10)]
            values.append([*top, sum(hits[:count]) / count, sum(precisions) / count, gain / ideal])
        found[name] = [len(values), *(100 * np.mean(values, 0))]
    return found


@pytest.mark.parametrize("levels", [3, 1000])  # many ties, and hardly any
def test_the_metrics_are_those_of_plain_loops(levels):
    shape = (30, 300)  # more texts than are read at a time
    scores = np.random.default_rng(1).integers(0, levels, shape).astype(np.float32)
    relevance = made_relevance(shape, grades=(0.5, 1.0, 3.0))
    report = measure_relevance(scores, relevance)
    for name, expected in plain(scores, relevance).items():
        assert list(vars(getattr(report, name)).values()) == pytest.approx(expected)


def test_ties_count_against_the_model_and_the_truth_is_perfect():
    shape = (20, 60)
    relevance = made_relevance(shape)
    constant = measure_relevance(np.zeros(shape, np.float32), relevance)
    assert (constant.i2t.r1, constant.t2i.map_at_r, constant.rsum) == (0, 0, 0)
    truth = np.zeros(shape, np.float32)
    truth[relevance.i2t.query, relevance.i2t.item] = 1
    best = measure_relevance(truth, relevance)
    assert [best.t2i.r_precision, best.i2t.map_at_r, best.i2t.ndcg] == pytest.approx([100] * 3)


def test_an_answer_that_is_not_in_the_gallery_counts_in_r():
    scores = np.array([[0.9, 0.5, 0.1]], np.float32)
    report = measure_relevance(scores, Relevance.of([(0, 0, 1.0), (0, ABSENT, 1.0)], [(0, 0, 1.0)]))
    assert (report.i2t.r_precision, report.i2t.map_at_r, report.i2t.r1) == (50, 50, 100)


def test_one_right_answer_per_text_gives_the_usual_recalls():
    image_of_text = np.arange(12).repeat(3)
    scores = np.random.default_rng(0).normal(size=(12, 36)).astype(np.float32)
    report = measure_relevance(scores, Relevance.of([(int(i), t, 1.0) for t, i in enumerate(image_of_text)]))
    usual = recalls(scores, image_of_text)
    for way in ("i2t", "t2i"):
        found, expected = getattr(report, way), getattr(usual, way)
        assert [found.r1, found.r5, found.r10] == pytest.approx([expected.r1, expected.r5, expected.r10])
    assert report.rsum == pytest.approx(usual.rsum)


def ranked(rows, queries, items, count):
    """What the library takes: the best items of each query, by their ids."""
    lists = {}
    for query, row in zip(queries, rows, strict=True):
        best = np.argpartition(-row, count - 1)[:count]
        lists[int(query)] = [int(items[at]) for at in best[np.argsort(-row[best])]]
    return lists


def of_library(metrics, lists):
    found = {
        f"{name}_r{k}": getattr(metrics, f"{name}_recalls")(lists, "all", K=k) for name in ("cxc", "eccv") for k in KS
    }
    return found | metrics.eccv_metrics(lists, "all")


def check_equal(report, dataset, expected):
    for way in ("i2t", "t2i"):
        own = getattr(report, way)
        found = [own.r1, own.r5, own.r10, own.map_at_r, own.r_precision]
        names = [*(f"{dataset}_r{k}" for k in KS), "eccv_map_at_r", "eccv_rprecision"]
        count = 3 if dataset == "cxc" else 5
        assert found[:count] == pytest.approx([100 * expected[name][way] for name in names[:count]])


def test_the_numbers_are_those_of_the_library_on_small_data(library, tmp_path):
    shape = (25, 80)
    relevance = made_relevance(shape, seed=3)
    scores = np.random.default_rng(4).normal(size=shape).astype(np.float32)
    paths = []
    for way, answers in (("i2t", relevance.i2t), ("t2i", relevance.t2i)):
        table = {}
        for query, item in zip(answers.query.tolist(), answers.item.tolist(), strict=True):
            table.setdefault(query, []).append(item)
        paths.append(tmp_path / f"{way}.json")
        paths[-1].write_text(json.dumps(table))
    metrics = library.Metrics()
    metrics.set_cxc_gts(*map(str, paths))
    metrics.set_eccv_gts(*map(str, paths))
    lists = {
        "i2t": ranked(scores, range(25), range(80), 80),
        "t2i": ranked(scores.T, range(80), range(25), 25),
    }
    expected = of_library(metrics, lists)
    report = measure_relevance(scores, relevance)
    check_equal(report, "cxc", expected)
    check_equal(report, "eccv", expected)


@pytest.fixture(scope="module")
def coco(library, tmp_path_factory):
    """A data folder with the 5,000 test images of MS-COCO by their real ids, in another order, and tiny features."""
    metrics = library.Metrics()
    folder = tmp_path_factory.mktemp("coco")
    images = np.random.default_rng(0).permutation(list(metrics.coco_gts["i2t"]))
    np.save(folder / "test_ims.npy", np.zeros((5000, 1, 1), np.float16))
    (folder / "test_ids.txt").write_text("".join(f"COCO_val2014_{image:012}.jpg\n" for image in images))
    (folder / "test_caps.txt").write_text("a sentence\n" * 25000)
    texts_of = {}
    for text in metrics.coco_ids.tolist():
        texts_of.setdefault(metrics.coco_gts["t2i"][text][0], []).append(text)
    return folder, images, np.concatenate([texts_of[image] for image in images]), metrics


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["cxc", "eccv"])
def test_ids_of_the_real_lists_are_matched(coco, dataset):
    folder, images, texts, metrics = coco
    relevance = Relevance.of_coco(dataset, Split.open(folder, "test"))
    truth = {"cxc": metrics.cxc_gts, "eccv": metrics.eccv_gts}[dataset]
    for way, answers, queries, items in (
        ("i2t", relevance.i2t, images, texts),
        ("t2i", relevance.t2i, texts, images),
    ):
        found = {}
        for query, item in zip(answers.query.tolist(), answers.item.tolist(), strict=True):
            found.setdefault(int(queries[query]), set()).add(None if item == ABSENT else int(items[item]))
        known = set(items.tolist())
        expected = {query: {item if item in known else None for item in own} for query, own in truth[way].items()}
        assert found == expected
        num_absent = sum(None in own for own in expected.values())
        assert num_absent == (2 if (dataset, way) == ("eccv", "i2t") else 0)


@pytest.mark.slow
def test_listed_ids_of_sentences_replace_their_order(coco, tmp_path):
    folder, images, texts, _ = coco
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    order = np.arange(25000).reshape(5000, 5)[:, ::-1].ravel()
    (tmp_path / "test_capids.txt").write_text("".join(f"{text}\n" for text in texts[order]))
    plain_order, listed = (Relevance.of_coco("eccv", Split.open(where, "test")) for where in (folder, tmp_path))
    assert {*zip(images[listed.t2i.item], texts[order][listed.t2i.query], strict=True)} == {
        *zip(images[plain_order.t2i.item], texts[plain_order.t2i.query], strict=True)
    }
    (tmp_path / "test_capids.txt").write_text("".join(f"{text}\n" for text in np.roll(texts, 5)))
    with pytest.raises(InputError, match=r"has 25,000 sentences of other images: line \d+ is sentence"):
        Relevance.of_coco("eccv", Split.open(tmp_path, "test"))
    (tmp_path / "test_capids.txt").write_text("12\n" * 25000)
    with pytest.raises(InputError, match=r"lacks 25,000 sentences|lacks 24,999 sentences"):
        Relevance.of_coco("eccv", Split.open(tmp_path, "test"))


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["cxc", "eccv"])
def test_the_numbers_are_those_of_the_library_on_the_real_lists(coco, dataset):
    folder, images, texts, metrics = coco
    random = np.random.default_rng(1)
    vectors = [random.normal(size=(count, 8)).astype(np.float32) for count in (5000, 25000)]
    vectors[1] += vectors[0].repeat(5, 0)  # so that recalls are not near 0
    scores = vectors[0] @ vectors[1].T
    lists = {"i2t": ranked(scores, images, texts, 60), "t2i": ranked(scores.T, texts, images, 60)}
    report = measure_relevance(scores, Relevance.of_coco(dataset, Split.open(folder, "test")))
    check_equal(report, dataset, of_library(metrics, lists))
    assert report.i2t.queries == {"cxc": 5000, "eccv": 1261}[dataset]
    assert report.t2i.r10 > 10


def test_a_split_of_other_images_is_refused(library, tmp_path):
    data = made.folder(tmp_path / "data")
    run = made.run(tmp_path / "run", data, "vse-infinity-f8k")
    message = refused("evaluate", run, "--split", "dev", "--protocol", "cxc")
    assert "lacks 5,000 of the 5,000 test images of MS-COCO" in message
    table = tmp_path / "table.csv"
    assert "leave out --relevance" in refused(
        "evaluate", run, "--split", "dev", "--protocol", "eccv", "--relevance", table
    )


def test_a_table_of_relevance(tmp_path):
    data = made.folder(tmp_path / "data")
    run = made.run(tmp_path / "run", data, "vse-infinity-f8k")
    split = Split.open(data, "dev")
    rows = [(split.ids[0], split.captions[0], 2), (split.ids[0], 5, 1), (split.ids[3], 6, 0.5), (split.ids[4], 6, 0)]
    table = tmp_path / "table.tsv"
    table.write_text("image\ttext\trelevance\n" + "".join(f"{i}\t{t}\t{r}\n" for i, t, r in rows))
    given = ("--split", "dev", "--save-scores", tmp_path / "s.npy", "--json", tmp_path / "j.json")
    result = regard("evaluate", run, *given, "--relevance", table)
    assert result.code == 0, result.err
    assert "R-prec" in result.out
    scores = np.load(tmp_path / "s.npy")
    expected = measure_relevance(scores, Relevance.of([(0, 0, 2.0), (0, 5, 1.0), (3, 6, 0.5)]))
    assert json.loads((tmp_path / "j.json").read_text())["relevance"] == expected.to_dict()
    by_row = tmp_path / "rows.csv"
    by_row.write_text("image,text,relevance\n0,0,2\n0,5,1\n3,6,0.5\n")
    arrays = (tmp_path / "s.npy", tmp_path / "s.image_of_text.npy")
    result = regard("metrics", *arrays, "--relevance", by_row, "--json", tmp_path / "k.json")
    assert result.code == 0, result.err
    assert json.loads((tmp_path / "k.json").read_text())["relevance"] == expected.to_dict()
    for text, reason in (
        ("image,text\ndev0,nowhere\n", "is neither a sentence nor a row below 24"),
        ("image,text\ndev0,24\n", "is neither a sentence nor a row below 24"),
        ("image,text\ndev0,²\n", "is neither a sentence nor a row below 24"),
        ("[1, 2]", "expected an image, a text and a relevance"),
        ("[null]", "expected an image, a text and a relevance"),
        ("image,text,relevance\ndev0,1,many\n", "expected an image, a text and a relevance"),
        ("image,text,relevance\ndev0,1,-1\n", "expected an image, a text and a relevance"),
        ("image,text,relevance\ndev0,1,0\n", "no pair with a relevance above 0"),
        ("image,text\ndev0,1\ndev0,1\n", "occurs twice"),
        ("image,text\nelse,1\n", "1 images that the split does not have, such as 'else'"),
        ("picture\ndev0\n", "(columns: picture)"),
    ):
        table.write_text(text)
        assert reason in refused("evaluate", run, "--split", "dev", "--relevance", table)
    by_row.write_text("image,text\n²,0\n")
    assert "expected a row below 12" in refused("metrics", *arrays, "--relevance", by_row)
    by_row.write_text("image,text\n12,0\n")
    assert "expected a row below 12" in refused("metrics", *arrays, "--relevance", by_row)
