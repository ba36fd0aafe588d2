"""Train, evaluate and compare every model, and the papers' ensembles of two models, on a real data set.

    python benchmarks/f8k.py --data data/f8k --runs runs/f8k --seeds 3

The script prints the Markdown of docs/results.md: the seven metrics of each run on the test split with the 95 %
bootstrap interval of its rSum, the standard deviation of rSum over seeds, and a paired test for each two runs of seed
0. Two models differ if the interval of their difference does not contain 0. Trained runs are not trained again, and an
interrupted script resumes when it is called again.
"""

import argparse
import itertools
from pathlib import Path

import numpy as np
from rich.console import Console

from regard.evaluation.compare import difference, intervals
from regard.metrics import summary
from regard.training.ablate import ranks_of
from regard.training.checkpoint import load_state
from regard.training.loop import train
from regard.training.recipe import Recipe
from regard.training.weights import WEIGHTS

# A model is a recipe and settings that change it. An ensemble averages the scores of its models.
MODELS = {
    "vse-infinity": ("vse-infinity-f8k", []),
    "scan": ("scan-f8k", []),
    "sgraf": ("sgraf-f8k", []),
    "sgraf-saf": ("sgraf-f8k", ["sgraf.reasoning=saf"]),
    "cmsei": ("cmsei-f8k", []),
    "hire": ("hire-f8k", []),
    "tvrn": ("tvrn-f8k", []),
    "tvrn-saf": ("tvrn-f8k", ["tvrn.reasoning=saf"]),
    "resg": ("resg-f8k", []),
}
ENSEMBLES = {
    "sgraf + saf": ("sgraf", "sgraf-saf"),
    "tvrn + saf": ("tvrn", "tvrn-saf"),
    "cmsei + hire": ("cmsei", "hire"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument(
        "--only-measure", action="store_true", help="train nothing; evaluate the runs that have weights"
    )
    given = parser.parse_args()

    print("| model | seed | i2t R@1 | R@5 | R@10 | t2i R@1 | R@5 | R@10 | rSum | 95 % interval |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    ranked = {}
    for seed in range(given.seeds):
        for name in given.models:
            recipe_name, own = MODELS[name]
            run = given.runs / f"{name}-{seed}"
            if not given.only_measure:
                recipe = Recipe.read(recipe_name, [f"train.seed={seed}", *given.settings, *own])
                state = load_state(run, recipe, resume=True)
                if not state or state["position"]["epoch"] < recipe.train.epochs:
                    train(recipe, given.data, run, resume=True, console=Console(stderr=True))
        trained = {name: (name,) for name in given.models} | ENSEMBLES
        for name, members in trained.items():
            runs = [given.runs / f"{member}-{seed}" for member in members]
            if not all((run / WEIGHTS).is_file() for run in runs):
                continue
            parts = ranks_of(runs, given.data, "test")
            measured, interval = summary(parts), intervals(parts).rsum
            directions = measured.i2t, measured.t2i
            levels = " | ".join(f"{value:.1f}" for one in directions for value in (one.r1, one.r5, one.r10))
            span = f"{interval.low:.1f} to {interval.high:.1f}"
            print(f"| {name} | {seed} | {levels} | **{measured.rsum:.1f}** | {span} |", flush=True)
            ranked[name, seed] = parts, measured.rsum
    print()
    for name in dict.fromkeys(name for name, _ in ranked):
        sums = [rsum for (other, _), (_, rsum) in ranked.items() if other == name]
        if len(sums) > 1:
            spread = np.std(sums, ddof=1)
            print(f"- {name}: mean rSum {np.mean(sums):.1f}, standard deviation over {len(sums)} seeds {spread:.1f}")
    for one, other in itertools.combinations([name for name, seed in ranked if seed == 0], 2):
        gap = difference(ranked[other, 0][0], ranked[one, 0][0])
        span = f"{gap.low:+.1f} to {gap.high:+.1f}"
        print(f"- {other} - {one}, seed 0: {gap.rsum:+.1f} ({span}), p = {gap.p:.4f}")


if __name__ == "__main__":
    main()
