"""The training loop: any model, in one process or in several under torchrun, with resumption at any step.

A step depends only on the recipe and the number of the step: the order of sentences comes from the seed and the epoch,
random masks come from the seed and the step, the learning rate comes from the step. So a checkpoint is the weights, the
optimizer's state and a position, and a resumed run ends with the same weights as an uninterrupted one.
"""

import atexit
import math
import os
import time
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from rich.console import Console
from torch import Tensor, nn

from regard.batch import to_device
from regard.console import PlainConsole
from regard.data import Split
from regard.data.augment import drop_regions, drop_words
from regard.data.loader import Loader, Pairs
from regard.encode import check_inputs
from regard.evaluation.cascade import shortlisted_pairs
from regard.evaluation.evaluate import evaluate
from regard.files import InputError, Stopped
from regard.losses import Negatives, triplet
from regard.matcher import ENCODERS, Matcher
from regard.metrics import Recalls
from regard.runtime import Precision, device_named, inner, launch, leave, stoppable
from regard.score import score_batch, score_pairs
from regard.training.checkpoint import Position, load_state, own_folder
from regard.training.config import TrainConfig
from regard.training.precision import check_same_precision, precision_of_run, products_of, start_event
from regard.training.recipe import Recipe
from regard.training.run_folder import RunFolder
from regard.training.trained_run import TrainedRun, load
from regard.training.weights import build_model
from regard.words import build_tokenizer, load_tokenizer


class Objective(nn.Module):
    """The model and its loss as one module, because a distributed wrapper needs a single forward pass."""

    def __init__(self, model: Matcher, config: TrainConfig) -> None:
        super().__init__()
        self.model, self.config = model, config

    def forward(self, pairs: Pairs, negatives: Negatives) -> tuple[dict[str, Tensor], Tensor]:
        """Return the losses by name, and the scores [image, text] without gradients."""
        config = self.config
        images: Any = self.model.encode_images(pairs.images)
        texts: Any = self.model.encode_texts(pairs.texts)
        scored = self._shortlist(images, texts, pairs.matches) if config.shortlist else None
        if scored is None:
            block = config.block or len(texts)
            scores = score_batch(self.model, images, texts, (block, block)).float()
        else:
            scores = score_pairs(self.model, images, texts, scored).float()
            mean = scores.detach().sum() / scored.sum()
            scores = torch.where(scored, scores, mean)  # for the statistics of the scores; the loss leaves them out

        def loss(scores: Tensor, scored: Tensor | None = None) -> Tensor:
            return triplet(scores, pairs.matches, config.margin, negatives, config.soft_temperature, scored)

        losses = {"triplet": loss(scores, scored)}
        if config.summary_weight:
            losses["summary"] = config.summary_weight * loss(inner(images.summary(), texts.summary()))
        return losses | self.model.extra_losses(images, texts, scores, pairs.matches), scores.detach()

    @torch.no_grad()
    def _shortlist(self, images: Any, texts: Any, matches: Tensor) -> Tensor:
        """The pairs to score: all matches, and the negatives of each item that are nearest to it by summary."""
        matches = to_device(matches, images.mask.device)
        summaries = inner(images.summary(), texts.summary()).float().masked_fill(matches, float("-inf"))
        return matches | shortlisted_pairs(summaries, self.config.shortlist)


def train(
    recipe: Recipe,
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    resume: bool = False,
    device: str = "auto",
    console: Console | None = None,
) -> Recalls:
    """Train `recipe` on a data folder, write the run to `out`, and return the validation recalls of the saved weights.

    With `resume`, training continues from the last checkpoint in `out`, if there is one. Raises InputError for data
    that the model cannot use and for an `out` that contains another run, and Stopped after Ctrl-C or SIGTERM.
    """
    data, out, config = Path(data), Path(out), recipe.train
    console = console or PlainConsole()
    precision, reason = precision_of_run(config, device_named(device), out)
    fabric = launch(device, precision)
    check_same_precision(fabric, precision)
    splits = {name: recipe.open_split(data, name) for name in ("train", recipe.data.validation)}
    with own_folder(out) if fabric.is_global_zero else nullcontext():
        return _train(recipe, splits, out, resume, fabric, precision, reason, console)


def _train(
    recipe: Recipe,
    splits: dict[str, Split],
    out: Path,
    resume: bool,
    fabric: Fabric,
    precision: Precision,
    reason: str,
    console: Console,
) -> Recalls:
    config = recipe.train
    state = load_state(out, recipe, resume)
    start = TrainedRun(config.init) if config.init and not state else None
    if state:
        tokenizer = load_tokenizer(out)
    else:
        tokenizer = start.tokenizer if start else build_tokenizer(recipe.words, splits["train"].captions)

    torch.manual_seed(config.seed)
    model = build_model(recipe, splits["train"].feature_dim, tokenizer)
    copied = model.start_from(start.model) if start else []
    for split in splits.values():
        check_inputs(model, split)
    if config.shortlist and type(model).extra_losses is not Matcher.extra_losses:
        raise InputError(
            f"train.shortlist is {config.shortlist}, but {recipe.model} has losses over the scores of all pairs: "
            "set it to 0."
        )
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
        config.swapped,
        pin=fabric.device.type == "cuda",
    )
    run = RunFolder(
        recipe, out, fabric, console if fabric.is_global_zero else Console(quiet=True), model, splits, loader
    )
    position = run.restore(state, optimizer) if state else Position()
    run.begin(position, resumed=bool(state))
    run.console.print(reason, markup=False)
    if start:
        run.console.print(f"Starts from {start.folder}: {', '.join(copied)}", markup=False)
    with stoppable() as stop, closing(run), products_of(precision, fabric.device.type):
        if not state:
            run.log(start_event(precision, fabric.device.type))
        _loop(run, objective, optimizer, position, stop)
    # Not after a failure: the other processes may be waiting for this one, and then torchrun ends them all.
    atexit.register(leave)
    return run.best or evaluate(load(out, fabric.device), splits[recipe.data.validation])


def _loop(run: RunFolder, objective: Any, optimizer: Any, position: Position, stop: Any) -> None:
    config, loader = run.recipe.train, run.loader
    stopped = "Stopped at step {}. Run the same command with --resume to continue."
    saved, losses = time.monotonic(), LossReader(config.log_every)
    with run.progress(len(loader)) as progress:
        while position.epoch < config.epochs and not run.is_out_of_patience(position):
            objective.train()
            bar = progress.add_task(f"epoch {position.epoch + 1}/{config.epochs}", total=len(loader), loss=math.nan)
            progress.update(bar, completed=position.batch)
            for pairs in loader.epoch(position.epoch, position.batch):
                step = position.epoch * len(loader) + position.batch
                losses.add(_step(run, objective, optimizer, pairs, step), step)
                position.batch += 1
                progress.update(bar, advance=1, loss=losses.last)
                due = stop() or time.monotonic() - saved > 60 * config.save_minutes
                # Accumulated gradients are not saved, and the end of an epoch is saved after its validation.
                if due and is_update_step(config, step, len(loader)) and position.batch < len(loader):
                    losses.read()
                    run.save(optimizer, position)
                    saved = time.monotonic()
                    if stop():
                        raise Stopped(stopped.format(step + 1))
            losses.read()
            progress.remove_task(bar)
            position.epoch, position.batch = position.epoch + 1, 0
            if position.epoch % config.validate_every == 0 or position.epoch == config.epochs:
                run.validate(position)
            run.save(optimizer, position)
            saved = time.monotonic()
            if stop() and position.epoch < config.epochs:
                raise Stopped(stopped.format(position.epoch * len(loader)))


class LossReader:
    """Reads the losses of steps, and refuses those that are not finite.

    On a GPU, reading a number waits for the GPU, so losses are read every `interval` steps, and before they matter:
    before a checkpoint and at the end of an epoch. On a CPU, they are read at once.
    """

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self.last = math.nan  # the loss of the last step that was read
        self._unread: list[tuple[int, Tensor]] = []

    def add(self, loss: Tensor, step: int) -> None:
        """Take the loss of a step (from 0). Raises InputError as `read` does."""
        self._unread.append((step, loss))
        if loss.device.type == "cpu" or len(self._unread) >= self.interval:
            self.read()

    def read(self) -> None:
        """Read the losses that were not read yet. Raises InputError if one of them is not finite."""
        if not self._unread:
            return
        steps, losses = zip(*self._unread, strict=True)
        self._unread = []
        for step, loss in zip(steps, torch.stack(losses).tolist(), strict=True):
            if not math.isfinite(loss):
                raise InputError(
                    f"The loss is {loss} at step {step + 1}: look for NaN with `regard data check`, or lower "
                    "train.learning_rate."
                )
            self.last = loss


def _step(run: RunFolder, objective: Any, optimizer: Any, pairs: Pairs, step: int) -> Tensor:
    """Run one batch forward and backward, and update the weights on an update step. Returns the loss per text."""
    config, fabric, batches, began = run.recipe.train, run.fabric, len(run.loader), time.perf_counter()
    torch.manual_seed(config.seed * 1_000_003 + step)
    pairs.images = drop_regions(pairs.images, config.region_drop)  # on the CPU, where the masks are read
    pairs.texts = drop_words(pairs.texts, config.word_drop, run.model.tokenizer)
    pairs = pairs.to(fabric.device)
    negatives: Negatives = (
        "sum" if step < config.warmup_epochs * batches and config.negatives == "hardest" else config.negatives
    )
    rate = learning_rate(config, step, batches)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]

    is_update = is_update_step(config, step, batches)
    with fabric.no_backward_sync(objective, enabled=not is_update):
        losses, scores = objective(pairs, negatives)
        total = sum(losses.values())
        fabric.backward(total / config.accumulate)
    norm = None
    if is_update:
        if config.clip:
            norm = fabric.clip_gradients(objective, optimizer, max_norm=config.clip, error_if_nonfinite=False)
        optimizer.step()
        optimizer.zero_grad()
    if (step + 1) % config.log_every == 0:
        run.log_step(step + 1, losses, scores, pairs.matches, rate, norm, time.perf_counter() - began)
    return total.detach() / len(pairs.texts)


def is_update_step(config: TrainConfig, step: int, batches: int) -> bool:
    """Return whether the optimizer updates the weights after a step (from 0).

    It does so after every `accumulate`-th batch of an epoch, and after the last one.
    """
    batch = step % batches + 1
    return batch % config.accumulate == 0 or batch == batches


def learning_rate(config: TrainConfig, step: int, batches: int) -> float:
    """Return the learning rate of a step (counted from 0); an epoch has `batches` steps."""
    rising = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    if config.schedule == "cosine":
        falling = 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, config.epochs * batches))))
    elif config.schedule == "step":
        falling = config.decay ** sum(step >= epoch * batches for epoch in config.decay_epochs)
    else:
        falling = 1.0
    return config.learning_rate * rising * falling


def _optimizer(model: Matcher, config: TrainConfig) -> torch.optim.Optimizer:
    """Adam or AdamW over the trained parameters.

    A pretrained text encoder has a learning rate of its own, and so have the encoders that `init` gives.
    """
    words: Any = model.words
    factors = {id(parameter): config.pretrained_rate for parameter in words.pretrained_parameters()}
    if config.init:
        started = [parameter for name, parameter in model.named_parameters() if name.partition(".")[0] in ENCODERS]
        factors |= {id(parameter): config.init_rate * factors.get(id(parameter), 1.0) for parameter in started}
    groups: dict[float, list[nn.Parameter]] = {1.0: []}
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups.setdefault(factors.get(id(parameter), 1.0), []).append(parameter)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    found = [{"params": parameters, "factor": factor} for factor, parameters in groups.items() if parameters]
    return kind(found, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
