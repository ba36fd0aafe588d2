"""Plan large trainings and collections: shards, memory, time and machine-hours, from constants measured on one machine.

    python benchmarks/plan.py measure --out benchmarks/results/plan.json     # about three minutes on two cores
    python benchmarks/plan.py tables benchmarks/results/plan.json            # the tables of docs/scale.md
    python benchmarks/plan.py tables benchmarks/results/plan.json --gpu-hour 2.5 --core-hour 0.04 --tb-month 23

`measure` takes: FLOPs of a training step and of a pair, encoding, the stages of a search and the memory of an index at
two sizes (a line through both), rows added per second, extraction. `tables` only computes. What cannot be measured on a
machine without a GPU is an option of `tables`, printed with the tables: the speed of a GPU, the share of it that
training reaches, the bandwidth between GPUs. Prices are options too; without them, the tables have machine-hours.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from regard.bench.inputs import RandomInputs
from regard.bench.machine import commit, copy_gbytes, hardware
from regard.bench.measurement import bench, pair_flops
from regard.data.loader import Pairs
from regard.extract.extraction import extract
from regard.layers.encoders import build_words
from regard.models import MODELS
from regard.training.config import TrainConfig
from regard.training.loop import Objective
from regard.words import WordsConfig

TRAINED = ("vse_infinity", "scan", "sgraf", "cmsei", "hire", "resg")
SIZES = (20_000, 60_000)  # pictures of the measured indexes
COCO = {"images": 113_287, "sentences": 566_435, "epochs": 20}
COLLECTIONS = {"COCO": 123_287, "Conceptual Captions": 3_000_000, "a billion": 1_000_000_000}
LATENCY = 300.0  # ms per sentence that a plan must stay below, half of them for the shortlist


# Measuring ------------------------------------------------------------------------------------------------------------


def measure(out: Path) -> None:
    constants: dict[str, Any] = {
        "machine": hardware("cpu"),
        "threads": torch.get_num_threads(),
        "commit": commit(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "copy_gbytes": copy_gbytes("cpu"),
    }
    say("models")
    rows = bench(("vse_infinity", "scan", "cmsei"), RandomInputs(200, 1000), seconds=4.0, train=False)
    constants["models"] = {row.model: row.to_dict() for row in rows if row.direction != "i2t"}
    say("training steps")
    constants["steps"] = {name: step_flops(name) for name in TRAINED}
    say("extraction")
    constants["extraction_ms"] = extraction_ms()
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            say(f"an index of {size:,} pictures")
            found = Path(folder, "index.json")
            script = Path(__file__).with_name("search.py")
            command = [sys.executable, str(script), "--images", str(size), "--scenes", "20", "--epochs", "1"]
            subprocess.run([*command, "--json", str(found)], check=True, stdout=subprocess.DEVNULL)
            constants[f"index {size}"] = json.loads(found.read_text("utf-8"))
    constants["load"] = os.getloadavg()[0]
    out.write_text(json.dumps(constants, indent=1) + "\n", "utf-8")


def say(text: str) -> None:
    print(f"{datetime.now():%H:%M} {text}", file=sys.stderr, flush=True)


def step_flops(name: str) -> dict[str, float]:
    """A training step of a model at its published width: FLOPs per item and per pair, and the number of operations."""
    inputs = RandomInputs(64, 64)
    config = MODELS[name].Config()
    torch.manual_seed(0)
    words = build_words(WordsConfig(), inputs.tokenizer, config.dim)
    model = MODELS[name](config, inputs.feature_dim, words).train()
    batch, rows = 8, np.arange(8)
    pairs = Pairs(inputs.images(rows), inputs.texts(rows), torch.eye(batch, dtype=torch.bool))
    with Operations() as operations, FlopCounterMode(display=False) as counter:
        losses = Objective(model, TrainConfig(batch_size=batch))(pairs, "sum").losses
        torch.stack(list(losses.values())).sum().backward()
    with torch.no_grad():
        images, texts = model.eval().encode_images(pairs.images), model.encode_texts(pairs.texts)
        # The gradients take twice the FLOPs of the scores.
        per_pair = 3 * float(np.mean([pair_flops(model, images[:1], texts[[row]].trimmed()) for row in rows]))
    return {
        "per_pair": per_pair,
        "operations": operations.count,
        "per_item": counter.get_total_flops() / batch - batch * per_pair,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "encoding_bytes": sum(tensor.nbytes for tensor in images.tensors().values()) / batch,
    }


class Operations(TorchDispatchMode):
    """Counts the operations of torch. A GRU has some for each word on a CPU, and only one on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operation: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        self.count += 1
        return operation(*arguments, **(options or {}))


def extraction_ms() -> float:
    """Milliseconds per photograph of 640 x 480 with windows, colours and edges: everything that needs no weights."""
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        photographs = Path(folder, "photographs")
        photographs.mkdir()
        for number in range(60):
            pixels = random.integers(0, 255, (12, 16, 3), np.uint8)
            Image.fromarray(pixels).resize((640, 480)).save(photographs / f"{number}.jpg")
        report = extract(photographs, Path(folder, "out"))
        return 1000 * report.seconds / report.extracted


# Planning -------------------------------------------------------------------------------------------------------------


def print_tables(constants: dict[str, Any], given: argparse.Namespace) -> None:
    print(f"Constants: {constants['machine']}, {constants['date']}, commit {constants['commit']}.\n")
    print(
        f"Assumed, not measured: a GPU of {given.gpu_tflops:g} TFLOP/s (bfloat16) of which training reaches "
        f"{given.gpu_share:g} %, and {given.launch_us:g} µs per operation; {given.link_gbytes:g} GB/s between GPUs; "
        f"machines of {given.cores} cores and {given.memory:g} GB.\n"
    )
    print_training(constants, given)
    print_collections(constants, given)
    print_limits(constants, given)


def print_training(constants: dict[str, Any], given: argparse.Namespace) -> None:
    batch, gpus = given.batch, given.gpus
    steps = COCO["epochs"] * COCO["sentences"] / batch
    print(f"### {COCO['epochs']} epochs of MS-COCO, batch {batch}, {gpus} GPUs ({steps:,.0f} steps)\n")
    price = " | price" if given.gpu_hour else ""
    head = "TFLOP per step | in pairs | ms of arithmetic | ms of launches | ms of exchange | hours | GPU-hours"
    print(f"| model | {head}{price} |\n|---|---|---|---|---|---|---|---|" + ("---|" if price else ""))
    fastest = math.inf
    for name, step in constants["steps"].items():
        pairs, items = step["per_pair"] * batch**2, step["per_item"] * batch
        arithmetic = (pairs + items) / (gpus * given.gpu_tflops * 1e12 * given.gpu_share / 100)
        # Forward, each receives the encodings of all; backward, their gradients are summed; then those of the weights.
        exchanged = 3 * batch * step["encoding_bytes"] + 2 * 4 * step["parameters"]
        launches = step["operations"] * given.launch_us * 1e-6  # the GPU works meanwhile
        exchange = exchanged / (given.link_gbytes * 1e9)
        seconds = max(arithmetic, launches) + exchange
        hours, fastest = steps * seconds / 3600, min(fastest, seconds)
        cells = [name, f"{(pairs + items) / 1e12:.2f}", f"{100 * pairs / (pairs + items):.0f} %"]
        cells += [f"{1000 * value:.1f}" for value in (arithmetic, launches, exchange)]
        cells += [f"{hours:.1f}", f"{hours * gpus:.0f}", *([f"{hours * gpus * given.gpu_hour:,.0f}"] if price else [])]
        print(f"| {' | '.join(cells)} |")
    row = 36 * 2048 * 2
    print(
        f"\nThe fastest of them reads {batch / fastest:,.0f} images per second, {batch * row / fastest / 1e9:.1f} GB/s "
        f"of features in float16, from {COCO['images'] * row / 1e9:.0f} GB.\n"
    )


def print_collections(constants: dict[str, Any], given: argparse.Namespace) -> None:
    index = Line(constants)
    print(f"### Collections, CMSEI of width 256, a shortlist of 200, answers within {LATENCY:.0f} ms\n")
    rows: dict[str, list[str]] = {}
    for size in COLLECTIONS.values():
        shards = index.shards(size, given)
        part = size / shards
        hours = {
            "extraction": size * constants["extraction_ms"] / 3.6e6 * constants["threads"],
            "encoding": size / constants["models"]["cmsei"]["images_per_second"] / 3600 * constants["threads"],
            "adding": size / index.added / 3600,
        }
        storage = size * (index.bytes + 36 * 2048 * 2) / 1e12
        cells = {
            "photographs": f"{size:,}",
            "features, float16": amount(size * 36 * 2048 * 2),
            "the index: encodings, vectors, contents": amount(size * index.bytes),
            "memory of the summaries": amount(size * 4 * 256),
            "shards": f"{shards:,}",
            "photographs per shard": f"{part:,.0f}",
            "memory per shard": amount(index.memory(part)),
            "ms for the shortlist of a shard": f"{index.shortlist(part):.0f}",
            "ms for a sentence": f"{index.query(part, shards):.0f}",
            "sentences per second": f"{index.rate(part, shards, given):,.0f}",
            "core-hours: extraction without a network": f"{hours['extraction']:,.0f}",
            "core-hours: encoding": f"{hours['encoding']:,.0f}",
            "hours of adding, one writer per shard": f"{hours['adding'] / shards:,.1f}",
        }
        if given.core_hour or given.tb_month:
            once = given.core_hour * (hours["extraction"] + hours["encoding"] + hours["adding"])
            kept = given.tb_month * storage + given.core_hour * 730 * shards * given.cores
            cells |= {"price, once": f"{once:,.0f}", "price per month": f"{kept:,.0f}"}
        for key, cell in cells.items():
            rows.setdefault(key, []).append(cell)
    print(f"| | {' | '.join(COLLECTIONS)} |\n|{'---|' * (len(COLLECTIONS) + 1)}")
    for key, cells_of in rows.items():
        print(f"| {key} | {' | '.join(cells_of)} |")


def print_limits(constants: dict[str, Any], given: argparse.Namespace) -> None:
    """Print at which size of one machine each part reaches its limit, the first one first."""
    index = Line(constants)
    limits = {
        f"the exact shortlist takes {LATENCY / 2:.0f} ms ({constants['threads']} threads)": index.most_in(LATENCY / 2),
        f"memory reaches {given.memory:g} GB": index.most_within(given.memory * 1e9),
        "adding takes a day": 86_400 * index.added,
        f"encoding takes a day ({given.cores} cores)": 86_400
        * constants["models"]["cmsei"]["images_per_second"]
        / constants["threads"]
        * given.cores,
        f"extraction without a network takes a day ({given.cores} cores)": 86_400_000
        / constants["extraction_ms"]
        / constants["threads"]
        * given.cores,
        "the disk holds 4 TB of encodings": 4e12 / index.bytes,
    }
    print("\n### What breaks first on one machine\n\n| photographs | limit |\n|---|---|")
    for text, size in sorted(limits.items(), key=lambda item: item[1]):
        print(f"| {size:,.0f} | {text} |")


class Line:
    """What an index costs as a function of its size: lines through two measured sizes."""

    def __init__(self, constants: dict[str, Any]) -> None:
        self.small, self.large = (constants[f"index {size}"] for size in SIZES)
        self.bytes = (self.large["bytes"] - self.small["bytes"]) / (SIZES[1] - SIZES[0])
        self.added, self.threads = self.large["added_per_s"], constants["threads"]
        self.stages = {stage: values["p50"] for stage, values in self.large["milliseconds"].items()}

    def memory(self, size: float) -> float:
        """Bytes of a server's private memory and of the summaries, which it maps."""
        return max(0.0, self._at(size, lambda found: found["process"]["private"] * 2**20)) + size * 4 * 256

    def shortlist(self, size: float) -> float:
        return max(0.0, self._at(size, lambda found: found["milliseconds"]["shortlist"]["p50"]))

    def query(self, size: float, shards: int) -> float:
        """Milliseconds of a sentence, all shards working at once, each on its part of the shortlist."""
        rest = self.stages["fetch"] + self.stages["score"]
        return self.stages["encode the sentence"] + self.shortlist(size) + rest / min(shards, 200)

    def rate(self, size: float, shards: int, given: argparse.Namespace) -> float:
        """Sentences per second if the cores of all shards are busy."""
        rest = (self.stages["fetch"] + self.stages["score"]) / min(shards, 200)
        return 1000 / (self.shortlist(size) + rest) * given.cores / self.threads

    def shards(self, size: int, given: argparse.Namespace) -> int:
        """The number of machines such that each part fits into memory and its shortlist into half of the time."""
        return max(1, math.ceil(size / min(self.most_in(LATENCY / 2), self.most_within(given.memory * 1e9))))

    def most_in(self, milliseconds: float) -> float:
        return _largest(lambda size: self.shortlist(size) <= milliseconds)

    def most_within(self, memory: float) -> float:
        return _largest(lambda size: self.memory(size) <= memory)

    def _at(self, size: float, value: Any) -> float:
        first, second = value(self.small), value(self.large)
        return float(first + (second - first) * (size - SIZES[0]) / (SIZES[1] - SIZES[0]))


def _largest(is_enough: Any, most: float = 1e12) -> float:
    """The largest size that is enough, to a part in a thousand."""
    low, high = 1.0, most
    while high > 1.001 * low:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if is_enough(middle) else (low, middle)
    return low


def amount(size: float) -> str:
    """A number of bytes with a unit."""
    power = min(4, int(math.log10(max(size, 1)) / 3))
    return f"{size / 1000**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("measure").add_argument("--out", type=Path, required=True)
    tables = verbs.add_parser("tables", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    tables.add_argument("constants", type=Path)
    for name, value, text in (
        ("gpus", 8, "number of GPUs"),
        ("gpu-tflops", 400.0, "speed of a GPU"),
        ("gpu-share", 30.0, "percentage of that speed that training reaches"),
        ("launch-us", 6.0, "microseconds that Python and CUDA take to start an operation"),
        ("link-gbytes", 50.0, "GB/s between GPUs"),
        ("batch", 256, "sentences per step"),
        ("cores", 16, "cores of a machine that searches"),
        ("memory", 64.0, "GB of memory of a machine that searches"),
        ("gpu-hour", 0.0, "price"),
        ("core-hour", 0.0, "price"),
        ("tb-month", 0.0, "price"),
    ):
        tables.add_argument(f"--{name}", type=type(value), default=value, help=text)
    given = parser.parse_args()
    if given.verb == "measure":
        measure(given.out)
    else:
        print_tables(json.loads(given.constants.read_text("utf-8")), given)


if __name__ == "__main__":
    main()
