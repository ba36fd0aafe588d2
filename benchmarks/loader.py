"""Measure how fast the training loader reads batches from a float16 file, compared with rows of an array in memory.

    python benchmarks/loader.py --folder /some/disk --images 20000

The file has random features, 36 regions of 2,048 per image, and random sentences. Pairs are read in random order, as in
training. For batches of 32, 64 and 128, the script prints batches, pairs and gigabytes per second, while nothing else
runs. It also prints the ratio to an upper bound: the rate of selecting random rows of an array in memory and converting
them to float32. A ratio near 1 means that the loader adds little. The file is in the page cache unless it is larger
than memory. docs/performance.md has figures.
"""

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regard.bench.machine import hardware
from regard.data import Split
from regard.data.loader import Loader
from regard.data.rows import NpyWriter
from regard.words import Vocabulary

REGIONS, FEATURES, WORDS = 36, 2048, 1000


def make_split(folder: Path, num_images: int) -> Split:
    """Write a train split of random features and sentences in the compact form, and open it."""
    random, rows = np.random.default_rng(0), 100
    with NpyWriter(folder / "train_ims.npy", (num_images, REGIONS, FEATURES), "<f2") as features:
        for first in range(0, num_images, rows):
            count = min(rows, num_images - first)
            features.write_rows(random.random((count, REGIONS, FEATURES), np.float32).astype(np.float16))
    sentences = [
        " ".join(f"w{word}" for word in random.integers(WORDS, size=random.integers(5, 21)))
        for _ in range(5 * num_images)
    ]
    (folder / "train_caps.txt").write_text("".join(f"{sentence}\n" for sentence in sentences), "utf-8")
    (folder / "train_ids.txt").write_text("".join(f"{number}\n" for number in range(num_images)), "utf-8")
    np.save(folder / "train_image_of_text.npy", np.arange(num_images, dtype=np.int32).repeat(5))
    return Split.open(folder, "train")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to write the file, which is deleted at the end")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=10.0, help="per batch size")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        split = make_split(Path(name), given.images)
        tokenizer = Vocabulary.build([f"w{word}" for word in range(WORDS)], min_count=1)
        print(
            f"{hardware('cpu')}; {given.images:,} images, {REGIONS * FEATURES * 2 * given.images / 1e9:.1f} GB float16"
        )
        for size in (32, 64, 128):
            loader = Loader(split, tokenizer, size)
            epochs = itertools.chain.from_iterable(map(loader.epoch, itertools.count()))
            rate = batches_per_second((pairs.to("cpu") for pairs in epochs), given.seconds)
            features, random = np.random.rand(2000, REGIONS, FEATURES).astype(np.float16), np.random.default_rng(0)
            rows = (random.integers(len(features), size=size) for _ in itertools.count())
            bound = batches_per_second((torch.from_numpy(features[row]).float() for row in rows), given.seconds / 2)
            read = rate * size * REGIONS * FEATURES * 2 / 1e9
            print(
                f"batches of {size:3}: per second {rate:6.1f} batches, {rate * size:7,.0f} pairs, {read:5.2f} GB; "
                f"{rate / bound:.2f} of the rate in memory"
            )


def batches_per_second(batches: Iterator[Any], seconds: float) -> float:
    next(batches)
    count, began = 0, time.perf_counter()
    for _ in batches:
        count += 1
        if (took := time.perf_counter() - began) > seconds:
            break
    return count / took


if __name__ == "__main__":
    main()
