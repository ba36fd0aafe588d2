"""The real set: recipes x seeds, trained where they are not yet, measured on the test split, compared in pairs.

    python benchmarks/f8k.py --data data/f8k --runs runs/f8k --seeds 3

prints the Markdown of docs/results.md: the seven metrics of every run, the bootstrap interval of rSum, and paired
tests of the first seed's runs. Interrupted, it goes on where it stopped.
"""

import argparse
import itertools
from pathlib import Path

import numpy as np

from regard.checkpoint import load
from regard.compare import difference, intervals
from regard.evaluation import open_for, scores_of
from regard.metrics import galleries, summary
from regard.recipe import Recipe
from regard.train import train

RECIPES = ("vse-infinity-f8k", "scan-f8k", "cmsei-f8k")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--recipes", nargs="+", default=RECIPES)
    parser.add_argument("--only-measure", action="store_true", help="of runs that have finished a validation")
    given = parser.parse_args()

    print("| recipe | seed | i2t R@1 | R@5 | R@10 | t2i R@1 | R@5 | R@10 | rSum | 95 % interval |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    ranked = {}
    for name, seed in itertools.product(given.recipes, range(given.seeds)):
        run = given.runs / f"{name}-{seed}"
        if not given.only_measure:
            train(Recipe.read(name, [f"train.seed={seed}"]), given.data, run, resume=True)
        elif not (run / "model.safetensors").exists():
            continue
        split = open_for(run, given.data, "test")
        parts = galleries(scores_of(load(run), split).numpy(), split.image_of_text)
        found, sure = summary(parts), intervals(parts)
        ways = " | ".join(f"{value:.1f}" for way in (found.i2t, found.t2i) for value in (way.r1, way.r5, way.r10))
        print(
            f"| {name} | {seed} | {ways} | **{found.rsum:.1f}** | {sure.rsum.low:.1f} to {sure.rsum.high:.1f} |",
            flush=True,
        )
        ranked[name, seed] = parts, found.rsum
    print()
    for name in given.recipes:
        sums = [rsum for (other, _), (_, rsum) in ranked.items() if other == name]
        if len(sums) > 1:
            spread = np.std(sums, ddof=1)
            print(f"- {name}: mean rSum {np.mean(sums):.1f}, standard deviation over {len(sums)} seeds {spread:.1f}")
    for one, other in itertools.combinations([name for name in given.recipes if (name, 0) in ranked], 2):
        found = difference(ranked[other, 0][0], ranked[one, 0][0])
        print(
            f"- {other} - {one}, seed 0: {found.rsum:+.1f} ({found.low:+.1f} to {found.high:+.1f}), p = {found.p:.4f}"
        )


if __name__ == "__main__":
    main()
