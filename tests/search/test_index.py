"""An index: what is added is found with the scores of the whole matrix, and changes are whole."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import made
from regard.data import Split
from regard.encode import encode
from regard.files import InputError
from regard.models import MODELS
from regard.relations.from_sentences import parse_split
from regard.score import score_all
from regard.search.encoder import Encoder, RunShortlist
from regard.search.index import Index, restore
from regard.search.index_store import LanceSnapshot
from regard.search.query import Query
from regard.training.trained_run import TrainedRun

RECIPES = [f"{name.replace('_', '-')}-f8k" for name in MODELS]


def sentences_of(data):
    return list(Split.open(data, "dev").captions)


def copy_without(data, target, rows, split="dev"):
    """A copy of the split `dev` of a data folder without some of its images, which moves the others up."""
    made.folder(target)
    for path in target.glob("train_*"):
        path.unlink()
    kept = [row for row in range(12) if row not in rows]
    for path in data.glob(f"{split}_*.npy"):
        if path.name != f"{split}_image_of_text.npy":
            np.save(target / path.name, np.load(path)[kept])
    texts = [text for row in kept for text in (2 * row, 2 * row + 1)]
    np.save(target / f"{split}_image_of_text.npy", np.arange(len(kept), dtype=np.int32).repeat(2))
    for name, lines in (("caps", texts), ("ids", kept)):
        old = (data / f"{split}_{name}.txt").read_text().splitlines()
        (target / f"{split}_{name}.txt").write_text("".join(f"{old[line]}\n" for line in lines))
    with np.load(data / f"{split}_relations.npz") as file:
        arrays = dict(file)
        inside = np.isin(arrays["image"], kept)
        arrays |= {name: arrays[name][inside] for name in ("image", "subject", "object", "predicate", "confidence")}
        arrays["image"] = np.searchsorted(kept, arrays["image"]).astype(np.int32)
        np.savez(target / f"{split}_relations.npz", **arrays)
    for name in ("twins", "text_relations"):
        (target / f"{split}_{name}.npz").unlink()
    return target


@pytest.mark.parametrize("name", RECIPES)
def test_an_index_ranks_as_the_whole_matrix_does(name, tmp_path):
    data = made.folder(tmp_path / "data")
    (data / "dev_text_relations.npz").unlink()
    parse_split(data, "dev")  # as queries are parsed
    run = TrainedRun(made.run(tmp_path / "run", data, name))
    index = Index.create(tmp_path / "index", Encoder(run))
    index.add(data, split="dev")
    split = run.open_split("dev")
    with torch.no_grad():
        images, texts = encode(run.model, split)
        stored = images if name == "vse-infinity-f8k" else images.to(torch.float16)  # summaries are kept in float32
        scores = score_all(run.model, stored, texts).numpy()
    for text, answer in enumerate(index.search(list(split.captions), k=12, shortlist=0)):
        assert [hit.score for hit in answer.hits] == sorted((hit.score for hit in answer.hits), reverse=True)
        found = {hit.id: hit.score for hit in answer.hits}
        assert found == pytest.approx(dict(zip(split.ids, scores[:, text].tolist(), strict=True)), abs=1e-5)
        for hit in answer.hits:
            assert sum(hit.parts.values()) == pytest.approx(hit.score, abs=1e-5)


def test_a_shortlist_bounds_what_is_found(index, collection):
    sentence = sentences_of(collection / "data")[3]
    exact = index.search([sentence], k=24, shortlist=0)[0]
    short = index.search([sentence], k=3, shortlist=3)[0]
    query = index._state.encoder.encode_texts([sentence]).summaries[0]
    best = np.argsort(-(index._state.snapshot.summaries @ query))[:3]
    assert {hit.id for hit in short.hits} == {index._state.snapshot.ids[row] for row in best}
    assert (short.shortlist, short.candidates, exact.shortlist) == (3, 24, 24)
    first = index.search([sentence], k=4, shortlist=0)[0].hits
    rest = index.search([sentence], k=4, shortlist=0, offset=4)[0].hits
    assert [hit.id for hit in (*first, *rest)] == [hit.id for hit in exact.hits[:8]]
    assert [hit.rank for hit in rest] == [5, 6, 7, 8]


def test_pages_with_exact_scores_are_one_list_that_ends_with_the_shortlist(index, collection):
    sentence = sentences_of(collection / "data")[3]
    pages = [index.search([sentence], k=3, shortlist=8, offset=offset)[0].hits for offset in (0, 3, 6, 9)]
    whole = index.search([sentence], k=8, shortlist=8)[0].hits
    assert [hit.id for page in pages for hit in page] == [hit.id for hit in whole]
    assert list(map(len, pages)) == [3, 3, 2, 0]


def test_a_new_version_opens_the_sources_again(index, collection, tmp_path):
    """A source that was added again may have other features."""
    shutil.copytree(collection / "data", tmp_path / "data")
    index.add(tmp_path / "data", prefix="new/")
    server = Index(index.folder)
    server.explain("new/dev0", "w1 near w2")
    assert server.opened.sources
    index.remove(["dev3"])
    assert server.refresh()
    assert not server.opened.sources


def test_a_refresh_leaves_alone_what_another_thread_changes(index):
    other = Index(index.folder)
    other.remove(["dev3"])
    with index.locked(), ThreadPoolExecutor(1) as pool:
        assert not pool.submit(index.refresh).result()
    assert index.refresh()


def test_a_server_reads_no_file_that_a_query_names(index, tmp_path):
    made.photographs(tmp_path / "photos")
    with pytest.raises(InputError, match="The index has no picture"):
        index.search([Query(image=str(tmp_path / "photos" / "0.png"))], files=False)


def test_one_id_in_two_splits_is_refused(index, collection, tmp_path):
    shutil.copytree(collection / "data", tmp_path / "data")
    shutil.copy(tmp_path / "data" / "dev_ids.txt", tmp_path / "data" / "train_ids.txt")
    with pytest.raises(InputError, match=r"The id dev0 is two different pictures of .* with --split and --prefix"):
        index.add(tmp_path / "data", prefix="")


def test_queries_that_are_asked_together_get_the_same_answers(index, collection):
    queries = [*sentences_of(collection / "data")[:5], Query(image="dev3"), Query("w1 near w2", minus="w3")]
    together = index.search(queries, k=5, shortlist=8)
    alone = [index.search([query], k=5, shortlist=8)[0] for query in queries]
    for one, other in zip(together, alone, strict=True):
        assert [hit.id for hit in one.hits] == [hit.id for hit in other.hits]
        assert [hit.score for hit in one.hits] == pytest.approx([hit.score for hit in other.hits], abs=1e-6)


def test_a_subtracted_sentence_lowers_the_score(index):
    plain, minus = (
        {hit.id: hit for hit in index.search([query], k=24, shortlist=0)[0].hits}
        for query in ("w1 near w2", Query("w1 near w2", minus="w3 near w4"))
    )
    other = {hit.id: hit.score for hit in index.search(["w3 near w4"], k=24, shortlist=0)[0].hits}
    for name, hit in minus.items():
        assert hit.score == pytest.approx(plain[name].score - 0.5 * other[name], abs=1e-5)
        assert hit.parts["not"] == pytest.approx(-0.5 * other[name], abs=1e-5)


def test_like_a_picture_is_the_cosine_of_summaries(index):
    answer = index.search([Query(image="train4")], k=30)[0]
    vectors = dict(zip(index._state.snapshot.ids, index._state.snapshot.summaries, strict=True))
    own = vectors.pop("train4")
    cosines = {name: v @ own / np.linalg.norm(v) / np.linalg.norm(own) for name, v in vectors.items()}
    assert [hit.id for hit in answer.hits] == sorted(cosines, key=lambda name: -cosines[name])
    assert answer.shortlist == 0
    assert "by summary vectors" in answer.note
    with pytest.raises(InputError, match=r"no picture 'train44'. Did you mean 'train4'"):
        index.search([Query(image="train44")])


def test_conditions_choose_pictures(index):
    answer = index.search(["w1"], where="split = 'dev' AND array_has(objects, 'class 3')", k=30)[0]
    split = Split.open(index._record("dev1").links[0].source, "dev")
    labels = split.labels.all()
    expected = {f"dev{row}" for row in range(12) if 3 in labels[row].tolist()}
    assert {hit.id for hit in answer.hits} == expected
    assert answer.candidates == len(expected)
    for condition, reason in (
        ("widht > 3", r"there is no column widht\. The columns are id, split, width"),
        ("width > > 3", "Expected: an expression"),
        ("objects > 3", "The condition"),
    ):
        with pytest.raises(InputError, match=reason):
            index.search(["w1"], where=condition)
    assert index.search(["w1"], where="width > 99999 OR id = 'no one'")[0].hits == ()


def test_adding_again_changes_nothing(index, collection):
    version = index.version
    report = index.add(collection / "data")
    assert (report.added, report.relinked, report.unchanged, report.removed) == (0, 0, 24, 0)
    assert index.version == version


def test_a_copy_of_the_data_is_a_second_link(index, collection, tmp_path):
    shutil.copytree(collection / "data", tmp_path / "moved")
    report = index.add(tmp_path / "moved", prefix="new/", split="dev")
    assert (report.added, report.relinked, report.unchanged) == (0, 12, 0)
    assert len(index) == 24
    assert index.item("dev3").ids == ("dev3", "new/dev3")
    assert index.item("new/dev3") == index.item("dev3")
    assert index.verify() == []


def test_one_id_of_two_pictures_is_refused(index, tmp_path):
    other = made.folder(tmp_path / "other", seed=5)
    with pytest.raises(InputError, match=r"The id train0 is another picture of .*--prefix other/"):
        index.add(other)
    assert len(index) == 24
    assert index.add(other, prefix="other/").added == 24
    assert index.item("other/train0").labels != index.item("train0").labels


def test_sync_follows_a_source(collection, tmp_path):
    data = tmp_path / "data"
    made.folder(data)
    index = Index.create(tmp_path / "index", Encoder(TrainedRun(collection / "cmsei")))
    index.add(data)
    smaller = copy_without(data, tmp_path / "smaller", rows=(2, 5))
    for path in data.glob("dev_*"):
        path.unlink()
    for path in smaller.glob("dev_*"):
        shutil.copy(path, data)
    assert index.add(data).unchanged == 22
    assert len(index) == 24  # adding removes nothing
    dry = index.add(data, mirror=True, dry_run=True)
    assert (dry.removed, len(index)) == (2, 24)
    report = index.add(data, mirror=True)
    assert (report.added, report.removed, report.unchanged) == (0, 2, 22)
    with pytest.raises(InputError, match="no picture 'dev5'"):
        index.item("dev5")
    with pytest.raises(InputError, match="not a folder"):
        index.add(tmp_path / "not mounted", mirror=True)
    assert len(index) == 22


def test_a_changed_picture_replaces_the_old_one(collection, tmp_path):
    data = made.folder(tmp_path / "data")
    index = Index.create(tmp_path / "index", Encoder(TrainedRun(collection / "cmsei")))
    index.add(data)
    features = np.load(data / "dev_ims.npy")
    features[4, 0] += 1
    np.save(data / "dev_ims.npy", features)
    report = index.add(data)
    assert (report.added, report.removed, report.unchanged) == (1, 1, 23)
    assert (len(index), index.verify()) == (24, [])


def test_remove(index):
    assert index.remove(["dev1", "dev2"]).removed == 2
    assert index.remove(where="split = 'train'").removed == 12
    assert len(index) == 10
    version = index.version
    with pytest.raises(InputError, match="no picture 'dev1'"):
        index.remove(["dev3", "dev1"])
    assert (len(index), index.version) == (10, version)
    assert {hit.id for hit in index.search(["w1"], k=50)[0].hits} == {f"dev{row}" for row in (0, *range(3, 12))}


def test_a_reader_keeps_its_version_until_it_refreshes(index):
    reader = Index(index.folder)
    index.remove(where="split = 'train'")
    index.compact()
    assert len(reader.search(["w1"], k=50)[0].hits) == 24
    assert reader.refresh()
    assert len(reader.search(["w1"], k=50)[0].hits) == 12
    assert not reader.refresh()


def test_another_model_is_built_beside_and_then_used(index, collection):
    encoder = Encoder(TrainedRun(collection / "other"))
    assert index.build(encoder, "next").added == 24
    assert index.name == "main"
    before = index.search(["w1 near w2"], k=5)[0]
    index.remove(["dev7"])
    reader = Index(index.folder)
    with pytest.raises(InputError, match="differs from main in 1 pictures"):
        index.use("next")
    assert index.build(encoder, "next").removed == 1
    index.use("next")
    assert reader.refresh()
    assert reader.name == "next"
    after = reader.search(["w1 near w2"], k=5)[0]
    assert after.fingerprint != before.fingerprint
    fresh = Index.create(index.folder.parent / "fresh", encoder)
    fresh.add(collection / "data")
    fresh.remove(["dev7"])
    expected = fresh.search(["w1 near w2"], k=5)[0]
    assert [hit.id for hit in after.hits] == [hit.id for hit in expected.hits]
    with pytest.raises(InputError, match="Did you mean 'next'"):
        index.use("nexd")


def test_an_incomplete_vector_set_is_not_used(index, collection):
    index.build(Encoder(TrainedRun(collection / "other")), "next")
    index.add(made.folder(index.folder.parent / "more", seed=3), prefix="more/")
    with pytest.raises(InputError, match="differs from main in 24 pictures"):
        index.use("next")


def test_another_run_is_refused(index, collection):
    with pytest.raises(InputError, match="the model has changed"):
        Index(index.folder, run=collection / "other")
    assert len(Index(index.folder, run=collection / "cmsei")) == 24
    manifest = json.loads((index.folder / "index.json").read_text())
    manifest["sets"]["main"]["run"] = str(collection / "gone")
    (index.folder / "index.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"gone of this index is no longer there: .*--run"):
        Index(index.folder)


def test_damage_is_found(index):
    table = index._store("main")._open()
    table.update(where="id = 'dev3'", values={"content": "{}"})
    table.update(where="id = 'dev4'", values={"vectors_crc": 5})
    assert index.verify() == ["main: dev3: the stored record is damaged", "main: dev4: the stored vectors are damaged"]
    index.refresh()
    with pytest.raises(InputError, match="encoding of dev4 is damaged"):
        index.search(["w1"], shortlist=0)


def test_backup_and_restore(index, collection, tmp_path):
    index.backup(tmp_path / "backup")
    index.remove(where="split = 'dev'")
    restore(tmp_path / "backup", tmp_path / "again")
    assert len(Index(tmp_path / "again")) == 24
    with pytest.raises(InputError, match="exists"):
        restore(tmp_path / "backup", tmp_path / "again")
    file = next((tmp_path / "backup" / "store" / "main.lance" / "data").iterdir())
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(InputError, match="Restore another backup"):
        restore(tmp_path / "backup", tmp_path / "third")
    assert not (tmp_path / "third").exists()


def test_recall_of_shortlists_is_measured_and_reported(index, collection):
    sentences = sentences_of(collection / "data")[:6]
    recall = index.check(sentences)
    assert list(recall) == [10, 20, 24]
    assert recall[24] == 100
    found = [
        len({hit.id for hit in short.hits} & {hit.id for hit in exact.hits})
        for short, exact in zip(
            index.search(sentences, k=10, shortlist=10), index.search(sentences, k=10, shortlist=0), strict=True
        )
    ]
    assert recall[10] == pytest.approx(100 * sum(found) / 60, abs=0.01)
    answer = Index(index.folder).search(["w1"], k=3, shortlist=20)[0]
    assert answer.recall == recall[20]
    assert f"shortlist 20: {recall[20]:.1f} % of the exact top 10" in answer.note


def test_an_approximate_index_chooses_shortlists(index, collection, monkeypatch):
    sentences = sentences_of(collection / "data")[:6]
    expected = [[hit.id for hit in answer.hits] for answer in index.search(sentences, k=4, shortlist=6)]
    index.check(sentences)
    index.approximate()
    assert index.search(sentences)[0].recall is None
    asked, nearest = [], LanceSnapshot.nearest
    monkeypatch.setattr(LanceSnapshot, "nearest", lambda *given: asked.append(given[2]) or nearest(*given))
    answers = Index(index.folder).search(sentences, k=4, shortlist=6)
    assert asked == [6] * 6
    assert [[hit.id for hit in answer.hits] for answer in answers] == expected  # few enough for one partition
    index.add(made.folder(index.folder.parent / "more", seed=3), prefix="more/")  # rows beside the index
    index.compact()
    assert index.check(sentences)[48] == 100
    assert len(index.search(sentences, k=40, shortlist=40)[0].hits) == 40
    assert index.verify() == []
    asked.clear()
    index.approximate(False)
    index.search(sentences, k=4, shortlist=6)
    assert asked == []


def test_the_second_writer_is_told(index):
    with index.locked(), pytest.raises(InputError, match=r"Process \d+ is writing"), index.locked(wait=0.1):
        pass


def test_two_vse_runs_make_the_first_stage(collection, tmp_path):
    runs = [
        TrainedRun(collection / "vse"),
        TrainedRun(made.run(tmp_path / "vse2", collection / "data", "vse-infinity-f8k", 3)),
    ]
    index = Index.create(tmp_path / "index", Encoder(None, RunShortlist(runs)))
    index.add(collection / "data", split="dev")
    split = runs[0].open_split("dev")
    with torch.no_grad():
        both = sum(score_all(run.model, *encode(run.model, split)) for run in runs).numpy()
    for text, answer in enumerate(index.search(list(split.captions), k=12)):
        assert [hit.id for hit in answer.hits] == [split.ids[row] for row in np.argsort(-both[:, text], kind="stable")]


def test_bad_queries(index):
    for queries, options, reason in (
        (["   "], {}, "A query is empty"),
        ([Query("w1", image="dev1")], {}, "not both"),
        (["w1"], {"k": 0}, "expected k of at least 1"),
        (["w1"], {"shortlist": -1}, "A shortlist of -1"),
    ):
        with pytest.raises(InputError, match=reason):
            index.search(queries, **options)
    assert len(index.search(["w1"], k=10**6)[0].hits) == 24
    assert index.search(["w1 " * 10_000, "🐕🐎", "一只狗"], k=1)[0].hits


def test_sentences_of_a_picture(collection, tmp_path):
    run = TrainedRun(collection / "cmsei")
    index = Index.create(tmp_path / "index", Encoder(run))
    with pytest.raises(InputError, match="has no sentences"):
        index.sentences_of("dev1")
    index.add(collection / "data", split="dev", texts=True)
    split = run.open_split("dev")
    with torch.no_grad():
        images, texts = (side.to(torch.float16) for side in encode(run.model, split))
        scores = score_all(run.model, images, texts).numpy()
    found = Index(index.folder).sentences_of("dev5", k=24, shortlist=0)
    best = {}
    for text, sentence in enumerate(split.captions):
        best.setdefault(sentence, float(scores[5, text]))
    assert dict(found) == pytest.approx(best, abs=1e-5)
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    assert index.sentences_of("dev5", k=2, shortlist=5)[0][1] <= found[0][1] + 1e-6
    index.add(collection / "data", split="dev", texts=True)
    assert len(index._state.sentences) == len(best)
    only = [split.captions[text] for text in range(24) if list(split.captions).count(split.captions[text]) == 1]
    assert only[0] in dict(index.sentences_of("dev5", k=50))
    index.remove([f"dev{list(split.captions).index(only[0]) // 2}"])
    assert only[0] not in dict(index.sentences_of("dev5", k=50))
    index.build(Encoder(TrainedRun(collection / "other")), "next")
    index.use("next")
    assert len(index.sentences_of("dev5", k=50)) == len(dict(index.sentences_of("dev5", k=50))) > 10
    assert index.verify() == []


def test_sentences_that_came_after_a_vector_set_are_built_before_it_is_used(index, collection):
    encoder = Encoder(TrainedRun(collection / "other"))
    index.build(encoder, "next")
    index.add(collection / "data", split="dev", texts=True)
    count = len(index._state.sentences)
    assert index.verify() == []
    index.compact()
    with pytest.raises(InputError, match=rf"differs from main in {count} sentences: run `regard index build`"):
        index.use("next")
    index.build(encoder, "next")
    index.remove(["dev5"])
    index.build(encoder, "next")  # removes its sentences too
    index.use("next")
    assert len(index._state.sentences) < count
    assert index.sentences_of("dev4", k=3)
    assert index.verify() == []


def test_an_interrupted_creation_is_continued(collection, tmp_path):
    encoder = Encoder(TrainedRun(collection / "cmsei"))
    Index.create(tmp_path / "index", encoder)
    (tmp_path / "index" / "index.json").unlink()  # killed before it was written
    Index.create(tmp_path / "index", encoder)
    again = Index.create(tmp_path / "index", encoder)  # killed before the first picture
    assert again.add(collection / "data").added == 24
    with pytest.raises(InputError, match="is an index already"):
        Index.create(tmp_path / "index", encoder)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").touch()
    with pytest.raises(InputError, match="is not empty"):
        Index.create(tmp_path / "other", encoder)


def test_a_creation_that_a_full_disk_ended_is_continued(collection, tmp_path):
    """LanceDB leaves a folder of the table that has no version."""
    (tmp_path / "new" / "store" / "main.lance" / "_versions").mkdir(parents=True)
    assert len(Index.create(tmp_path / "new", Encoder(TrainedRun(collection / "cmsei")))) == 0
