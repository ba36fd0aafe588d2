"""Load the transformers package quietly, with its errors as one line each."""

import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from regard.files import InputError, missing_extra
from regard.hub import NO_HUB_BARS
from regard.process import SharedChange


def _logging() -> Any:
    return importlib.import_module("transformers").utils.logging


ONLY_ERRORS = SharedChange(
    lambda: int(_logging().get_verbosity()), lambda level: _logging().set_verbosity(level), logging.ERROR
)
# disable_progress_bar() of transformers changes the bars of the hub too, which NO_HUB_BARS shares with other callers.
NO_BARS = SharedChange(
    lambda: bool(_logging().is_progress_bar_enabled()), lambda shown: setattr(_logging(), "_tqdm_active", shown), False
)


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
        raise missing_extra(f"The pretrained {path} needs transformers", extra) from None
    try:
        with ONLY_ERRORS, NO_BARS, NO_HUB_BARS:
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
