"""What crosses between the processes of a job. Alone, each function returns what it was given.

All processes must call these functions in the same order. Gradients cross in `gather`: each process computes a part of
the scores of a batch from all its images, and then the same loss from all scores. A loss that all compute is divided by
their number before the backward pass, and `sum_gradients` after it gives the gradients of one process with the whole
batch.
"""

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from regard.batch import Batch, host, to_device
from regard.files import InputError, Stopped
from regard.launchers import Job, job
from regard.runtime import device_named

B = TypeVar("B", bound=Batch)
T = TypeVar("T")

# Of one exchange: the others may wait long for the first process, which writes. One that ends closes its connections,
# which the others notice at once.
TIMEOUT = timedelta(days=1)

# Whether this process is inside `joined`. That torch has a group of processes does not suffice: a program may have made
# one for training of its own, and evaluate in its first process only.
_is_joined = False

_GROUPS = count()  # that this process has joined, and so all others


class SharedError(InputError):
    """Bad input that all processes of a job know of."""

    is_shared = True


class LostProcess(Stopped):
    """Another process of the job has ended or cannot be reached."""

    is_shared = False


def rank() -> int:
    """Return the number of this process in its job; 0 outside `joined`."""
    return dist.get_rank() if _is_joined else 0


def world() -> int:
    """Return the number of processes of the job; 1 outside `joined`."""
    return dist.get_world_size() if _is_joined else 1


@contextmanager
def joined(device: str, timeout: timedelta = TIMEOUT) -> Iterator[torch.device]:
    """Join the processes of the job during the block, and yield this process's device.

    `device` is auto, cpu or cuda, and `timeout` that of one exchange. Each process of a machine has its own GPU, by its
    local rank. A program that has joined already, such as a worker of Ray Train, stays joined. Raises InputError if the
    environment describes a job in part, and if a machine has fewer GPUs than processes; LostProcess if the others
    cannot be reached.
    """
    own = job()
    if own.world == 1 or _is_joined:
        yield _place(device, own)
        return
    if dist.is_available() and dist.is_initialized():
        with _inside():
            yield together(lambda: _place(device, own))
        return
    # Optimizers import this module. It binds the present group to default arguments, so that a group that is older
    # than the import is never freed, and its threads can abort the process at the end of the interpreter.
    importlib.import_module("torch.distributed.nn")
    backend = "cpu:gloo,cuda:nccl" if device != "cpu" and torch.cuda.is_available() else "gloo"
    where = "env://" if own.launcher == "torchrun" else f"tcp://{own.address}:{own.port}"
    with _exchange():
        store, _, _ = next(dist.rendezvous(where, own.rank, own.world, timeout=timeout))
        # The store may still have the addresses of an earlier group: of before a restart, or of this process.
        store = dist.PrefixStore(f"restart {own.restarts}, group {next(_GROUPS)}", store)
        dist.init_process_group(backend, timeout=timeout, world_size=own.world, rank=own.rank, store=store)
    try:
        with _inside():
            yield together(lambda: _place(device, own))
    finally:
        # It closes the connections, which the others notice at once, and ends the threads of the group.
        dist.destroy_process_group()


def gather(batch: B) -> B:
    """Return the items of all processes, by rank; other axes are padded with zero to the widest part.

    The gradient of each item is the sum of those of all processes. The CPU tensors of the structure (`host`) are known.
    """
    if world() == 1:
        return batch
    tensors = batch.tensors()
    values = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    structure = {name: tensor for name, tensor in tensors.items() if name not in values}
    gathered = dict(zip(values, gather_tensors(list(values.values())), strict=True)) if values else {}
    for name, tensor in structure.items():
        on_host = host(tensor)
        gathered[name] = to_device(_gather_padded(on_host, _shapes(on_host)), tensor.device)
    return type(batch)(**gathered)


def gather_tensors(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the rows of all processes of each tensor, by rank, as `gather` does."""
    if world() == 1:
        return list(tensors)
    return list(_Gather.apply([_shapes(tensor) for tensor in tensors], *tensors))


def gather_columns(scores: Tensor) -> Tensor:
    """Return the columns of all processes, by rank, as `gather` does."""
    return gather_tensors([scores.T])[0].T


def sum_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace each gradient by the sum over all processes. A parameter without a gradient on any has none."""
    if world() == 1:
        return
    has_gradient = torch.tensor([parameter.grad is not None for parameter in parameters], dtype=torch.uint8)
    _reduce(has_gradient, dist.ReduceOp.MAX)
    for kind in dict.fromkeys((parameter.dtype, parameter.device) for parameter in parameters):
        some = [
            parameter
            for parameter, has in zip(parameters, has_gradient.tolist(), strict=True)
            if has and (parameter.dtype, parameter.device) == kind
        ]
        if not some:
            continue
        flat = torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in some])
        _reduce(flat)
        for parameter, part in zip(some, flat.split([parameter.numel() for parameter in some]), strict=True):
            parameter.grad = part.view_as(parameter)


def any_of(*flags: bool) -> list[bool]:
    """Return for each flag whether any process has it set."""
    if world() == 1:
        return list(flags)
    found = torch.tensor(flags, dtype=torch.uint8)
    _reduce(found, dist.ReduceOp.MAX)
    return [bool(flag) for flag in found.tolist()]


def all_values(value: T) -> list[T]:
    """Return the values of all processes, by rank. They must be picklable."""
    if world() == 1:
        return [value]
    found: list[Any] = [None] * world()
    with _exchange():
        dist.all_gather_object(found, value)
    return found


def together(function: Callable[[], T]) -> T:
    """Return `function()`, or raise SharedError on all processes if it raises InputError on one of them."""
    if world() == 1:
        return function()
    failure, result = "", None
    try:
        result = function()
    except InputError as error:
        failure = str(error)
    failures = all_values(failure)
    if any(failures):
        place, text = next((place, text) for place, text in enumerate(failures) if text)
        everywhere = all(other == text for other in failures)
        raise SharedError(text if everywhere else f"Process {place} of {world()}: {text}")
    return result  # type: ignore[return-value]  # None only if the function returned it


def check_same(what: str, describe: Callable[[], str], remedy: str) -> None:
    """Raise SharedError if the lines of `describe()`, which describe `what`, are not the same on all processes.

    Alone, nothing is described.
    """
    values = all_values(describe()) if world() > 1 else []
    for place, other in enumerate(values):
        if other != values[0]:
            theirs, first = other.splitlines(), values[0].splitlines()
            new = ", ".join(line for line in theirs if line not in first)
            old = ", ".join(line for line in first if line not in theirs)
            raise SharedError(f"Process {place} has another {what} than process 0: {new}, not {old}. {remedy}")


class _Gather(torch.autograd.Function):
    """The rows of all processes. Backward: the sum of the gradients of all processes, of the own rows."""

    @staticmethod
    def forward(ctx: Any, shapes: list[list[tuple[int, ...]]], *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.shapes = shapes
        return tuple(_gather_padded(tensor, own) for tensor, own in zip(tensors, shapes, strict=True))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        own = []
        for gradient, shapes in zip(gradients, ctx.shapes, strict=True):
            total = gradient.float() if gradient.itemsize < 4 else gradient.clone(memory_format=torch.contiguous_format)
            _reduce(total)
            first, shape = sum(other[0] for other in shapes[: rank()]), shapes[rank()]
            places = (slice(first, first + shape[0]), *(slice(size) for size in shape[1:]))
            own.append(total[places].to(gradient.dtype))
        return None, *own


def _shapes(tensor: Tensor) -> list[tuple[int, ...]]:
    """The shape of the tensor on each process."""
    shape = torch.tensor(tensor.shape)
    found = [torch.empty_like(shape) for _ in range(world())]
    with _exchange():
        dist.all_gather(found, shape)
    return [tuple(other.tolist()) for other in found]


def _gather_padded(tensor: Tensor, shapes: list[tuple[int, ...]]) -> Tensor:
    """The rows of all processes, whose tensors have these shapes; other axes are as wide as the widest."""
    widest = [max(sizes) for sizes in zip(*shapes, strict=True)]
    gaps = [want - have for want, have in zip(widest, tensor.shape, strict=True)]
    padded = F.pad(tensor.detach(), [amount for gap in reversed(gaps) for amount in (0, gap)]).contiguous()
    found = [torch.empty_like(padded) for _ in shapes]
    with _exchange():
        dist.all_gather([part.view(torch.uint8) for part in found], padded.view(torch.uint8))
    return torch.cat([part[: shape[0]] for part, shape in zip(found, shapes, strict=True)])


def _reduce(tensor: Tensor, operation: Any = dist.ReduceOp.SUM) -> None:
    with _exchange():
        dist.all_reduce(tensor, operation)


def _place(device: str, own: Job) -> torch.device:
    """The device of a process. Raises InputError if there is none."""
    kind = device_named(device)
    if kind == "cpu" or own.world == 1:
        return torch.device(kind)
    if own.local_rank >= torch.cuda.device_count():
        raise InputError(
            f"Process {own.rank} is number {own.local_rank + 1} on its machine, which has {torch.cuda.device_count()} "
            "GPUs: start one process per GPU, or use --device cpu."
        )
    return torch.device(kind, own.local_rank)


@contextmanager
def _inside() -> Iterator[None]:
    global _is_joined
    _is_joined = True
    try:
        yield
    finally:
        _is_joined = False


@contextmanager
def _exchange() -> Iterator[None]:
    """Raise LostProcess for what torch raises if another process is gone."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise LostProcess("Another process of this job ended or cannot be reached.") from error
