"""The folder that a training run writes: logging, validation, the best weights, checkpoints and curves."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text
from torch import Tensor

from regard import ranks
from regard.charts import draw_curves
from regard.data import Split
from regard.data.loader import Loader
from regard.evaluation.evaluate import evaluate
from regard.files import InputError, missing_extra, parse_json, replacing
from regard.losses import is_collapsed
from regard.matcher import Matcher
from regard.metrics import Recalls
from regard.runtime import Precision, forward_in
from regard.training.checkpoint import STATE, Position, State, save_state
from regard.training.recipe import Recipe
from regard.training.trained_run import RECIPE, write_data_folder
from regard.training.weights import WEIGHTS, save_model

METRICS = "metrics.jsonl"
MANY_IMAGES = 100  # of a validation split whose recalls are compared with chance
COLLAPSE_AFTER = 100  # steps before equal scores count as a collapse, and steps that they must last


class RunFolder:
    """Writes a training run to its folder and prints its progress. Only the first process does either."""

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        check_owned: Callable[[], None],
        device: torch.device,
        precision: Precision,
        console: Console,
        model: Matcher,
        splits: dict[str, Split],
        loader: Loader,
    ) -> None:
        self.recipe, self.out, self.check_owned, self.console = recipe, out, check_owned, console
        self.device, self.precision, self.is_first = device, precision, ranks.rank() == 0
        self.model, self.splits, self.loader = model, splits, loader
        self.best: Recalls | None = None  # the validation metrics of the saved weights, if they were measured
        self.equal_since: int | None = None  # the step since which all pairs have had nearly the same score
        self.has_warned = False
        self.began = time.monotonic()
        self.board: Any = None
        # A position in an epoch has the same meaning only if these are the same.
        split = splits["train"]
        self.data = {"sentences": split.num_texts, "features": split.feature_dim}

    def restore(self, state: State, optimizer: Any) -> Position:
        """Load a saved state. Raises InputError if it was saved with other data."""
        then = state["data"]
        changed = [f"{now} {name} (then {then.get(name)})" for name, now in self.data.items() if now != then.get(name)]
        if changed:
            raise InputError(f"{self.out} was started with other data: now {', '.join(changed)}. Name another --out.")
        try:
            self.model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:  # what torch raises for them
            reason = str(error).splitlines()[-1].strip()
            raise InputError(
                f"{self.out / STATE} does not fit {RECIPE} beside it ({reason}): remove it to train from the beginning."
            ) from None
        return Position(**state["position"])

    def begin(self, position: Position, resumed: bool) -> None:
        """Write the first files of a run, or cut a resumed run's metrics back to `position`; print what is trained."""
        batches, split = len(self.loader), self.splits["train"]
        if self.is_first:
            _write_first_files(self.out, self.recipe, split.folder, None if resumed else self.loader.tokenizer)
            _keep_lines(self.out / METRICS, position.epoch * batches + position.batch)
            if self.recipe.train.tensorboard:
                self.board = _tensorboard(self.out / "tensorboard", position.epoch * batches + position.batch + 1)
        size = sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad)
        self.console.print(
            f"{self.recipe.model}: {size / 1e6:.2f} million trainable parameters; {split.num_images:,} images, "
            f"{split.num_texts:,} sentences, {split.num_regions} regions x {split.feature_dim}; on {self.device}"
        )
        self.warn_of_data()
        if resumed:
            self.console.print(f"Resumed after epoch {position.epoch}, batch {position.batch}.")

    def close(self) -> None:
        if self.board:
            self.board.close()  # it buffers events

    def log(self, event: dict[str, Any]) -> None:
        if self.is_first:
            with open(self.out / METRICS, "a", encoding="utf-8") as file:
                file.write(json.dumps(event) + "\n")
            if self.board:
                for name, value in event.items():
                    if isinstance(value, float):
                        self.board.add_scalar(f"{event['event']}/{name}", value, event["step"])

    def log_step(
        self,
        step: int,
        losses: dict[str, Tensor],
        scores: Tensor,
        matches: Tensor,
        rate: float,
        norm: Tensor | None,
        seconds: float,
    ) -> None:
        losses = {name: value.detach() for name, value in losses.items()}
        loss, batches = float(sum(losses.values())), len(self.loader)
        event = {"event": "step", "step": step, "epoch": step / batches, "loss": loss / matches.shape[1], "lr": rate}
        event |= {f"loss_{name}": float(value) / matches.shape[1] for name, value in losses.items()}
        if norm is not None:
            event["grad_norm"] = float(norm)
            if not event["grad_norm"] and loss:
                self.warn(
                    "zero gradient",
                    step,
                    f"Nothing is learnt: the gradient is zero at step {step}. All weights may be frozen, or a layer "
                    "saturated: lower train.learning_rate.",
                )
        self.log(event | {"seconds": seconds, "pairs_per_second": matches.numel() / seconds})
        if not is_collapsed(scores, matches, self.recipe.train.margin):
            self.equal_since = None
            return
        self.equal_since = self.equal_since if self.equal_since is not None else step
        if step - max(self.equal_since, COLLAPSE_AFTER) >= COLLAPSE_AFTER:
            self.warn(
                "collapse",
                step,
                f"Collapsed: since step {self.equal_since} every pair scores the same, and the loss stays "
                "at twice the margin per pair. Train longer on all negatives first (train.warmup_epochs), or lower "
                "train.learning_rate.",
            )

    def warn(self, cause: str, step: int, text: str) -> None:
        """Print and log why training learns nothing; the first time only, because one cause has several effects."""
        if not self.has_warned:
            self.has_warned = True
            self.log({"event": cause, "step": step})
            self.console.print(text, style="bold red")

    def warn_of_data(self) -> None:
        """Warn if a batch has no negatives, or if the features of all images are equal."""
        split = self.splits["train"]
        if min(self.recipe.train.batch_size, split.num_images) < 2:
            self.warn(
                "no negatives", 0, "Nothing can be learnt: each batch has one image, and so no negatives. Raise "
                "train.batch_size, or give more images.",
            )  # fmt: skip
        if self.recipe.data.blind:
            self.console.print("This run sees no image (data.blind): a control.", markup=False)
            return
        some = split.features.read(np.linspace(0, split.num_images - 1, min(64, split.num_images)).astype(np.int64))
        if len(some) > 1 and (some == some[:1]).all():
            self.warn(
                "equal features", 0, "Nothing can be learnt: the features of all images are equal. Extract them again.",
            )  # fmt: skip

    def validate(self, position: Position) -> None:
        """Evaluate on the validation split, and save the weights if they are the best so far."""
        step = position.epoch * len(self.loader)
        with forward_in(self.precision, self.device.type):
            found = evaluate(self.model, self.splits[self.recipe.data.validation])
        if self.is_first:
            self.check_owned()
            self.log({"event": "validation", "step": step, "epoch": float(position.epoch), **found.to_dict()})
            better = found.rsum > position.best
            if better:
                train = self.splits["train"]
                save_model(self.model, self.recipe.model, train.feature_dim, self.out, train.names)
            minutes = (time.monotonic() - self.began) / 60
            split = f"{self.recipe.data.validation} rSum"
            self.console.print(
                f"epoch {position.epoch:3d}  {split} {found.rsum:6.1f}{' *' if better else '  '}"
                f"  i2t R@1 {found.i2t.r1:5.1f}  t2i R@1 {found.t2i.r1:5.1f}  {minutes:6.1f} min"
            )
            images = self.splits[self.recipe.data.validation].num_images
            # A random order finds 1, 5 and 10 of `images`, in both directions.
            should_learn = position.epoch > 1 and not self.recipe.data.blind
            if images >= MANY_IMAGES and should_learn and found.rsum < 1.5 * 2 * 100 * (1 + 5 + 10) / images:
                self.warn(
                    "chance",
                    step,
                    f"Nothing is learnt: after {position.epoch} epochs the recalls are those of a random order. Check "
                    "that sentences belong to their images (`regard data check`), or change train.learning_rate.",
                )
            self.draw()
        if found.rsum > position.best:
            position.best, position.best_epoch, self.best = found.rsum, position.epoch, found

    def is_out_of_patience(self, position: Position) -> bool:
        """Return whether the last validation ended the patience. Epochs without a validation end nothing."""
        config = self.recipe.train
        is_validated = position.epoch % config.validate_every == 0
        return bool(config.patience) and is_validated and position.epoch - position.best_epoch >= config.patience

    def save(self, optimizer: Any, position: Position) -> None:
        """Write the state to resume from. The other processes need not wait."""
        if self.is_first:
            self.check_owned()
            save_state(self.out, self.model, optimizer, position, self.data)

    def draw(self) -> None:
        if self.is_first and (self.out / METRICS).exists():
            draw_curves(self.out / METRICS, self.out / "curves.png")

    def progress(self, batches: int) -> Progress:
        """A progress bar with the loss, the speed and the time left; silent if there is no terminal."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}"),
            Speed(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        return Progress(*columns, console=self.console, disable=not self.console.is_terminal, transient=True)


class Speed(ProgressColumn):
    """Batches per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:.1f} batches/s")


def _write_first_files(out: Path, recipe: Recipe, data: Path, tokenizer: Any | None) -> None:
    """Write the recipe, the data folder's path and, for a new run, the tokenizer."""
    with replacing(out / RECIPE) as temporary:
        temporary.write_text(recipe.to_toml(), "utf-8")
    write_data_folder(out, data)
    if tokenizer is not None:
        for name in (WEIGHTS, METRICS):
            (out / name).unlink(missing_ok=True)
        tokenizer.save(out)


def _keep_lines(path: Path, last_step: int) -> None:
    """Drop the metrics after `last_step`: a resumed run takes those steps again."""
    if path.exists():
        lines = path.read_text("utf-8", "replace").splitlines(keepends=True)
        with replacing(path) as temporary:
            temporary.write_text("".join(line for line in lines if _step_of(line) <= last_step), "utf-8")


def _step_of(line: str) -> float:
    """The step of a line of metrics; infinity for a line that is damaged, as a killed run may leave."""
    try:
        event = parse_json(line)
    except ValueError:
        return math.inf
    step = event.get("step") if isinstance(event, dict) and line.endswith("\n") else None
    return float(step) if isinstance(step, int) else math.inf


def _tensorboard(folder: Path, step: int) -> Any:
    """A writer of TensorBoard events, which replace the earlier events from `step` on."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise missing_extra("train.tensorboard needs TensorBoard", "tensorboard") from None
    return SummaryWriter(str(folder), purge_step=step)
