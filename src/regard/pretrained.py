"""Load the transformers package quietly, with its errors as one line each."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from regard.files import InputError


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
    logging = transformers.utils.logging
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
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
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
