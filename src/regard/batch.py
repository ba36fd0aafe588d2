"""Batches of tensors that share their first axis: the inputs that the loader makes, and the encodings of a model.

Axes are named image, text, region and word. A fragment is a region or a word; an item is an image or a text.
Padding is zero, and a mask marks it: True is a real fragment, False is padding. Padding may be anywhere.

A program that reads a number from a GPU waits until the GPU has computed everything before it. So the tensors that
describe the structure of a batch (masks, numbers of words, relations) keep the CPU tensor that they were copied from:
`to_device` makes such a tensor, `host` returns the CPU tensor, and `on_both` derives another tensor from both.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import partial
from typing import Any, ClassVar, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError, safe_open
from torch import Tensor

from regard.checksums import check_tensors, save_tensors
from regard.files import InputError

B = TypeVar("B", bound="Batch")

ORIGINAL = "_regard_original"  # the attribute of a tensor with the CPU tensor that it was copied from
FORMAT_VERSION = "1"  # of the files that Batch.save writes


def to_device(tensor: Tensor, device: Any) -> Tensor:
    """Return a tensor on `device`. From the CPU to another device, `host` of the result is `tensor`."""
    moved = tensor.to(device, non_blocking=_may_be_read_later(device))
    if moved.device != tensor.device and tensor.device.type == "cpu":
        setattr(moved, ORIGINAL, tensor)
    return moved


def _may_be_read_later(device: Any) -> bool:
    """Whether a copy to `device` may continue in the background. The CPU would read one from a GPU before its end."""
    return torch.device(device).type != "cpu"


def host(tensor: Tensor) -> Tensor:
    """Return a tensor on the CPU; without waiting for a GPU if it was made by `to_device` or `on_both`."""
    return getattr(tensor, ORIGINAL) if _knows(tensor) else tensor.cpu()


def on_both(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Return `function(*tensors)`, whose `host` is known if those of the tensors are."""
    result = function(*tensors)
    if all(map(_knows, tensors)):
        setattr(result, ORIGINAL, function(*map(host, tensors)))
    return result


def _knows(tensor: Tensor) -> bool:
    return hasattr(tensor, ORIGINAL)


@dataclass(frozen=True)
class Batch:
    """Tensors with a common first axis, which are sliced, joined, moved and saved together. A field may be None."""

    fragment_axes: ClassVar[dict[str, tuple[int, ...]]] = {}  # of each field, the axes of fragments

    def tensors(self) -> dict[str, Tensor]:
        """Return the fields that are not None, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def __len__(self) -> int:
        return len(next(iter(self.tensors().values())))

    def __getitem__(self: B, index: Any) -> B:
        """Return the items at a slice, a sequence of positions, or a tensor of positions or of booleans.

        The result is a batch, so a single number raises TypeError.
        """
        if isinstance(index, slice):
            return self.map(lambda tensor: on_both(lambda t: t[index], tensor))
        places = torch.as_tensor(index)
        if not places.ndim:
            raise TypeError(f"{type(self).__name__}[{index}]: expected a slice or positions, such as [[{index}]].")
        if places.dtype == torch.bool:
            places = places.nonzero()[:, 0]
        elif not len(places):  # a tensor of an empty list has no whole numbers
            places = places.long()
        return self.map(lambda tensor: on_both(lambda t: t[to_device(places, t.device)], tensor))

    def to(self: B, device: Any) -> B:
        """Return the batch on `device`; or, if `device` is a dtype, with its floating-point fields in that dtype."""
        if isinstance(device, torch.dtype):
            return self.map(lambda tensor: tensor.to(device) if tensor.is_floating_point() else tensor)
        # Features are not structure, and their CPU tensors are large.
        later = _may_be_read_later(device)
        return self.map(lambda t: t.to(device, non_blocking=later) if t.is_floating_point() else to_device(t, device))

    def pinned(self: B) -> B:
        """Return the batch in page-locked memory, from which a GPU copies while the CPU goes on."""
        return self.map(Tensor.pin_memory)

    def map(self: B, function: Callable[[Tensor], Tensor]) -> B:
        """Return the batch with `function` applied to every tensor."""
        return type(self)(**{name: function(tensor) for name, tensor in self.tensors().items()})

    @classmethod
    def cat(cls: type[B], parts: Sequence[B]) -> B:
        """Return the parts joined along the first axis; other axes are padded with zero to the widest part.

        Raises ValueError if a field is present in some of the parts only.
        """
        if len(parts) == 1:
            return parts[0]
        names = [part.tensors().keys() for part in parts]
        if uneven := {name for some in names for name in some ^ names[0]}:
            raise ValueError(
                f"Only some of the {cls.__name__} have {sorted(uneven)}: all parts must have the same fields."
            )
        columns = {name: [part.tensors()[name] for part in parts] for name in parts[0].tensors()}
        return cls(**{name: on_both(_cat, *tensors) for name, tensors in columns.items()})

    @property
    def width(self) -> int:
        """The number of fragments per item, padding included; 1 if the items have no fragments."""
        mask = self.tensors().get("mask")
        return 1 if mask is None else mask.shape[1]

    def lengths(self) -> Int[Tensor, " item"]:
        """Return the position after each item's last real fragment, on the CPU; 0 if the items have no fragments."""
        mask = self.tensors().get("mask")
        return torch.zeros(len(self), dtype=torch.long) if mask is None else extent(host(mask))

    def trimmed(self: B) -> B:
        """Return the batch without the trailing positions that are padding in every item."""
        if not self.fragment_axes:
            return self
        longest = int(self.lengths().max()) if len(self) else 0
        kept = self.tensors()
        for name, axes in self.fragment_axes.items():
            for axis in axes if name in kept else ():
                kept[name] = on_both(partial(torch.narrow, dim=axis, start=0, length=longest), kept[name])
        return type(self)(**kept)

    def save(self, path: str | os.PathLike[str], fingerprint: str = "") -> None:
        """Write the batch to one safetensors file. An interrupted write leaves no file, or the earlier one.

        The metadata of the file are the class, FORMAT_VERSION and `fingerprint`, which identifies the model that made
        the encoding (`TrainedRun.fingerprint`; "" for none).
        """
        metadata = {"class": type(self).__name__, "version": FORMAT_VERSION, "fingerprint": fingerprint}
        save_tensors(path, self.tensors(), metadata)

    @classmethod
    def load(cls: type[B], path: str | os.PathLike[str], fingerprint: str | None = None) -> B:
        """Read a file that `save` wrote.

        Raises InputError if the file is damaged, if its class, format version or fields are not those of `cls`, or if
        `fingerprint` is given and the file has another.
        """
        try:
            check_tensors(path)
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path} cannot be read ({error}): write it again.") from None
        expected = {"class": cls.__name__, "version": FORMAT_VERSION}
        if fingerprint is not None:
            expected["fingerprint"] = fingerprint
        for key, value in expected.items():
            if metadata.get(key) != value:
                raise InputError(
                    f"{path} has {key} {metadata.get(key, 'unknown')!r}, expected {value!r}: "
                    "encode the items again with this model."
                )
        names = {field.name for field in fields(cls)}
        required = {field.name for field in fields(cls) if field.default is MISSING}
        if not required <= tensors.keys() <= names:
            raise InputError(
                f"{path} contains {sorted(tensors)}; {cls.__name__} has the fields {sorted(names)}: "
                "encode the items again with this model."
            )
        return cls(**tensors)


def _cat(*tensors: Tensor) -> Tensor:
    shapes = [tensor.shape[1:] for tensor in tensors]
    widest = [max(sizes) for sizes in zip(*shapes, strict=True)]
    padded = []
    for tensor in tensors:
        gaps = [want - have for want, have in zip(widest, tensor.shape[1:], strict=True)]
        pad = [amount for gap in reversed(gaps) for amount in (0, gap)]
        padded.append(F.pad(tensor, pad) if any(gaps) else tensor)
    return torch.cat(padded)


@dataclass(frozen=True)
class Images(Batch):
    """Images as sets of regions."""

    features: Float[Tensor, "image region feature"]
    mask: Bool[Tensor, "image region"]
    boxes: Float[Tensor, "image region 4"] | None = None  # x1 y1 x2 y2, fractions of the image
    labels: Int[Tensor, "image region"] | None = None  # object class, from 1; 0 = none
    relations: Int[Tensor, "image region region"] | None = None  # predicate of (subject, object), from 1; 0 = none
    embeddings: Float[Tensor, "image dim"] | None = None  # the vector of an embedding model; of several, joined
    draws: Int[Tensor, " image"] | None = None  # in training: the state of the image's random numbers (regard.draws)


@dataclass(frozen=True)
class Texts(Batch):
    """Sentences as sequences of tokens. With word pieces, `words` is the word that each token belongs to."""

    tokens: Int[Tensor, "text token"]
    mask: Bool[Tensor, "text token"]
    words: Int[Tensor, "text token"] | None = None  # word of the token, from 1; 0 = no word ([CLS], padding)
    relations: Int[Tensor, "text word word"] | None = None  # label of (head, dependent), from 1; 0 = none
    draws: Int[Tensor, " text"] | None = None  # in training: the state of the text's random numbers (regard.draws)


@dataclass(frozen=True)
class Vectors(Batch):
    """One vector per item."""

    vectors: Float[Tensor, "item dim"]

    def summary(self) -> Float[Tensor, "item dim"]:
        """Return the vectors themselves."""
        return self.vectors


@dataclass(frozen=True)
class Fragments(Batch):
    """One vector per region or word. A model may subclass it. The summaries of encodings make shortlists."""

    vectors: Float[Tensor, "item fragment dim"]
    mask: Bool[Tensor, "item fragment"]

    fragment_axes: ClassVar[dict[str, tuple[int, ...]]] = {"vectors": (1,), "mask": (1,)}

    def summary(self) -> Float[Tensor, "item dim"]:
        """Return the mean of the real fragments, scaled to unit length."""
        kept = self.vectors.masked_fill(~self.mask[..., None], 0)
        return F.normalize(kept.sum(1) / self.mask.sum(1, keepdim=True).clamp(min=1), dim=-1)


def extent(mask: Bool[Tensor, "item fragment"]) -> Int[Tensor, " item"]:
    """Return the position after the last True of each item; 0 if there is none."""
    if not mask.shape[1]:
        return mask.sum(1)
    return (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).amax(1)


def has_holes(mask: Bool[Tensor, "item fragment"]) -> bool:
    """Return whether padding comes before a real fragment of any item."""
    on_host = host(mask)
    return bool((on_host[:, 1:] > on_host[:, :-1]).any())


@dataclass(frozen=True)
class Pooled(Fragments):
    """Fragments, and one vector for the whole item."""

    pooled: Float[Tensor, "item dim"]

    def summary(self) -> Float[Tensor, "item dim"]:
        """Return the vector of the whole item."""
        return self.pooled
