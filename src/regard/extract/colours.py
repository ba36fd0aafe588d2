"""Colours and edges of regions: features without learnt weights, which need no download.

They distinguish red from green and a fence from a meadow, but hardly a dog from a cat. They suffice to try everything
out, and are a baseline for a real backbone.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from PIL import Image

from regard.extract.pixels import crop_boxes

SIDE = 32  # pixels of the scaled region
CELLS = 4  # per side
ANGLES = 8  # directions of edges
LEVELS = 4  # of each colour of the histogram


class Colours:
    """A backbone that describes each region, scaled to 32 x 32 pixels, by 240 numbers.

    They are the mean colours of 4 x 4 cells (48), the square roots of the edge strengths of the cells in eight
    directions (128; after Dalal and Triggs 2005), and the square roots of a histogram of 64 colours. Each of the three
    parts is scaled to length 1.
    """

    dim = CELLS * CELLS * (3 + ANGLES) + LEVELS**3

    def __call__(
        self, photographs: Sequence[Image.Image], boxes: Sequence[Float[np.ndarray, "_ 4"]]
    ) -> list[Float[np.ndarray, "_ feature"]]:
        return [
            self.describe(crop_boxes(photograph, own, SIDE, SIDE))
            for photograph, own in zip(photographs, boxes, strict=True)
        ]

    def describe(self, pixels: Float[np.ndarray, "region 3 side side"]) -> Float[np.ndarray, "region feature"]:
        """Return the features of regions of RGB values from 0 to 255."""
        pixels = pixels / 255
        grey = pixels.mean(1)
        down, right = np.gradient(grey, axis=(1, 2))
        strength, angle = np.hypot(down, right), np.arctan2(down, right) % np.pi
        direction = np.minimum((angle / np.pi * ANGLES).astype(int), ANGLES - 1)
        edges = [_cell_means(strength * (direction == angle)) for angle in range(ANGLES)]
        level = np.minimum((pixels * LEVELS).astype(int), LEVELS - 1)
        colour = (level[:, 0] * LEVELS + level[:, 1]) * LEVELS + level[:, 2]
        bins = colour.reshape(len(colour), -1) + LEVELS**3 * np.arange(len(colour))[:, None]
        counts = np.bincount(bins.ravel(), minlength=LEVELS**3 * len(colour)).reshape(len(colour), LEVELS**3)
        parts = [_cell_means(pixels).reshape(len(pixels), -1), np.sqrt(np.concatenate(edges, 1)), np.sqrt(counts)]
        return np.concatenate([part / (np.linalg.norm(part, axis=1, keepdims=True) + 1e-6) for part in parts], 1)


def _cell_means(values: np.ndarray) -> np.ndarray:
    """The means of 4 x 4 cells: [..., side, side] -> [..., 16]."""
    size = SIDE // CELLS
    return values.reshape(*values.shape[:-2], CELLS, size, CELLS, size).mean((-3, -1)).reshape(*values.shape[:-2], -1)
