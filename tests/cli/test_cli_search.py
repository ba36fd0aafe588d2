"""`regard search`."""

import json

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
