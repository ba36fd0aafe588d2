"""Measure the peak memory of training on a feature file that is larger than memory.

    python benchmarks/train_memory.py [--gigabytes 3 30] [--steps 60]

For each size, the script makes a sparse file of float16 features [image, 36, 2048], with five sentences per image. It
trains a small SCAN on it with `regard train`, in a separate process, until `steps` steps are done, and prints the peak
resident memory. The peak must stay below 4 GB (otherwise the exit code is 1) and must not grow with the file.
docs/results.md has figures.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

REGIONS, FEATURES = 36, 2048
LIMIT = 4.0  # GB
SETTINGS = ["scan.dim=128", "words.word_dim=64", "train.batch_size=128", "train.epochs=1", "train.log_every=10"]


def make_split(folder: Path, split: str, num_images: int) -> None:
    """Write a split. Its features are a hole in a sparse file, which takes no disk space. Sentences are streamed."""
    with open(folder / f"{split}_ims.npy", "wb") as file:
        header = {"descr": "<f2", "fortran_order": False, "shape": (num_images, REGIONS, FEATURES)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + num_images * REGIONS * FEATURES * 2)
    with open(folder / f"{split}_ids.txt", "w") as ids, open(folder / f"{split}_caps.txt", "w") as captions:
        for image in range(num_images):
            ids.write(f"{split}-{image:08d}\n")
            for number in range(5):
                captions.write(f"picture {image % 9973} shows thing {image % 101} near thing {number} on a field\n")


def measure(gigabytes: float, steps: int) -> float:
    """Train for `steps` steps, print time and memory, and return the peak memory in GB."""
    num_images = int(gigabytes * 1e9 / (REGIONS * FEATURES * 2))
    with tempfile.TemporaryDirectory() as name:
        folder, out = Path(name), Path(name) / "run"
        make_split(folder, "train", num_images)
        make_split(folder, "dev", 10)
        command = [sys.executable, "-m", "regard", "train", "scan-f30k", "--data", name, "--out", str(out)]
        command += [word for setting in SETTINGS for word in ("--set", setting)]
        began = time.monotonic()
        training = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        first = None
        while training.poll() is None and (done := last_step(out)) < steps:
            first = first or (done and time.monotonic())
            time.sleep(0.05)
        took = time.monotonic() - began
        training.send_signal(signal.SIGTERM)  # it stops after the current step and saves a checkpoint
        errors = training.communicate()[1]
        if "Stopped at step" not in errors:
            sys.exit(errors or "Training ended before it was stopped.")
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
        print(
            f"{gigabytes:5g} GB of features, {num_images:,} images, {5 * num_images:,} sentences: peak {peak:.2f} GB; "
            f"{took:.0f} s for {steps} steps of 128 pairs, {(first or began) - began:.0f} s of them for the first ten",
            flush=True,
        )
    return peak


def last_step(out: Path) -> int:
    """Return the last step that is logged in a run's metrics; 0 if there is none."""
    try:
        lines = (out / "metrics.jsonl").read_text().splitlines()
        return int(json.loads(lines[-1])["step"])
    except (OSError, IndexError, ValueError):
        return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[3, 30], help="sizes of the feature file")
    parser.add_argument("--steps", type=int, default=60)
    given = parser.parse_args()
    print(f"{os.cpu_count()} cores, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'not set')}")
    peaks = [
        measure(size, given.steps) for size in sorted(given.gigabytes)
    ]  # ru_maxrss is the peak of all children so far, so the sizes increase
    sys.exit(f"The peak is above {LIMIT:g} GB." if max(peaks) >= LIMIT else 0)


if __name__ == "__main__":
    main()
