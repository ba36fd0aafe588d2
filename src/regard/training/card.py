"""The model card of a run: a README.md with the YAML header of the Hugging Face hub.

Each number of a card was measured on the run's own weights, or recorded while it was trained. A card names no path of
the machine.
"""

import inspect
import os
import re
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path, PureWindowsPath
from typing import Any, NotRequired

import tomli_w
from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic requires this one before Python 3.12

from regard import __version__
from regard.charts import draw_curves, last_by_step, read_events
from regard.data import Split
from regard.data.layout import extraction_of, read_json, splits_of
from regard.evaluation.compare import Interval, Intervals, intervals
from regard.evaluation.evaluate import scores_of
from regard.files import InputError, replacing
from regard.hub import hub_package, is_address
from regard.metrics import Recalls, galleries, summary
from regard.training.config import changed_settings
from regard.training.precision import recorded_start
from regard.training.recipe import Recipe
from regard.training.run_folder import METRICS
from regard.training.trained_run import CARD, RECIPE, TrainedRun
from regard.words import Vocabulary

PATHS = ("init", "vectors")  # settings that are always paths or addresses
PLACE = "hf://USER/NAME"  # stands for the address of the run until it has one
SMALL = 10_000  # training images below which a card warns
RESAMPLES = 2000


class ControlChange(TypedDict):
    """The paired change of rSum, with its 95 % interval."""

    rsum: float
    low: float
    high: float


class ControlRow(TypedDict):
    """What a card reads of each control; `change` is None if the data do not support it, for the `reason`."""

    name: str
    change: ControlChange | None
    rsum: NotRequired[float]
    reason: NotRequired[str]


class ProbeReport(TypedDict):
    """What a card reads of the JSON file of `regard probe`."""

    controls: list[ControlRow]
    verdict: NotRequired[str]
    fingerprint: NotRequired[str]


@dataclass(frozen=True)
class MeasuredSplit:
    """The metrics of a run on a split, with their 95 % intervals."""

    name: str
    num_images: int
    num_texts: int
    recalls: Recalls
    intervals: Intervals


@dataclass(frozen=True)
class CardNotes:
    """What only a person knows of a run, for the header of its card; "" if it is not known."""

    dataset: str = ""  # a name of the data set
    language: str = ""  # of the sentences, such as en
    license: str = ""  # an identifier of the hub, such as apache-2.0


def write_card(
    run: TrainedRun,
    out: Path | None = None,
    measured: Sequence[MeasuredSplit] = (),
    probe: ProbeReport | None = None,
    notes: CardNotes | None = None,
) -> Path:
    """Write the card of a run to `out`, by default into its folder, and the training curves beside it; return its path.

    Raises InputError if the run has no weights yet or is damaged, and for an ensemble, which was not trained itself.
    """
    if run.members:
        raise InputError(f"{run.folder} is an ensemble, which has no card: write those of its members.")
    out = out or run.folder / CARD
    curves = "curves.png" if out.resolve().parent == run.folder.resolve() else f"{out.stem}-curves.png"
    if (run.folder / METRICS).is_file() and read_events(run.folder / METRICS):
        draw_curves(run.folder / METRICS, out.parent / curves)
    else:
        curves = ""
    text = card_text(run, measured, probe, notes or CardNotes(), curves)
    with replacing(out) as temporary:
        temporary.write_text(text, "utf-8")
    return out


def measure_splits(run: TrainedRun, data: Path | None, names: Sequence[str]) -> list[MeasuredSplit]:
    """Measure a run on splits of `data`: those of `names`, or else its validation split and test, if `data` has them.

    By default, `data` is the run's own data folder; if that is not there and no split is named, nothing is measured.
    Raises InputError for a split that `data` does not have, and if it has none of the two.
    """
    try:
        folder = run.data if data is None else data
    except InputError:
        if names:
            raise
        return []
    there = splits_of(folder)
    wanted = list(names) or [name for name in (run.recipe.data.validation, "test") if name in there]
    if not wanted:
        raise InputError(f"{folder} has the splits {', '.join(there)}: choose those to measure with --split.")
    measured = []
    for name in wanted:
        split = run.open_split(name, folder)
        parts = galleries(scores_of(run.model, split).numpy(), split.image_of_text)
        found = intervals(parts, RESAMPLES)
        measured.append(MeasuredSplit(name, split.num_images, split.num_texts, summary(parts), found))
    return measured


def read_probe(path: Path, fingerprint: str) -> ProbeReport:
    """Read the file of `regard probe --json`. Raises InputError if it is another file, or of another run.

    A list of controls is read too, and a control whose interval is beside its change: name, rsum, change, low, high.
    """
    content = read_json(path)
    content = {"controls": content} if isinstance(content, list) else content
    try:
        rows = [_nested(row) for row in content["controls"]]
        report = TypeAdapter(ProbeReport).validate_python(content | {"controls": rows})
    except (ValidationError, TypeError, KeyError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        place = ".".join(map(str, first["loc"])) + f": {first['msg']}" if first else "no list of controls"
        raise InputError(f"{path}: {place}. Expected the file that `regard probe RUN --json` writes.") from None
    if report.get("fingerprint", fingerprint) != fingerprint:
        raise InputError(f"{path} was measured with other weights: run `regard probe` on this run again.")
    return report


def _nested(row: Any) -> Any:
    if isinstance(row, dict) and isinstance(row.get("change"), int | float):
        spread = {name: row[name] for name in ("low", "high") if name in row}
        return row | {"change": {"rsum": row["change"], **spread}}
    return row


def without_paths(value: Any, key: str = "") -> Any:
    """Return settings in which each path is only its last name: other folders are those of one machine.

    A run that another one started from (`init`), and a file of word vectors, are paths, whether or not they are there.
    """
    if isinstance(value, dict):
        return {key: without_paths(each, key) for key, each in value.items()}
    if key in PATHS and isinstance(value, str) and not is_address(value):
        return PureWindowsPath(value).name
    if isinstance(value, list | tuple):
        return [without_paths(each) for each in value]
    if isinstance(value, str):
        is_path = value.startswith(("/", "~", ".")) or PureWindowsPath(value).drive
        if is_path or (os.sep in value and os.path.exists(value)):
            return PureWindowsPath(value).name  # which separates at both slashes
    return value


def shared_recipe(run: TrainedRun) -> str:
    """Return the recipe of a run as TOML, without paths."""
    return tomli_w.dumps(without_paths(tomllib.loads((run.folder / RECIPE).read_text("utf-8"))))


def card_text(
    run: TrainedRun, measured: Sequence[MeasuredSplit], probe: ProbeReport | None, notes: CardNotes, curves: str
) -> str:
    """Return the card as Markdown. `curves` is the name of the picture beside it; "" if there is none."""
    title, about = _about_model(run)
    of_data = f" on {_cell(notes.dataset)}" if notes.dataset else ""
    scores = "It scores how well a sentence describes an image, from the image's regions."
    if run.recipe.data.blind:
        scores = "A control, which scores sentences and sees no image."
    sections = {
        f"{type(run.model).__name__}{of_data}": f"{title}\n\nAn image-text matching model, trained with Regard. "
        f"{scores}",
        "Use": _use(run),
        "Metrics": _metrics(run, measured),
        "Controls": _controls(probe),
        "Data": _data(run),
        "Training": _training(run, curves),
        "Recipe": _recipe(run),
        "Limits": _bullets(_limits(run, notes, probe is not None)),
        "The model": about,
        "Version": f"Fingerprint `{run.fingerprint}` (weights, settings, names and tokenizer). "
        f"Card written by Regard {__version__}.",
    }
    body = "\n\n".join(
        f"{'#' if not at else '##'} {name}\n\n{text}" for at, (name, text) in enumerate(sections.items())
    )
    return f"---\n{_header(run, measured, notes)}\n---\n\n{body}\n"


def _header(run: TrainedRun, measured: Sequence[MeasuredSplit], notes: CardNotes) -> str:
    """The YAML header. Results need a named data set there."""
    hub = hub_package()
    results = [
        hub.EvalResult(
            task_type="image-text-retrieval",
            dataset_type=re.sub(r"[^a-z0-9]+", "-", notes.dataset.lower()).strip("-"),
            dataset_name=notes.dataset,
            dataset_split=split.name,
            metric_type=name,
            metric_value=round(value, 2),
        )
        for split in measured
        for name, value in _seven(split.recalls).items()
    ]
    data = hub.ModelCardData(
        library_name="regard",
        tags=["image-text-retrieval", "image-text-matching", run.recipe.model],
        language=notes.language or None,
        license=notes.license or None,
        model_name=f"{run.recipe.model}-{run.fingerprint[:8]}" if notes.dataset and results else None,
        eval_results=results if notes.dataset and results else None,
    )
    return str(data.to_yaml())


def _seven(recalls: Recalls) -> dict[str, float]:
    ways = {"image_to_text": recalls.i2t, "text_to_image": recalls.t2i}
    values = {f"{name}_r{k}": getattr(way, f"r{k}") for name, way in ways.items() for k in (1, 5, 10)}
    return values | {"rsum": recalls.rsum}


def _about_model(run: TrainedRun) -> tuple[str, str]:
    """The title of the model's paper, and what its file says about sources, needs and differences."""
    doc = inspect.getdoc(sys.modules[type(run.model).__module__]) or ""
    title, _, rest = doc.partition("\n\n")
    rest = re.sub(r"\s*Equation numbers are\s+those of\s+\S+\.md\.", "", rest)
    return " ".join(title.split()), re.sub(r"\n- ", "\n\n- ", rest, count=1)


def _use(run: TrainedRun) -> str:
    needs = sorted(name.replace("_", " ") for name in run.model.needs())
    reads = f"regions with {run.model.feature_dim:,} features" + (f"; {', '.join(needs)}." if needs else ".")
    return (
        f'```python\nimport regard\n\nmodel = regard.load("{PLACE}")\n\nrun = regard.TrainedRun("{PLACE}")\n'
        f'split = run.open_split("test", "DATA")  # a data folder with features of the same kind\n'
        f"print(regard.evaluate(run.model, split))\n```\n\n"
        f"```bash\nregard evaluate {PLACE} --data DATA --split test\n```\n\nInputs: {reads}"
    )


def _metrics(run: TrainedRun, measured: Sequence[MeasuredSplit]) -> str:
    parts = []
    for split in measured:
        rows: list[tuple[str, ...]] = [("", "R@1", "R@5", "R@10", "median rank", "mean rank")]
        for name, way, spread in (
            ("image to text", split.recalls.i2t, split.intervals.i2t),
            ("text to image", split.recalls.t2i, split.intervals.t2i),
        ):
            recalls = (f"{getattr(way, level):.1f} ({_span(spread[level])})" for level in ("r1", "r5", "r10"))
            rows.append((name, *recalls, f"{way.medr:.1f}", f"{way.meanr:.1f}"))
        total = f"rSum **{split.recalls.rsum:.1f}** ({_span(split.intervals.rsum)}), of at most 600."
        ties = f" {split.recalls.ties:,} queries tie with a wrong answer." if split.recalls.ties else ""
        sizes = f"Split `{split.name}`: {split.num_images:,} images, {split.num_texts:,} sentences, ranked as a whole."
        parts.append(f"{sizes}\n\n{_table(rows)}\n\n{total}{ties}")
    if measured:
        parts.append(
            f"In parentheses: 95 % bootstrap intervals, {RESAMPLES:,} draws of the images with their sentences. Ties "
            "count against the model."
        )
    best = max(_events(run, "validation"), key=lambda event: event.get("rsum", 0.0), default=None)
    if best is not None:
        parts.append(
            f"Recorded during training, without an interval: validation rSum {best['rsum']:.1f} after epoch "
            f"{best['epoch']:.0f}, whose weights these are."
        )
    return "\n\n".join(parts) or "Not measured: the data were not at hand, and no validation is recorded."


def _controls(probe: ProbeReport | None) -> str:
    if probe is None:
        return "Not measured. `regard probe` measures what the model loses if relations, boxes or words are made wrong."
    rows = [("input", "rSum", "change", "95 % interval of the change")]
    for row in probe["controls"]:
        change, reason = row["change"], _cell(row.get("reason", ""))
        if change is None or reason:
            rows.append((_cell(row["name"]), "", "", reason or "not measured"))
            continue
        rsum = f"{row['rsum']:.1f}" if "rsum" in row else ""
        spread = f"{change['low']:+.1f} to {change['high']:+.1f}"
        rows.append((_cell(row["name"]), rsum, f"{change['rsum']:+.1f}", spread))
    about = "Each row: the input that was made wrong, and the paired change of rSum."
    return "\n\n".join(filter(None, (_cell(probe.get("verdict", "")), _table(rows), about)))


def _data(run: TrainedRun) -> str:
    names = run.names
    counts = [f"{len(names[kind]) - 1} {what}" for kind, what in (("classes", "classes of regions"),
              ("predicates", "relations between regions")) if len(names.get(kind, ())) > 1]  # fmt: skip
    named = f"Named in the training data: {' and '.join(counts)}." if counts else ""
    split = _training_split(run)
    if split is None:
        return _bullets(
            ["The training data were not at hand when this card was written: their sizes are not known.", named]
        )
    made = without_paths(extraction_of(split.folder))
    kind = "made by other means than `regard extract`; the data do not name them"
    if "features" in made:
        kind = f"`{made['features']}`, of regions by `{made.get('detector', '')}` (`regard extract`)"
    fields = ", ".join(sorted(name.replace("_", " ") for name in split.fields)) or "nothing else"
    return _bullets(
        [
            f"Training split: {split.num_images:,} images, {split.num_texts:,} sentences.",
            f"At most {split.num_regions} regions per image, {split.feature_dim:,} features each: {kind}.",
            f"Beside features and sentences, the data have: {fields}.",
            named,
        ]
    )


def _training(run: TrainedRun, curves: str) -> str:
    start, steps, train = recorded_start(run.folder), _events(run, "step"), run.recipe.train
    lines = [
        f"At most {train.epochs} epoch{'s' * (train.epochs != 1)}, batches of {train.batch_size} sentences, "
        f"{train.optimizer}, seed {train.seed}."
    ]
    if origin := start.get("init"):
        parts = ", ".join(origin["parts"])
        lines.append(f"Started from `{parts}` of the run `{origin['run']}` (fingerprint `{origin['fingerprint']}`).")
    seconds = [event["seconds"] for event in steps if "seconds" in event]
    if seconds:
        count, mean = steps[-1]["step"], sum(seconds) / len(seconds)
        lines.append(
            f"{count:,} steps of {mean:.2g} s on average: about {_duration(count * mean)}, validation not included."
        )
    hardware = start.get("hardware")
    threads = f", {start['threads']} thread{'s' * (start['threads'] != 1)}" if "threads" in start else ""
    lines.append(f"Hardware: {hardware}{threads}." if hardware else "Hardware: not recorded.")
    lines.append(
        f"Precision: {start.get('precision', 'not recorded')}. Regard: {start.get('version', 'not recorded')}."
    )
    picture = f"\n\n![The training loss and the validation recalls by epoch]({curves})" if curves else ""
    return _bullets(lines) + picture


def _recipe(run: TrainedRun) -> str:
    recipe, rows = run.recipe, [("setting", "this run", "default")]
    for name, settings in (
        (recipe.model, recipe.options),
        ("words", recipe.words),
        ("data", recipe.data),
        ("train", recipe.train),
    ):
        for key, value, default in changed_settings(settings):
            shown = "" if default is MISSING else _cell(without_paths(default))
            rows.append((f"`{name}.{key}`", _cell(without_paths(value, key)), shown))
    text = _table(rows) if len(rows) > 1 else "All settings are the defaults."
    return (
        f"What differs from the defaults; those of `{recipe.model}` are the paper's, as far as they are known.\n\n"
        f"{text}\n\n"
        f"<details><summary>The whole recipe</summary>\n\n```toml\n{shared_recipe(run)}```\n\n</details>\n\n"
        "`regard train RECIPE.toml --data DATA --out RUN` trains it again."
        + " Set `train.init` to the run that it started from."
        * bool(recipe.train.init)
    )


def _limits(run: TrainedRun, notes: CardNotes, is_probed: bool) -> list[str]:
    recipe, needs, tokenizer = run.recipe, run.model.needs(), run.tokenizer
    about, split = _about_model(run)[1], _training_split(run)
    limits = []
    if recipe.data.blind:
        limits.append("A control: it sees no image (`data.blind`). What it can do needs no understanding of images.")
    if "reconstruction" in about:
        limits.append("The model is a reconstruction: its paper was not available in full (see *The model*).")
    limits.append(
        "It scores regions with features of the kind that it was trained on. Scores for features of another extractor "
        "have no meaning."
    )
    language = (
        f"The language of its sentences: {_cell(notes.language)}."
        if notes.language
        else "The language of its sentences is not noted."
    )
    if isinstance(tokenizer, Vocabulary):
        language += f" Its vocabulary has {len(tokenizer):,} words; any other word is unknown to it."
    limits.append(language)
    if split is not None and split.num_images < SMALL:
        limits.append(
            f"It was trained on {split.num_images:,} images, which is few: expect lower recalls on other images."
        )
    limits += _limits_of_relations(recipe, needs, is_probed)
    if recipe.data.corrupted_relations:
        share = f"{100 * recipe.data.corrupted_relations:g} %"
        limits.append(f"An experiment: {share} of the relations of its training data were replaced by wrong ones.")
    limits.append(
        f"One training with seed {recipe.train.seed}. The intervals are those of other images and sentences, not of "
        "other seeds."
    )
    return limits


def _limits_of_relations(recipe: Recipe, needs: frozenset[str], is_probed: bool) -> list[str]:
    if "relations" not in needs:
        return ["It reads no relations between regions" + ("." if "boxes" in needs else ", and no boxes.")]
    limits, graph = [], getattr(recipe.options, "graph", None)
    unread = [] if graph is None else [what for what, is_read in (("predicate", graph.num_predicates),
              ("direction", graph.directed)) if not is_read]  # fmt: skip
    if unread:
        limits.append(f"Of a relation, it reads which regions are related, but not the {' and the '.join(unread)}.")
    if not is_probed:
        limits.append("It reads relations between regions; how much they matter was not measured for this card.")
    return limits


def _training_split(run: TrainedRun) -> Split | None:
    """The training split, if the data folder of the run is there."""
    try:
        return run.open_split("train")
    except InputError:
        return None


def _events(run: TrainedRun, kind: str) -> list[dict[str, Any]]:
    return last_by_step(read_events(run.folder / METRICS), kind) if (run.folder / METRICS).is_file() else []


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "hours"), (60, "minutes")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def _span(interval: Interval) -> str:
    return f"{interval.low:.1f} to {interval.high:.1f}"


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines if line)


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *rest = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|" + "---|" * len(rows[0]), *rest])


def _cell(value: Any) -> str:
    """A value as text of one line that Markdown does not interpret."""
    return re.sub(r"([|<>`*\[\]\\])", r"\\\1", " ".join(str(value).split()))
