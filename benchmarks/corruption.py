"""Does implicit modelling make up for wrong relations? Hire's claim, asked of our reconstruction.

    python benchmarks/corruption.py --data data/f8k --runs runs/corruption --set train.epochs=3

trains hire with its implicit relations and without (which is CMSEI), with 0, 25, 50 and 100 % of the relations of each
image replaced by relations between random regions, in training and in testing; then asks the models trained on sound
relations with corrupted ones. Prints Markdown and draws corruption.png; for Scenes (--recipe hire-scenes), also how
many of the relation twins are told apart. Interrupted, it goes on where it stopped.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from matplotlib.figure import Figure
from rich.console import Console

from regard.data.layout import Files, data_folder
from regard.evaluation.compare import Difference, difference, intervals
from regard.evaluation.evaluate import scores_of
from regard.evaluation.probe import twin_accuracy
from regard.metrics import Ranks, galleries, summary
from regard.training.loop import train
from regard.training.recipe import Recipe
from regard.training.run_folder import load_state
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

    found: dict[tuple[str, str, float], tuple[Ranks, ...]] = {}
    apart: dict[tuple[str, str, float], str] = {}
    for part in PARTS:
        for kind, implicit in KINDS.items():
            run = given.runs / f"{implicit}-{part:.2f}"
            settings = [*given.settings, f"hire.implicit={implicit}", f"data.corrupted_relations={part}"]
            recipe = Recipe.read(given.recipe, settings)
            state = load_state(run, recipe, resume=True)
            if not state or state["position"]["epoch"] < recipe.train.epochs:
                train(recipe, given.data, run, resume=True, console=Console(stderr=True))
            both, alone = ("trained and tested", kind, part), ("tested only", kind, part)
            found[both], apart[both] = found[alone], apart[alone] = measured(run, given.data, part)
            if part:
                found[alone], apart[alone] = measured(given.runs / f"{implicit}-{0:.2f}", given.data, part)
    print("| wrong relations | in | with implicit | without | difference | p | twins with | without |")
    print("|---|---|---|---|---|---|---|---|")
    one, other = KINDS
    for where in ("trained and tested", "tested only"):
        for part in PARTS if where == "trained and tested" else PARTS[1:]:
            with_, without = found[where, one, part], found[where, other, part]
            gap: Difference = difference(with_, without)
            print(
                f"| {part:.0%} | {where} | {summary(with_).rsum:.1f} | {summary(without).rsum:.1f} "
                f"| {gap.rsum:+.1f} ({gap.low:+.1f} to {gap.high:+.1f}) | {gap.p:.3f} "
                f"| {apart[where, one, part]} | {apart[where, other, part]} |"
            )
    draw(found, given.runs / "corruption.png")


def measured(run: Path, data: Path, part: float) -> tuple[tuple[Ranks, ...], str]:
    """The ranks, and the percentage of relation twins told apart: `-` for data without twins."""
    trained = TrainedRun(run)
    recipe = trained.recipe
    corrupted = replace(recipe, data=replace(recipe.data, corrupted_relations=part))
    split = corrupted.open_split(data, "test")
    scores = scores_of(trained.model, split).numpy()
    has_twins = Files(data_folder(data), "test").path("twins.npz").exists()
    told = f"{twin_accuracy(scores, split)['relation']:.1f}" if has_twins else "-"
    return galleries(scores, split.image_of_text), told


def draw(found: dict[tuple[str, str, float], tuple[Ranks, ...]], path: Path) -> None:
    figure = Figure(figsize=(8, 3.6), dpi=120, layout="constrained")
    panels = dict(zip(("trained and tested", "tested only"), figure.subplots(1, 2, sharey=True), strict=True))
    for (where, kind), colour in {
        (where, kind): colour for where in panels for kind, colour in zip(KINDS, ("#2176ae", "#d0573c"), strict=True)
    }.items():
        sums = [summary(found[where, kind, part]).rsum for part in PARTS]
        spans = [intervals(found[where, kind, part]).rsum for part in PARTS]
        places = [100 * part for part in PARTS]
        panels[where].fill_between(places, [s.low for s in spans], [s.high for s in spans], color=colour, alpha=0.12)
        panels[where].plot(places, sums, "o-", color=colour, label=kind)
        panels[where].set_title(where, loc="left", fontsize=10)
        panels[where].set_xlabel("wrong relations, %")
        panels[where].spines[["top", "right"]].set_visible(False)
    panels["trained and tested"].set_ylabel("test rSum")
    panels["trained and tested"].legend(frameon=False, fontsize=9)
    figure.savefig(path)


if __name__ == "__main__":
    main()
