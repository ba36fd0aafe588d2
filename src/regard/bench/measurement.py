"""`regard bench`: the speed of each model, beside what the machine could do.

For each model, at its published width by default:
- scoring: `score_all` over the pairs of a test set of Flickr30K's size, or over as many as the time allows. It is
  compared with the floor (the FLOPs that grow with the number of pairs, at the speed of the fastest matrix product of
  that precision) and with the loop over captions that released code uses. The speed of the product changes with other
  work on the machine, so it is measured anew before each round of scoring, and the ratio is the median of the rounds;
- encoding of images and texts;
- training steps.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from regard.bench.inputs import Inputs
from regard.bench.loops import LOOPS
from regard.bench.machine import (
    PeakMemory,
    Product,
    best_seconds,
    commit,
    copy_gbytes,
    hardware,
    product_share,
    synchronize,
)
from regard.data.loader import Pairs
from regard.layers.encoders import build_words
from regard.matcher import Matcher
from regard.models import MODELS
from regard.runtime import Precision
from regard.score import score_all
from regard.training.config import TrainConfig
from regard.training.loop import Objective
from regard.words import WordsConfig

BATCHES = (32, 64, 128)  # sizes of the training batches
ROUNDS = 3  # of product and scoring, at least


@dataclass(frozen=True)
class Machine:
    """The machine that a row was measured on, and its measured limits."""

    hardware: str
    commit: str
    torch: str
    product_gflops: float  # float32, by the fastest library
    product_bfloat16_gflops: float
    copy_gbytes: float

    @classmethod
    def measure(cls, device: str) -> "Machine":
        float32, bfloat16 = Product(device, "float32").gflops(), Product(device, "bfloat16").gflops()
        return cls(hardware(device), commit(), torch.__version__, float32, bfloat16, copy_gbytes(device))


@dataclass(frozen=True)
class BenchRow:
    """The measurements of one model."""

    model: str
    direction: str
    precision: Precision  # of scoring; the loop over captions uses float32
    dim: int
    images: int
    texts: int
    regions: int
    words: float  # per text, mean
    seconds_per_million_pairs: float  # of the fastest round
    gflop_per_million_pairs: float
    rounds: int
    floor_ratio: float  # time divided by the time of the floor in the same round: the median of the rounds
    floor_ratio_min: float
    floor_ratio_max: float
    products_percent: float  # the share of the time of scoring that is spent in matrix products
    loop_seconds_per_million_pairs: float
    loop_speedup: float
    peak_mib: float  # memory of scoring, without the encodings
    images_per_second: float  # of encoding
    texts_per_second: float
    steps_per_second: dict[int, float] = field(default_factory=dict)  # training steps, by batch size
    step_mib: dict[int, float] = field(default_factory=dict)  # memory of a training step, by batch size
    machine: Machine | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return a flat dict, as the JSON file has it."""
        row = asdict(self)
        return row | (row.pop("machine") or {})


def bench(
    names: Sequence[str],
    inputs: Inputs,
    *,
    seconds: float = 60.0,
    dim: int = 0,
    train: bool = True,
    precision: Precision = "float32",
    device: str = "cpu",
    progress: Callable[[str], None] = lambda text: None,
) -> list[BenchRow]:
    """Measure the named models, with about `seconds` of scoring for each; SCAN in both directions.

    `dim` 0 is each model's own width. `progress` is called with the name of each model before it is measured.
    """
    machine = Machine.measure(device)
    rows = []
    for name in names:
        for direction in ("t2i", "i2t") if name == "scan" else ("",):
            progress(f"{name} {direction}".strip())
            options: dict[str, Any] = {"direction": direction} if direction else {}
            options |= {"dim": dim} if dim else {}
            rows.append(_measure(name, options, inputs, machine, seconds, train, precision, device))
    return rows


def pair_flops(model: Matcher, images: Any, texts: Any) -> int:
    """Return the FLOPs that each further pair adds to a block: those that grow with both the images and the texts.

    They are counted for the first image and the first text. Only matrix products are counted, not elementwise work.
    """
    images, texts = images[[0, 0]], texts[[0, 0]]

    def count(rows: int, columns: int) -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.score(images[:rows], texts[:columns])
        return counter.get_total_flops()

    return count(2, 2) - count(1, 2) - count(2, 1) + count(1, 1)


def _measure(
    name: str,
    options: dict[str, Any],
    inputs: Inputs,
    machine: Machine,
    seconds: float,
    train: bool,
    precision: Precision,
    device: str,
) -> BenchRow:
    config = MODELS[name].Config(**options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        words = build_words(WordsConfig(), inputs.tokenizer, config.dim)
        model = MODELS[name](config, inputs.feature_dim, words).eval().to(device)
    with torch.inference_mode():
        images, image_rate = _encode_timed(inputs.images, inputs.num_images, model.encode_images, device)
        texts, text_rate = _encode_timed(inputs.texts, inputs.num_texts, model.encode_texts, device)
        flops, lengths = _mean_flops(model, images, texts)

        def score() -> None:
            score_all(model, some_images, some_texts, precision=precision)

        # First time a few pairs, then take as many texts, and after that as many images, as the time allows.
        some_images, some_texts = images[:16], texts[:64]
        pace = best_seconds(score, device, 0.0, 1) / (len(some_images) * len(some_texts))
        pairs = seconds / pace / 5
        some_texts = texts[: max(64, min(len(texts), int(pairs / 16)))]
        some_images = images[: max(16, min(len(images), int(pairs / len(some_texts))))]
        with PeakMemory(device) as memory:
            score()
        speeds, times = zip(*_rounds(score, Product(device, precision), seconds / 2), strict=True)
        share = product_share(score, device)
        images, texts = some_images, some_texts
        gflop = flops * 1e-9 * len(images) * len(texts)
        ratios = [took * speed / gflop for speed, took in zip(speeds, times, strict=True)]
        per_million = 1e6 * min(times) / (len(images) * len(texts))
        looped = _time_loop(model, images, texts, seconds / 4, device)
    steps = {batch: _time_step(model, inputs, batch, device) for batch in BATCHES} if train else {}
    return BenchRow(
        model=name,
        direction=getattr(config, "direction", "both"),
        precision=precision,
        dim=config.dim,
        images=len(images),
        texts=len(texts),
        regions=images.mask.shape[1],
        words=float(lengths.float().mean()),
        seconds_per_million_pairs=per_million,
        gflop_per_million_pairs=flops / 1e3,
        rounds=len(ratios),
        floor_ratio=statistics.median(ratios),
        floor_ratio_min=min(ratios),
        floor_ratio_max=max(ratios),
        products_percent=share,
        loop_seconds_per_million_pairs=looped,
        loop_speedup=looped / per_million,
        peak_mib=memory.mib,
        images_per_second=image_rate,
        texts_per_second=text_rate,
        steps_per_second={batch: rate for batch, (rate, _) in steps.items()},
        step_mib={batch: mib for batch, (_, mib) in steps.items()},
        machine=machine,
    )


def _rounds(score: Callable[[], object], product: Product, budget: float) -> list[tuple[float, float]]:
    """The GFLOP/s of the product and the seconds of scoring, alternately, for `budget` seconds in all."""
    score()  # warms up
    rounds: list[tuple[float, float]] = []
    start = time.perf_counter()
    while len(rounds) < ROUNDS or time.perf_counter() - start < budget:
        speed = product.gflops(0.0, 2)
        synchronize(product.device)
        began = time.perf_counter()
        score()
        synchronize(product.device)
        rounds.append((speed, time.perf_counter() - began))
    return rounds


def _encode_timed(read: Callable[[np.ndarray], Any], count: int, encode: Any, device: str) -> tuple[Any, float]:
    """The encodings of all items, and the number of items encoded per second."""
    parts, spent = [], 0.0
    for rows in np.split(np.arange(count), range(128, count, 128)):
        batch = read(rows).to(device).to(torch.float32)
        synchronize(device)
        began = time.perf_counter()
        parts.append(encode(batch))
        synchronize(device)
        spent += time.perf_counter() - began
    return type(parts[0]).cat(parts), count / spent


def _mean_flops(model: Matcher, images: Any, texts: Any) -> tuple[float, torch.Tensor]:
    """The mean FLOPs per pair over the texts, and the lengths of the texts."""
    lengths = texts.lengths()
    kinds, counts = lengths.unique(return_counts=True)
    one_each = [texts[(lengths == kind).nonzero()[0]].trimmed() for kind in kinds]
    flops = [pair_flops(model, images[:1], text) for text in one_each]
    return sum(f * int(n) for f, n in zip(flops, counts, strict=True)) / len(texts), lengths


def _time_loop(model: Matcher, images: Any, texts: Any, seconds: float, device: str) -> float:
    """Seconds per million pairs of the loop over captions, for as many captions as the time allows."""
    loop, pick = LOOPS[type(model)], torch.randperm(len(texts), generator=torch.Generator().manual_seed(0)).to(device)
    images, few = images[:128], min(4, len(texts))
    took = best_seconds(lambda: loop(model, images, texts[pick[:few]]), device, 0.0, 1)
    count = max(few, min(len(texts), int(few * seconds / took / 2)))
    took = best_seconds(lambda: loop(model, images, texts[pick[:count]]), device, 0.0, 1)
    return 1e6 * took / (len(images) * count)


def _time_step(model: Matcher, inputs: Inputs, batch: int, device: str) -> tuple[float, float]:
    """Training steps per second, and the MiB that a step takes. On a CPU, scores are computed in blocks of 32."""
    config = TrainConfig(batch_size=batch, negatives="sum", block=0 if device == "cuda" else 32)
    objective = Objective(model.train(), config)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    rows = np.arange(batch)
    matches = torch.eye(batch, dtype=torch.bool)
    pairs = Pairs(inputs.images(rows % inputs.num_images), inputs.texts(rows % inputs.num_texts), matches).to(device)

    def step() -> None:
        losses = objective(pairs, "sum").losses
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    with PeakMemory(device) as memory:
        took = best_seconds(step, device, 1.0, 2)
    return 1 / took, memory.mib
