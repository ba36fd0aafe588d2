"""The real set: every model and the papers' two-model ensembles, trained where they are not yet, measured, compared.

    python benchmarks/f8k.py --data data/f8k --runs runs/f8k --seeds 3

prints the Markdown of docs/results.md: the seven metrics of every run on the test split, rSum with its interval, and
paired tests of the first seed's runs. Interrupted, it goes on where it stopped.
"""

import argparse
import itertools
from pathlib import Path

import numpy as np
from rich.console import Console

from regard.evaluation.compare import difference, intervals
from regard.metrics import summary
from regard.training.ablate import ranks_of
from regard.training.checkpoint import WEIGHTS
from regard.training.loop import train
from regard.training.recipe import Recipe
from regard.training.run_folder import load_state

# A model is a recipe and settings over it; an ensemble is the models whose scores are averaged.
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
    parser.add_argument("--only-measure", action="store_true", help="of runs that have finished a validation")
    given = parser.parse_args()

    print("| model | seed | i2t R@1 | R@5 | R@10 | t2i R@1 | R@5 | R@10 | rSum | 95 % interval |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    ranked = {}
    for seed in range(given.seeds):
        for name in given.models:
            recipe, own = MODELS[name]
            run = given.runs / f"{name}-{seed}"
            if not given.only_measure:
                wanted = Recipe.read(recipe, [f"train.seed={seed}", *given.settings, *own])
                state = load_state(run, wanted, resume=True)
                if not state or state["position"]["epoch"] < wanted.train.epochs:
                    train(wanted, given.data, run, resume=True, console=Console(stderr=True))
        trained = {name: (name,) for name in given.models} | ENSEMBLES
        for name, members in trained.items():
            runs = [given.runs / f"{member}-{seed}" for member in members]
            if not all((run / WEIGHTS).is_file() for run in runs):
                continue
            parts = ranks_of(runs, given.data, "test")
            found, sure = summary(parts), intervals(parts).rsum
            ways = " | ".join(f"{value:.1f}" for way in (found.i2t, found.t2i) for value in (way.r1, way.r5, way.r10))
            span = f"{sure.low:.1f} to {sure.high:.1f}"
            print(f"| {name} | {seed} | {ways} | **{found.rsum:.1f}** | {span} |", flush=True)
            ranked[name, seed] = parts, found.rsum
    print()
    for name in dict.fromkeys(name for name, _ in ranked):
        sums = [rsum for (other, _), (_, rsum) in ranked.items() if other == name]
        if len(sums) > 1:
            spread = np.std(sums, ddof=1)
            print(f"- {name}: mean rSum {np.mean(sums):.1f}, standard deviation over {len(sums)} seeds {spread:.1f}")
    for one, other in itertools.combinations([name for name, seed in ranked if seed == 0], 2):
        found = difference(ranked[other, 0][0], ranked[one, 0][0])
        span = f"{found.low:+.1f} to {found.high:+.1f}"
        print(f"- {other} - {one}, seed 0: {found.rsum:+.1f} ({span}), p = {found.p:.4f}")


if __name__ == "__main__":
    main()
