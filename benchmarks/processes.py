"""Compare several processes with one: are the numbers the same, and how much faster is it?

    python benchmarks/processes.py --processes 1 2 4 --json processes.json

Each number of processes is one job of torchrun on this machine, with one thread per process. It trains every model for
some steps on Scenes, in float64 and in float32, with dropout, dropped regions and words, and batches that do not divide
evenly; it scores a split with a CMSEI and extracts photographs. The script prints the largest differences of losses,
gradient norms and weights from one process, the seconds of scoring and extraction, and the peak memory of a process.
More processes than cores show equality only.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console

from regard import ranks
from regard.bench.machine import commit, hardware
from regard.evaluation.evaluate import scores_of
from regard.extract.extraction import extract
from regard.launchers import job
from regard.scenes import make_scenes
from regard.training.loop import train
from regard.training.recipe import Recipe
from regard.training.weights import build_model
from regard.words import build_tokenizer

MODELS = ("vse-infinity", "scan", "sgraf", "cmsei", "hire", "tvrn", "resg")
SETTINGS = [
    "train.batch_size=23",
    "train.epochs=1",
    "train.log_every=1",
    "train.region_drop=0.2",
    "train.word_drop=0.2",
]
SETTINGS += ["words.dropout=0.2", "train.warmup_steps=0", "train.schedule=constant", "words.min_count=1"]
PRECISIONS = ("64-true", "32-true")
PICTURES, SCORED, PHOTOGRAPHS = 48, 400, 240


def work(folder: Path, out: Path) -> None:
    """One process of a job: train, score, extract, and write what was measured."""
    found: dict[str, Any] = {}
    with ranks.joined("cpu"):
        for name in MODELS:
            for precision in PRECISIONS:
                recipe = Recipe.read(f"{name}-scenes", [*SETTINGS, f"train.precision={precision}"])
                train(recipe, folder / "scenes", out / f"{name}-{precision}", console=Console(quiet=True))
        recipe = Recipe.read("cmsei-scenes", ["cmsei.dim=256"])
        split = recipe.open_split(folder / "scenes", "test")
        torch.manual_seed(0)
        model = build_model(recipe, split.feature_dim, build_tokenizer(recipe.words, split.captions))
        ranks.wait_for_all()
        began = time.perf_counter()
        scores = scores_of(model, split)
        found["scoring"] = time.perf_counter() - began
        found["scores"] = float(scores.double().sum())
    found["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found["extraction"] = extract(folder / "photographs", out / "extracted", workers=1).seconds
    (out / f"process-{job().rank}.json").write_text(json.dumps(found), "utf-8")


def start(folder: Path, out: Path, processes: int) -> dict[str, Any]:
    """Run a job, and return what its processes measured."""
    out.mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, __file__, "--work", str(folder), str(out)], check=True, env=environment)
    parts = [json.loads(path.read_text("utf-8")) for path in sorted(out.glob("process-*.json"))]
    return {name: max(part[name] for part in parts) for name in parts[0]}


def differences(one: Path, other: Path) -> dict[str, float]:
    """The largest relative differences of losses and gradient norms, and the largest difference of a weight."""
    steps = [
        [
            event
            for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()
            if "grad_norm" in (event := json.loads(line))
        ]
        for run in (one, other)
    ]
    found = {
        name: max(abs(b[name] - a[name]) / max(abs(a[name]), 1e-12) for a, b in zip(*steps, strict=True))
        for name in ("loss", "grad_norm")
    }
    first, second = (torch.load(run / "last.pt", weights_only=True)["model"] for run in (one, other))
    found["weights"] = max(float((second[key].double() - first[key].double()).abs().max()) for key in first)
    return found | {"steps": len(steps[0])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--json", type=Path, help="write the results")
    parser.add_argument("--work", type=Path, nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(*given.work)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_scenes(folder / "scenes", train=PICTURES, dev=20, test=SCORED, pictures=0)
        random = np.random.default_rng(0)
        (folder / "photographs").mkdir()
        for number in range(PHOTOGRAPHS):
            pixels = Image.fromarray(random.integers(0, 255, (12, 16, 3), np.uint8)).resize((640, 480))
            pixels.save(folder / "photographs" / f"{number}.jpg")
        counts = sorted({1, *given.processes})
        jobs = {count: start(folder, folder / str(count), count) for count in counts}
        equal = {
            count: {
                run: differences(folder / "1" / run, folder / str(count) / run)
                for run in (f"{model}-{precision}" for model in MODELS for precision in PRECISIONS)
            }
            for count in counts[1:]
        }
    results = {"machine": hardware("cpu"), "commit": commit(), "jobs": jobs, "differences": equal}
    print_tables(results)
    if given.json:
        given.json.write_text(json.dumps(results, indent=1) + "\n", "utf-8")


def print_tables(results: dict[str, Any]) -> None:
    print(f"{results['machine']}; commit {results['commit']}\n")
    print(
        "| model | precision | processes | steps | losses | gradient norms | weights |\n|---|---|---|---|---|---|---|"
    )
    for model in MODELS:
        for precision in PRECISIONS:
            for count, runs in results["differences"].items():
                found = runs[f"{model}-{precision}"]
                values = " | ".join(f"{found[name]:.0e}" for name in ("loss", "grad_norm", "weights"))
                print(f"| {model} | {precision} | {count} | {found['steps']} | {values} |")
    print("\n| processes | scoring, s | times faster | extraction, s | times faster | peak MiB of a process | scores |")
    print("|---|---|---|---|---|---|---|")
    one = results["jobs"][1]
    for count, found in results["jobs"].items():
        cells = [str(count)]
        for name in ("scoring", "extraction"):
            cells += [f"{found[name]:.1f}", f"{one[name] / found[name]:.2f}"]
        same = "equal" if found["scores"] == one["scores"] else "differ"
        print(f"| {' | '.join(cells)} | {found['peak_mib']:.0f} | {same} |")


if __name__ == "__main__":
    main()
