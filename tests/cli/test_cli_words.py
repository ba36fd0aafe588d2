"""`regard words`."""

import io
import json
import re
import sys

from commands import refused, regard


def test_a_sentence_is_parsed():
    result = regard("words", "parse", "A brown dog chases two men.", "[bold]")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0] == "A brown dog chases two men."
    assert lines[1] == "  tokens        a brown dog chases two men"
    assert lines[2] == "  noun phrases  brown dog, two men"
    assert "dog: brown" in lines[3]
    assert lines[4] == "  relation      dog | chases | men"
    assert lines[5] == "[bold]"  # no mark-up
    assert "Expected at least one sentence" in refused("words", "parse")


def test_parses_are_written_and_drawn(tmp_path, monkeypatch):
    (tmp_path / "captions.txt").write_text("A dog's ball.\n\n犬 🐶\n", "utf-8")
    files = ("--json", tmp_path / "out.json", "--png", tmp_path / "out.png")
    result = regard("words", "parse", "a red hat", "--file", tmp_path / "captions.txt", *files)
    assert (result.code, result.err) == (0, "")
    found = json.loads((tmp_path / "out.json").read_text("utf-8"))
    assert [each["sentence"] for each in found] == ["a red hat", "A dog's ball.", "", "犬 🐶"]
    assert found[0] == {
        "sentence": "a red hat",
        "tokens": ["a", "red", "hat"],
        "kinds": ["other", "other", "thing"],
        "things": ["hat"],
        "noun_phrases": ["red hat"],
        "attributes": [["hat", "red"]],
        "triples": [],
        "edges": [{"head": 2, "dependent": 1, "role": "attribute"}],
    }
    assert found[1]["triples"] == [["dog", "have", "ball"]]
    assert found[2]["tokens"] == []
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")

    monkeypatch.setattr(sys, "stdin", io.StringIO("a dog\na cat\n"))
    assert regard("words", "parse", "--file", "-").out.startswith("a dog\n  tokens        a dog\n")


def test_too_many_sentences_for_one_picture(tmp_path):
    (tmp_path / "captions.txt").write_text("a dog\n" * 900)
    message = refused("words", "parse", "--file", tmp_path / "captions.txt", "--png", tmp_path / "out.png")
    assert re.fullmatch(
        r"The picture would have \d+ x \d+ pixels; expected at most 65535 on each side\. Put less in one picture\.",
        message,
    )
    assert not (tmp_path / "out.png").exists()
