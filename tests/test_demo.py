"""The demo with small sizes, called twice, and the README's Python example on its output."""

import json
import re
from io import StringIO
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console

from regard import demo
from regard.search.index import Index

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder in which a small demo ran, and what it printed."""
    folder, printed = tmp_path_factory.mktemp("demo"), StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "SIZES", {"train": 40, "dev": 10, "test": 60})
        patch.setattr(demo, "EPOCHS", 1)
        demo.demo(folder / "demo", Console(file=printed, width=200))
        yield folder, printed.getvalue()


def test_the_demo_writes_data_runs_results_and_pictures(made):
    folder, printed = made
    for name in ("data/test_ims.npy", "runs/cmsei/model.safetensors", "runs/scan/model.safetensors"):
        assert (folder / "demo" / name).is_file()
    for picture in ("results.png", "why.png", "runs/cmsei/curves.png"):
        Image.open(folder / "demo" / picture).verify()
    rows = json.loads((folder / "demo/results.json").read_text("utf-8"))
    assert [row["name"] for row in rows] == ["scan", "cmsei"]
    for row in rows:
        assert set(row["i2t"]) == {"r1", "r5", "r10", "medr", "meanr"}
        assert set(row["twins"]) == {"relation", "attribute"}
        assert f"{row['rsum']:6.1f}" in printed
    assert "What to try next" in printed
    assert "Indexed 60 test pictures" in printed
    why = json.loads((folder / "demo/why.json").read_text("utf-8"))
    index = Index(folder / "demo/index")
    assert why["first"]["cmsei"] == [answer.hits[0].id for answer in index.search(why["sentences"], k=1)]
    for sentence in why["sentences"]:
        assert repr(sentence) in printed


def test_a_second_demo_reuses_everything_and_gives_the_same_results(made):
    folder, _ = made
    before, printed = (folder / "demo/results.json").read_text("utf-8"), StringIO()
    demo.demo(folder / "demo", Console(file=printed, width=200))
    assert "are already in" in printed.getvalue()
    assert (folder / "demo/results.json").read_text("utf-8") == before


def test_a_demo_that_ended_while_it_indexed_continues(made):
    folder, _ = made
    index = Index(folder / "demo/index")
    ids = [hit.id for hit in index.search(["a dog"], k=60)[0].hits]
    index.remove(ids[:59])
    demo.demo(folder / "demo", Console(file=StringIO(), width=200))
    assert len(Index(folder / "demo/index")) == len(ids) == 60


def test_the_readme_example_runs(made, monkeypatch, capsys):
    folder, _ = made
    monkeypatch.chdir(folder)
    torch.manual_seed(0)
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert re.search(r"rSum \d+\.\d, R@1 \d+\.\d \(image to text\)", printed)
    assert "tensor([[" in printed
