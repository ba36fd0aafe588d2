"""`regard index` and `regard search INDEX`."""

import json
import shutil

import pytest
from PIL import Image

from commands import refused, regard

pytest.importorskip("lancedb", reason="an index requires LanceDB")
SENTENCE = "a dog is to the left of a cat"


@pytest.fixture(scope="module")
def made(world, tmp_path_factory):
    """An index of the test images, and what was printed."""
    folder = tmp_path_factory.mktemp("index")
    result = regard("index", world / "cmsei", world / "data", "--out", folder / "index", "--split", "test", "--texts")
    assert result.code == 0, result.err
    return folder / "index", result.out


@pytest.fixture
def index(made, tmp_path):
    return shutil.copytree(made[0], tmp_path / "index")


def test_an_index_is_made_searched_and_described(made, tmp_path):
    index, printed = made
    assert "10 added, 0 unchanged" in printed
    assert f'Next: regard search {index} "a sentence"' in printed
    found = regard("search", index, SENTENCE, "--k", 3, "--json", tmp_path / "found.json")
    assert found.code == 0, found.err
    (answer,) = json.loads((tmp_path / "found.json").read_text())
    assert found.out.splitlines()[0] == answer["query"] == SENTENCE
    for hit in answer["hits"]:
        assert f"{hit['rank']:4}  {hit['score']:8.4f}  {hit['id']}  {hit['caption']}" in found.out
    assert "10 pictures, all scored exactly" in found.out
    info = regard("index", "info", index).out
    assert "10 pictures, version" in info
    assert "columns for --where: id (text), split (text), width (integer)" in info
    assert "no fault" in regard("index", "verify", index).out


def test_other_forms_of_an_answer(index, tmp_path):
    table = regard("search", index, SENTENCE, "--k", 2, "--format", "csv").out.splitlines()
    assert table[0] == "query,rank,score,id,path"
    assert len(table) == 3
    for path in regard("search", index, SENTENCE, "--format", "paths", "--where", "id <= 'test-0000001'").out.split():
        Image.open(path).verify()  # the first two images of each split were saved
    minus = regard("search", index, SENTENCE, "--not", "a red thing", "--k", 1).out
    assert f"{SENTENCE} (not: a red thing)" in minus
    assert "  not " in minus
    like = regard("search", index, "--image", "test-0000001", "--k", 2).out
    assert "9 pictures ranked by summary vectors" in like
    sentences = regard("search", index, "--image", "test-0000001", "--sentences", "--k", 2).out
    of_image = ("search", index, "--image", "test-0000001", "--sentences")
    assert "expected k of at least 1" in refused(*of_image, "--k", -1)
    assert "omit sentences, --where, --not and --explain" in refused(*of_image, "--not", "a cat")
    assert "--data and --split require a run" in refused("search", index, "a dog", "--split", "train")
    assert len(sentences.splitlines()) == 3
    shown = regard("search", index, SENTENCE, "a cat is to the left of a dog", "--explain", tmp_path / "why.json")
    assert shown.code == 0, shown.err
    assert json.loads((tmp_path / "why.json").read_text())["against"] is not None


def test_an_index_is_kept(index, world, tmp_path):
    assert "1 pictures removed" in regard("index", "remove", index, "test-0000003").out
    assert "9 unchanged" in regard("index", "sync", index, world / "data", "--dry-run").out
    added = regard("index", "add", index, world / "data", "--split", "test").out
    assert "1 added, 9 unchanged" in added
    checked = regard("index", "check", index, "--queries", 3)
    assert "Exact top 10 of 10 pictures that shortlists find (3 sentences):\n       10  100.0 %" in checked.out
    built = regard("index", "build", index, world / "cmsei", "--as", "again")
    assert "10 pictures encoded for again" in built.out
    assert "now uses the vector set again" in regard("index", "use", index, "again").out
    assert "vector set again (in use): cmsei" in regard("index", "info", index).out
    assert "shortlists approximately. Next: regard index check" in regard("index", "approximate", index).out
    assert "shortlists exactly" in regard("index", "approximate", index, "--off").out
    assert "MiB after" in regard("index", "compact", index).out
    assert regard("index", "backup", index, tmp_path / "backup").code == 0
    assert regard("index", "restore", tmp_path / "restored", tmp_path / "backup").code == 0
    assert "10 pictures" in regard("index", "verify", tmp_path / "restored").out


def test_bad_input_is_one_line(index, world, tmp_path):
    for arguments, reason in (
        (("search", index, ""), "A query is empty"),
        (("search", index, SENTENCE, "--k", 0), "expected k of at least 1"),
        (("search", index, SENTENCE, "--shortlist", "some"), "expected a number of pictures, 0 for all, or auto"),
        (("search", index, SENTENCE, "--where", "widht > 3"), "there is no column widht. The columns are id, split"),
        (("search", index, SENTENCE, "--explain", tmp_path / "why.gif"), "expected .png, .html or .json"),
        (("search", index, "--image", "test-000001"), "Did you mean 'test-0000001'?"),
        (("index", world / "cmsei", world / "data", "--out", index), "is an index already"),
        (("index", "add", index, tmp_path / "nothing"), "is not a folder"),
        (("index", "remove", index), "Expected ids of pictures, or --where"),
        (("index", "info", tmp_path), "is not an index: it has no index.json"),
        (("index", "use", index, "mian"), "Did you mean 'main'?"),
        (("index", "mirror", index, "http://127.0.0.1:9"), "Milvus"),
    ):
        assert reason in refused(*arguments)
