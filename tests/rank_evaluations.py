"""Score a split with runs as one process of a job: started by tests/evaluation/test_divided.py under torchrun.

python rank_evaluations.py RUNS OUT
"""

import sys
from pathlib import Path
from unittest import mock

import numpy as np

from regard import encode, ranks
from regard.evaluation import evaluate
from regard.evaluation.cascade import cascade
from regard.training.trained_run import TrainedRun


def main() -> None:
    runs, out = map(Path, sys.argv[1:])
    # Some parts have fewer items than others, and some processes have none in the last round.
    with ranks.joined("cpu"), mock.patch.object(evaluate, "AT_ONCE", 5), mock.patch.object(encode, "BATCH", 3):
        for folder in sorted(runs.iterdir()):
            run, counts = TrainedRun(folder), []
            split = run.open_split("dev")
            scores = evaluate.scores_of(run.model, split, progress=counts.append)
            assert sum(counts) == split.num_images * split.num_texts
            np.save(out / f"{folder.name}-{ranks.rank()}.npy", scores.numpy())
            found = cascade(run.model, split, 3)
            assert found.exhaustive == evaluate.recalls(scores.numpy(), split.image_of_text)
            np.save(out / f"{folder.name}-cascade-{ranks.rank()}.npy", [found.recalls.rsum, found.work])


if __name__ == "__main__":
    main()
