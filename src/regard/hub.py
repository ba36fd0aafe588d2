"""The Hugging Face hub: download the files of a repository, with the hub's errors as one line each."""

import importlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from regard.files import InputError, missing_extra
from regard.process import SharedChange

EXPECTED = "hf://user/name or hf://user/name@revision"
NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_ADDRESS = re.compile(r"hf:/{1,2}([^@]*)(?:@(.+))?", re.DOTALL)


def _bars() -> dict[str, bool]:
    """The state of the package's progress bars, by group."""
    bars: dict[str, bool] = importlib.import_module("huggingface_hub.utils.tqdm").progress_bar_states
    return bars


def _write_bars(state: dict[str, bool]) -> None:
    _bars().clear()
    _bars().update(state)


NO_HUB_BARS = SharedChange(lambda: dict(_bars()), _write_bars, {"_global": False})


def is_address(name: str | os.PathLike[str]) -> bool:
    """Return whether `name` is an address on the hub, hf://..., also as a Path, which has only one slash there."""
    return os.fspath(name).startswith("hf:/")


def download(address: str | os.PathLike[str], files: Sequence[str]) -> Path:
    """Return a folder with those of `files` that the repository `address` has. The hub's package keeps it in its cache.

    Without a network, the folder is the one that was downloaded last. Raises InputError if the address has another form
    than EXPECTED, and as `hub_for` does.
    """
    found = _ADDRESS.fullmatch(os.fspath(address))
    if not found or not NAME.fullmatch(found[1]):
        raise InputError(f"{address_of(address)} is not an address of a run on the hub: expected {EXPECTED}.")
    with hub_for(found[1], found[2]) as hub:
        return Path(hub.snapshot_download(found[1], revision=found[2], allow_patterns=list(files)))


def address_of(name: str | os.PathLike[str]) -> str:
    """Return an address with both slashes, for messages."""
    return re.sub("^hf:/+", "hf://", os.fspath(name))


def hub_package() -> Any:
    """Return the huggingface_hub package. Raises InputError if it is not installed."""
    try:
        return importlib.import_module("huggingface_hub")
    except ModuleNotFoundError:
        raise missing_extra("Sharing a run needs huggingface_hub", "hub") from None


@contextmanager
def hub_for(name: str, revision: str | None = None) -> Iterator[Any]:
    """Yield the huggingface_hub package for work on the repository `name`; its errors become InputError.

    Progress bars are shown on a terminal only.
    """
    hub, errors = hub_package(), importlib.import_module("huggingface_hub.errors")
    try:
        with nullcontext() if sys.stderr.isatty() else NO_HUB_BARS:
            yield hub
    except errors.HFValidationError as error:
        raise InputError(f"{name} cannot be the name of a repository: {_line(error)}.") from None
    except errors.GatedRepoError:
        raise InputError(f"{name} is gated: ask for access on its page, then log in with `hf auth login`.") from None
    except errors.RepositoryNotFoundError:
        raise InputError(
            f"The hub has no repository {name}, or it is private and closed to you: check the name, or log in with "
            "`hf auth login`."
        ) from None
    except errors.RevisionNotFoundError:
        raise InputError(f"{name} has no revision {revision}: expected a branch, a tag or a commit of it.") from None
    except errors.HfHubHTTPError as error:
        code = error.response.status_code
        if code in (401, 403):
            reason = f"The hub refused access to {name} ({code}): `hf auth login` with a token that may write to it."
        else:
            reason = f"The hub failed for {name} ({_line(error)}): try again later."
        raise InputError(reason) from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise _unreachable(name, error) from None
    except RuntimeError as error:  # of an upload; the package wraps whatever its transfer raised
        raise InputError(f"The upload to {name} failed ({_line(error.__cause__ or error)}): try again.") from None
    except errors.HTTPError as error:  # of the client that the package uses: no connection, or no answer in time
        raise _unreachable(name, error) from None


def _unreachable(name: str, error: Exception) -> InputError:
    reason = _line(error.__cause__ or error)
    return InputError(
        f"The hub cannot be reached for {name}, and it is not complete in the cache ({reason}): check the network, "
        "HF_ENDPOINT and HF_HUB_OFFLINE."
    )


def _line(error: BaseException) -> str:
    """The first line of an error, without a full stop."""
    return next(filter(None, str(error).splitlines()), repr(error))[:200].rstrip(". ")
