"""Upload a run to the Hugging Face hub: the files that others can use, without a path of this machine."""

import json
from pathlib import Path
from typing import Any

from regard import __version__
from regard.files import InputError, parse_json
from regard.hub import NAME, hub_for, hub_package
from regard.training.card import PLACE, shared_recipe, without_paths
from regard.training.trained_run import CARD, RECIPE, SHARED, TrainedRun
from regard.training.weights import WEIGHTS
from regard.words import pieces


def push(run: TrainedRun, name: str, private: bool = False) -> str:
    """Upload a run with its card to the model repository `name` (user/name), in one commit; return its address.

    The repository is created, or gets a new commit. Files of an earlier run that this one does not have are removed.
    Raises InputError if the run is not complete or its card describes other weights; if there is no token; if the
    repository contains anything but a run, or is public and `private` is asked for; and as `hub_for` does.
    """
    check_upload(run, name)
    files = shared_files(run, name)
    with hub_for(name) as hub:
        api = hub.HfApi(library_name="regard", library_version=__version__)
        there = _existing_files(api, name, private) if api.repo_exists(name) else set()
        api.create_repo(name, private=private or None, exist_ok=True)
        operations: list[Any] = [hub.CommitOperationAdd(path, content) for path, content in files.items()]
        operations += [hub.CommitOperationDelete(path) for path in sorted(there & set(SHARED) - files.keys())]
        message = f"Upload a {run.recipe.model} run, fingerprint {run.fingerprint}"
        commit = api.create_commit(name, operations, commit_message=message)
    return f"hf://{name}@{commit.oid}"


def check_upload(run: TrainedRun, name: str) -> None:
    """Raise InputError if a run has no weights, `name` is not user/name, or there is no token for the hub."""
    if not (run.folder / WEIGHTS).is_file():
        raise InputError(f"{run.folder} has no {WEIGHTS}: only a run with weights of its own can be uploaded.")
    if not NAME.fullmatch(name):
        raise InputError(f"{name!r} is not the name of a repository: expected user/name.")
    if hub_package().get_token() is None:
        raise InputError("There is no token for the hub: log in with `hf auth login`, or set HF_TOKEN.")


def shared_files(run: TrainedRun, name: str) -> dict[str, Path | bytes]:
    """Return the files of a run that are uploaded to the repository `name`: a path, or the content if it is changed.

    Raises InputError if the run has no card, or a card of other weights.
    """
    if not (run.folder / CARD).is_file():
        raise InputError(f"{run.folder} has no {CARD}: write it with `regard card`.")
    card = (run.folder / CARD).read_text("utf-8")
    if run.fingerprint not in card:
        raise InputError(
            f"{run.folder / CARD} does not name the fingerprint {run.fingerprint}: it describes other weights. "
            "Write it again with `regard card`."
        )
    files: dict[str, Path | bytes] = {each: run.folder / each for each in SHARED if (run.folder / each).is_file()}
    files[CARD] = card.replace(PLACE, f"hf://{name}").encode()
    files[RECIPE] = shared_recipe(run).encode()
    if pieces.FILE_NAME in files:
        content = parse_json((run.folder / pieces.FILE_NAME).read_text("utf-8"))
        content["path"] = without_paths(content["path"])
        if "_name_or_path" in content["model"]:
            content["model"]["_name_or_path"] = without_paths(content["model"]["_name_or_path"])
        files[pieces.FILE_NAME] = json.dumps(content, ensure_ascii=False).encode()
    return files


def _existing_files(api: Any, name: str, private: bool) -> set[str]:
    """The files of a repository that exists. Raises InputError if it is no place for this run."""
    info = api.model_info(name)
    files = {file.rfilename for file in info.siblings}
    if private and not info.private:
        raise InputError(f"{name} exists and is public: make it private on its page, or leave out --private.")
    if files - {".gitattributes", CARD} and RECIPE not in files:
        raise InputError(f"{name} contains other files and no run: name another repository.")
    return files
