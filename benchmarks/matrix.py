"""Train and measure all models, seeds and options of docs/results.md, several at once, in any number of sittings.

    python benchmarks/matrix.py run --real data/f8k --scenes data --runs runs --results benchmarks/results/NAME.jsonl
    python benchmarks/matrix.py run --size small --runs runs --results small.jsonl      # about 10 minutes on two cores
    python benchmarks/matrix.py table benchmarks/results/*.jsonl

`run` trains what has no line in the results yet, in the order below, and appends a line per finished run: settings,
metrics on the test split with the interval of rSum, rSum of the summaries alone, twins, swapped sentences, seconds of
training, milliseconds per query, commit, hardware and date. Interrupted trainings resume when the script is called
again. `--jobs` runs train at once on one device, each in its own process; on a CPU, give each one thread
(OMP_NUM_THREADS=1). Scenes of each size are generated where they are missing. `table` prints the lines as Markdown,
with means and standard deviations over seeds.
"""

import argparse
import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regard.bench.machine import commit, hardware
from regard.data import Split
from regard.data.layout import Files, data_folder
from regard.data.swapped import SwappedSentences
from regard.data.twins import Twins
from regard.encode import encode
from regard.evaluation.cascade import summary_scores
from regard.evaluation.compare import intervals
from regard.evaluation.evaluate import scores_of
from regard.evaluation.pairs import measure_pairs
from regard.evaluation.twin_accuracy import twin_accuracy
from regard.metrics import galleries, recalls, seven, summary
from regard.runtime import device_named
from regard.scenes import make_scenes
from regard.training.trained_run import TrainedRun

# A relation model that pools and scores as an embedding does, and begins where one ends (train.init).
JOINT = ["{m}.summary.pooling=gpo", "{m}.summary.region_mlp=true", "{m}.interaction.learn_weights=true"]
JOINT += ["train.summary_weight=1", "train.learning_rate=1e-3"]
EPOCHS = {"real": "train.epochs=6", "scenes": "train.epochs=4"}
# Of each number of Scenes: as many steps as four epochs of 4,000, so that a small set is not merely trained less.
SCENES = {250: "train.epochs=64", 1000: "train.epochs=16", 4000: "train.epochs=4", 16_000: "train.epochs=4"}


@dataclass(frozen=True)
class Row:
    """One configuration and its seeds. `start` names the row whose run of the same seed it starts from."""

    table: str
    name: str
    recipe: str
    settings: tuple[str, ...] = ()
    seeds: int = 1
    pictures: int = 0  # of Scenes; 0 is the real set
    start: str = ""

    def run(self, seed: int) -> str:
        return f"{self.name}-{seed}"


def rows_of(size: str) -> Iterator[Row]:
    """The configurations in the order in which they are worth their time."""
    if size == "small":
        for model in ("vse-infinity", "scan", "cmsei"):
            yield Row("scenes", f"{model}-s250", f"{model}-scenes", (EPOCHS["scenes"],), 2, 250)
        return
    six = (EPOCHS["real"],)
    start = tuple(setting.format(m="cmsei") for setting in JOINT)
    yield Row("real", "vse-infinity", "vse-infinity-f8k", six, 3)
    yield Row("real", "cmsei-start", "cmsei-f8k", ("train.epochs=2", *start), 3, start="vse-infinity")
    yield Row("real", "cmsei", "cmsei-f8k", six, 2)
    yield Row("real", "sgraf", "sgraf-f8k", six, 2)
    yield Row("real", "scan", "scan-f8k", six)
    for model in ("hire", "tvrn", "resg"):
        yield Row("real", model, f"{model}-f8k", six)
    pooled = ("cmsei.summary.pooling=gpo", "train.summary_weight=1")
    yield Row("real", "cmsei-summary", "cmsei-f8k", (*six, "train.summary_weight=1"))
    yield Row("real", "cmsei-gpo", "cmsei-f8k", (*six, *pooled))
    yield Row("real", "cmsei-joint", "cmsei-f8k", (*six, *start))
    swapped = ("train.swapped=true",)
    yield Row("swapped", "vse-infinity-swapped", "vse-infinity-f8k", (*six, *swapped))
    yield Row("swapped", "vse-infinity-blind", "vse-infinity-f8k", ("train.epochs=1", *swapped, "data.blind=true"))
    yield Row(
        "swapped", "cmsei-swapped", "cmsei-f8k", ("train.epochs=2", *start, *swapped), start="vse-infinity-swapped"
    )
    for pictures, epochs in SCENES.items():
        for model in ("vse-infinity", "scan", "cmsei", "hire"):
            yield Row("scenes", f"{model}-s{pictures}", f"{model}-scenes", (epochs,), 1, pictures)
    for wrong in (0.25, 0.5, 1.0):
        for model in ("cmsei", "hire"):
            settings = (EPOCHS["scenes"], f"data.corrupted_relations={wrong}")
            yield Row("wrong relations", f"{model}-w{100 * wrong:.0f}", f"{model}-scenes", settings, 1, 1000)
    batch = ("train.batch_size=128",)
    yield Row("shortlist", "cmsei-b128", "cmsei-f8k", (*six, *batch))
    yield Row("shortlist", "cmsei-b128-list", "cmsei-f8k", (*six, *batch, "train.shortlist=4"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run")
    run.add_argument("--real", type=Path, help="data folder with a test split; without it, its rows are left out")
    run.add_argument("--scenes", type=Path, default=Path("data"), help="folder of the generated sets")
    run.add_argument("--runs", type=Path, required=True)
    run.add_argument("--results", type=Path, required=True)
    run.add_argument("--size", choices=("full", "small"), default="full")
    run.add_argument("--only", nargs="+", default=[], help="names of rows")
    run.add_argument("--seeds", type=int, default=3, help="at most so many of each row")
    run.add_argument("--jobs", type=int, default=1)
    run.add_argument("--device", default="auto")
    measure = verbs.add_parser("measure", help="measure one run, and print its line")
    for name in ("folder", "data"):
        measure.add_argument(name, type=Path)
    measure.add_argument("--device", default="auto")
    table = verbs.add_parser("table")
    table.add_argument("results", type=Path, nargs="+")
    given = parser.parse_args()
    if given.verb == "run":
        run_all(given)
    elif given.verb == "measure":
        print(json.dumps(measured(given.folder, given.data, device_named(given.device))))
    else:
        print_tables([json.loads(line) for path in given.results for line in path.read_text("utf-8").splitlines()])


def run_all(given: argparse.Namespace) -> None:
    """Train and measure every row that is wanted and has no line yet."""
    given.results.parent.mkdir(parents=True, exist_ok=True)
    lines = given.results.read_text("utf-8").splitlines() if given.results.exists() else []
    done = {(line["name"], line["seed"]) for line in map(json.loads, lines)}
    wanted = [row for row in rows_of(given.size) if not given.only or row.name in given.only]
    if not given.real:
        wanted = [row for row in wanted if row.pictures]
    futures: dict[str, Future[None]] = {}

    def one(row: Row, seed: int, before: "Future[None] | None") -> None:
        if before:
            before.result()
        data, folder = data_of(row, given), given.runs / row.run(seed)
        settings = [*row.settings, f"train.seed={seed}"]
        if row.start:
            settings.append(f"train.init={given.runs / f'{row.start}-{seed}'}")
        command = [sys.executable, "-m", "regard", "train", row.recipe, "--data", str(data), "--out", str(folder)]
        command += ["--resume", "--device", given.device, *(word for value in settings for word in ("--set", value))]
        call(command, given.runs / f"{row.run(seed)}.log")
        found = call([sys.executable, __file__, "measure", str(folder), str(data), "--device", given.device])
        line = {"table": row.table, "name": row.name, "seed": seed, "recipe": row.recipe, "settings": settings[:-1]}
        with open(given.results, "a", encoding="utf-8") as file:
            file.write(json.dumps(line | {"pictures": row.pictures} | json.loads(found)) + "\n")
        print(f"{datetime.now():%H:%M} {row.run(seed)}", flush=True)

    pairs = [
        (row, seed) for row in wanted for seed in range(min(row.seeds, given.seeds)) if (row.name, seed) not in done
    ]
    for pictures in sorted({row.pictures for row, _ in pairs if row.pictures}):
        data_of(next(row for row, _ in pairs if row.pictures == pictures), given)
    # A row that another one starts from is submitted first, so that no worker waits for one that has no worker.
    with ThreadPoolExecutor(given.jobs) as pool:
        for row, seed in pairs:
            futures[row.run(seed)] = pool.submit(one, row, seed, futures.get(f"{row.start}-{seed}"))
        failed = [str(error) for future in futures.values() if (error := future.exception())]
    if failed:
        sys.exit("\n".join(failed))


def data_of(row: Row, given: argparse.Namespace) -> Path:
    """The data folder of a row. All sizes of Scenes have the same validation and test splits."""
    if not row.pictures:
        real: Path = given.real
        return real
    folder: Path = given.scenes / f"scenes-{row.pictures}"
    if not folder.exists():
        make_scenes(folder, train=row.pictures, dev=200, test=400, pictures=0)
    return folder


def call(command: Sequence[str], log: Path | None = None) -> str:
    """Run a command and return what it printed last; its output goes to `log`. Raises RuntimeError if it fails."""
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "a", encoding="utf-8") as file:
            file.write(ended.stdout)
    last = (ended.stdout.strip().splitlines() or [""])[-1]
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with code {ended.returncode}: {last}")
    return last


@torch.inference_mode()
def measured(folder: Path, data: Path, device: str) -> dict[str, Any]:
    """The numbers of one run on the test split."""
    run = TrainedRun(folder, device)
    split = run.open_split("test", data)
    began = time.perf_counter()
    scores = scores_of(run.model, split).numpy()
    seconds = time.perf_counter() - began
    parts = galleries(scores, split.image_of_text)
    found, interval = summary(parts), intervals(parts).rsum
    images, texts = encode(run.model, split)
    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    logged = [step["seconds"] for step in steps if step["event"] == "step"]
    line: dict[str, Any] = {
        "recalls": [round(value, 2) for value in seven(found)],
        "interval": [round(interval.low, 1), round(interval.high, 1)],
        "summary_rsum": round(recalls(summary_scores(images, texts).numpy(), split.image_of_text).rsum, 1),
        "validation": [round(step["rsum"], 1) for step in steps if step["event"] == "validation"],
        "train_seconds": round(float(np.mean(logged)) * steps[-1]["step"]),
        "ms_per_query": round(1000 * seconds / split.num_texts, 3),
        "precision": next((step["precision"] for step in steps if "precision" in step), "32-true"),
    }
    if Files(data_folder(data), "test").path("twins.npz").exists():
        line["twins"] = {kind: round(value, 1) for kind, value in twin_accuracy(scores, split).items()}
        line["rsum_without_twins"] = round(rsum_without_twins(scores, split), 1)
    answers = measure_pairs(run.model, split, SwappedSentences(split).pairs()).categories
    line["swapped"] = {kind: round(found.half_credit["correct"], 1) for kind, found in answers.items()}
    where = {"commit": commit(), "hardware": hardware(device), "date": f"{datetime.now(UTC):%Y-%m-%d}"}
    return line | where


def rsum_without_twins(scores: np.ndarray, split: Split) -> float:
    """The rSum in the gallery without the second image of each pair of twins, and without its sentences."""
    images = np.setdiff1d(np.arange(split.num_images), Twins.of(split).second)
    texts = np.flatnonzero(np.isin(split.image_of_text, images))
    return recalls(scores[np.ix_(images, texts)], np.searchsorted(images, split.image_of_text[texts])).rsum


def print_tables(lines: Sequence[dict[str, Any]]) -> None:
    """Print a table per kind of experiment: the mean over seeds of each row, and the standard deviation of rSum."""
    for table in dict.fromkeys(line["table"] for line in lines):
        groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for line in lines:
            if line["table"] == table:
                groups[line["name"]].append(line)
        extra = sorted({kind for line in lines if line["table"] == table for kind in line.get("twins", {})})
        swaps = sorted({kind for line in lines if line["table"] == table for kind in line["swapped"]})
        head = ["row", "seeds", "i2t R@1", "R@5", "R@10", "t2i R@1", "R@5", "R@10", "rSum", "sd", "95 % (seed 0)"]
        head += ["summaries", *(f"{kind} twins" for kind in extra), *(f"swapped: {kind}" for kind in swaps)]
        head += ["s of training", "ms per query"]
        print(f"\n{table}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
        for name, seeds in groups.items():
            values = np.mean([line["recalls"] for line in seeds], 0)
            spread = f"{np.std([line['recalls'][-1] for line in seeds], ddof=1):.1f}" if len(seeds) > 1 else ""
            cells = [name, str(len(seeds)), *(f"{value:.1f}" for value in values), spread]
            cells += [" to ".join(map(str, seeds[0]["interval"])), f"{mean(seeds, 'summary_rsum'):.1f}"]
            cells += [f"{np.mean([line['twins'][kind] for line in seeds]):.1f}" for kind in extra]
            cells += [f"{np.mean([line['swapped'].get(kind, np.nan) for line in seeds]):.1f}" for kind in swaps]
            cells += [f"{mean(seeds, 'train_seconds'):.0f}", f"{mean(seeds, 'ms_per_query'):.2f}"]
            print(f"| {' | '.join(cells)} |")


def mean(lines: Sequence[dict[str, Any]], key: str) -> float:
    return float(np.mean([line[key] for line in lines]))


if __name__ == "__main__":
    main()
