"""Tensors that share their first axis and travel together: what the loader makes, and what a model encodes.

Axes are named image, text, region, word; a fragment is a region or a word, an item an image or a text.
Padding is zero, and a mask says where it is: True marks what is real.
"""

import os
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from regard.files import InputError, replacing

B = TypeVar("B", bound="Batch")
F_ = TypeVar("F_", bound="Fragments")


@dataclass(frozen=True)
class Batch:
    """A frozen record of tensors over one first axis; a field may be None. Sliced, joined, moved and saved as one."""

    def tensors(self) -> dict[str, Tensor]:
        """The fields that are there, by name."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in found.items() if value is not None}

    def __len__(self) -> int:
        return len(next(iter(self.tensors().values())))

    def __getitem__(self: B, index: slice | Sequence[int] | Tensor) -> B:
        """The items of a slice, of a sequence of positions or of an index tensor: always a batch, never one item."""
        return self.map(lambda tensor: tensor[index])

    def to(self: B, device: Any) -> B:
        """The same batch on `device` (or in a floating dtype, for the floating fields)."""
        if isinstance(device, torch.dtype):
            return self.map(lambda tensor: tensor.to(device) if tensor.is_floating_point() else tensor)
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))

    def map(self: B, function: Any) -> B:
        """`function` applied to every tensor."""
        return type(self)(**{name: function(tensor) for name, tensor in self.tensors().items()})

    @classmethod
    def cat(cls: type[B], parts: Sequence[B]) -> B:
        """The parts one after another; trailing axes are padded with zero to the widest part.

        Raises ValueError where a field is there in some parts only.
        """
        if len(parts) == 1:
            return parts[0]
        names = [part.tensors().keys() for part in parts]
        if uneven := {name for some in names for name in some ^ names[0]}:
            raise ValueError(
                f"Some of the {cls.__name__} have {sorted(uneven)} and some have none: want the same fields."
            )
        columns = {name: [part.tensors()[name] for part in parts] for name in parts[0].tensors()}
        return cls(**{name: _cat(tensors) for name, tensors in columns.items()})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to one safetensors file, whole or not at all."""
        with replacing(path) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in self.tensors().items()}, temporary)

    @classmethod
    def load(cls: type[B], path: str | os.PathLike[str]) -> B:
        """Read what `save` wrote. Raises InputError where the file is damaged or holds other fields than the class."""
        try:
            with safe_open(path, "pt") as file:
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # a file is no mapping
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path} cannot be read ({error}): write it again.") from None
        known = {field.name for field in fields(cls)}
        needed = {field.name for field in fields(cls) if field.default is MISSING}
        if not needed <= found.keys() <= known:
            raise InputError(f"{path} holds {sorted(found)}; {cls.__name__} has the fields {sorted(known)}.")
        return cls(**found)


def _cat(tensors: Sequence[Tensor]) -> Tensor:
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
    """Images as bags of regions."""

    features: Float[Tensor, "image region feature"]
    mask: Bool[Tensor, "image region"]
    boxes: Float[Tensor, "image region 4"] | None = None  # x1 y1 x2 y2, fractions of the image
    labels: Int[Tensor, "image region"] | None = None  # object class, from 1; 0 = none
    relations: Int[Tensor, "image region region"] | None = None  # predicate of (subject, object), from 1; 0 = none


@dataclass(frozen=True)
class Texts(Batch):
    """Sentences as sequences of tokens. With word pieces, `words` says which word each token is a piece of."""

    tokens: Int[Tensor, "text token"]
    mask: Bool[Tensor, "text token"]
    words: Int[Tensor, "text token"] | None = None  # word of the token, from 1; 0 = of none ([CLS], padding)
    relations: Int[Tensor, "text word word"] | None = None  # label of (head, dependent), from 1; 0 = none


@dataclass(frozen=True)
class Vectors(Batch):
    """One vector an item."""

    vectors: Float[Tensor, "item dim"]

    def summary(self) -> Float[Tensor, "item dim"]:
        return self.vectors


@dataclass(frozen=True)
class Fragments(Batch):
    """One vector a region or a word. A model may subclass it; every encoding has a summary, which makes shortlists."""

    vectors: Float[Tensor, "item fragment dim"]
    mask: Bool[Tensor, "item fragment"]

    fragment_axes: ClassVar[dict[str, tuple[int, ...]]] = {"vectors": (1,), "mask": (1,)}

    def trimmed(self: F_) -> F_:
        """Without the trailing places that are padding in every item."""
        longest = int(self.lengths().max()) if len(self) else 0
        kept = self.tensors()
        for name, axes in self.fragment_axes.items():
            for axis in axes if name in kept else ():
                kept[name] = kept[name].narrow(axis, 0, longest)
        return type(self)(**kept)

    def summary(self) -> Float[Tensor, "item dim"]:
        """The mean of the real fragments, of unit length."""
        kept = self.vectors.masked_fill(~self.mask[..., None], 0)
        return F.normalize(kept.sum(1) / self.mask.sum(1, keepdim=True).clamp(min=1), dim=-1)

    def lengths(self) -> Int[Tensor, " item"]:
        """Where each item's real fragments end."""
        return extent(self.mask)


def extent(mask: Bool[Tensor, "item fragment"]) -> Int[Tensor, " item"]:
    """Where the real ones of each item end; 0 where there is none."""
    if not mask.shape[1]:
        return mask.sum(1)
    return (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).amax(1)


@dataclass(frozen=True)
class Pooled(Fragments):
    """Fragments beside one vector of the whole item."""

    pooled: Float[Tensor, "item dim"]

    def summary(self) -> Float[Tensor, "item dim"]:
        return self.pooled
