"""Read the checkpoints and vocabularies that the authors of models published, without running any code of theirs.

A checkpoint is what `torch.save` wrote: {"model": [state dict of images, of texts, perhaps of pairs], "opt": the
arguments of the training script}. Its tensors, numbers and arguments are read; anything else is refused.
"""

import argparse
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regard.data.pickles import read_instance
from regard.files import InputError
from regard.process import SharedChange
from regard.words import Vocabulary

MOST_WORDS = 1000  # per caption: the authors cut none
PARTS = ("images", "texts", "pairs")
SHOWN = 12  # tensors in a message


@dataclass(frozen=True)
class PublishedCheckpoint:
    """The tensors of each part of a model, and the arguments that it was trained with, under the authors' names."""

    path: Path
    parts: dict[str, dict[str, Tensor]]  # of PARTS, as many as the file has
    arguments: dict[str, Any] = field(default_factory=dict)  # empty if the file has none

    def layout_error(self, source: str, expected: str, reason: str) -> InputError:
        """Return the error for tensors that are not those of `source`: what was found, and what was expected."""
        tensors = [(part, name, tensor) for part, state in self.parts.items() for name, tensor in state.items()]
        found = ", ".join(f"{part}: {name} {list(tensor.shape)}" for part, name, tensor in tensors[:SHOWN])
        more = f", … ({len(tensors)} in all)" if len(tensors) > SHOWN else ""
        return InputError(
            f"{self.path} is not a checkpoint of {source}: {reason}. Found {found}{more}. Expected {expected}."
        )


def read_checkpoint(path: Path) -> PublishedCheckpoint:
    """Read a file that `torch.save` wrote. Raises InputError if it contains anything but tensors and arguments."""
    content = _load(path)
    holder = content if isinstance(content, Mapping) else {}
    model = next((holder[key] for key in ("model", "state_dict", "net") if key in holder), content)
    parts = [model] if isinstance(model, Mapping) else model
    if not isinstance(parts, Sequence) or not 1 <= len(parts) <= len(PARTS) or not all(map(_is_state, parts)):
        keys = ", ".join(f"{key} ({type(value).__name__})" for key, value in list(holder.items())[:SHOWN])
        raise InputError(
            f"{path} contains {keys or type(content).__name__}: expected a dictionary whose entry `model` is a list of "
            "state dicts, of images and of texts, as the authors' training scripts save it."
        )
    arguments = holder.get("opt", holder.get("args"))
    if not isinstance(arguments, Mapping):
        arguments = vars(arguments) if isinstance(arguments, argparse.Namespace) else {}
    named = {
        part: {name.removeprefix("module."): tensor for name, tensor in state.items()}
        for part, state in zip(PARTS, parts, strict=False)
    }
    return PublishedCheckpoint(path, named, dict(arguments))


def read_vocabulary(path: Path, size: int, also: Sequence[str] = ()) -> Vocabulary:
    """Read the vocabulary of a checkpoint with `size` word vectors: JSON, or a pickled Vocabulary of the authors.

    Captions are split as the authors did. `also` are words that a training script appended to the file's. Raises
    InputError if there is another number of words.
    """
    if not path.is_file():
        raise InputError(
            f"{path} is not a file: expected the vocabulary of the checkpoint, such as f30k_precomp_vocab.json."
        )
    with open(path, "rb") as file:
        is_pickle = file.read(1) not in (b"{", b" ", b"\n", b"\r", b"\t", b"\xef", b"")
    read = read_instance(path, "Vocabulary").get("word2idx") if is_pickle else None
    if is_pickle and not _is_numbering(read):
        raise InputError(f"{path} has no word2idx of words and their numbers: expected a pickled Vocabulary, or JSON.")
    vocabulary = Vocabulary.of_numbers(read, path) if read else Vocabulary.load(path)
    entries = vocabulary.entries
    if len(entries) < size:
        entries += tuple(word for word in also if word not in entries)[: size - len(entries)]
    if len(entries) != size:
        raise InputError(
            f"{path} has {len(vocabulary)} words, and the checkpoint has vectors of {size}: give the file that it was "
            "trained with."
        )
    return Vocabulary(entries, max_words=MOST_WORDS, punctuation=True)


def _set_allowed(classes: list[Any] | None) -> None:
    """Let torch.load read `classes` only; for None, read what these checkpoints have in addition."""
    if classes is not None:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(classes)
        return
    scalar = np.float64(0).__reduce__()[0]  # numpy's function that makes a number; best_rsum may be one
    added: list[Any] = [argparse.Namespace, np.dtype, type(np.dtype("float64")), type(np.dtype("int64"))]
    added += [(scalar, f"{module}.scalar") for module in ("numpy.core.multiarray", "numpy._core.multiarray")]
    torch.serialization.add_safe_globals(added)


# Not torch.serialization.safe_globals, which also takes away what the caller had allowed.
_ALLOWED: SharedChange[list[Any] | None] = SharedChange(torch.serialization.get_safe_globals, _set_allowed, None)


def _load(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"{path} is not a file: expected a checkpoint of the authors, such as model_best.pth.tar.")
    try:
        with _ALLOWED:
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if name := _refused(str(error)):
            raise InputError(
                f"{path} names {name}, which could run code, so it is not read. If you trust it, keep its tensors and "
                "arguments alone: c = torch.load(FILE, weights_only=False); torch.save({'model': c['model'], 'opt': "
                "vars(c['opt'])}, NEW)."
            ) from None
        raise InputError(f"{path} is not what torch.save writes: expected a checkpoint of the authors.") from None
    except Exception as error:  # a damaged archive raises almost any exception
        if isinstance(error, OSError) and error.filename:
            raise
        raise InputError(
            f"{path} cannot be read ({type(error).__name__}): it is damaged, or not what torch.save writes."
        ) from None


def _refused(message: str) -> str | None:
    """The class that torch refuses, of its message `... GLOBAL module.name was not an allowed global ...`."""
    words = message.replace("`", " ").split()
    return next((name for before, name in pairwise(words) if before == "GLOBAL" and "." in name), None)


def _is_state(part: Any) -> bool:
    return (
        isinstance(part, Mapping)
        and bool(part)
        and all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in part.items())
    )


def _is_numbering(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(word, str) and type(number) is int for word, number in value.items()
    )
