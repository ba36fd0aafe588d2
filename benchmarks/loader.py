"""Whether the loader keeps up: batches read from a float16 file on disk, beside a copy of the same rows in memory.

    python benchmarks/loader.py --folder /some/disk --images 20000

Random features in the usual layout, 36 regions of 2,048; a sentence is drawn at random, as in training. Prints, for
batches of 32, 64 and 128: pairs a second while nothing else runs, the bytes a second that this reads, and the same
beside a gather of such rows from an array in memory, widened to float32: the least that a batch costs. The file
is warm (in the page cache) unless it is larger than memory. See docs/performance.md for figures.
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


def make(folder: Path, num_images: int) -> Split:
    random, rows = np.random.default_rng(0), 100
    with NpyWriter(folder / "train_ims.npy", (num_images, REGIONS, FEATURES), "<f2") as features:
        for first in range(0, num_images, rows):
            count = min(rows, num_images - first)
            features.write(random.random((count, REGIONS, FEATURES), np.float32).astype(np.float16))
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
    parser.add_argument("--folder", type=Path, help="where to put the file, for the time that this runs")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each size of batch")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        split = make(Path(name), given.images)
        tokenizer = Vocabulary.build([f"w{word}" for word in range(WORDS)], min_count=1)
        print(
            f"{hardware('cpu')}; {given.images:,} images, {REGIONS * FEATURES * 2 * given.images / 1e9:.1f} GB float16"
        )
        for size in (32, 64, 128):
            loader = Loader(split, tokenizer, size)
            rate = batches_a_second((pairs.to("cpu") for pairs in loader.epoch(0)), given.seconds)
            held, random = np.random.rand(2000, REGIONS, FEATURES).astype(np.float16), np.random.default_rng(0)
            rows = (random.integers(len(held), size=size) for _ in itertools.count())
            least = batches_a_second((torch.from_numpy(held[some]).float() for some in rows), given.seconds / 2)
            read = rate * size * REGIONS * FEATURES * 2 / 1e9
            print(
                f"batches of {size:3}: {rate:6.1f} a second, {rate * size:7,.0f} pairs, {read:5.2f} GB; "
                f"{rate / least:.2f} of a gather in memory"
            )


def batches_a_second(batches: Iterator[Any], seconds: float) -> float:
    next(batches)
    count, began = 0, time.perf_counter()
    for _ in batches:
        count += 1
        if (took := time.perf_counter() - began) > seconds:
            break
    return count / took


if __name__ == "__main__":
    main()
