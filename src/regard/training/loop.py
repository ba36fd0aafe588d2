"""The training loop: any model, in one process or in several, with resumption at any step.

A step depends only on the recipe and the number of the step: the order of sentences comes from the seed and the epoch,
random masks come from the seed and the step, the learning rate comes from the step. So a checkpoint is the weights, the
optimizer's state and a position, and a resumed run ends with the same weights as an uninterrupted one. It does not
depend on the number of processes either: each computes a part of the batch (see `regard.ranks`).
"""

import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from rich.console import Console
from torch import Tensor, nn

from regard import ranks
from regard.batch import to_device
from regard.console import PlainConsole
from regard.data import Split
from regard.data.augment import drop_regions, drop_words
from regard.data.loader import Loader, Pairs
from regard.encode import check_inputs
from regard.evaluation.cascade import shortlisted_pairs
from regard.evaluation.evaluate import evaluate
from regard.files import InputError, Stopped
from regard.launchers import job
from regard.losses import Negatives, triplet
from regard.matcher import ENCODERS, Matcher
from regard.metrics import Recalls
from regard.runtime import Precision, forward_in, inner, seed_generators, stoppable, wide
from regard.score import score_batch, score_pairs
from regard.training.checkpoint import Position, State, load_state, own_folder
from regard.training.config import TrainConfig
from regard.training.precision import precision_of_run, products_of, recorded_start, start_event
from regard.training.recipe import Recipe
from regard.training.run_folder import RunFolder
from regard.training.trained_run import TrainedRun, load
from regard.training.weights import build_model
from regard.words import build_tokenizer, load_tokenizer


class Scored(NamedTuple):
    """A batch after the forward pass. With several processes, all have those of the whole batch."""

    losses: dict[str, Tensor]
    scores: Float[Tensor, "image text"]  # without gradients
    matches: Bool[Tensor, "image text"]


class Objective:
    """A model and its loss. With several processes, each scores its texts with all images of the batch."""

    def __init__(self, model: Matcher, config: TrainConfig) -> None:
        self.model, self.config = model, config
        self.gathers = config.negatives_from == "all" and ranks.world() > 1

    def __call__(self, pairs: Pairs, negatives: Negatives) -> Scored:
        """Return the losses by name, the scores, and which pairs match."""
        config = self.config
        images: Any = self.model.encode_images(pairs.images)
        texts: Any = self.model.encode_texts(pairs.texts)
        images = ranks.gather(images) if self.gathers else images
        matches = self._whole(pairs.matches)
        scored = self._shortlist(images, texts, matches) if config.shortlist else None
        if scored is None:
            block = config.block or max(len(images), len(texts))
            scores = self._whole(score_batch(self.model, images, texts, (block, block)))
        else:
            scores = self._whole(score_pairs(self.model, images, texts, self._own(scored, texts)))
            mean = scores.detach().sum() / scored.sum()
            scores = torch.where(scored, scores, mean)  # for the statistics of the scores; the loss leaves them out
        scores = scores.to(wide(scores))

        def loss(scores: Tensor, scored: Tensor | None = None) -> Tensor:
            return triplet(scores, matches, config.margin, negatives, config.soft_temperature, scored)

        losses = {"triplet": loss(scores, scored)}
        if config.summary_weight:
            losses["summary"] = config.summary_weight * loss(self._whole(inner(images.summary(), texts.summary())))
        if self.model.has_extra_losses:
            texts = ranks.gather(texts) if self.gathers else texts
            losses |= self.model.extra_losses(images, texts, scores, matches)
        return Scored(losses, scores.detach(), matches)

    def _whole(self, columns: Tensor) -> Tensor:
        """The columns of all texts of the batch, from those of this process's texts."""
        return ranks.gather_columns(columns) if self.gathers else columns

    def _own(self, columns: Tensor, texts: Any) -> Tensor:
        """The columns of this process's texts, from those of all texts of the batch."""
        if not self.gathers:
            return columns
        first = sum(ranks.all_values(len(texts))[: ranks.rank()])
        return columns[:, first : first + len(texts)]

    @torch.no_grad()
    def _shortlist(self, images: Any, texts: Any, matches: Tensor) -> Tensor:
        """The pairs to score: all matches, and the negatives of each item that are nearest to it by summary."""
        matches = to_device(matches, images.mask.device)
        summaries = self._whole(inner(images.summary(), texts.summary())).float().masked_fill(matches, float("-inf"))
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
    console = console or PlainConsole()
    with ranks.joined(device) as place, torch.random.fork_rng([place] if place.type == "cuda" else []):
        try:
            return _train_here(recipe, Path(data), Path(out), resume or job().restarts > 0, place, console)
        except ranks.LostProcess as error:
            raise ranks.LostProcess(
                f"{error} The last checkpoint in {out} is whole: continue with --resume."
            ) from error


def _train_here(recipe: Recipe, data: Path, out: Path, resume: bool, device: torch.device, console: Console) -> Recalls:
    config = recipe.train
    precision, reason = ranks.together(lambda: precision_of_run(config, device.type, out))
    ranks.check_same("recipe", recipe.to_toml, "Start all processes with the same options.")
    ranks.check_same(
        "precision", lambda: precision, "The machines differ: set train.precision to 32-true or bf16-mixed."
    )
    names = ("train", recipe.data.validation)
    splits = ranks.together(lambda: {name: recipe.open_split(data, name) for name in names})
    for name, split in splits.items():
        ranks.check_same(f"{name} split", split.digest, f"All processes must read the same data as {data}.")
    with ExitStack() as stack:
        # The first process has the folder; the others read it after that.
        folder: AbstractContextManager[Any] = own_folder(out) if ranks.rank() == 0 else nullcontext(lambda: None)
        check_owned = ranks.together(lambda: stack.enter_context(folder))
        state = ranks.together(lambda: load_state(out, recipe, resume))
        return _train(recipe, splits, out, check_owned, state, device, precision, reason, console)


def _train(
    recipe: Recipe,
    splits: dict[str, Split],
    out: Path,
    check_owned: Callable[[], None],
    state: State | None,
    device: torch.device,
    precision: Precision,
    reason: str,
    console: Console,
) -> Recalls:
    config, train_split = recipe.train, splits["train"]
    console = console if ranks.rank() == 0 else Console(quiet=True)
    start = ranks.together(lambda: TrainedRun(config.init)) if config.init and not state else None
    model, copied = ranks.together(lambda: _first_model(recipe, splits, load_tokenizer(out) if state else None, start))
    model.to(device, torch.float64 if precision == "float64" else torch.float32)
    if config.init and state:  # runs of earlier versions did not record the parts
        copied = recorded_start(out).get("init", {}).get("parts", ENCODERS)
    optimizer = _optimizer(model, config, copied)
    loader = ranks.together(
        lambda: Loader(
            train_split,
            model.tokenizer,
            config.batch_size,
            config.seed,
            ranks.rank(),
            ranks.world(),
            config.twins,
            config.swapped,
            pin=device.type == "cuda",
            alone=config.negatives_from == "rank",
        )
    )
    run = RunFolder(recipe, out, check_owned, device, precision, console, model, splits, loader)
    position = ranks.together(lambda: run.restore(state, optimizer) if state else Position())
    ranks.check_same(
        "checkpoint", lambda: f"epoch {position.epoch}, batch {position.batch}", f"All processes must see {out}."
    )
    run.begin(position, resumed=bool(state))
    run.console.print(reason, markup=False)
    origin = {}
    if start:
        origin = {"init": {"run": start.folder.name, "fingerprint": start.fingerprint, "parts": copied}}
        run.console.print(f"Starts from {start.folder}: {', '.join(copied)}", markup=False)
    with stoppable() as stop, closing(run), products_of(precision, device.type):
        if not state:
            run.log(start_event(precision, device.type) | origin)
        _loop(run, Objective(model, config), optimizer, position, stop)
        if run.best:
            return run.best
        # Resumed after its best validation.
        with forward_in(precision, device.type):
            return evaluate(load(out, device).to(next(model.parameters()).dtype), splits[recipe.data.validation])


def _first_model(
    recipe: Recipe, splits: dict[str, Split], tokenizer: Any, start: TrainedRun | None
) -> tuple[Matcher, list[str]]:
    """Return the model before its first step, and the names of the parts copied from `start`.

    Without a `tokenizer`, it has that of `start`, or a new one. Raises InputError for data that it cannot use.
    """
    train_split, shortlist = splits["train"], recipe.train.shortlist
    if tokenizer is None:
        tokenizer = start.tokenizer if start else build_tokenizer(recipe.words, train_split.captions)
    if start and start.members:
        raise InputError(f"{start.folder} is an ensemble: set train.init to one of its members.")
    seed_generators(recipe.train.seed)
    model = build_model(recipe, train_split.feature_dim, tokenizer)
    copied = model.start_from(start.model) if start else []
    for split in splits.values():
        check_inputs(model, split)
    if shortlist and model.has_extra_losses:
        raise InputError(
            f"train.shortlist is {shortlist}, but {recipe.model} has losses over the scores of all pairs: set it to 0."
        )
    return model, copied


def _loop(run: RunFolder, objective: Objective, optimizer: Any, position: Position, stop: Any) -> None:
    config, loader = run.recipe.train, run.loader
    stopped = "Stopped at step {}. Run the same command with --resume to continue."
    saved, losses = time.monotonic(), LossReader(config.log_every)
    with run.progress(len(loader)) as progress:
        while position.epoch < config.epochs and not run.is_out_of_patience(position):
            run.model.train()
            bar = progress.add_task(f"epoch {position.epoch + 1}/{config.epochs}", total=len(loader), loss=math.nan)
            progress.update(bar, completed=position.batch)
            for pairs in loader.epoch(position.epoch, position.batch):
                step = position.epoch * len(loader) + position.batch
                losses.add(_step(run, objective, optimizer, pairs, step), step)
                position.batch += 1
                progress.update(bar, advance=1, loss=losses.last)
                # Accumulated gradients are not saved, and the end of an epoch is saved after its validation.
                if not is_update_step(config, step, len(loader)) or position.batch == len(loader):
                    continue
                stops, is_due = ranks.any_of(stop(), time.monotonic() - saved > 60 * config.save_minutes)
                if stops or is_due:
                    losses.read()
                    run.save(optimizer, position)
                    saved = time.monotonic()
                    if stops:
                        raise Stopped(stopped.format(step + 1))
            losses.read()
            progress.remove_task(bar)
            position.epoch, position.batch = position.epoch + 1, 0
            if position.epoch % config.validate_every == 0 or position.epoch == config.epochs:
                run.validate(position)
            run.save(optimizer, position)
            saved = time.monotonic()
            if ranks.any_of(stop())[0] and position.epoch < config.epochs:
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


def _step(run: RunFolder, objective: Objective, optimizer: Any, pairs: Pairs, step: int) -> Tensor:
    """Run one batch forward and backward, and update the weights on an update step. Returns the loss per text."""
    config, batches, began = run.recipe.train, len(run.loader), time.perf_counter()
    # For layers of torch that draw for themselves, in a pretrained encoder.
    seed_generators((config.seed * 1_000_003 + step) * ranks.world() + ranks.rank(), run.device)
    images = drop_regions(pairs.images, config.region_drop)  # on the CPU, where the masks are read
    texts = drop_words(pairs.texts, config.word_drop, run.model.tokenizer)
    weight = next(run.model.parameters())
    pairs = replace(pairs, images=images, texts=texts).to(weight.device, weight.dtype)
    negatives: Negatives = (
        "sum" if step < config.warmup_epochs * batches and config.negatives == "hardest" else config.negatives
    )
    rate = learning_rate(config, step, batches)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]

    with forward_in(run.precision, weight.device.type):
        losses, scores, matches = objective(pairs, negatives)
    total = torch.stack(list(losses.values())).sum()
    # If all processes compute the loss of the whole batch, the sum of their gradients is `world` times too large.
    (total / batches_of_update(config, step, batches) / (ranks.world() if objective.gathers else 1)).backward()
    norm = None
    if is_update_step(config, step, batches):
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        ranks.sum_gradients(parameters)
        if config.clip:
            norm = nn.utils.clip_grad_norm_(parameters, config.clip)
        optimizer.step()
        optimizer.zero_grad()
    if (step + 1) % config.log_every == 0:
        run.log_step(step + 1, losses, scores, matches, rate, norm, time.perf_counter() - began)
    return total.detach() / matches.shape[1]


def is_update_step(config: TrainConfig, step: int, batches: int) -> bool:
    """Return whether the optimizer updates the weights after a step (from 0).

    It does so after every `accumulate`-th batch of an epoch, and after the last one.
    """
    batch = step % batches + 1
    return batch % config.accumulate == 0 or batch == batches


def batches_of_update(config: TrainConfig, step: int, batches: int) -> int:
    """Return the number of batches of the update that a step (from 0) belongs to; the last one may have fewer."""
    first = step % batches // config.accumulate * config.accumulate
    return min(config.accumulate, batches - first)


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


def _optimizer(model: Matcher, config: TrainConfig, copied: Sequence[str] = ()) -> torch.optim.Optimizer:
    """Adam or AdamW over the trained parameters.

    A pretrained text encoder has a learning rate of its own, and so have the parts that `init` gave, `copied`.
    """
    words: Any = model.words
    factors = {id(parameter): config.pretrained_rate for parameter in words.pretrained_parameters()}
    if copied:
        started = [parameter for name, parameter in model.named_parameters() if name.partition(".")[0] in copied]
        factors |= {id(parameter): config.init_rate * factors.get(id(parameter), 1.0) for parameter in started}
    groups: dict[float, list[nn.Parameter]] = {1.0: []}
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups.setdefault(factors.get(id(parameter), 1.0), []).append(parameter)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    found = [{"params": parameters, "factor": factor} for factor, parameters in groups.items() if parameters]
    return kind(found, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
