"""`regard bench`: what it counts is right, and what it measures is there."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import made
from regard.bench import machine, measurement
from regard.bench.inputs import RandomInputs, SplitInputs
from regard.bench.machine import PeakMemory, best_seconds, product_share
from regard.bench.measurement import ROUNDS, Machine, bench, pair_flops
from regard.bench.report import draw_bench, table
from regard.data import Split
from regard.models import MODELS

BATCHES = (2, 3)


class Clock:
    now, slow = 0.0, 1.0  # seconds; how long a scoring takes

    def read(self):
        self.now += 1e-9
        return self.now


MACHINE = Machine("a processor", "0000000", "2.9", 100.0, 200.0, 10.0)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Run each piece of work once, on small batches: these tests check what is measured, not how steady it is."""
    monkeypatch.setattr(measurement, "BATCHES", BATCHES)
    monkeypatch.setattr(machine, "SHAPES", {"cpu": (64, 64, 64)})
    for module in (machine, measurement):
        monkeypatch.setattr(module, "best_seconds", lambda work, device, *_: best_seconds(work, device, 0.0, 1))


@pytest.mark.parametrize(
    ("direction", "expected"), [("t2i", 2 * 6 * 9 * 16 + 2 * 6 * 6 * 9), ("i2t", 2 * 6 * 9 * (16 + 9))]
)
def test_the_flops_of_a_pair_are_those_of_scans_equations(direction, expected):
    """The similarities of 6 regions and 9 words of width 16, and the norms by Gram matrix."""
    model = made.model("scan", direction=direction)
    with torch.no_grad():
        images, texts = model.encode_images(made.images()), model.encode_texts(made.texts(words=7))
    assert pair_flops(model, images, texts) == expected


def test_the_shortest_run_counts():
    clock = []
    assert 0 <= best_seconds(lambda: clock.append(1), "cpu", budget=0.0, least=3) < 1
    assert len(clock) == 4  # one to warm up


def test_peak_memory_is_what_was_used_between():
    with PeakMemory("cpu") as memory:
        torch.ones(2**24).sum()  # 64 MiB
    assert 60 < memory.mib < 100


def test_every_model_is_measured():
    rows = bench(list(MODELS), RandomInputs(6, 4, 4, 8), seconds=0.01, dim=16)
    assert [row.model for row in rows] == sorted([*MODELS, "scan"])
    assert [row.direction for row in rows if row.model == "scan"] == ["t2i", "i2t"]
    for row in rows:
        assert (row.images, row.texts, row.regions, row.dim) == (6, 4, 4, 16)
        assert 5 <= row.words <= 20
        flat = row.to_dict()
        numbers = [value for value in flat.values() if isinstance(value, float)]
        assert all(math.isfinite(number) and number >= 0 for number in numbers)
        assert flat["floor_ratio_min"] <= flat["floor_ratio"] <= flat["floor_ratio_max"]
        assert flat["rounds"] >= ROUNDS
        assert 0 < flat["products_percent"] <= 100
        assert flat["loop_speedup"] == pytest.approx(
            flat["loop_seconds_per_million_pairs"] / flat["seconds_per_million_pairs"]
        )
        assert list(row.steps_per_second) == list(row.step_mib) == list(BATCHES)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_each_round_is_compared_with_the_product_of_its_own_moment_and_precision(precision, monkeypatch):
    """On a machine that becomes ten times slower now and then, both become slower, and the ratio stays."""
    found, times = [], iter([0.1, 1.0, 0.1, 0.3])
    clock = Clock()

    def gflops(product, *_):
        found.append(product.precision)
        clock.slow = next(times, 0.1)
        return 100 / clock.slow

    def score_all(model, images, texts, **_):
        clock.now += clock.slow
        return made_scores(model, images, texts)

    made_scores = measurement.score_all
    monkeypatch.setattr(measurement.Machine, "measure", classmethod(lambda cls, device: MACHINE))
    monkeypatch.setattr(measurement.Product, "gflops", gflops)
    monkeypatch.setattr(measurement, "score_all", score_all)
    monkeypatch.setattr(measurement, "time", SimpleNamespace(perf_counter=lambda: clock.read()))
    (row,) = bench(["cmsei"], RandomInputs(6, 9, 4, 8), seconds=1.0, dim=16, train=False, precision=precision)
    pairs = row.images * row.texts
    assert row.rounds == len(found) == ROUNDS
    assert set(found) == {precision}
    ratio = 100 / (row.gflop_per_million_pairs * 1e-6 * pairs)
    assert [row.floor_ratio, row.floor_ratio_min, row.floor_ratio_max] == pytest.approx([ratio] * 3)
    assert row.seconds_per_million_pairs == pytest.approx(1e6 * 0.1 / pairs)


def test_the_ratio_is_the_median_of_the_rounds_and_its_spread_is_reported():
    (row,) = bench(["cmsei"], RandomInputs(6, 9, 4, 8), seconds=0.01, dim=16, train=False, precision="bfloat16")
    row = replace(row, floor_ratio=1.5, floor_ratio_min=1.25, floor_ratio_max=4.0, products_percent=61.0)
    assert "| cmsei bfloat16 |" in table([row])
    assert "1.50 (1.25-4.00) |         61 |" in table([row])


def test_the_share_of_products_is_that_of_their_own_time():
    square = torch.randn(1000, 1000)  # large, so that the time beside the product is small
    for product in (lambda: square @ square, lambda: torch.nn.functional.linear(square, square, square[0])):
        # Another process may interrupt what is beside the product, but hardly ten times.
        assert max(product_share(product, "cpu") for _ in range(10)) > 90
    assert product_share(lambda: square.exp(), "cpu") == 0
    assert 0 < product_share(lambda: (square @ square).exp(), "cpu") < 100


def test_a_split_is_measured_too(tmp_path):
    inputs = SplitInputs.of(Split.open(made.folder(tmp_path / "data"), "dev"))
    (row,) = bench(["cmsei"], inputs, seconds=0.01, dim=8, train=False)
    assert (row.images, row.texts, row.regions) == (12, 24, 5)
    assert row.steps_per_second == {}


def test_the_table_and_the_picture_have_a_row_a_model(tmp_path):
    rows = bench(["scan", "vse_infinity"], RandomInputs(4, 5, 3, 8), seconds=0.01, dim=8, train=False)
    lines = table(rows).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:5]] == ["scan t2i", "scan i2t", "vse_infinity"]
    assert "GFLOP/s" in lines[-1]
    draw_bench(rows, tmp_path / "bench.png")
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
