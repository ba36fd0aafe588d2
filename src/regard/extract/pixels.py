"""Prepare photographs for a model: crop, scale, and normalize pixels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from regard.data.layout import read_json
from regard.files import InputError, nearest


@dataclass(frozen=True)
class Pixels:
    """Normalization of pixels for a model: (value - mean) / std for each RGB channel, where values are 0 to 255.

    With `bgr`, the channels are reversed first.
    """

    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    bgr: bool = False

    def __call__(self, pictures: Float[np.ndarray, "*item 3 y x"]) -> Float[np.ndarray, "*item 3 y x"]:
        out = pictures[..., ::-1, :, :] if self.bgr else pictures
        if any(self.mean):
            out = out - np.array(self.mean, np.float32).reshape(3, 1, 1)
        return out if self.std == (1.0, 1.0, 1.0) else out / np.array(self.std, np.float32).reshape(3, 1, 1)

    @classmethod
    def named(cls, name: str) -> "Pixels":
        """Return a normalization by its name. Raises InputError for an unknown name.

        raw: 0 to 255; unit: 0 to 1; symmetric: -1 to 1; imagenet, clip: the mean and standard deviation of these.
        """
        if name not in NAMED:
            raise InputError(f"--pixels {name!r} is not known. {nearest(name, NAMED)}")
        return NAMED[name]

    @classmethod
    def of_config(cls, config: dict[str, Any]) -> "Pixels":
        """Return the normalization of the configuration of a transformers image processor."""
        unit = 1.0 / config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0
        if not config.get("do_normalize", True):
            return cls(std=(unit,) * 3)
        mean, std = (config.get(f"image_{name}") or [default] * 3 for name, default in (("mean", 0.5), ("std", 0.5)))
        return cls(tuple(unit * value for value in mean), tuple(unit * value for value in std))


NAMED = {
    "raw": Pixels(),
    "unit": Pixels(std=(255.0,) * 3),
    "symmetric": Pixels((127.5,) * 3, (127.5,) * 3),
    "imagenet": Pixels((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "clip": Pixels((122.7709, 116.7460, 104.0937), (68.5005, 66.6322, 70.3232)),
}


def read_config(path: Path) -> dict[str, Any]:
    """Read a JSON file of settings beside a model. Empty if there is no file. Raises InputError if it is not JSON."""
    if not path.is_file():
        return {}
    config: dict[str, Any] = read_json(path, dict[str, Any])
    return config


def crop_boxes(
    photograph: Image.Image, boxes: Float[np.ndarray, "region 4"], width: int, height: int
) -> Float[np.ndarray, "region 3 height width"]:
    """Cut out each box and scale it to `width` x `height`. Values are RGB, 0 to 255. A crop has at least one pixel."""
    out = np.empty((len(boxes), 3, height, width), np.float32)
    size = np.tile(photograph.size, 2)
    for target, box in zip(out, boxes * size, strict=True):
        x1, y1, x2, y2 = box.clip(0, size).tolist()
        x1, y1 = min(x1, size[0] - 1.0), min(y1, size[1] - 1.0)  # at least one pixel
        part = (x1, y1, max(x2, x1 + 1.0), max(y2, y1 + 1.0))
        crop = photograph.resize((width, height), Image.Resampling.BILINEAR, box=part, reducing_gap=2.0)
        target[:] = np.asarray(crop).transpose(2, 0, 1)
    return out


def stretch(photograph: Image.Image, width: int, height: int) -> Float[np.ndarray, "3 height width"]:
    """Scale the photograph to `width` x `height` without keeping its aspect ratio. Values are RGB, 0 to 255."""
    return crop_boxes(photograph, np.array([[0, 0, 1, 1]], np.float32), width, height)[0]


def letterbox(photograph: Image.Image, width: int, height: int) -> tuple[Float[np.ndarray, "3 height width"], float]:
    """Scale the photograph to fit into the top left of a grey (114) canvas. Return RGB, 0 to 255, and the scale."""
    scale = min(width / photograph.width, height / photograph.height)
    size = max(1, round(photograph.width * scale)), max(1, round(photograph.height * scale))
    canvas = np.full((3, height, width), 114, np.float32)
    fitted = np.asarray(photograph.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))
    canvas[:, : size[1], : size[0]] = fitted.transpose(2, 0, 1)
    return canvas, scale
