"""Measure a search over shards beside a search of one index: how many answers are the same, and the time of both.

    python benchmarks/shards.py --images 20000 --shards 3 --queries 1000

The pictures are those of benchmarks/search.py: 36 regions x 256 with random summary vectors, scored by a CMSEI of width
256 with random weights. One index has all of them, and each shard has one part. Each index has a server in a process of
its own, of one thread, and so has the front server of the shards. The server of the one index and the front server are
asked in turn for the best 10 of each sentence by a shortlist of 200, over HTTP and one sentence at a time.

The script prints the number of sentences with the same ten ids in the same order, the largest difference of two scores,
and the milliseconds of both servers. All processes share the cores of this machine, so that the times show what the
two steps cost; they do not show what several machines gain.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice, pairwise
from pathlib import Path

import httpx
import numpy as np

from regard.bench.machine import commit, hardware
from regard.data import Split
from regard.scenes import make_scenes
from regard.search.encoder import Encoder
from regard.search.index import Index
from regard.training.trained_run import TrainedRun
from search import SHORTLIST, K, make_run, random_entries


def make_index(folder: Path, run: TrainedRun, first: int, end: int) -> Path:
    """Write the index of the random pictures from `first` to `end`."""
    index = Index.create(folder, Encoder(run))
    index._store(index.name).put(islice(random_entries(end), first, None), {"width": "integer"})
    return folder


@contextmanager
def serving(*arguments: str) -> Iterator[str]:
    """Run `regard serve` with the arguments, and yield its address once it answers."""
    command = [sys.executable, "-m", "regard", "serve", *arguments, "--port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as server:
        try:
            assert server.stdout is not None
            found = re.search(r"http://\S+", server.stdout.readline())
            assert found, f"no server: {' '.join(command)}"
            while True:
                try:
                    httpx.get(f"{found[0]}/v1/health").raise_for_status()
                    break
                except httpx.TransportError:
                    time.sleep(0.05)
            yield found[0]
        finally:
            server.terminate()


def ask(client: httpx.Client, url: str, sentence: str) -> tuple[dict, float]:
    """Return the answer and its milliseconds. Ends the script if a shard is missing."""
    body = {"queries": [{"sentence": sentence}], "k": K, "shortlist": SHORTLIST}
    began = time.perf_counter()
    found = client.post(f"{url}/v1/search", json=body).raise_for_status().json()
    taken = 1000 * (time.perf_counter() - began)
    assert not found.get("partial"), found["partial"]
    return found["answers"][0]["hits"], taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to write the indexes, which are deleted at the end")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--shards", type=int, default=3)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--json", type=Path, help="write the results")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name, ExitStack() as stack:
        folder = Path(name)
        make_scenes(folder / "scenes", train=100, dev=10, test=max(10, given.queries // 5 + 1), pictures=0)
        captions = Split.open(folder / "scenes", "test").captions
        sentences = [str(captions[row]) for row in range(given.queries)]
        run = make_run(folder / "run", folder / "scenes")
        bounds = np.linspace(0, given.images, given.shards + 1).astype(int).tolist()
        paths = [make_index(folder / "whole", run, 0, given.images)]
        for shard, (first, end) in enumerate(pairwise(bounds)):
            paths.append(make_index(folder / str(shard), run, first, end))
        whole, *shards = [stack.enter_context(serving(str(path), "--device", "cpu")) for path in paths]
        front = stack.enter_context(serving("--shards", *shards))

        load, times, same, difference = os.getloadavg()[0], {"one index": [], "shards": []}, 0, 0.0
        with httpx.Client(timeout=60) as client:
            for url in (whole, front):
                ask(client, url, sentences[0])  # not counted
            for sentence in sentences:
                hits, taken = ask(client, whole, sentence)
                merged, taken_by_shards = ask(client, front, sentence)
                times["one index"].append(taken)
                times["shards"].append(taken_by_shards)
                same += [hit["id"] for hit in hits] == [hit["id"] for hit in merged]
                of_merged = {hit["id"]: hit["score"] for hit in merged}
                both = [abs(hit["score"] - of_merged[hit["id"]]) for hit in hits if hit["id"] in of_merged]
                difference = max([difference, *both])
        results = {
            "machine": hardware("cpu"),
            "commit": commit(),
            "load": [load, os.getloadavg()[0]],
            "images": given.images,
            "shards": given.shards,
            "queries": given.queries,
            "same_top_10": same,
            "largest_difference": difference,
            "milliseconds": {
                name: {"p50": float(np.percentile(own, 50)), "p95": float(np.percentile(own, 95))}
                for name, own in times.items()
            },
        }
    print(f"{results['machine']}, commit {results['commit']}, load {load:.1f}")
    print(f"{given.images:,} pictures, {given.shards} shards, {given.queries:,} sentences, shortlist {SHORTLIST}")
    print(f"the same top 10: {same:,} of {given.queries:,}; largest difference of a score {difference:.1e}")
    for name, own in results["milliseconds"].items():
        print(f"{name}: p50 {own['p50']:.0f} ms, p95 {own['p95']:.0f} ms per sentence")
    if given.json:
        given.json.write_text(json.dumps(results, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
