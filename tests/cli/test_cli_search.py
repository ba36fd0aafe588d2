"""`regard search`."""

import json
import re
import shutil

import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from commands import refused, regard


def test_search_prints_images_and_their_sentences(world, tmp_path):
    sentences = ("a dog is to the left of a cat", "a red thing")
    result = regard("search", world / "cmsei", *sentences, "--k", 3, "--json", tmp_path / "found.json")
    assert result.code == 0, result.err
    assert [result.out.splitlines()[line] for line in (0, 4)] == list(sentences)
    found = json.loads((tmp_path / "found.json").read_text())
    assert [answer["query"] for answer in found] == list(sentences)
    for hits in (answer["hits"] for answer in found):
        assert len(hits) == 3
        for hit in hits:
            assert f"  {hit['score']:8.4f}  {hit['id']}  " in result.out
    assert "Expected at least one sentence" in refused("search", world / "cmsei")
    assert "both must be at least 1" in refused("search", world / "cmsei", "a dog", "--k", "0")
    assert "is neither an index nor a run" in refused("search", tmp_path, "a dog")
    assert "--run requires an index" in refused("search", world / "cmsei", "a dog", "--run", world / "cmsei")


@pytest.fixture
def overflow(world, tmp_path):
    """Makes runs whose weights are finite, and too large for the encodings of images or of texts."""

    def overflow(part):
        run = shutil.copytree(world / "cmsei", tmp_path / part)
        weights = run / "model.safetensors"
        with safe_open(weights, "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            metadata = {key: value for key, value in file.metadata().items() if key != "checksum"}
        for name, value in state.items():
            if name.startswith(part):
                value.fill_(1e38)
        save_file(state, weights, metadata)
        return run

    return overflow


def test_scores_that_are_not_numbers_are_refused(overflow, world, tmp_path):
    run, data, index = overflow("interaction.sentences"), world / "data", tmp_path / "index"
    message = r"10 of 10 scores are NaN, the first that of test-000000\d: they cannot be ranked. Check the model."
    assert "scores are NaN" in refused("evaluate", run, "--data", data, "--split", "test")
    assert re.fullmatch(message, refused("search", run, "a dog"))
    pytest.importorskip("lancedb", reason="an index requires LanceDB")
    made = regard("index", run, data, "--split", "test", "--out", index)
    assert made.code == 0, made.err
    assert re.fullmatch(message, refused("search", index, "a dog"))
    assert "2 of 2 scores are NaN" in refused("search", index, "a dog", "--shortlist", 2, "--k", 1)
    message = "The encoding of test-0000000 contains NaN, so that it cannot be searched. Check the model."
    assert refused("index", overflow("project"), data, "--split", "test", "--out", tmp_path / "none") == message
