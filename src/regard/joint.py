"""Inputs and encodings of several models for the same items, held as one batch, and their tokenizers as one."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, make_dataclass
from typing import Any, ClassVar, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from regard.batch import Batch, Texts, Vectors, on_both

J = TypeVar("J", bound="Joint")


@dataclass(frozen=True)
class Joint(Batch):
    """The batches of several models, its parts. The field `x` of part 0 is the field `part0_x`.

    `Joint.of_kinds` makes the class for parts of given types.
    """

    kinds: ClassVar[tuple[type[Batch], ...]] = ()
    lead: ClassVar[int] = 0  # the part whose summary makes shortlists

    @staticmethod
    def of_kinds(kinds: Sequence[type[Batch]], lead: int = 0) -> "type[Joint]":
        """Return the class for parts of these types, of which any field may be absent."""
        names = [(f"part{number}_{own.name}", Any, None) for number, kind in enumerate(kinds) for own in fields(kind)]
        namespace = {"kinds": tuple(kinds), "lead": lead, "__module__": __name__}
        return make_dataclass("Joint", names, bases=(Joint,), frozen=True, namespace=namespace)

    @classmethod
    def of(cls: type[J], parts: Sequence[Batch]) -> J:
        """Join parts, in the order of `kinds`. A part may be Vectors in place of its type (`Matcher.for_scoring`).

        A tensor that two parts share, such as the mask of the regions, is copied: files cannot hold shared tensors.
        """
        named: dict[str, Tensor] = {}
        stored: set[int] = set()
        for number, part in enumerate(parts):
            for name, tensor in part.tensors().items():
                place = tensor.untyped_storage().data_ptr()
                named[f"part{number}_{name}"] = on_both(torch.clone, tensor) if place in stored else tensor
                stored.add(place)
        return cls(**named)

    @property
    def parts(self) -> list[Any]:
        """The batch of each model."""
        held, found = self.tensors(), []
        for number, kind in enumerate(self.kinds):
            prefix = f"part{number}_"
            own = {name.removeprefix(prefix): tensor for name, tensor in held.items() if name.startswith(prefix)}
            found.append(Vectors(**own) if own.keys() == {"vectors"} else kind(**own))
        return found

    @property
    def width(self) -> int:
        """The largest number of fragments per item of a part."""
        return max(part.width for part in self.parts)

    def lengths(self) -> Int[Tensor, " item"]:
        """Return the largest length of each item in a part, on the CPU."""
        return torch.stack([part.lengths() for part in self.parts]).amax(0)

    def trimmed(self: J) -> J:
        """Return the batch with each part trimmed to its own longest item."""
        return self.of([part.trimmed() for part in self.parts])

    def summary(self) -> Float[Tensor, "item dim"]:
        """Return the summary vectors of the part `lead`."""
        vectors: Tensor = self.parts[self.lead].summary()
        return vectors


class JointTokenizer:
    """The tokenizers of several models: sentences become one Joint of the texts of each."""

    def __init__(self, tokenizers: Sequence[Any], explaining: int = 0) -> None:
        """`explaining` is the tokenizer whose words an explanation shows."""
        self.tokenizers, self.explaining = list(tokenizers), explaining
        kinds = [getattr(tokenizer, "kind", Texts) for tokenizer in tokenizers]  # an ensemble may be a member
        self.kind = Joint.of_kinds(kinds)

    def __call__(self, sentences: Sequence[str]) -> Joint:
        """Return the sentences as each tokenizer encodes them."""
        return self.kind.of([tokenizer(sentences) for tokenizer in self.tokenizers])

    def words(self, caption: str) -> list[str]:
        """Return the words of a caption as the explaining tokenizer reads them."""
        words: list[str] = self.tokenizers[self.explaining].words(caption)
        return words
