"""`regard demo`: the whole pipeline on the made world. Draw data, train and evaluate two models, draw an alignment."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from regard.charts import draw_results
from regard.data import Split
from regard.data.twins import Twins
from regard.evaluation.evaluate import scores_of
from regard.evaluation.probe import CHANCE, twin_accuracy
from regard.explain import Alignment, draw_alignment
from regard.files import Stopped, replacing
from regard.matcher import Matcher
from regard.metrics import recalls
from regard.runtime import device_named
from regard.scenes import make_scenes
from regard.training.loop import train
from regard.training.recipe import Recipe
from regard.training.trained_run import load

SIZES = {"train": 1500, "dev": 100, "test": 400}
EPOCHS = 4
MODELS = ("scan", "cmsei")


def demo(out: Path, console: Console, device: str = "auto") -> None:
    """Run the demo in the folder `out`: write data, runs/scan, runs/cmsei, results and pictures.

    A second call skips what is done and resumes what was stopped.
    """
    began, device = time.monotonic(), device_named(device)
    _make_data(out / "data", console)
    for name in MODELS:
        console.print(f"\n[bold]Training {name}[/] for {EPOCHS} epochs")
        recipe = Recipe.read(f"{name}-scenes", [f"train.epochs={EPOCHS}"])
        try:
            train(recipe, out / "data", out / "runs" / name, resume=True, device=device, console=console)
        except Stopped:
            raise Stopped(f"Stopped. Resume with `regard demo --out {out}`.") from None

    test = Split.open(out / "data", "test")
    console.print(f"\n[bold]Results[/] on {test.num_images} test pictures and their {test.num_texts:,} sentences")
    models = {name: load(out / "runs" / name, device) for name in MODELS}
    scores = {name: scores_of(model, test).numpy() for name, model in models.items()}
    rows = [
        {"name": name, **recalls(matrix, test.image_of_text).to_dict(), "twins": twin_accuracy(matrix, test)}
        for name, matrix in scores.items()
    ]
    with replacing(out / "results.json") as temporary:
        temporary.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")
    draw_results(rows, out / "results.png")
    console.print(_table(rows), markup=False)
    console.print(
        "Twins are two pictures of the same things that differ in one relation, or in the\n"
        "colours of two things. The last two columns are the percentage of sentences that\n"
        f"score their own picture above its twin (chance: {CHANCE:.0f})."
    )
    caption = _explain(models["cmsei"], test, scores, out)
    console.print(f"\n[bold]Pictures[/] in {out}:")
    console.print("  results.png             the table above, with bars")
    console.print("  alignment.png           which region matches which word of the sentence")
    console.print(f'                          "{caption}"')
    console.print("  runs/cmsei/curves.png   loss and validation recall during training")
    console.print("  data/test_pictures/     the test pictures")
    console.print(f"\nDone in {(time.monotonic() - began) / 60:.1f} minutes. What to try next")
    console.print("(after `source .venv/bin/activate`, if `make demo` ran this):")
    console.print(f"  regard data check {out}/data")
    console.print(f"  regard evaluate {out}/runs/cmsei {out}/runs/scan --data {out}/data       (an ensemble)")
    console.print(
        f"  regard train cmsei-scenes --data {out}/data --out {out}/runs/no-relations --set cmsei.graph.semantic=none"
    )


def _make_data(folder: Path, console: Console) -> None:
    if (folder / "labels.txt").exists():
        console.print(f"[bold]Pictures and sentences[/] are already in {folder}")
        return
    console.print(f"[bold]Drawing[/] {sum(SIZES.values()):,} pictures with five sentences each into {folder}")
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("drawing", total=sum(SIZES.values()))
        make_scenes(
            folder,
            **SIZES,
            pictures=SIZES["test"],
            workers=1,
            progress=lambda amount: progress.advance(task, amount),
        )


def _explain(model: Matcher, test: Split, scores: dict[str, np.ndarray], out: Path) -> str:
    """Draw the alignment of one sentence by `model`, and return the sentence.

    Of all sentences of relation twins, it is the one that CMSEI scores highest above the twin and SCAN does not: the
    difference of their two margins is largest, and a negative margin of SCAN counts as 0.
    """
    pairs = Twins.of(test)
    related = pairs.kind == "relation"
    twin_of = dict(zip(pairs.first[related].tolist(), pairs.second[related].tolist(), strict=True))

    def margin(name: str, text: int) -> float:
        """Return how much higher a sentence scores its own picture than the twin."""
        own = int(test.image_of_text[text])
        return float(scores[name][own, text] - scores[name][twin_of[own], text])

    texts = [text for text in range(test.num_texts) if int(test.image_of_text[text]) in twin_of]
    chosen = max(texts, key=lambda text: margin("cmsei", text) - max(0.0, margin("scan", text)))
    image, caption = int(test.image_of_text[chosen]), str(test.captions[chosen])
    alignment = Alignment.of(
        model, test.images([image]), test.texts([chosen], model.tokenizer), caption, classes=test.classes
    )
    photograph = test.folder / "test_pictures" / f"{test.ids[image]}.png"
    draw_alignment(alignment, out / "alignment.png", photograph if photograph.exists() else None)
    return caption


def _table(rows: list[dict[str, Any]]) -> str:
    head = "        image to text         text to image                  twins"
    lines = [head, "        R@1   R@5  R@10      R@1   R@5  R@10    rSum    relation  attribute"]
    for row in rows:
        recall = "  ".join(
            " ".join(f"{row[direction][key]:5.1f}" for key in ("r1", "r5", "r10")) for direction in ("i2t", "t2i")
        )
        twin = "".join(f"{row['twins'].get(kind, float('nan')):11.1f}" for kind in ("relation", "attribute"))
        lines.append(f"{row['name']:6s} {recall}   {row['rsum']:6.1f} {twin}")
    return "\n".join(lines)
