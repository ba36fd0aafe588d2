"""Load the transformers package quietly, with its errors as one line each."""

import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from regard.files import InputError
from regard.process import SharedChange


def _logging() -> Any:
    return importlib.import_module("transformers").utils.logging


def _hub_bars() -> dict[str, bool]:
    """The hub's state of progress bars, by group. transformers changes it together with its own."""
    bars: dict[str, bool] = importlib.import_module("huggingface_hub.utils.tqdm").progress_bar_states
    return bars


def _read_bars() -> tuple[bool, dict[str, bool]]:
    return _logging().is_progress_bar_enabled(), dict(_hub_bars())


def _write_bars(state: tuple[bool, dict[str, bool]]) -> None:
    own, hub = state
    if own:
        _logging().enable_progress_bar()
    else:
        _logging().disable_progress_bar()
    _hub_bars().clear()
    _hub_bars().update(hub)


ONLY_ERRORS = SharedChange(
    lambda: int(_logging().get_verbosity()), lambda level: _logging().set_verbosity(level), logging.ERROR
)
NO_BARS = SharedChange(_read_bars, _write_bars, (False, {"_global": False}))


@contextmanager
def transformers_for(
    path: str, extra: str = "text", parts: str = "its config, its tokenizer and model.safetensors"
) -> Iterator[Any]:
    """Yield the transformers package without its progress bars and reports; its errors about `path` become InputError.

    The import takes seconds, and only pretrained models need it. `extra` is the extra of this package that installs it,
    `parts` lists what the folder of a model must contain.
    """
    try:
        transformers = importlib.import_module("transformers")
    except ModuleNotFoundError:
        raise InputError(f'The pretrained {path} needs transformers: pip install "regard[{extra}]".') from None
    try:
        with ONLY_ERRORS, NO_BARS:
            yield transformers
    except InputError:
        raise
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = next(filter(None, str(error).splitlines()), repr(error))[:160].rstrip(". ")
        if Path(path).is_dir():
            wanted = f"{path} is not a complete model ({reason}): expected {parts}."
        else:
            wanted = (
                f"{path} is not a folder here, and the Hugging Face hub did not give it ({reason}): expected a model's "
                "folder or a name on the hub (without a network, HF_HUB_OFFLINE=1 reads what is cached)."
            )
        raise InputError(wanted) from None
