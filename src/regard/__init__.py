"""Regard matches pictures and sentences by what is in them and how it is related."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from regard.data import Split
    from regard.evaluation.evaluate import evaluate, scores_of
    from regard.metrics import recalls
    from regard.score import score_all
    from regard.training.trained_run import TrainedRun, load

_WHERE = {
    "TrainedRun": "regard.training.trained_run",
    "load": "regard.training.trained_run",
    "Split": "regard.data",
    "evaluate": "regard.evaluation.evaluate",
    "scores_of": "regard.evaluation.evaluate",
    "recalls": "regard.metrics",
    "score_all": "regard.score",
}

__all__ = ["Split", "TrainedRun", "evaluate", "load", "recalls", "score_all", "scores_of"]


def __getattr__(name: str) -> Any:
    """Import on first use: `import regard` alone stays fast, and does not bring torch."""
    if name not in _WHERE:
        raise AttributeError(f"module 'regard' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_WHERE[name]), name)
