"""Train and measure all models, seeds and options of docs/results.md, several at once, in any number of sittings.

    python benchmarks/matrix.py run --real data/f8k --scenes data --runs runs --results benchmarks/results/NAME.jsonl
    python benchmarks/matrix.py run --size small --runs runs --results small.jsonl      # about 10 minutes on two cores
    python benchmarks/matrix.py table benchmarks/results/*.jsonl

`run` trains what has no line in the results yet, in the order below, and appends a line per finished run: settings,
metrics on the test split with the interval of rSum, rSum of the summaries alone, twins, swapped sentences, seconds of
training, milliseconds per query, commit, hardware and date. With `--controls`, lines of the real set also have the
change of rSum under each control of `regard probe`, and the recalls by relations and words of place, beside those of
VSE-infinity with the same seed. Interrupted trainings resume when the script is called again. `--jobs` runs train at
once on one device, each in its own process; on a CPU, give each one thread (OMP_NUM_THREADS=1). Scenes of each size are
generated where they are missing. `table` prints the lines as Markdown, with means and standard deviations over seeds.
"""

import argparse
import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
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
from regard.evaluation.compare import Difference, difference, intervals
from regard.evaluation.control_report import measure_controls
from regard.evaluation.evaluate import scores_of
from regard.evaluation.pairs import measure_pairs
from regard.evaluation.strata import divide
from regard.evaluation.stratum_report import measure_strata
from regard.evaluation.twin_accuracy import twin_accuracy
from regard.metrics import Ranks, galleries, recalls, seven, summary
from regard.runtime import device_named
from regard.scenes import make_scenes
from regard.training.trained_run import TrainedRun

# A relation model that pools and scores as an embedding does, and begins where one ends (train.init).
JOINT = ["{m}.summary.pooling=gpo", "{m}.summary.region_mlp=true", "{m}.interaction.learn_weights=true"]
JOINT += ["train.summary_weight=1", "train.learning_rate=1e-3"]
EMBEDDING = "vse-infinity"  # the row that the others are compared with
EPOCHS = {"real": "train.epochs=6", "scenes": "train.epochs=4"}
# Of each number of Scenes: as many steps as four epochs of 4,000, so that a small set is not merely trained less.
SCENES = {250: "train.epochs=64", 1000: "train.epochs=16", 4000: "train.epochs=4", 16_000: "train.epochs=4"}


@dataclass(frozen=True)
class Row:
    """One configuration and its seeds, or with `members` an ensemble of their runs.

    `start` names the row whose run of the same seed it starts from.
    """

    table: str
    name: str
    recipe: str = ""
    settings: tuple[str, ...] = ()
    seeds: int = 1
    pictures: int = 0  # of Scenes; 0 is the real set
    start: str = ""
    members: tuple[str, ...] = ()

    def run(self, seed: int) -> str:
        return f"{self.name}-{seed}"

    def needs(self, seed: int) -> list[str]:
        """The runs that this one is made of."""
        return [*self.members, *([f"{self.start}-{seed}"] if self.start else [])]


def rows_of(size: str) -> Iterator[Row]:
    """The configurations in the order in which they are worth their time."""
    if size == "small":
        for model in ("vse-infinity", "scan", "cmsei"):
            yield Row("scenes", f"{model}-s250", f"{model}-scenes", (EPOCHS["scenes"],), 2, 250)
        return
    six = (EPOCHS["real"],)
    start = tuple(setting.format(m="cmsei") for setting in JOINT)
    yield Row("real", EMBEDDING, "vse-infinity-f8k", six, 3)
    yield Row("real", "cmsei-start", "cmsei-f8k", ("train.epochs=2", *start), 3, start=EMBEDDING)
    yield Row("real", "cmsei", "cmsei-f8k", six, 2)
    yield Row("real", "sgraf", "sgraf-f8k", six, 2)
    yield Row("real", "scan", "scan-f8k", six)
    for model in ("hire", "tvrn", "resg"):
        yield Row("real", model, f"{model}-f8k", six)
    yield Row("real", "two-embeddings", members=(f"{EMBEDDING}-0", f"{EMBEDDING}-1"))
    yield Row("real", "embedding-and-cmsei", members=(f"{EMBEDDING}-0", "cmsei-1"))
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
    one, batch = ("train.epochs=1",), ("train.batch_size=128",)
    yield Row("shortlist", "cmsei-b32", "cmsei-f8k", one)
    yield Row("shortlist", "cmsei-b128", "cmsei-f8k", (*one, *batch))
    yield Row("shortlist", "cmsei-b128-list", "cmsei-f8k", (*one, *batch, "train.shortlist=4"))


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
    run.add_argument("--controls", action="store_true", help="also measure controls and strata of the real set")
    measure = verbs.add_parser("measure", help="measure one run, and print its line")
    for name in ("folder", "data"):
        measure.add_argument(name, type=Path)
    measure.add_argument("--device", default="auto")
    measure.add_argument("--controls", action="store_true")
    measure.add_argument("--against", type=Path, help="the run whose recalls are compared")
    table = verbs.add_parser("table")
    table.add_argument("results", type=Path, nargs="+")
    given = parser.parse_args()
    if given.verb == "run":
        run_all(given)
    elif given.verb == "measure":
        print(json.dumps(measured(given)))
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

    def one(row: Row, seed: int, before: "Sequence[Future[None]]") -> None:
        for future in before:
            future.result()
        data, folder = data_of(row, given), given.runs / row.run(seed)
        settings = [*row.settings, f"train.seed={seed}"]
        if row.start:
            settings.append(f"train.init={given.runs / f'{row.start}-{seed}'}")
        if row.members:
            command = ["ensemble", *(str(given.runs / member) for member in row.members), "--data", str(data)]
        else:
            options = [word for value in settings for word in ("--set", value)]
            command = ["train", row.recipe, "--data", str(data), "--resume", *options]
        command += ["--out", str(folder), "--device", given.device]
        if not (row.members and folder.exists()):  # an ensemble is written at once
            call([sys.executable, "-m", "regard", *command], given.runs / f"{row.run(seed)}.log")
        command = [sys.executable, __file__, "measure", str(folder), str(data), "--device", given.device]
        if given.controls and not row.pictures:
            command.append("--controls")
            if row.name != EMBEDDING and (against := given.runs / f"{EMBEDDING}-{seed}").exists():
                command += ["--against", str(against)]
        found = call(command)
        line = {"table": row.table, "name": row.name, "seed": seed, "recipe": row.recipe, "settings": row.settings}
        line |= {"of": row.needs(seed)} if row.needs(seed) else {}
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
            names = [*row.needs(seed), *([f"{EMBEDDING}-{seed}"] if given.controls else [])]  # compared with it
            before = [futures[name] for name in names if name in futures]
            futures[row.run(seed)] = pool.submit(one, row, seed, before)
        try:
            wait(futures.values())
        except KeyboardInterrupt:  # the trainings have received it too, and save
            pool.shutdown(cancel_futures=True)
            sys.exit("Interrupted. The same command continues.")
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
def measured(given: argparse.Namespace) -> dict[str, Any]:
    """The numbers of one run on the test split."""
    device, data = device_named(given.device), given.data
    run = TrainedRun(given.folder, device)
    split = run.open_split("test", data)
    began = time.perf_counter()
    scores = scores_of(run.model, split).numpy()
    seconds = time.perf_counter() - began
    parts = galleries(scores, split.image_of_text)
    found, interval = summary(parts), intervals(parts).rsum
    images, texts = encode(run.model, split)
    trainings = [
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
        for folder in ([member.folder for member in run.members] or [run.folder])
    ]
    steps = [] if run.members else trainings[0]
    line: dict[str, Any] = {
        "recalls": [round(value, 2) for value in seven(found)],
        "interval": [round(interval.low, 1), round(interval.high, 1)],
        "summary_rsum": round(recalls(summary_scores(images, texts).numpy(), split.image_of_text).rsum, 1),
        "validation": [round(step["rsum"], 1) for step in steps if step["event"] == "validation"],
        "train_seconds": round(sum(map(seconds_of, trainings))),
        "ms_per_query": round(1000 * seconds / split.num_texts, 3),
        "precision": next((step["precision"] for step in steps if "precision" in step), "32-true"),
    }
    if Files(data_folder(data), "test").path("twins.npz").exists():
        line["twins"] = {kind: round(value, 1) for kind, value in twin_accuracy(scores, split).items()}
        line["rsum_without_twins"] = round(rsum_without_twins(scores, split), 1)
    answers = measure_pairs(run.model, split, SwappedSentences(split).pairs()).categories
    line["swapped"] = {kind: round(found.half_credit["correct"], 1) for kind, found in answers.items()}
    if given.controls:
        other = TrainedRun(given.against, device) if given.against else None
        against = other and galleries(
            scores_of(other.model, other.open_split("test", data)).numpy(), split.image_of_text
        )
        line |= controls_of(run, split) | strata_of(parts, against, split)
    where = {"commit": commit(), "hardware": hardware(device), "date": f"{datetime.now(UTC):%Y-%m-%d}"}
    return line | where


def seconds_of(training: Sequence[dict[str, Any]]) -> float:
    """The time of all steps, of which some are logged."""
    return float(np.mean([step["seconds"] for step in training if step["event"] == "step"])) * training[-1]["step"]


def controls_of(run: TrainedRun, split: Split) -> dict[str, Any]:
    """The change of rSum under each control, with its interval and p-value; or why it was not measured."""
    results = measure_controls(run.model, split).results
    return {"controls": {each.control.name: each.reason or numbers(each.change) for each in results}}


def strata_of(parts: tuple[Ranks, ...], against: tuple[Ranks, ...] | None, split: Split) -> dict[str, Any]:
    """The sums of recalls by relations and words of place, and their differences from another run."""
    line: dict[str, Any] = {"difference": {"rSum": numbers(difference(parts, against))}} if against else {}
    for by in ("relations", "spatial"):
        report = measure_strata(parts[0], divide(split, by), against[0] if against else None)
        line[by] = {each.name: [round(each.sum, 1), *numbers(each.difference)] for each in report.results}
    return line


def numbers(change: Difference | None) -> list[float]:
    return [round(value, 3) for value in (change.rsum, change.low, change.high, change.p)] if change else []


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
    for title in ("difference", "controls", "relations", "spatial"):
        print_readings(title, [line for line in lines if title in line])


def print_readings(title: str, lines: Sequence[dict[str, Any]]) -> None:
    """Print a table of differences, controls or strata, with a row per run."""
    kinds = list(dict.fromkeys(kind for line in lines for kind in line[title]))
    if kinds:
        print(f"\n{title}\n\n| row | seed | {' | '.join(kinds)} |\n|{'---|' * (len(kinds) + 2)}")
    for line in lines:
        cells = [cell(line[title].get(kind, "")) for kind in kinds]
        print(f"| {line['name']} | {line['seed']} | {' | '.join(cells)} |")


def cell(found: str | list[float]) -> str:
    """Why there is no number; or a sum of recalls, if it has one, and a change with its interval and p-value."""
    if isinstance(found, str) or len(found) < 4:
        return found if isinstance(found, str) else f"{found[0]:.1f}"
    *total, change, low, high, p = found
    return "".join(f"{value:.1f}, " for value in total) + f"{change:+.1f} ({low:+.1f} to {high:+.1f}), p = {p:.3f}"


def mean(lines: Sequence[dict[str, Any]], key: str) -> float:
    return float(np.mean([line[key] for line in lines]))


if __name__ == "__main__":
    main()
