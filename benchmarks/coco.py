"""Measure the time and memory of scoring all pairs of a COCO-sized test set.

    python benchmarks/coco.py --captions FILE --model scan

The set has 5,000 images of 36 regions with random features, and 25,000 sentences: 125 million pairs. The sentences are
the lines of FILE, repeated if there are fewer. Give real captions, because the lengths of sentences affect the time.

The script calls the same functions as `regard evaluate`. It prints the seconds for encoding and scoring, the seconds
for the recalls, and the peak memory of the process. The weights are random, so the recalls mean nothing. It also prints
the speed of matrix products (GFLOP/s), to compare machines. docs/performance.md has figures.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from regard.bench.machine import Product, hardware
from regard.cli.process import tune_process
from regard.data import Split
from regard.data.rows import NpyWriter
from regard.evaluation.evaluate import scores_of
from regard.metrics import recalls, render
from regard.runtime import device_named
from regard.training.recipe import Recipe
from regard.training.weights import build_model
from regard.words import Vocabulary

REGIONS, FEATURES = 36, 2048


def make_split(folder: Path, lines: list[str], num_images: int) -> Split:
    """Write a test split of random features in the compact form, and open it."""
    random, rows = np.random.default_rng(0), 100
    with NpyWriter(folder / "test_ims.npy", (num_images, REGIONS, FEATURES), "<f2") as features:
        for first in range(0, num_images, rows):
            count = min(rows, num_images - first)
            features.write_rows(random.random((count, REGIONS, FEATURES), np.float32).astype(np.float16))
    captions = [lines[number % len(lines)] for number in range(5 * num_images)]
    (folder / "test_caps.txt").write_text("".join(f"{caption}\n" for caption in captions), "utf-8")
    (folder / "test_ids.txt").write_text("".join(f"{number}\n" for number in range(num_images)), "utf-8")
    np.save(folder / "test_image_of_text.npy", np.arange(num_images, dtype=np.int32).repeat(5))
    return Split.open(folder, "test")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=Path, required=True, help="a text file with one caption per line")
    parser.add_argument("--model", default="scan", help="the beginning of a recipe with words of its own: MODEL-f30k")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16"), default="float32", help="of per-pair matrix products"
    )
    parser.add_argument(
        "--encodings", choices=("float32", "float16"), default="float32", help="dtype of the stored encodings"
    )
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    device, lines = device_named(given.device), given.captions.read_text("utf-8").splitlines()
    tune_process()
    with tempfile.TemporaryDirectory() as name:
        split = make_split(Path(name), lines, given.images)
        torch.manual_seed(0)
        vocabulary = Vocabulary.build(lines, min_count=4)
        model = build_model(Recipe.read(f"{given.model}-f30k"), FEATURES, vocabulary).eval().to(device)
        began = time.perf_counter()
        scores = scores_of(model, split, precision=given.precision, encodings=given.encodings)
        scored = time.perf_counter()
        measured = recalls(scores.numpy(), split.image_of_text)
        ended, peak = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    words = np.mean([len(line.split()) for line in lines])
    product = Product(device, given.precision).gflops()
    print(f"{given.model} on {hardware(device)}; product {product:,.0f} GFLOP/s {given.precision}")
    print(f"{scores.numel() / 1e6:,.1f} million pairs, {words:.1f} words per sentence")
    print(f"encoding and scoring: {scored - began:,.0f} s")
    print(f"recalls: {ended - scored:.1f} s; peak memory {peak:.2f} GiB")
    print(render(measured))


if __name__ == "__main__":
    main()
