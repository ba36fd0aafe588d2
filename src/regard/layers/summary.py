"""The vector of a whole item as VSE-infinity learns it (Chen et al., CVPR 2021), for models that score fragments too.

CMSEI and Hire summarise an item by the mean of its fragments. With these options, the summary is an embedding that can
select shortlists by itself, and a model of fragments can start from a trained embedding model (`Matcher.start_from`).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from regard.batch import Fragments
from regard.layers.normalisation import MaskedBatchNorm
from regard.layers.pooling import GeneralizedPooling, unit


@dataclass(frozen=True, kw_only=True)
class SummaryOptions:
    """Options of the summary vectors. The defaults are those of CMSEI and Hire."""

    pooling: Literal["mean", "gpo"] = "mean"  # gpo: learnt pooling (GeneralizedPooling) of fragments with their lengths
    region_mlp: bool = False  # add VSE-infinity's perceptron to the linear map of regions

    def perceptron(self, feature_dim: int, dim: int) -> "RegionMLP | None":
        """Return the perceptron of regions, if there is one."""
        return RegionMLP(feature_dim, dim // 2, dim) if self.region_mlp else None

    def pool(self) -> GeneralizedPooling | None:
        """Return the pooling of one side; None is the mean."""
        return GeneralizedPooling() if self.pooling == "gpo" else None


def summarise(
    pool: GeneralizedPooling | None,
    fragments: Float[Tensor, "item fragment dim"],
    mask: Bool[Tensor, "item fragment"],
    projected: Float[Tensor, "item fragment dim"],
) -> Float[Tensor, "item dim"]:
    """Return one vector of unit length per item, from its `fragments` of unit length.

    Learnt pooling reads lengths, which unit vectors have lost: each fragment gets the length that it had when it was
    `projected`. If nothing has changed the fragments since, the summary is VSE-infinity's.
    """
    if pool is None:
        return Fragments(fragments, mask).summary()
    return unit(pool(Fragments(fragments * projected.norm(dim=-1, keepdim=True), mask)))


class RegionMLP(nn.Module):
    """Two linear layers with batch normalisation, over real regions, and a ReLU between them."""

    def __init__(self, feature_dim: int, hidden_dim: int, dim: int) -> None:
        super().__init__()
        self.first = nn.Linear(feature_dim, hidden_dim)
        self.norm = MaskedBatchNorm(hidden_dim)
        self.second = nn.Linear(hidden_dim, dim)

    def forward(
        self, features: Float[Tensor, "image region feature"], mask: Bool[Tensor, "image region"]
    ) -> Float[Tensor, "image region dim"]:
        return self.second(self.norm(self.first(features), mask).relu())


def zero(*layers: nn.Module) -> None:
    """Set all parameters of the layers to zero: a residual branch that ends in them starts as the identity."""
    with torch.no_grad():
        for layer in layers:
            for parameter in layer.parameters():
                parameter.zero_()
