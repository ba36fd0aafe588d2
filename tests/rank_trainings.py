"""Train every model for some steps as one process of a job: run by tests/training/test_ranks.py under torchrun.

python rank_trainings.py DATA OUT
"""

import json
import sys
from pathlib import Path
from unittest import mock

from rich.console import Console

import made
from regard import ranks
from regard.models import MODELS
from regard.training import loop

# Everything that Regard draws, uneven parts, and batches that end in the middle of an accumulation.
SETTINGS = [
    "words.dropout=0.2",
    "train.precision=64-true",
    "train.batch_size=7",
    "train.epochs=4",
    "train.learning_rate=0.002",
    "train.region_drop=0.2",
    "train.word_drop=0.2",
    "train.accumulate=2",
]
VARIANTS = {name: [f"{name.replace('_', '-')}-f8k"] for name in MODELS if name != "zero_shot"} | {
    "scan-shortlist": ["scan-f8k", "train.shortlist=2", "train.summary_weight=0.5"],
    "cmsei-shortlist": ["cmsei-f8k", "train.shortlist=1"],  # with images that have no text of a process
    "sgraf-blocks": ["sgraf-f8k", "train.block=2", "sgraf.dropout=0.3"],
    "tvrn-noise": ["tvrn-f8k", "tvrn.dropout=0.3"],
    "cmsei-gpo": ["cmsei-f8k", "cmsei.summary.pooling=gpo", "cmsei.summary.region_mlp=true", "train.summary_weight=1"],
    "hire-swapped": ["hire-f8k", "train.swapped=true"],
    "scan-rank": ["scan-f8k", "train.negatives_from=rank"],
}


def threads() -> list[str]:
    """The names of this process's threads, also of those that are not Python's."""
    return [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]


def main() -> None:
    data, out = map(Path, sys.argv[1:])
    score_batch, pairs = loop.score_batch, []

    def counted(model, images, texts, block):
        pairs[-1] += len(images) * len(texts)
        return score_batch(model, images, texts, block)

    with ranks.joined("cpu"), mock.patch.object(loop, "score_batch", counted):
        for name, (recipe, *settings) in VARIANTS.items():
            pairs.append(0)
            loop.train(made.recipe(recipe, *SETTINGS, *settings), data, out / name, console=Console(quiet=True))
        place = ranks.rank()
    assert not any("gloo" in name for name in threads()), threads()
    (out / f"pairs-{place}.json").write_text(json.dumps(dict(zip(VARIANTS, pairs, strict=True))))


if __name__ == "__main__":
    main()
