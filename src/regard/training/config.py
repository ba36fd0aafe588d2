"""Settings as frozen dataclasses, filled from TOML tables and checked."""

import difflib
import tomllib
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from regard.files import InputError, nearest

T = TypeVar("T")
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # numbers of steps and processes are combined with it, in 64 bits
Amount = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Part = Annotated[float, Field(ge=0, lt=1)]
Whole = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How a data folder is read."""

    captions_per_image: int | None = None  # needed only if the files do not say which image a sentence describes
    relation_threshold: float = 0.5  # relations of lower confidence are left out
    corrupted_relations: Whole = 0.0  # the share of each image's relations replaced by wrong ones, for an experiment
    blind: bool = False  # replace each image by the same empty one: a control that reads sentences only
    validation: str = "dev"  # the split that selects the checkpoint


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a model is trained."""

    epochs: Count = 30
    batch_size: Count = 128  # sentences, over all processes
    seed: Seed = 0
    init: str = ""  # folder of a run whose encoders and tokenizer this one starts from (Matcher.start_from)
    twins: bool = False  # put the two images of a pair of twins side by side, as negatives of each other
    swapped: bool = False  # further negatives: each sentence with its parts exchanged (regard.words.swaps)
    # The loss
    margin: Amount = 0.2
    negatives: Literal["hardest", "sum", "soft", "soft_hinge"] = "hardest"
    soft_temperature: Positive = 0.05
    warmup_epochs: Amount = 1.0  # with `sum` before `hardest`, because hardest negatives can collapse at the start
    negatives_from: Literal["all", "rank"] = "all"  # with several processes: of the whole batch, or of its own part
    shortlist: Natural = 0  # score exactly only so many negatives per item, those nearest by summary; 0 = all
    summary_weight: Amount = 0.0  # of the same loss over summary vectors, which make the shortlist
    # The optimizer
    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rate: Positive = 2e-4
    pretrained_rate: Amount = 0.1  # learning rate of a pretrained text encoder, as a fraction of learning_rate
    init_rate: Amount = 1.0  # learning rate of the encoders that `init` gives, as a fraction of learning_rate
    weight_decay: Amount = 0.0
    clip: Amount = 2.0  # largest norm of the gradient; 0 = no clipping
    accumulate: Count = 1  # batches per optimizer step; the last one of an epoch may have fewer
    # The schedule
    schedule: Literal["step", "cosine", "constant"] = "step"
    decay: Positive = 0.1  # for `step`: the factor after each epoch in decay_epochs
    decay_epochs: tuple[int, ...] = (15,)
    warmup_steps: Natural = 0  # batches over which the learning rate rises linearly
    # Augmentation (VSE-infinity): the share of regions and words hidden in each training step
    region_drop: Part = 0.0
    word_drop: Part = 0.0
    # The run
    validate_every: Count = 1  # epochs; the last epoch is always validated
    patience: Natural = 0  # epochs without a better validation rSum after which training stops; 0 = never
    precision: Literal["auto", "32-true", "64-true", "bf16-mixed", "tf32"] = (
        "auto"  # auto: bf16-mixed if the hardware has it
    )
    block: Natural = 0  # images and texts per block of scores, recomputed in the backward pass; 0 = one block
    log_every: Count = 10  # steps
    tensorboard: bool = False  # also write scalars for TensorBoard
    save_minutes: Amount = 2.0  # between checkpoints


def build(cls: type[T], values: dict[str, Any], where: str) -> T:
    """Build the dataclass `cls` from `values`; `where` names their file and table in error messages.

    Raises InputError for an unknown key, naming the nearest, and for a value of the wrong type.
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
            raise InputError(f"{where} has no setting {key!r}. {_suggest(key, cls)}")
        if is_dataclass(known[key]):
            if not isinstance(value, dict):
                raise InputError(f"{where}: {key} must be a table of settings, not {value!r}.")
            _check_keys(known[key], value, f"{where}: {key}")


def _suggest(key: str, cls: Any) -> str:
    """The end of an error about an unknown key: the nearest setting, with its table, or all settings."""
    full_name = {field.name: field.name for field in fields(cls)}
    for table in fields(cls):
        if is_dataclass(table.type):
            full_name |= {field.name: f"{table.name}.{field.name}" for field in fields(table.type)}
    near = difflib.get_close_matches(key, full_name, n=1, cutoff=0.5)
    return f"Did you mean {full_name[near[0]]!r}?" if near else nearest(key, full_name.values())


def changed_settings(settings: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the settings that differ from their defaults: name, value and default.

    Names of settings in nested tables are dotted. A setting without a default has MISSING in its place.
    """
    for field in fields(settings):
        value = getattr(settings, field.name)
        if is_dataclass(value):
            yield from changed_settings(value, f"{prefix}{field.name}.")
            continue
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        if value != default:
            yield f"{prefix}{field.name}", value, default


def override(values: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    """Apply `table.key=value` settings to `values`. A value is TOML, or a plain string if it is not valid TOML."""
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path.strip():
            raise InputError(f"--set {setting!r} does not have the form key=value, such as train.epochs=5.")
        *tables, key = path.strip().split(".")
        table = values
        for name in tables:
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                raise InputError(f"--set {setting!r}: {name} is a single setting, not a table of settings.")
        try:
            table[key] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            table[key] = text.strip()
    return values
