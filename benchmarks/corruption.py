"""Test Hire's claim on our reconstruction: do implicit relations compensate for wrong explicit ones?

    python benchmarks/corruption.py --data data/f8k --runs runs/corruption --set train.epochs=3

The script trains Hire with its implicit relations and without them (which is CMSEI). In each run, 0, 25, 50 or 100 % of
the relations of each image are replaced by relations between random regions, in training and in testing. The models
trained on true relations are then also tested with corrupted ones.

The script prints a table in Markdown and draws corruption.png in the folder of the runs. If the claim is true, wrong
relations cost the model with implicit relations less rSum, so the difference grows with their number. For Scenes
(--recipe hire-scenes), the table also has the percentage of sentences of relation twins that score their own picture
above the twin. An interrupted script resumes when it is called again. docs/results.md has figures.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from matplotlib.figure import Figure
from rich.console import Console

from regard.data.layout import Files, data_folder
from regard.evaluation.compare import Difference, difference, intervals
from regard.evaluation.evaluate import scores_of
from regard.evaluation.twin_accuracy import twin_accuracy
from regard.metrics import Ranks, galleries, summary
from regard.training.checkpoint import load_state
from regard.training.loop import train
from regard.training.recipe import Recipe
from regard.training.trained_run import TrainedRun

PARTS = (0.0, 0.25, 0.5, 1.0)
KINDS = {"with implicit relations": "regions", "without": "none"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--recipe", default="hire-f8k")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    given = parser.parse_args()

    # By test condition, kind of model and fraction of wrong relations.
    ranks: dict[tuple[str, str, float], tuple[Ranks, ...]] = {}
    twin_scores: dict[tuple[str, str, float], str] = {}
    for part in PARTS:
        for kind, implicit in KINDS.items():
            run = given.runs / f"{implicit}-{part:.2f}"
            settings = [*given.settings, f"hire.implicit={implicit}", f"data.corrupted_relations={part}"]
            recipe = Recipe.read(given.recipe, settings)
            state = load_state(run, recipe, resume=True)
            if not state or state["position"]["epoch"] < recipe.train.epochs:
                train(recipe, given.data, run, resume=True, console=Console(stderr=True))
            both, test_only = ("trained and tested", kind, part), ("tested only", kind, part)
            ranks[both], twin_scores[both] = measure(run, given.data, part)
            # Without wrong relations, the two conditions are one.
            clean = given.runs / f"{implicit}-{0:.2f}"
            results = measure(clean, given.data, part) if part else (ranks[both], twin_scores[both])
            ranks[test_only], twin_scores[test_only] = results
    print("| wrong relations | in | with implicit | without | difference | p | twins with | without |")
    print("|---|---|---|---|---|---|---|---|")
    one, other = KINDS
    for where in ("trained and tested", "tested only"):
        for part in PARTS if where == "trained and tested" else PARTS[1:]:
            with_, without = ranks[where, one, part], ranks[where, other, part]
            gap: Difference = difference(with_, without)
            print(
                f"| {part:.0%} | {where} | {summary(with_).rsum:.1f} | {summary(without).rsum:.1f} "
                f"| {gap.rsum:+.1f} ({gap.low:+.1f} to {gap.high:+.1f}) | {gap.p:.3f} "
                f"| {twin_scores[where, one, part]} | {twin_scores[where, other, part]} |"
            )
    draw_corruption(ranks, given.runs / "corruption.png")


def measure(run: Path, data: Path, part: float) -> tuple[tuple[Ranks, ...], str]:
    """Return the ranks on the test split, and the percentage for relation twins: `-` if the data have no twins."""
    trained = TrainedRun(run)
    recipe = trained.recipe
    corrupted = replace(recipe, data=replace(recipe.data, corrupted_relations=part))
    split = corrupted.open_split(data, "test")
    scores = scores_of(trained.model, split).numpy()
    has_twins = Files(data_folder(data), "test").path("twins.npz").exists()
    twin_score = f"{twin_accuracy(scores, split)['relation']:.1f}" if has_twins else "-"
    return galleries(scores, split.image_of_text), twin_score


def draw_corruption(ranks: dict[tuple[str, str, float], tuple[Ranks, ...]], path: Path) -> None:
    """Draw rSum over the fraction of wrong relations, with intervals: one panel per test condition."""
    figure = Figure(figsize=(8, 3.6), dpi=120, layout="constrained")
    panels = dict(zip(("trained and tested", "tested only"), figure.subplots(1, 2, sharey=True), strict=True))
    for (where, kind), colour in {
        (where, kind): colour for where in panels for kind, colour in zip(KINDS, ("#2176ae", "#d0573c"), strict=True)
    }.items():
        sums = [summary(ranks[where, kind, part]).rsum for part in PARTS]
        bands = [intervals(ranks[where, kind, part]).rsum for part in PARTS]
        places = [100 * part for part in PARTS]
        panels[where].fill_between(
            places, [band.low for band in bands], [band.high for band in bands], color=colour, alpha=0.12
        )
        panels[where].plot(places, sums, "o-", color=colour, label=kind)
        panels[where].set_title(where, loc="left", fontsize=10)
        panels[where].set_xlabel("wrong relations, %")
        panels[where].spines[["top", "right"]].set_visible(False)
    panels["trained and tested"].set_ylabel("test rSum")
    panels["trained and tested"].legend(frameon=False, fontsize=9)
    figure.savefig(path)


if __name__ == "__main__":
    main()
