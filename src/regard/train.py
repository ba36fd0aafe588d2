"""The one training loop: any model, one process or several under torchrun, interrupted and resumed at will.

What a step computes depends on the recipe and the step's number alone: the order of sentences comes from the seed and
the epoch, random masks from the seed and the step, the learning rate from the step. So a checkpoint is the weights, the
optimizer's state and a position, and a resumed run gives the weights of an uninterrupted one.
"""

import ctypes
import json
import logging
import math
import os
import pickle
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
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
from torch import Tensor, nn

from regard.checkpoint import WEIGHTS, build_model, device_named, load, save_model
from regard.config import TrainConfig
from regard.curves import draw_curves
from regard.data import Split
from regard.data.augment import drop_regions, drop_words
from regard.data.loader import Loader, Pairs
from regard.evaluation import evaluate, missing, open_split
from regard.files import InputError, Stopped, replacing
from regard.losses import Negatives, collapsed, triplet
from regard.matcher import Matcher
from regard.metrics import Recalls
from regard.recipe import Recipe
from regard.score import score_all
from regard.words import build_tokenizer, load_tokenizer

STATE = "last.pt"
METRICS = "metrics.jsonl"
COLLAPSE_AFTER = 100  # steps before equal scores mean collapse, and for as long as they must last
FREE_TO_CHANGE = {"epochs", "patience", "log_every", "save_minutes", "tensorboard"}  # between a run and its resumption


class Objective(nn.Module):
    """The model and its loss as one module, so that a distributed wrapper sees a single forward pass."""

    def __init__(self, model: Matcher, config: TrainConfig) -> None:
        super().__init__()
        self.model, self.config = model, config

    def forward(self, pairs: Pairs, negatives: Negatives) -> tuple[dict[str, Tensor], Tensor]:
        """The losses by name, and the scores."""
        config = self.config
        images, texts = self.model.encode_images(pairs.images), self.model.encode_texts(pairs.texts)
        block = config.block or len(texts)
        scores = score_all(self.model, images, texts, (block, block)).float()
        losses = {"triplet": triplet(scores, pairs.matches, config.margin, negatives, config.soft_temperature)}
        return losses | self.model.extra_losses(images, texts, pairs.matches), scores.detach()


def train(
    recipe: Recipe,
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    resume: bool = False,
    device: str = "auto",
    console: Console | None = None,
) -> Recalls:
    """Train `recipe` on the data folder and leave the run in `out`; the recalls on validation of the weights kept.

    With `resume`, goes on from the last checkpoint in `out`, if there is one. Raises InputError for data that the model
    cannot use and for an `out` that holds another run, and Stopped when asked to stop (Ctrl-C, SIGTERM).
    """
    data, out, config = Path(data), Path(out), recipe.train
    console = console or Console()
    fabric = _fabric(device, config.precision)
    splits = {name: open_split(recipe, data, name) for name in ("train", recipe.data.validation)}
    state = _earlier(out, recipe, resume)
    tokenizer = load_tokenizer(out) if state else build_tokenizer(recipe.words, splits["train"].captions)
    tune_memory()

    torch.manual_seed(config.seed)
    model = build_model(recipe, splits["train"].feature_dim, tokenizer)
    for split in splits.values():
        missing(model, split)
    optimizer: Any = _optimizer(model, config)
    objective: Any
    objective, optimizer = fabric.setup(Objective(model, config), optimizer)
    loader = Loader(
        splits["train"],
        tokenizer,
        config.batch_size,
        config.seed,
        fabric.global_rank,
        fabric.world_size,
        config.twins,
    )
    run = _Run(recipe, out, fabric, console if fabric.is_global_zero else Console(quiet=True), model, splits, loader)
    position = run.restore(state, optimizer) if state else _Position()
    run.begin(position, resumed=bool(state))
    with stoppable() as stop, closing(run):
        _loop(run, objective, optimizer, position, stop)
    return evaluate(load(out, fabric.device), splits[recipe.data.validation])


class Speed(ProgressColumn):
    """Batches a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:.1f} batches/s")


class _Position:
    """How far training has come, and the best validation so far: what a checkpoint holds beside tensors."""

    def __init__(self, epoch: int = 0, batch: int = 0, best: float = -1.0, best_epoch: int = 0) -> None:
        self.epoch, self.batch, self.best, self.best_epoch = epoch, batch, best, best_epoch


def _loop(run: "_Run", objective: Any, optimizer: Any, position: _Position, stop: Any) -> None:
    config, loader = run.recipe.train, run.loader
    stopped = "Stopped at step {}. The same command with --resume goes on."
    saved = time.monotonic()
    with run.progress(len(loader)) as progress:
        while position.epoch < config.epochs and not run.patience_is_out(position):
            objective.train()
            bar = progress.add_task(f"epoch {position.epoch + 1}/{config.epochs}", total=len(loader), loss=math.nan)
            progress.update(bar, completed=position.batch)
            for pairs in loader.epoch(position.epoch, position.batch):
                step = position.epoch * len(loader) + position.batch
                loss = _step(run, objective, optimizer, pairs, step)
                position.batch += 1
                progress.update(bar, advance=1, loss=loss)
                due = stop() or time.monotonic() - saved > 60 * config.save_minutes
                # Gradients that wait for the optimizer are not saved, and the epoch's end is saved once validated.
                if due and moves(config, step, len(loader)) and position.batch < len(loader):
                    run.save(optimizer, position)
                    saved = time.monotonic()
                    if stop():
                        raise Stopped(stopped.format(step + 1))
            progress.remove_task(bar)
            position.epoch, position.batch = position.epoch + 1, 0
            run.validate(position)
            run.save(optimizer, position)
            saved = time.monotonic()
            if stop() and position.epoch < config.epochs:
                raise Stopped(stopped.format(position.epoch * len(loader)))


def _step(run: "_Run", objective: Any, optimizer: Any, pairs: Pairs, step: int) -> float:
    """One batch forward and back; the optimizer moves with every `accumulate`-th. The loss of a pair."""
    config, fabric, batches, began = run.recipe.train, run.fabric, len(run.loader), time.perf_counter()
    torch.manual_seed(config.seed * 1_000_003 + step)
    pairs = pairs.to(fabric.device)
    pairs.images = drop_regions(pairs.images, config.region_drop)
    pairs.texts = drop_words(pairs.texts, config.word_drop, run.model.tokenizer)
    negatives: Negatives = (
        "sum" if step < config.warmup_epochs * batches and config.negatives != "soft" else config.negatives
    )
    rate = learning_rate(config, step, batches)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]

    moving = moves(config, step, batches)
    with fabric.no_backward_sync(objective, enabled=not moving):
        losses, scores = objective(pairs, negatives)
        total = sum(losses.values())
        fabric.backward(total / config.accumulate)
    loss = float(total.detach())
    if not math.isfinite(loss):
        raise InputError(
            f"The loss is {loss} at step {step + 1}: look for NaN with `regard data check`, or lower the rate."
        )
    norm = None
    if moving:
        if config.clip:
            norm = fabric.clip_gradients(objective, optimizer, max_norm=config.clip, error_if_nonfinite=False)
        optimizer.step()
        optimizer.zero_grad()
    if (step + 1) % config.log_every == 0:
        run.log_step(step + 1, losses, scores, pairs.matches, rate, norm, time.perf_counter() - began)
    return loss / len(pairs.texts)


def moves(config: TrainConfig, step: int, batches: int) -> bool:
    """Whether the optimizer moves after a step (from 0): the `accumulate`-th ones of an epoch, and its last."""
    batch = step % batches + 1
    return batch % config.accumulate == 0 or batch == batches


class _Run:
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
        self.equal_since: int | None = None  # the step since which all pairs score alike
        self.began = time.monotonic()
        self.board: Any = None
        # What must be the same for a position in an epoch to mean the same.
        split = splits["train"]
        self.data = {"sentences": split.num_texts, "features": split.feature_dim, "processes": fabric.world_size}

    def restore(self, state: dict[str, Any], optimizer: Any) -> "_Position":
        """Go back to a saved state. Raises InputError where it is of other data."""
        then = state["data"]
        changed = [f"{now} {name} (then {then[name]})" for name, now in self.data.items() if now != then[name]]
        if changed:
            raise InputError(f"{self.out} was begun with other data: now {', '.join(changed)}. Name another --out.")
        self.model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        return _Position(**state["position"])

    def begin(self, position: _Position, resumed: bool) -> None:
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

    def validate(self, position: _Position) -> None:
        """Measure on the validation split; keep the weights if they are the best so far."""
        rsum, step = 0.0, position.epoch * len(self.loader)
        if self.fabric.is_global_zero:
            with self.fabric.autocast():
                found = evaluate(self.model, self.splits[self.recipe.data.validation])
            rsum = found.rsum
            self.log({"event": "validation", "step": step, "epoch": float(position.epoch), **found.to_dict()})
            better = rsum > position.best
            if better:
                save_model(self.model, self.recipe.model, self.splits["train"].feature_dim, self.out)
            minutes = (time.monotonic() - self.began) / 60
            self.console.print(
                f"epoch {position.epoch:3d}  {self.recipe.data.validation} rSum {rsum:6.1f}{' *' if better else '  '}"
                f"  i2t R@1 {found.i2t.r1:5.1f}  t2i R@1 {found.t2i.r1:5.1f}  {minutes:6.1f} min"
            )
            self.draw()
        rsum = self.fabric.broadcast(rsum)
        if rsum > position.best:
            position.best, position.best_epoch = rsum, position.epoch

    def patience_is_out(self, position: _Position) -> bool:
        patience = self.recipe.train.patience
        return bool(patience) and position.epoch - position.best_epoch >= patience

    def save(self, optimizer: Any, position: _Position) -> None:
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


def _tensorboard(folder: Path, step: int) -> Any:
    """A writer of TensorBoard's files, which forget what they hold from `step` on."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError('train.tensorboard needs TensorBoard: pip install "regard[tensorboard]".') from None
    return SummaryWriter(str(folder), purge_step=step)


def learning_rate(config: TrainConfig, step: int, batches: int) -> float:
    """The rate of a step (from 0) of epochs of `batches` steps."""
    rising = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    if config.schedule == "cosine":
        falling = 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, config.epochs * batches))))
    elif config.schedule == "step":
        falling = config.decay ** sum(step >= epoch * batches for epoch in config.decay_epochs)
    else:
        falling = 1.0
    return config.learning_rate * rising * falling


def tune_memory() -> None:
    """Have glibc keep large freed blocks, and oneDNN few of its kernels.

    Activations above glibc's threshold are else mapped anew in every step, a fourth of its time. And oneDNN keeps what
    it made for each of the last 1,024 shapes, twice: with batches of every width in bfloat16, gigabytes.
    """
    for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(cache, "32")
    with suppress(OSError, AttributeError):
        glibc = ctypes.CDLL("libc.so.6")
        glibc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        glibc.mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD


@contextmanager
def stoppable() -> Iterator[Any]:
    """Gives a function that says whether Ctrl-C or SIGTERM has come; a second Ctrl-C interrupts at once."""
    asked: list[int] = []

    def ask(number: int, frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    try:
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals are someone else's
        before = {}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _fabric(device: str, precision: str) -> Fabric:
    """One process, or this process's part under torchrun."""
    kind = device_named(device)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it would announce the precision
    under_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    fabric = Fabric(
        accelerator=kind,
        devices=int(os.environ["LOCAL_WORLD_SIZE"]) if under_torchrun else 1,
        num_nodes=int(os.environ["GROUP_WORLD_SIZE"]) if under_torchrun else 1,
        strategy="ddp" if under_torchrun else "auto",
        precision=precision,  # type: ignore[arg-type]  # a Literal of ours is a Literal of theirs
    )
    fabric.launch()
    return fabric


def _earlier(out: Path, recipe: Recipe, resume: bool) -> dict[str, Any] | None:
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


def _optimizer(model: Matcher, config: TrainConfig) -> torch.optim.Optimizer:
    """Adam or AdamW over what is trained; a pretrained text encoder at its own rate."""
    words: Any = model.words
    slow = {id(parameter) for parameter in words.pretrained_parameters()}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if id(parameter) not in slow], "factor": 1.0},
        {"params": [parameter for parameter in trained if id(parameter) in slow], "factor": config.pretrained_rate},
    ]
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    groups = [group for group in groups if group["params"]]
    return kind(groups, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)


def _keep_lines(path: Path, last_step: int) -> None:
    """Drop the metrics after `last_step`: the steps that a resumed run takes again."""
    if path.exists():
        lines = path.read_text("utf-8").splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]  # a killed run may leave half a line
        with replacing(path) as temporary:
            temporary.write_text("".join(line for line in whole if json.loads(line)["step"] <= last_step), "utf-8")
