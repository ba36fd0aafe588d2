"""`regard explain`."""

import json
import re

from commands import contents, loaded_by, refused, regard

SENTENCE, OTHER = "a dog is to the left of a cat", "a cat is to the left of a dog"


def test_the_three_forms_agree(world, tmp_path):
    ask = ("explain", world / "cmsei", "test-0000000", SENTENCE, "--against", OTHER)
    printed = []
    for form in ("json", "html", "png"):
        result = regard(*ask, "-o", tmp_path / f"pair.{form}")
        assert (result.code, result.err) == (0, ""), result
        *lines, last = result.out.splitlines()
        assert last == f"Wrote {tmp_path}/pair.{form}"
        printed.append(lines)
    assert printed[0] == printed[1] == printed[2]
    values = json.loads((tmp_path / "pair.json").read_text())
    assert (values["image"], values["sentence"], values["against"]["sentence"]) == ("test-0000000", SENTENCE, OTHER)
    assert printed[0][0].startswith(f"score {values['score']:.4f} = regions ")
    worst = max(values["word_costs"], key=lambda each: each["cost"])
    assert f"costliest word: {worst['word']} {worst['cost']:+.4f}" in printed[0]
    assert f"(noise {values['noise']:.4f})" in printed[0][2]
    assert re.match(r"score of the other sentence -?[\d.]+, margin [+-]", printed[0][3])
    assert re.match(r"words that decide: (dog / cat|cat / dog) [+-]", printed[0][4])
    assert "data:image/jpeg" in (tmp_path / "pair.html").read_text()
    assert sorted(contents(tmp_path)) == ["pair.html", "pair.json", "pair.png"]


def test_numbers_and_pages_are_written_without_matplotlib(world, tmp_path):
    for form in ("json", "html"):
        code = f"""
from regard.cli import main
sys.argv = ["regard", "explain", "{world}/scan", "test-0000000", "a dog", "-o", "{tmp_path}/pair.{form}"]
try: main()
except SystemExit as end: assert end.code == 0
"""
        assert "matplotlib" not in loaded_by(code)


def test_bad_input_is_one_line_and_writes_nothing(world, tmp_path):
    run, out = world / "scan", tmp_path / "pair.png"
    assert "ends in .jpg: expected .png, .html or .json" in refused(
        "explain", run, "test-0000000", "a dog", "-o", tmp_path / "pair.jpg"
    )
    assert "ends in nothing" in refused("explain", run, "test-0000000", "a dog", "-o", tmp_path / "pair")
    assert "Did you mean 'test-00000" in refused("explain", run, "test-000001", "a dog", "-o", out)
    for sentence in ("", "!?"):
        assert "has no words" in refused("explain", run, "test-0000000", sentence, "-o", out)
        assert "has no words" in refused("explain", run, "test-0000000", "a dog", "--against", sentence, "-o", out)
    assert "requires SENTENCE" in refused("explain", run, "test-0000000", "-o", out)
    assert "is not a run" in refused("explain", tmp_path, "test-0000000", "a dog", "-o", out)
    assert "Did you mean 'test'?" in refused("explain", run, "test-0000000", "a dog", "--split", "tset", "-o", out)
    assert "contains no photograph" in refused(
        "explain", run, "test-0000000", "a dog", "--photographs", tmp_path, "-o", out
    )
    assert contents(tmp_path) == {}
