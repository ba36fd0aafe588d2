"""How photographs are extracted: what the user named, as an extractor; remembered, so that a second run adds alike."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from PIL import Image

from regard.data.lines import Lines
from regard.extract.colours import Colours
from regard.extract.extractor import Backbone, Composed, Detector
from regard.extract.huggingface import HubBackbone, HubDetector, Pool
from regard.extract.onnx import OnnxBackbone, OnnxDetector
from regard.extract.pixels import Pixels
from regard.files import InputError

GRID, COLOURS = "grid", "colours"
FILES = ("detector", "features", "project", "classes")  # or names, of the first two


@dataclass(frozen=True, kw_only=True)
class Options:
    """What an extraction depends on. Models are a .onnx file, a folder, or a name on the Hugging Face hub."""

    detector: str = GRID  # or a model; grid: windows alone
    features: str = COLOURS  # or a model; colours: colours and edges, which need no weights
    pool: Pool = "crop"  # of a model of transformers: describe crops, or pool regions from a map
    pixels: Literal["raw", "unit", "symmetric", "imagenet", "clip"] | None = None  # that an .onnx backbone reads
    project: str | None = None  # a .npz of `mean` and `components`: features become (features - mean) @ components.T
    classes: str | None = None  # a file of the detector's classes, or of what it shall look for, a name a line
    regions: int = 36
    windows: bool = True
    sure: float = 0.25
    overlap: float = 0.7
    side: int = 1024  # pixels of a photograph's longer side, beyond which it is scaled down

    @classmethod
    def settled(cls, given: dict[str, Any], stored: dict[str, Any], out: Path) -> "Options":
        """What is given, else as stored, else the defaults. Raises InputError if given and stored differ."""
        known = {field.name for field in fields(cls)}
        given = {name: os.path.abspath(value) if name in FILES and Path(value).exists() else value
                 for name, value in given.items()}  # fmt: skip
        before = {name: value for name, value in stored.items() if name in known}
        for name, value in given.items():
            if before and before.get(name) != value:
                raise InputError(
                    f"{out} was extracted with --{name} {before.get(name)}, not {value}: leave the option out to go on "
                    f"with it, or give a new folder."
                )
        return cls(**(before or given))

    def extractor(self, device: str) -> Composed:
        """The extractor, its models loaded. Raises InputError if one is missing, or is none."""
        if not self.side >= 64:
            raise InputError(f"--side {self.side}: expected 64 pixels or more.")
        names = _names(self.classes)
        detector: Detector | None = None
        if self.detector.endswith(".onnx"):
            detector = OnnxDetector(_file(self.detector), names, device)
        elif self.detector != GRID:
            detector = HubDetector(self.detector, names, device)
        elif names:
            raise InputError("--classes names what a detector finds: give --detector too.")
        backbone: Backbone = Colours()
        of_hub = self.features != COLOURS and not self.features.endswith(".onnx")
        if self.pool != "crop" and not of_hub:
            raise InputError(f"--pool {self.pool} is for a model of transformers, which --features should name.")
        if self.pixels and not self.features.endswith(".onnx"):
            raise InputError(f"--pixels {self.pixels} is for an .onnx file, which --features should name.")
        if self.features.endswith(".onnx"):
            pixels = Pixels.named(self.pixels) if self.pixels else None
            backbone = OnnxBackbone(_file(self.features), pixels, device)
        elif of_hub:
            backbone = HubBackbone(self.features, self.pool, device)
        if self.project:
            backbone = Projected(backbone, _file(self.project))
        return Composed(detector, backbone, self.regions, self.windows, self.sure, self.overlap)

    def fingerprint(self) -> dict[str, str]:
        """A hash of each local file or folder that the features depend on: to tell models exchanged under one name."""
        named = [Path(value) for value in (getattr(self, name) for name in FILES) if value]
        return {str(path): fingerprint(path) for path in named if path.exists()}


def fingerprint(path: Path) -> str:
    """A hash of a file, and of the settings and weights that lie beside an .onnx; or of a folder's files."""
    files = [path] if path.is_file() else sorted(file for file in path.iterdir() if file.is_file())
    if path.suffix == ".onnx":
        beside = ("config.json", "preprocessor_config.json", f"{path.name}_data", f"{path.name}.data")
        files += [path.with_name(name) for name in beside if path.with_name(name).is_file()]
    hashed = hashlib.blake2b(digest_size=8)
    for file in files:
        hashed.update(file.name.encode())
        with open(file, "rb") as opened:
            hashed.update(hashlib.file_digest(opened, "sha256").digest())
    return hashed.hexdigest()


class Projected:
    """A backbone whose vectors are moved and projected: (vector - mean) @ components.T, such as a PCA."""

    def __init__(self, backbone: Backbone, path: Path) -> None:
        try:
            with np.load(path, allow_pickle=False) as file:
                self.mean, self.components = file["mean"].astype(np.float32), file["components"].astype(np.float32)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{path} is no projection ({error}): expected a .npz of mean and components.") from None
        if self.components.ndim != 2 or not self.mean.shape == (self.components.shape[1],) == (backbone.dim,):
            have = f"mean {list(self.mean.shape)} and components {list(self.components.shape)}"
            raise InputError(
                f"{path} contains {have}: expected [{backbone.dim}] and [any, {backbone.dim}], as the features."
            )
        self.backbone, self.dim = backbone, len(self.components)

    def __call__(
        self, photographs: Sequence[Image.Image], boxes: Sequence[Float[np.ndarray, "_ 4"]]
    ) -> list[Float[np.ndarray, "_ feature"]]:
        return [(found - self.mean) @ self.components.T for found in self.backbone(photographs, boxes)]


def _file(name: str) -> Path:
    path = Path(name)
    if not path.is_file():
        raise InputError(f"{path} is not there: give a model's file, its folder, or its name on the hub.")
    return path


def _names(path: str | None) -> list[str]:
    if path is None:
        return []
    names = [name for name in Lines(path) if name]
    if not names:
        raise InputError(f"{path} names no class: expected a name a line.")
    return names
