"""Colours and edges of a region: features without weights, which need no download.

They tell a red thing from a green one and a fence from a meadow, and hardly a dog from a cat: enough to try everything
out, and a floor for a real backbone.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from PIL import Image

from regard.extract.pixels import crops

SIDE, CELLS, ANGLES, LEVELS = 32, 4, 8, 4


class Colours:
    """Of each region, scaled to 32 x 32: mean colours of 4 x 4 cells (48), their edges by eight directions (128; after
    Dalal & Triggs 2005), and a histogram of 64 colours. Each of the three has length 1; of counts, the roots are taken.
    """

    dim = CELLS * CELLS * (3 + ANGLES) + LEVELS**3

    def __call__(
        self, photographs: Sequence[Image.Image], boxes: Sequence[Float[np.ndarray, "_ 4"]]
    ) -> list[Float[np.ndarray, "_ feature"]]:
        return [
            self.describe(crops(photograph, own, SIDE, SIDE))
            for photograph, own in zip(photographs, boxes, strict=True)
        ]

    def describe(self, pixels: Float[np.ndarray, "region 3 side side"]) -> Float[np.ndarray, "region feature"]:
        pixels = pixels / 255
        grey = pixels.mean(1)
        down, right = np.gradient(grey, axis=(1, 2))
        strength, angle = np.hypot(down, right), np.arctan2(down, right) % np.pi
        direction = np.minimum((angle / np.pi * ANGLES).astype(int), ANGLES - 1)
        edges = [_cells(strength * (direction == which)) for which in range(ANGLES)]
        level = np.minimum((pixels * LEVELS).astype(int), LEVELS - 1)
        colour = (level[:, 0] * LEVELS + level[:, 1]) * LEVELS + level[:, 2]
        bins = colour.reshape(len(colour), -1) + LEVELS**3 * np.arange(len(colour))[:, None]
        counts = np.bincount(bins.ravel(), minlength=LEVELS**3 * len(colour)).reshape(len(colour), LEVELS**3)
        parts = [_cells(pixels).reshape(len(pixels), -1), np.sqrt(np.concatenate(edges, 1)), np.sqrt(counts)]
        return np.concatenate([part / (np.linalg.norm(part, axis=1, keepdims=True) + 1e-6) for part in parts], 1)


def _cells(values: np.ndarray) -> np.ndarray:
    """The mean of each of 4 x 4 cells of [..., side, side]: [..., 16]."""
    size = SIDE // CELLS
    return values.reshape(*values.shape[:-2], CELLS, size, CELLS, size).mean((-3, -1)).reshape(*values.shape[:-2], -1)
