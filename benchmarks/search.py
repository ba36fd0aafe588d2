"""Measure a search of an index: time of each stage, memory, speed of adding, the first answer, and recall.

    python benchmarks/search.py --folder /some/disk --images 100000 --scenes 1000 --png recall.png

The index has random pictures of 36 regions x 256 (float16) and random summary vectors of 256 numbers, as CMSEI at width
256 stores them: 19 kB per picture. Rows are written through IndexStore.put, so that no feature files are needed. Times
are those of one sentence at a time, k=10, shortlist 200: the product that makes the shortlist, reading its encodings,
scoring them, and the whole search. In the same run: LanceDB's own exhaustive vector search for the same shortlist, and
plain MaxSim over the same regions, which has no relations. A fresh process measures the first answer, imports included,
and its memory: private pages (those of imports alone beside them) and pages of files that are mapped.

Recall is the percentage of the exact top 10 that a shortlist finds, on an index of a made world (Scenes). It is that of
the trained run --run, or of a run that is trained here on Scenes for --epochs. The script prints a Markdown table, with
the machine's load. docs/performance.md has figures.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from regard.batch import Pooled
from regard.bench.machine import PeakMemory, commit, hardware
from regard.data import Split
from regard.scenes import make_scenes
from regard.search.encoder import Encoder, Stored
from regard.search.entries import Entry, Link, pack
from regard.search.index import Index
from regard.search.query import best_rows
from regard.training.loop import train
from regard.training.recipe import Recipe
from regard.training.trained_run import TrainedRun, write_data_folder
from regard.training.weights import build_model, save_model
from regard.words import Vocabulary

REGIONS, DIM, K, SHORTLIST = 36, 256, 10, 200
DIFFERENT = 2048  # encodings; rows repeat them, but for two numbers
PROBE = """
import json, sys, time
began = time.perf_counter()
import torch, lancedb
from regard.search.index import Index

def pages(name):
    lines = open("/proc/self/smaps_rollup").read().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024

torch.set_num_threads(1)
imports, before = time.perf_counter() - began, pages("Private")
index = Index(sys.argv[1])
sentences = json.loads(sys.argv[2])
index.search(sentences[:1])
print("answered", flush=True)
for sentence in sentences:
    index.search([sentence])
names = {"private": "Private", "mapped": "Shared"}
print(json.dumps({"imports_s": imports, "imports_mib": before} | {name: pages(own) for name, own in names.items()}))
"""


def make_run(folder: Path, data: Path) -> TrainedRun:
    """Write the folder of a CMSEI of width 256 with random weights."""
    torch.manual_seed(0)
    split, recipe = Split.open(data, "train"), Recipe.read("cmsei-scenes", [f"cmsei.dim={DIM}"])
    vocabulary = Vocabulary.build(split.captions, 1)
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text(recipe.to_toml(), "utf-8")
    write_data_folder(folder, data)
    vocabulary.save(folder)
    model = build_model(recipe, split.feature_dim, vocabulary)
    save_model(model, recipe.model, split.feature_dim, folder, split.names)
    return TrainedRun(folder)


def random_entries(count: int) -> Iterator[Entry]:
    random = torch.Generator().manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(DIFFERENT, REGIONS, DIM, generator=random), dim=-1)
    pooled = torch.nn.functional.normalize(torch.randn(DIFFERENT, DIM, generator=random), dim=-1)
    encodings = pack(Pooled(vectors, torch.ones(DIFFERENT, REGIONS, dtype=torch.bool), pooled))
    summaries = np.random.default_rng(0)
    content = {"boxes": [[0.1, 0.1, 0.5, 0.5]] * REGIONS, "labels": ["dog"] * REGIONS, "relations": [], "captions": []}
    for row in range(count):
        summary = summaries.standard_normal(DIM, np.float32)
        link = Link(f"{row:08d}", f"{row:08d}", f"/pictures/{row:08d}.jpg", "/data", "train")
        # No two rows are equal, as LanceDB would store them once.
        own = np.float16([row % 1000 / 1000, row // 1000 / 1000]).tobytes()
        encoding = encodings[row % DIFFERENT]
        encoding = encoding[: -REGIONS - len(own)] + own + encoding[-REGIONS:]  # the mask is last
        yield Entry(f"{row:032x}", (link,), summary / np.linalg.norm(summary), encoding, content, {"width": 640})


def milliseconds(works: list[Callable[[], Any]]) -> dict[str, float]:
    """Return the percentiles of the time of calls, after one that is not counted."""
    works[0]()
    times = []
    for work in works:
        began = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - began))
    return {"p50": float(np.percentile(times, 50)), "p95": float(np.percentile(times, 95))}


def measure_stages(index: Index, sentences: list[str]) -> dict[str, dict[str, float]]:
    """Return the percentiles of each stage of a search, and of what is beside it."""
    snapshot, encoder, table = index._state.snapshot, index._state.encoder, index._store(index.name)._open()
    everything = np.arange(len(snapshot))
    queries = [encoder.encode_texts([sentence]) for sentence in sentences]
    shortlists = [best_rows(snapshot, query.summaries[0], everything, SHORTLIST) for query in queries]

    def fetch(rows: np.ndarray) -> Stored:
        return encoder.stored(snapshot.summaries[rows], snapshot.fetch(rows.tolist()))

    stored = [fetch(rows) for rows in shortlists]

    def flat(query: Any) -> Any:
        search = table.search(query.summaries[0], vector_column_name="summary").distance_type("dot")
        return search.select(["key", "_distance"]).limit(SHORTLIST).to_arrow()

    @torch.inference_mode()
    def maxsim(images: Stored, query: Any) -> torch.Tensor:
        regions = images.encoding
        words = query.encoding.vectors[0][query.encoding.mask[0]]
        nearness = (regions.vectors.float() @ words.T).masked_fill(~regions.mask[..., None], -torch.inf)
        return nearness.amax(1).sum(1)

    def each(work: Callable[..., Any], *columns: list[Any]) -> dict[str, float]:
        return milliseconds([lambda values=values: work(*values) for values in zip(*columns, strict=True)])

    return {
        "encode the sentence": each(lambda sentence: encoder.encode_texts([sentence]), sentences),
        "shortlist": each(lambda query: best_rows(snapshot, query.summaries[0], everything, SHORTLIST), queries),
        "fetch": each(fetch, shortlists),
        "score": each(encoder.score, stored, queries),
        "whole search": each(lambda sentence: index.search([sentence], k=K, shortlist=SHORTLIST), sentences),
        "LanceDB flat search": each(flat, queries),
        "MaxSim": each(maxsim, stored, queries),
    }


def measure_process(index: Index, sentences: list[str]) -> dict[str, float]:
    """Return the seconds until the first answer of a fresh process, and its memory after all sentences, in MiB."""
    began = time.perf_counter()
    command = [sys.executable, "-c", PROBE, str(index.folder), json.dumps(sentences)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        first = time.perf_counter() - began
        return {"first_answer_s": first, **json.loads(process.stdout.readline())}


def measure_recall_of_scenes(folder: Path, run: TrainedRun, data: Path, num_sentences: int) -> dict[str, Any]:
    index = Index.create(folder, Encoder(run))
    index.add(data, split="test")
    recall = index.check(index.sentences(num_sentences), K)
    return {"pictures": len(index), "recall": {str(length): value for length, value in recall.items()}}


def draw_recall(recall: dict[str, float], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.plot([int(length) for length in recall], list(recall.values()), "o-")
    axes.set(xscale="log", xlabel="length of the shortlist", ylabel=f"exact top {K} found (%)", ylim=(0, 102))
    axes.grid(alpha=0.3)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to write the indexes, which are deleted at the end")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--scenes", type=int, default=1000, help="pictures of the index whose recall is measured")
    parser.add_argument("--epochs", type=int, default=2, help="of the run that is trained on Scenes")
    parser.add_argument("--run", type=Path, help="a run that is trained on Scenes")
    parser.add_argument("--png", type=Path, help="draw the recall of shortlists")
    parser.add_argument("--json", type=Path, help="write the results")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        data = folder / "scenes"
        make_scenes(data, train=300 if given.run else 1000, dev=100, test=max(given.scenes, 20), pictures=0)
        captions = Split.open(data, "test").captions
        sentences = [str(captions[row]) for row in itertools.islice(range(0, len(captions), 5), given.queries)]

        index = Index.create(folder / "index", Encoder(make_run(folder / "wide", data)))
        load, began = os.getloadavg()[0], time.perf_counter()
        with PeakMemory("cpu") as memory:
            index._store(index.name).put(random_entries(given.images), {"width": "integer"})
        added = given.images / (time.perf_counter() - began)
        index.refresh()
        results: dict[str, Any] = {
            "machine": hardware("cpu"),
            "commit": commit(),
            "load": [load],
            "images": len(index),
            "bytes": index.info()["bytes"],
            "added_per_s": added,
            "adding_mib": memory.mib,
            "milliseconds": measure_stages(index, sentences),
            "process": measure_process(index, sentences),
        }
        results["load"].append(os.getloadavg()[0])
        if given.scenes:
            run = given.run or folder / "run"
            if not given.run:
                recipe = Recipe.read("cmsei-scenes", [f"train.epochs={given.epochs}", "train.summary_weight=1"])
                train(recipe, data, run, console=Console(stderr=True))
            results["scenes"] = measure_recall_of_scenes(folder / "small", TrainedRun(run), data, given.queries)
    print_table(results)
    if given.png and "scenes" in results:
        draw_recall(results["scenes"]["recall"], given.png)
    if given.json:
        given.json.write_text(json.dumps(results, indent=2) + "\n", "utf-8")


def print_table(results: dict[str, Any]) -> None:
    process = results["process"]
    before, after = results["load"]
    print(f"{results['machine']}; commit {results['commit']}; load {before:.1f} before, {after:.1f} after")
    print(f"{results['images']:,} pictures of {REGIONS} x {DIM}, {results['bytes'] / 1e9:.2f} GB\n")
    print("| stage of a search | p50, ms | p95, ms |\n|---|---|---|")
    for stage, values in results["milliseconds"].items():
        print(f"| {stage} | {values['p50']:.1f} | {values['p95']:.1f} |")
    print("\n| measure | value |\n|---|---|")
    print(f"| pictures added per second, once encoded | {results['added_per_s']:,.0f} |")
    print(f"| memory while adding, MiB | {results['adding_mib']:,.0f} |")
    print(f"| first answer of a process, s | {process['first_answer_s']:.2f} |")
    print(f"| of which imports, s | {process['imports_s']:.2f} |")
    print(f"| private memory, MiB | {process['private']:,.0f} |")
    print(f"| of which imports, MiB | {process['imports_mib']:,.0f} |")
    print(f"| mapped pages of files, MiB | {process['mapped']:,.0f} |")
    if scenes := results.get("scenes"):
        found = ", ".join(f"{length}: {value:.1f} %" for length, value in scenes["recall"].items())
        print(f"| exact top {K} of {scenes['pictures']:,} scenes that shortlists find | {found} |")


if __name__ == "__main__":
    main()
