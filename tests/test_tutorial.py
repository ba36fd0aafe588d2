"""docs/your-own-photos.md, command by command, on small data: drawn photographs, and models made here."""

import csv
import shlex
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from commands import regard
from extract import test_huggingface, test_onnx
from regard.data import Split
from regard.scenes import make_scenes
from test_docs import ROOT, blocks

PAGE = ROOT / "docs" / "your-own-photos.md"
COMMANDS = [line for block in blocks(PAGE, "bash") for line in block.splitlines() if line]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with what the page speaks of: photographs, their sentences, models, annotated relations."""
    folder = tmp_path_factory.mktemp("tutorial")
    make_scenes(folder / "annotated", train=300, dev=2, test=2, pictures=60)
    split = Split.open(folder / "annotated", "train")
    with open(folder / "captions.csv", "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "sentence"])
        for row, name in enumerate(split.ids[:60]):
            where = "more-photos" if row >= 55 else f"photos/{'holiday' if row % 2 else 'dogs'}"
            photograph = Path(f"{where}/{row:04}.jpg")
            (folder / photograph).parent.mkdir(parents=True, exist_ok=True)
            Image.open(folder / "annotated" / "train_pictures" / f"{name}.png").convert("RGB").save(folder / photograph)
            if row < 55:
                for text in np.flatnonzero(split.image_of_text == row):
                    rows.writerow([photograph.relative_to("photos"), split.captions[text]])
    (folder / "models").mkdir()
    test_onnx.write(
        folder / "models" / "yolox.onnx", {"output": test_onnx.yolox(decoded=True)}, names=["man", "dog", "hat"]
    )
    mean = test_onnx.helper.make_node("ReduceMean", ["images"], ["vectors"], axes=[2, 3], keepdims=0)
    test_onnx.write(folder / "models" / "backbone.onnx", {}, [mean], ("n", 3, 16, 16))
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, parts in {"rtdetr": test_huggingface.rt_detr(), "dinov2": test_huggingface.dinov2()}.items():
            for part in parts:
                part.save_pretrained(folder / "models" / name)
    return folder


def width(path: str) -> int:
    with Image.open(path) as image:
        return image.width


def test_every_command_of_the_page_runs(place, monkeypatch):
    monkeypatch.chdir(place)
    assert len(COMMANDS) >= 14
    out: dict[str, str] = {}
    for line in COMMANDS:
        program, *arguments = shlex.split(line)
        assert program == "regard", line
        if arguments[0] == "train":  # in bfloat16, a processor without it takes ten times as long
            arguments += ["--set", "train.precision=32-true"]
        told = regard(*arguments)
        assert (told.code, told.err) == (0, ""), (line, told)
        out[line] = told.out
        if arguments[:2] == ["extract", "photos"] and "data/mine" in arguments and "--captions" in arguments:
            shutil.copy("more-photos/0055.jpg", "photos/new.jpg")  # for the command that finds what is new

    assert "0 errors and 0 warnings" in out["regard data check data/mine"]
    assert out["regard extract photos --out data/mine"].startswith("1 photographs extracted")
    mine, onnx, dino = (Split.open(f"data/{name}", "train") for name in ("mine", "onnx", "dino"))
    assert mine.feature_dim == 240
    assert onnx.feature_dim == 3
    assert dino.feature_dim == 16
    assert {"riding", "holding"} <= set(onnx.predicates)
    assert "overlaps" in mine.predicates
    assert width("look.png") > 1000
    assert width("sentence.png") > 200
    found = out['regard search runs/mine "a dog runs after a man" --data data/more --k 5']
    assert len(found.splitlines()) == 6
