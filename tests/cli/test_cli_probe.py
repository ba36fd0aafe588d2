"""`regard probe`."""

import json
import shutil

from PIL import Image

from commands import refused, regard


def test_probe_prints_a_table_and_one_sentence(world, tmp_path):
    result = regard(
        *("probe", world / "cmsei", "--json", tmp_path / "probe.json", "--png", tmp_path / "new" / "probe.png"),
        *("--data", world / "data", "--split", "dev"),
    )
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0] == f"{world}/cmsei on {world}/data dev: 8 images, 40 texts"
    found = json.loads((tmp_path / "probe.json").read_text())
    assert lines[-1] == found["verdict"]
    assert lines[-1].startswith("The run reads")
    assert [line for line in lines if line.startswith("labels permuted") and line.endswith("no encoding changes")]
    evaluated = regard("evaluate", world / "cmsei", "--split", "dev", "--json", tmp_path / "plain.json")
    assert evaluated.code == 0
    plain = json.loads((tmp_path / "plain.json").read_text())
    assert {key: found[key] for key in plain} == plain
    with Image.open(tmp_path / "new" / "probe.png") as picture:
        assert picture.width > 500


def test_a_run_without_relations_is_said_not_to_read_them(world, data):
    """Also on data that have none: SCAN reads no field beside features and words."""
    for name in ("boxes.npy", "relations.npz"):
        (data / f"dev_{name}").unlink()
    result = regard("probe", world / "scan", "--data", data, "--split", "dev")
    assert result.code == 0
    verdict = result.out.splitlines()[-1]
    assert "was not tested for relations between regions (not in the data: no relations)" in verdict
    assert "does not read labels" in verdict
    result = regard("probe", world / "scan", "--split", "dev")
    assert (
        "does not read relations between regions, boxes, labels, relations between words or the roles"
        in result.out.splitlines()[-1]
    )


def test_bad_input_is_refused_and_nothing_is_written(world, data, tmp_path):
    out = tmp_path / "probe.json"
    assert "Expected --seed of 0 or more, got -1" in refused("probe", world / "scan", "--seed", -1, "--json", out)
    assert "is not a run" in refused("probe", data, "--json", out)
    (data / "test_relations.npz").unlink()
    assert "needs relations, which" in refused("probe", world / "cmsei", "--data", data, "--json", out)
    shutil.rmtree(data)
    assert "is not a folder" in refused("probe", world / "cmsei", "--data", data, "--json", out)
    assert not out.exists()
