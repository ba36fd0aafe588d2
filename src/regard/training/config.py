"""Settings as frozen dataclasses: filled from TOML tables, checked, with the nearest name for a wrong key."""

import tomllib
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from regard.files import InputError, nearest

T = TypeVar("T")
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Part = Annotated[float, Field(ge=0, lt=1)]
Whole = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How a data folder is read."""

    captions_per_image: int | None = None  # only where the files do not say which sentence is of which image
    relation_threshold: float = 0.5  # relations of less confidence are left out
    corrupted_relations: Whole = 0.0  # the part of each image's relations that is wrong on purpose: an experiment
    validation: str = "dev"  # the split that chooses the checkpoint


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a model is trained."""

    epochs: Count = 30
    batch_size: Count = 128
    seed: Natural = 0
    twins: bool = False  # keep the made world's twins in one batch: else nothing teaches what tells them apart
    # The loss
    margin: Amount = 0.2
    negatives: Literal["hardest", "sum", "soft", "soft_hinge"] = "hardest"
    soft_temperature: Positive = 0.05
    warmup_epochs: Amount = 1.0  # of `sum` before `hardest`: hardest negatives collapse from a cold start
    summary_weight: Amount = 0.0  # of the same loss over summary vectors, by which a shortlist is made
    # The optimizer
    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rate: Positive = 2e-4
    pretrained_rate: Amount = 0.1  # of a pretrained text encoder, as a part of learning_rate
    weight_decay: Amount = 0.0
    clip: Amount = 2.0  # norm of the gradient; 0 = as it is
    accumulate: Count = 1  # batches a step
    # The schedule
    schedule: Literal["step", "cosine", "constant"] = "step"
    decay: Positive = 0.1  # of `step`, after each epoch in decay_epochs
    decay_epochs: tuple[int, ...] = (15,)
    warmup_steps: Natural = 0  # of a linearly rising rate
    # Augmentation (VSE-infinity): the part of regions and words that a training step does not see
    region_drop: Part = 0.0
    word_drop: Part = 0.0
    # The run
    validate_every: Count = 1  # epochs; the last one is always validated
    patience: Natural = 0  # epochs without a better validation rSum before training stops; 0 = all epochs
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    block: Natural = 0  # images and texts a block of scores, recomputed in the backward pass; 0 = all at once
    log_every: Count = 10  # steps
    tensorboard: bool = False  # scalars for TensorBoard too, beside metrics.jsonl
    save_minutes: Amount = 2.0  # between checkpoints


def build(cls: type[T], values: dict[str, Any], where: str) -> T:
    """The dataclass `cls` with `values`; `where` says which table of which file they are, for errors.

    Raises InputError for an unknown key (naming the nearest) and for a value of another type.
    """
    _check_keys(cls, values, where)
    try:
        return TypeAdapter(cls).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{where}: {key} = {first['input']!r}: {first['msg']}.") from None


def _check_keys(cls: Any, values: dict[str, Any], where: str) -> None:
    known = {field.name: field.type for field in fields(cls)}
    for key, value in values.items():
        if key not in known:
            raise InputError(f"{where} has no setting {key!r}. {nearest(key, known)}")
        if is_dataclass(known[key]):
            if not isinstance(value, dict):
                raise InputError(f"{where}: {key} is a table of settings, not {value!r}.")
            _check_keys(known[key], value, f"{where}: {key}")


def override(values: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    """`values` with each `table.key=value` of `settings` put in; a value is TOML, or else a plain string."""
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path.strip():
            raise InputError(f"--set {setting!r} is not of the form key=value, such as train.epochs=5.")
        *tables, key = path.strip().split(".")
        table = values
        for name in tables:
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                raise InputError(f"--set {setting!r}: {name} is a value, not a table of settings.")
        try:
            table[key] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            table[key] = text.strip()
    return values
