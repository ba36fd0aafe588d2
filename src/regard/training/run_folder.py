"""A run as it goes: what it writes in its folder, what it tells, and whether a folder holds the run to go on with."""

import json
import pickle
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
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

from regard.charts import draw_curves
from regard.data import Split
from regard.data.loader import Loader
from regard.evaluation.evaluate import evaluate
from regard.files import InputError, replacing
from regard.losses import collapsed
from regard.matcher import Matcher
from regard.metrics import Recalls
from regard.training.checkpoint import WEIGHTS, save_model
from regard.training.recipe import Recipe

STATE = "last.pt"
METRICS = "metrics.jsonl"
COLLAPSE_AFTER = 100  # steps before equal scores mean collapse, and for as long as they must last
# Between a run and its resumption.
FREE_TO_CHANGE = {"epochs", "patience", "validate_every", "log_every", "save_minutes", "tensorboard"}


class Position:
    """How far training has come, and the best validation so far: what a checkpoint holds beside tensors."""

    def __init__(self, epoch: int = 0, batch: int = 0, best: float = -1.0, best_epoch: int = 0) -> None:
        self.epoch, self.batch, self.best, self.best_epoch = epoch, batch, best, best_epoch


class Run:
    """A run's folder and the console: where training writes and what it tells. Only the first process does either."""

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        fabric: Fabric,
        console: Console,
        model: Matcher,
        splits: dict[str, Split],
        loader: Loader,
    ) -> None:
        self.recipe, self.out, self.fabric, self.console = recipe, out, fabric, console
        self.model, self.splits, self.loader = model, splits, loader
        self.best: Recalls | None = None  # what validation found of the weights kept, by this process
        self.equal_since: int | None = None  # the step since which all pairs score alike
        self.began = time.monotonic()
        self.board: Any = None
        # What must be the same for a position in an epoch to mean the same.
        split = splits["train"]
        self.data = {"sentences": split.num_texts, "features": split.feature_dim, "processes": fabric.world_size}

    def restore(self, state: dict[str, Any], optimizer: Any) -> Position:
        """Go back to a saved state. Raises InputError where it is of other data."""
        then = state["data"]
        changed = [f"{now} {name} (then {then[name]})" for name, now in self.data.items() if now != then[name]]
        if changed:
            raise InputError(f"{self.out} was begun with other data: now {', '.join(changed)}. Name another --out.")
        self.model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        return Position(**state["position"])

    def begin(self, position: Position, resumed: bool) -> None:
        """Write what a run begins with or, where resumed, cut its metrics back to the position. Say what is trained."""
        batches = len(self.loader)
        self.fabric.barrier()  # no process may still be looking whether the folder holds a run
        if self.fabric.is_global_zero:
            _write_head(self.out, self.recipe, None if resumed else self.loader.tokenizer)
            _keep_lines(self.out / METRICS, position.epoch * batches + position.batch)
            if self.recipe.train.tensorboard:
                self.board = _tensorboard(self.out / "tensorboard", position.epoch * batches + position.batch + 1)
        size = sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad)
        split = self.splits["train"]
        self.console.print(
            f"{self.recipe.model}: {size / 1e6:.2f} million trained parameters; {split.num_images:,} images, "
            f"{split.num_texts:,} sentences, {split.num_regions} regions x {split.feature_dim}; on {self.fabric.device}"
        )
        if resumed:
            self.console.print(f"Resumed after epoch {position.epoch}, batch {position.batch}.")

    def close(self) -> None:
        if self.board:
            self.board.close()  # it writes at its leisure

    def log(self, event: dict[str, Any]) -> None:
        if self.fabric.is_global_zero:
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
        self.log(event | {"seconds": seconds, "pairs_per_second": matches.numel() / seconds})
        if not collapsed(scores, matches, self.recipe.train.margin):
            self.equal_since = None
            return
        self.equal_since = self.equal_since if self.equal_since is not None else step
        lasted = step - max(self.equal_since, COLLAPSE_AFTER)
        if COLLAPSE_AFTER <= lasted < COLLAPSE_AFTER + self.recipe.train.log_every:
            self.log({"event": "collapse", "step": step})
            self.console.print(
                f"[bold red]Collapsed:[/] since step {self.equal_since} every pair scores the same, and the loss stays "
                "at twice the margin a pair. Train longer on all negatives first (train.warmup_epochs), or more slowly."
            )

    def validate(self, position: Position) -> None:
        """Measure on the validation split; keep the weights if they are the best so far."""
        found: Any = None
        step = position.epoch * len(self.loader)
        if self.fabric.is_global_zero:
            with self.fabric.autocast():
                found = evaluate(self.model, self.splits[self.recipe.data.validation])
            self.log({"event": "validation", "step": step, "epoch": float(position.epoch), **found.to_dict()})
            better = found.rsum > position.best
            if better:
                train = self.splits["train"]
                save_model(self.model, self.recipe.model, train.feature_dim, self.out, train.folder, train.names)
            minutes = (time.monotonic() - self.began) / 60
            split = f"{self.recipe.data.validation} rSum"
            self.console.print(
                f"epoch {position.epoch:3d}  {split} {found.rsum:6.1f}{' *' if better else '  '}"
                f"  i2t R@1 {found.i2t.r1:5.1f}  t2i R@1 {found.t2i.r1:5.1f}  {minutes:6.1f} min"
            )
            self.draw()
        found = self.fabric.broadcast(found)
        if found.rsum > position.best:
            position.best, position.best_epoch, self.best = found.rsum, position.epoch, found

    def patience_is_out(self, position: Position) -> bool:
        patience = self.recipe.train.patience
        return bool(patience) and position.epoch - position.best_epoch >= patience

    def save(self, optimizer: Any, position: Position) -> None:
        """Write the state from which training goes on: whole or not at all. The other processes need not wait."""
        if self.fabric.is_global_zero:
            state = {"model": self.model.state_dict(), "optimizer": optimizer.state_dict()}
            with replacing(self.out / STATE) as temporary, open(temporary, "wb") as file:
                try:
                    torch.save(state | {"position": vars(position), "data": self.data}, file)
                except RuntimeError as error:  # torch hides why the file could not be written
                    raise error.__context__ or error from None

    def draw(self) -> None:
        if self.fabric.is_global_zero and (self.out / METRICS).exists():
            draw_curves(self.out / METRICS, self.out / "curves.png")

    def progress(self, batches: int) -> Progress:
        """A bar with the loss, speed and time left; nothing where there is no terminal."""
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
    """Batches a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:.1f} batches/s")


def earlier(out: Path, recipe: Recipe, resume: bool) -> dict[str, Any] | None:
    """The state to go on from, if `out` has one. Raises InputError where it holds anything but this run."""
    if not (out / "recipe.toml").is_file():
        # What a killed process was writing is hidden.
        if out.exists() and (not out.is_dir() or any(not path.name.startswith(".") for path in out.iterdir())):
            raise InputError(f"{out} is there already and is no run: name another --out.")
        return None
    if not resume:
        raise InputError(f"{out} holds a run already: go on with it by --resume, or name another --out.")
    _same_run(out, recipe)
    if not (out / STATE).is_file():
        return None
    try:
        return torch.load(out / STATE, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(
            f"{out / STATE} is damaged ({type(error).__name__}): remove it to train from the beginning."
        ) from None


def _write_head(out: Path, recipe: Recipe, tokenizer: Any | None) -> None:
    """Write the recipe and, for a new run, the tokenizer; clear away what a killed process left."""
    with replacing(out / "recipe.toml") as temporary:
        temporary.write_text(recipe.to_toml(), "utf-8")
    for left in out.glob(".*.tmp"):
        left.unlink()
    if tokenizer is not None:
        for name in (WEIGHTS, METRICS):
            (out / name).unlink(missing_ok=True)
        tokenizer.save(out)


def _same_run(out: Path, recipe: Recipe) -> None:
    """Raises InputError where the run in `out` was begun with other settings."""
    before = Recipe.read(out / "recipe.toml")
    free = {name: getattr(recipe.train, name) for name in FREE_TO_CHANGE}
    if replace(before, train=replace(before.train, **free)) == recipe:
        return
    old, new = asdict(before), asdict(recipe)
    changed = [
        f"{recipe.model if table == 'options' else table}.{key} = {value!r} (then {old[table][key]!r})"
        for table in ("options", "words", "data", "train")
        for key, value in new[table].items()
        if before.model == recipe.model and old[table][key] != value and key not in FREE_TO_CHANGE
    ]
    raise InputError(
        f"{out} was begun with other settings: now {', '.join(changed) or recipe.model}. Name another --out."
    )


def _keep_lines(path: Path, last_step: int) -> None:
    """Drop the metrics after `last_step`: the steps that a resumed run takes again."""
    if path.exists():
        lines = path.read_text("utf-8").splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]  # a killed run may leave half a line
        with replacing(path) as temporary:
            temporary.write_text("".join(line for line in whole if json.loads(line)["step"] <= last_step), "utf-8")


def _tensorboard(folder: Path, step: int) -> Any:
    """A writer of TensorBoard's files, which forget what they hold from `step` on."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError('train.tensorboard needs TensorBoard: pip install "regard[tensorboard]".') from None
    return SummaryWriter(str(folder), purge_step=step)
