"""`regard demo`: the whole pipeline on the made world.

Draw data, train and evaluate two models, index the test pictures, and ask both models for two sentences that differ
only in who does what.
"""

import json
import shutil
import time
from collections import Counter
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from regard.charts import draw_results
from regard.data import Split
from regard.data.twins import Twins
from regard.evaluation.evaluate import scores_of
from regard.evaluation.twin_accuracy import CHANCE, twin_accuracy
from regard.explain import Explanation
from regard.explain.explanation_view import Bar, BarChart
from regard.explain.twin_picture import TwinFact, draw_twins
from regard.files import InputError, Stopped, replacing
from regard.matcher import Matcher
from regard.metrics import recalls
from regard.runtime import device_named
from regard.scenes import make_scenes
from regard.search.encoder import Encoder
from regard.search.index import Index
from regard.training.loop import train
from regard.training.recipe import Recipe
from regard.training.trained_run import TrainedRun, load

SIZES = {"train": 1500, "dev": 100, "test": 400}
EPOCHS = 4
MODELS = ("scan", "cmsei")
TRIED = 40  # pairs of sentences that are explained to find a clear one


def demo(out: Path, console: Console, device: str = "auto") -> None:
    """Run the demo in the folder `out`: write data, runs/scan, runs/cmsei, results and pictures.

    A second call skips what is done and resumes what was stopped.
    """
    began, device = time.monotonic(), device_named(device)
    _make_data(out / "data", console)
    for name in MODELS:
        _print_titled(console, f"Training {name}", f" for {EPOCHS} epochs")
        recipe = Recipe.read(f"{name}-scenes", [f"train.epochs={EPOCHS}"])
        try:
            train(recipe, out / "data", out / "runs" / name, resume=True, device=device, console=console)
        except Stopped:
            raise Stopped(f"Stopped. Resume with `regard demo --out {out}`.") from None

    test = Split.open(out / "data", "test")
    _print_titled(console, "Results", f" on {test.num_images} test pictures and their {test.num_texts:,} sentences")
    models = {name: load(out / "runs" / name, device) for name in MODELS}
    scores = {name: scores_of(model, test).numpy() for name, model in models.items()}
    rows = [
        {"name": name, **recalls(matrix, test.image_of_text).to_dict(), "twins": twin_accuracy(matrix, test)}
        for name, matrix in scores.items()
    ]
    with replacing(out / "results.json") as temporary:
        temporary.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")
    draw_results(rows, out / "results.png")
    console.print(_table(rows))
    console.print(
        "Twins are two pictures of the same things that differ in one relation, or in the\n"
        "colours of two things. The last two columns are the percentage of sentences that\n"
        f"score their own picture above its twin (chance: {CHANCE:.0f})."
    )
    index = _index(out, console, device)
    pair = _choose_twins(test, scores, models["cmsei"])
    sentences = [str(test.captions[text]) for text in pair.texts]
    _print_titled(console, "Search", " for two sentences that differ in who does what. The first answer of each model:")
    console.print(f"  {'':6} {sentences[0]!r:40} {sentences[1]!r}")
    first_of = {
        name: [str(test.ids[image]) for image in matrix[:, pair.texts].argmax(0)] for name, matrix in scores.items()
    }
    first_of["cmsei"] = [answer.hits[0].id for answer in index.search(sentences, k=1)]
    for name, (first, second) in first_of.items():
        told = "the same picture for both" if first == second else "two pictures"
        console.print(f"  {name:6} {first:40} {second:20} ({told})")
    with replacing(out / "why.json") as temporary:
        temporary.write_text(json.dumps({"sentences": sentences, "first": first_of}, indent=2) + "\n", "utf-8")
    _draw_twins(pair, test, scores, out / "why.png")
    _print_titled(console, "Pictures", f" in {out}:")
    console.print("  why.png                 these two sentences, their pictures, and both models' scores")
    console.print("  results.png             the table above, with bars")
    console.print("  runs/cmsei/curves.png   loss and validation recall during training")
    console.print("  data/test_pictures/     the test pictures")
    console.print(f"\nDone in {(time.monotonic() - began) / 60:.1f} minutes. What to try next")
    console.print("(after `source .venv/bin/activate`, if `make demo` ran this):")
    console.print(f"  regard serve {out}/index                                     (a page to search in)")
    console.print(f'  regard search {out}/index "{sentences[0]}" "{sentences[1]}" --k 3')
    console.print(f"  regard evaluate {out}/runs/cmsei {out}/runs/scan --data {out}/data       (an ensemble)")
    console.print(
        f"  regard train cmsei-scenes --data {out}/data --out {out}/runs/no-relations --set cmsei.graph.semantic=none"
    )


def _print_titled(console: Console, title: str, rest: str) -> None:
    """Print a line that begins with a title, after an empty line."""
    console.print(Text.assemble("\n", (title, "bold"), rest))


def _make_data(folder: Path, console: Console) -> None:
    if (folder / "labels.txt").exists():
        _print_titled(console, "Pictures and sentences", f" are already in {folder}")
        return
    _print_titled(console, "Drawing", f" {sum(SIZES.values()):,} pictures with five sentences each into {folder}")
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("drawing", total=sum(SIZES.values()))
        make_scenes(
            folder,
            **SIZES,
            pictures=SIZES["test"],
            workers=1,
            progress=lambda amount: progress.advance(task, amount),
        )


def _index(out: Path, console: Console, device: str) -> Index:
    """Index the test pictures by the run of CMSEI. Those that are indexed already are not encoded again."""
    try:
        index = Index(out / "index", device=device)
    except InputError:  # it is absent, or of an earlier run
        shutil.rmtree(out / "index", ignore_errors=True)
        index = Index.create(out / "index", Encoder(TrainedRun(out / "runs" / "cmsei", device)), device)
    report = index.add(out / "data", split="test", texts=True)
    if report.added:
        _print_titled(console, "Indexed", f" {report.added} test pictures in {report.seconds:.1f} s in {out / 'index'}")
    return index


@dataclass(frozen=True)
class TwinPair:
    """Two pictures that differ in who does what, and a sentence of each, with the same words."""

    texts: tuple[int, int]
    images: tuple[int, int]
    explanations: tuple[Explanation, ...]

    @classmethod
    def of(cls, test: Split, texts: tuple[int, int], images: tuple[int, int], model: Matcher) -> "TwinPair":
        """Explain each picture with its sentence."""
        explanations = tuple(
            Explanation.of(
                model,
                test.images([image]),
                test.texts([text], model.tokenizer),
                str(test.captions[text]),
                image_id=str(test.ids[image]),
                classes=test.classes,
                predicates=test.predicates,
            )
            for text, image in zip(texts, images, strict=True)
        )
        return cls(texts, images, explanations)


def _choose_twins(test: Split, scores: dict[str, np.ndarray], model: Matcher) -> TwinPair:
    """Choose the sentences that tell most about both models.

    First those for which CMSEI finds both pictures and SCAN the same picture twice, then the largest smaller margin of
    CMSEI. Preferably, CMSEI matches the subject and the object of each sentence to their own regions.
    """
    twins = Twins.of(test)
    words = [Counter(str(caption).split()) for caption in test.captions]
    best = {name: matrix.argmax(0) for name, matrix in scores.items()}
    candidates = []
    for pair in np.flatnonzero(twins.kind == "relation").tolist():
        first, second = int(twins.first[pair]), int(twins.second[pair])
        for one, other in product(*(np.flatnonzero(test.image_of_text == image).tolist() for image in (first, second))):
            is_found = best["cmsei"][one] == first and best["cmsei"][other] == second
            is_confused = best["scan"][one] == best["scan"][other]
            gain = scores["cmsei"][first] - scores["cmsei"][second]
            worth = (words[one] == words[other], int(is_found) + int(is_confused), float(min(gain[one], -gain[other])))
            candidates.append((worth, (one, other), (first, second)))
    candidates.sort(reverse=True)
    pairs = [TwinPair.of(test, texts, images, model) for _, texts, images in candidates[:TRIED]]
    return next(filter(_is_clear, pairs), pairs[0])


def _is_clear(pair: TwinPair) -> bool:
    """Whether the regions of subject and object have the classes that the words name, in both pictures."""
    for explanation in pair.explanations:
        alignment, fact = explanation.alignment, TwinFact.of(explanation.alignment)
        if fact is None:
            return False
        named = [alignment.words[fact.words[place]] for place in (0, 2)]
        if [alignment.labels[region] for region in fact.regions] != named:
            return False
    return True


def _draw_twins(pair: TwinPair, test: Split, scores: dict[str, np.ndarray], path: Path) -> None:
    text, caption = pair.texts[0], str(test.captions[pair.texts[0]])
    charts = []
    for name, matrix in scores.items():
        sides = zip(("left", "right"), matrix[list(pair.images), text].tolist(), strict=True)
        bars = [Bar(side, score) for side, score in sides]
        charts.append(BarChart(f"{name}: “{caption}”", tuple(bars), "the score of each picture"))
    photographs = [test.folder / "test_pictures" / f"{test.ids[image]}.png" for image in pair.images]
    draw_twins(pair.explanations, [path if path.exists() else None for path in photographs], charts, path)


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
