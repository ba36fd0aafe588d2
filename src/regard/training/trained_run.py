"""A trained run's folder: its recipe, tokenizer, model, names, data folder and fingerprint.

recipe.toml          every setting                   model.safetensors   the weights that validated best
vocabulary.json      or pieces.json: the tokenizer   last.pt             the state that --resume continues from
data.json            the path of the data folder     metrics.jsonl       precision, losses, recalls; drawn in curves.png

The folder of an ensemble has only recipe.toml and data.json: its recipe names the folders of its members.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from pydantic import Json, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.overrides import TorchFunctionMode

from regard.checksums import check_tensors
from regard.data import Split
from regard.evaluation.ensemble import Ensemble
from regard.files import InputError, absolute_if_there, parse_json, replacing
from regard.hub import address_of, download, is_address
from regard.matcher import Matcher
from regard.models.zero_shot import ZeroShot
from regard.training.config import Count, DataConfig, changed_settings
from regard.training.recipe import ENSEMBLE, Recipe
from regard.training.weights import WEIGHTS, build_model
from regard.words import Vocabulary, load_tokenizer, pieces, vocabulary

RECIPE = "recipe.toml"
DATA = "data.json"
ORIGIN = "imported.json"  # of a run that `regard import` made: the source, the file, and the arguments that were read
CARD = "README.md"
# The files of a run that others can use: those of any machine. data.json and last.pt are not among them.
SHARED = (RECIPE, vocabulary.FILE_NAME, pieces.FILE_NAME, WEIGHTS, "metrics.jsonl", "curves.png", CARD)
EMBEDDINGS = "embeddings:"  # before the name of an embedding model, in place of a run's folder
FIELDS = {"classes": {"labels"}, "predicates": {"relations"}, "text_labels": {"text_relations", "roles"}}
WORDS_PATHS = ("path", "vectors")  # settings of [words] that name files on one machine


class TrainedRun:
    """The folder of a trained run. Each part is read when it is first used, and only once."""

    def __init__(self, folder: str | os.PathLike[str], device: Any = "cpu") -> None:
        """Name a run's folder; the model will be on `device`.

        `folder` may be hf://user/name[@revision], a run on the Hugging Face hub, which is downloaded to the cache of
        huggingface_hub. Raises InputError if the folder is not a run, and what `regard.hub.download` raises.
        """
        if str(folder).startswith(EMBEDDINGS):
            raise InputError(f"{folder} is an embedding model; expected the folder of a trained run here.")
        self.folder = download(folder, SHARED) if is_address(folder) else Path(folder)
        self.name = address_of(folder)  # as it was given, for messages
        self.device = device
        if is_address(folder) and not (self.folder / RECIPE).is_file():
            raise InputError(f"{self.name} is not a run: the repository has no {RECIPE}.")
        if not (self.folder / RECIPE).is_file():
            raise InputError(
                f"{self.folder} is not a run: it has no {RECIPE}. `regard train RECIPE --data DIR --out "
                f"{self.folder}` creates one."
            )

    @cached_property
    def recipe(self) -> Recipe:
        """Every setting of the run."""
        return Recipe.read(self.folder / RECIPE)

    @cached_property
    def members(self) -> "list[TrainedRun | EmbeddingRun]":
        """The members of an ensemble; empty for another run.

        Raises InputError if one is gone, or is not the one that the ensemble was made of.
        """
        if self.recipe.model != ENSEMBLE:
            return []
        found = []
        for name, fingerprint in zip(self.recipe.options.members, self.recipe.options.fingerprints, strict=False):
            member = _member(name, self.folder, self.device, self.recipe.data)
            if member.fingerprint != fingerprint:
                raise InputError(
                    f"{member.folder} has the fingerprint {member.fingerprint}, and the ensemble {self.folder} was "
                    f"made of {fingerprint}: the model has changed. Make the ensemble again with `regard ensemble`."
                )
            found.append(member)
        return found

    @property
    def embeddings(self) -> dict[str, str]:
        """The fingerprints of the embedding models whose vectors the model reads, by their names."""
        return {name: fingerprint for each in self.members for name, fingerprint in each.embeddings.items()}

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer that the model was trained with: a Vocabulary or Pieces, or of an ensemble a JointTokenizer."""
        return self.model.tokenizer if self.members else load_tokenizer(self.folder)

    @cached_property
    def model(self) -> Matcher:
        """The model with the weights that validated best, in eval mode, on `device`.

        Raises InputError if the weights are missing or damaged, or do not fit the recipe.
        """
        if self.members:
            return Ensemble(self.recipe.options, [member.model for member in self.members])
        metadata = self._metadata
        state = self._read_weights(lambda file: {key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118  # not a mapping
        if metadata.get("model") != self.recipe.model:
            raise InputError(
                f"{self._weights} contains {metadata.get('model', 'unnamed')} weights, "
                f"but {RECIPE} beside it describes {self.recipe.model}."
            )
        with _SkipRandomInit():
            model = build_model(
                self.recipe, _parse(Count, metadata.get("feature_dim"), self._weights), self.tokenizer, False
            )
        if broken := next((key for key, value in state.items() if not value.isfinite().all()), None):
            raise InputError(f"{self._weights} contains NaN or infinity in {broken}: copy or train it again.")
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise InputError(f"{self._weights} does not fit {self.folder / RECIPE}: {reason}") from None
        return model.to(torch.device(self.device)).eval()

    @cached_property
    def names(self) -> dict[str, list[str]]:
        """The names of the classes and relations that the model was trained with; empty if the data had none."""
        if self.members:
            return joint_names(self.members)
        names: dict[str, list[str]] = _parse(
            Json[dict[str, list[str]]], self._metadata.get("names", "{}"), self._weights
        )
        return names

    @cached_property
    def data(self) -> Path:
        """The data folder that the run was trained on. Raises InputError if it is unknown or no longer there."""
        try:
            folder = Path(parse_json((self.folder / DATA).read_text("utf-8"))["folder"])
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError(f"{self.name} does not name its data folder in {DATA}: give --data.") from None
        if not folder.is_dir():
            raise InputError(f"{self.folder} was trained on {folder}, which is no longer there: give --data.")
        return folder

    @cached_property
    def fingerprint(self) -> str:
        """A hash of everything that decides the model's encodings and scores, as 32 hexadecimal digits.

        Settings that have their defaults are left out: an option that is new does not change the fingerprint of a run.
        It covers the weights, the settings of the model and of its words, the names of classes and relations, and the
        tokenizer. It does not depend on the training settings, on paths or on the device.
        """
        recipe = self.recipe
        if self.members:
            settings = {key: value for key, value in asdict(recipe.options).items() if key != "members"}
            return hashlib.sha256(json.dumps([ENSEMBLE, settings], sort_keys=True).encode()).hexdigest()[:32]
        elsewhere = (*WORDS_PATHS, "segmenter")  # which the tokenizer records
        options = {key: value for key, value, _ in changed_settings(recipe.options)}
        words = {key: value for key, value, _ in changed_settings(recipe.words) if key not in elsewhere}
        parts = [recipe.model, options, words, self.names, self._tokenizer_content()]
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode())

        def add_weights(file: Any) -> None:
            for key in sorted(file.keys()):
                tensor = file.get_tensor(key)
                digest.update(f"{key} {tensor.dtype} {list(tensor.shape)}".encode())
                digest.update(tensor.reshape(-1).view(torch.uint8).numpy())

        self._read_weights(add_weights)
        return digest.hexdigest()[:32]

    def open_split(self, name: str, data: str | os.PathLike[str] | None = None) -> Split:
        """Open a split of `data` (by default of the run's own data folder) as the run read its own.

        Labels and relations get the numbers that the model was trained with, matched by their names.
        """
        split = self.recipe.open_split(self.data if data is None else data, name)
        split = split.renumbered(self.names) if self.names else split
        return split.with_embeddings(self.embeddings) if self.embeddings else split

    def _tokenizer_content(self) -> dict[str, Any]:
        """The tokenizer's file without the path that its model was loaded from."""
        name = vocabulary.FILE_NAME if isinstance(self.tokenizer, Vocabulary) else pieces.FILE_NAME
        content = parse_json((self.folder / name).read_text("utf-8"))
        content.pop("path", None)
        content.get("model", {}).pop("_name_or_path", None)
        return content

    @property
    def _weights(self) -> Path:
        return self.folder / WEIGHTS

    @cached_property
    def _metadata(self) -> dict[str, str]:
        return self._read_weights(lambda file: file.metadata() or {})

    @cached_property
    def _has_checksum(self) -> bool:
        return check_tensors(self._weights)

    def _read_weights(self, read: Callable[[Any], Any]) -> Any:
        if not self._weights.is_file():
            raise InputError(
                f"{self.folder} has no {WEIGHTS} yet: training has not reached its first validation. "
                "Continue it with --resume."
            )
        try:
            _ = self._has_checksum
            with safe_open(self._weights, "pt") as file:
                return read(file)
        except (SafetensorError, OSError, OverflowError) as error:
            raise InputError(f"{self._weights} cannot be read ({error}): copy or train it again.") from None


class EmbeddingRun:
    """An embedding model, zero-shot, as a run that was never trained: what evaluation and ensembles read of a run."""

    def __init__(self, name: str, device: Any = "cpu", settings: DataConfig | None = None) -> None:
        """Name a model of transformers; `settings` say how a data folder is read."""
        self.name = absolute_if_there(name)
        self.device, self.settings = device, settings or DataConfig()
        self.folder = f"{EMBEDDINGS}{self.name}"  # for messages
        self.names: dict[str, list[str]] = {}

    @cached_property
    def model(self) -> ZeroShot:
        """The model, in eval mode, on `device`. Raises what ZeroShot raises."""
        return ZeroShot(self.name, self.device)

    @property
    def fingerprint(self) -> str:
        """A hash of the settings and weights of the model."""
        return self.model.fingerprint

    @property
    def embeddings(self) -> dict[str, str]:
        """The fingerprint of the model by its name."""
        return {self.name: self.fingerprint}

    def open_split(self, name: str, data: str | os.PathLike[str]) -> Split:
        """Open a split of a data folder with the stored vectors. Raises InputError if there are none."""
        split = Split.open(data, name, captions_per_image=self.settings.captions_per_image)
        return split.with_embeddings(self.embeddings)


def open_run(name: str | os.PathLike[str], device: Any = "cpu") -> TrainedRun | EmbeddingRun:
    """Return the run of a folder, or the embedding model that `embeddings:NAME` names.

    Raises InputError if it is neither.
    """
    text = str(name)
    if text.startswith(EMBEDDINGS):
        return EmbeddingRun(text.removeprefix(EMBEDDINGS), device)
    return TrainedRun(name, device)


def joint_names(members: "Sequence[TrainedRun | EmbeddingRun]") -> dict[str, list[str]]:
    """Return the names of classes and relations that all members can use.

    They are those of the members that read them, or else of the first member. Raises InputError if two members that
    read them were trained with others.
    """
    named = [member for member in members if member.names]
    if not named:
        return {}
    names = dict(named[0].names)
    for kind, inputs in FIELDS.items():
        reading = [member for member in named if member.model.needs() & inputs]
        for member in reading:
            if member.names[kind] != reading[0].names[kind]:
                raise InputError(
                    f"{reading[0].folder} and {member.folder} were trained with different {kind}: the members of an "
                    f"ensemble must read the same data."
                )
        if reading:
            names[kind] = reading[0].names[kind]
    return names


def _member(name: str, ensemble: Path, device: Any, settings: DataConfig) -> TrainedRun | EmbeddingRun:
    """Open a member of an ensemble: at the recorded place, or beside the ensemble if both were moved."""
    if name.startswith(EMBEDDINGS):
        return EmbeddingRun(name.removeprefix(EMBEDDINGS), device, settings)
    for folder in (Path(name), ensemble.resolve().parent / Path(name).name):
        if (folder / RECIPE).is_file():
            return TrainedRun(folder, device)
    raise InputError(
        f"{name}, a member of the ensemble {ensemble}, is no longer there: put it back or beside the ensemble, or make "
        f"the ensemble again with `regard ensemble`."
    )


def load(run: str | os.PathLike[str], device: Any = "cpu") -> Matcher:
    """Return the model of a run's folder, or of hf://user/name[@revision] on the Hugging Face hub, in eval mode.

    Raises what TrainedRun and TrainedRun.model raise.
    """
    return TrainedRun(run, device).model


def write_data_folder(run: Path, data: Path) -> None:
    """Record in a run's folder where its data folder is, in a file of its own: it is true on this machine only."""
    with replacing(run / DATA) as temporary:
        temporary.write_text(json.dumps({"folder": str(data.resolve())}) + "\n", "utf-8")


def _parse(kind: Any, value: Any, path: Path) -> Any:
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise InputError(
            f"{path} has metadata of another form ({error.errors()[0]['msg']}): copy or train it again."
        ) from None


class _SkipRandomInit(TorchFunctionMode):
    """Within it, random initialisation leaves a tensor as it was allocated, for weights that are loaded next.

    It acts on the calling thread only.
    """

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in _RANDOM:
            return args[0] if args else (kwargs or {})["tensor"]
        return function(*args, **(kwargs or {}))


_RANDOM = {
    Tensor.uniform_,
    Tensor.normal_,
    *(getattr(torch.nn.init, name) for name in ("uniform_", "normal_", "trunc_normal_", "orthogonal_")),
    *(getattr(torch.nn.init, f"{kind}_{law}_") for kind in ("xavier", "kaiming") for law in ("uniform", "normal")),
}
