"""Compute the features of a region from the pixels of its box, and from nothing else.

The crop is resized to SIDE x SIDE pixels. Its features are a coarse colour grid, histograms of gradient orientations in
4 x 4 cells, a histogram of colours (the middle of the crop has more weight than its border), and the width and height
of the box. The position of the box in the picture is not a feature.
"""

import numpy as np
from PIL import Image

SIDE, CELLS, ORIENTATIONS, LEVELS = 24, 4, 8, 4  # pixels, cells per side, bins per cell, bins per colour channel
DIM = CELLS * CELLS * 3 + CELLS * CELLS * ORIENTATIONS + LEVELS**3 + 2

_window = np.hanning(SIDE + 2)[1:-1]
_MIDDLE = np.outer(_window, _window).ravel() / np.outer(_window, _window).sum()


def crop(picture: Image.Image, box: np.ndarray) -> np.ndarray:
    """Return the pixels of a box, resized to uint8 [SIDE, SIDE, 3]."""
    corners = (float(box[0]), float(box[1]), float(box[2]), float(box[3]))
    return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=corners))


def features_of_crops(crops: np.ndarray, extents: np.ndarray) -> np.ndarray:
    """Return the features of crops: float16 [region, DIM].

    `crops` is uint8 [region, SIDE, SIDE, 3], and `extents` the widths and heights of the boxes in pixels [region, 2].
    """
    count, cell = len(crops), SIDE // CELLS
    pixels = crops.astype(np.float32) / 255
    grid = pixels.reshape(count, CELLS, cell, CELLS, cell, 3).mean((2, 4))

    light = np.pad(pixels.mean(3), ((0, 0), (1, 1), (1, 1)), mode="edge")
    dy, dx = light[:, 2:, 1:-1] - light[:, :-2, 1:-1], light[:, 1:-1, 2:] - light[:, 1:-1, :-2]
    orientation = ((np.arctan2(dy, dx) / (2 * np.pi) * ORIENTATIONS + ORIENTATIONS).astype(np.int64)) % ORIENTATIONS
    edges = np.hypot(dx, dy)[..., None] * (orientation[..., None] == np.arange(ORIENTATIONS))
    edges = edges.reshape(count, CELLS, cell, CELLS, cell, ORIENTATIONS).mean((2, 4)).reshape(count, -1)
    edges = np.sqrt(edges / (edges.sum(1, keepdims=True) + 1e-3))

    level = np.minimum((crops // (256 // LEVELS)).astype(np.int64), LEVELS - 1)
    shade = (level[..., 0] * LEVELS + level[..., 1]) * LEVELS + level[..., 2]
    place = shade.reshape(count, -1) + np.arange(count)[:, None] * LEVELS**3
    weights = np.broadcast_to(_MIDDLE, place.shape)
    colours = np.sqrt(np.bincount(place.ravel(), weights.ravel(), count * LEVELS**3).reshape(count, -1))

    extent = np.log(extents / 48.0)
    parts = ((grid.reshape(count, -1) - 0.55) * 4, (edges - 0.06) * 16, (colours - 0.06) * 8, extent * 2)
    return np.concatenate(parts, 1).astype(np.float16)
