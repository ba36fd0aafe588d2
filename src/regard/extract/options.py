"""Options of an extraction, which are stored in its data folder, and the extractor that they name."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from PIL import Image

from regard.data.lines import Lines
from regard.extract.colours import Colours
from regard.extract.extractor import Backbone, ComposedExtractor, Detector
from regard.extract.huggingface import HubBackbone, HubDetector, Pool
from regard.extract.onnx import OnnxBackbone, OnnxDetector
from regard.extract.pixels import Pixels
from regard.files import InputError, absolute_if_there
from regard.runtime import Precision, default_precision

GRID, COLOURS = "grid", "colours"
FILES = ("detector", "features", "project", "classes")  # options that are files; the first two may also be names


@dataclass(frozen=True, kw_only=True)
class Options:
    """All options that the extracted regions and features depend on.

    A model is an .onnx file, a folder, or a name on the Hugging Face hub.
    """

    detector: str = GRID  # a model, or "grid": only windows
    features: str = COLOURS  # a model, or "colours": colours and edges, which need no weights
    pool: Pool = "crop"  # for a transformers model: "crop" describes crops, "map" pools regions from a feature map
    precision: Precision | None = None  # of a transformers model's layers; None: the default of the device
    pixels: Literal["raw", "unit", "symmetric", "imagenet", "clip"] | None = None  # input values of an .onnx backbone
    project: str | None = None  # an .npz of `mean` and `components`: features become (features - mean) @ components.T
    classes: str | None = None  # a text file: the detector's classes, or those to look for, one name per line
    regions: int = 36  # largest number of regions per photograph
    windows: bool = True  # fill the remaining regions with windows
    sure: float = 0.25  # detections with at least this score come before the windows
    overlap: float = 0.7  # a region is skipped if its IoU with an earlier one is larger
    side: int = 1024  # larger photographs are scaled down to a longer side of this number of pixels

    @classmethod
    def resolve(cls, passed: dict[str, Any], stored: dict[str, Any], out: Path) -> "Options":
        """Return the stored options, or, if there are none, the passed options over the defaults.

        Raises InputError if an option is stored with another value than is passed. `out` is the folder to name then.
        """
        known = {field.name for field in fields(cls)}
        passed = {name: absolute_if_there(value) if name in FILES else value for name, value in passed.items()}
        earlier = {name: value for name, value in stored.items() if name in known}
        if earlier:
            earlier.setdefault("precision", "float32")  # of folders from before there was the option
        for name, value in passed.items():
            if earlier and earlier.get(name) != value:
                raise InputError(
                    f"{out} was extracted with --{name} {earlier.get(name)}, not {value}: leave the option out, or use "
                    f"a new folder."
                )
        return cls(**(earlier or passed))

    def with_precision(self, device: str) -> "Options":
        """Return the options with the default precision of the device, if none is chosen.

        It is stored, so that a folder that is continued on another device keeps its precision.
        """
        return replace(self, precision=self.precision or default_precision(device))

    def extractor(self, device: str) -> ComposedExtractor:
        """Load the models and return the extractor. Raises InputError if a file is missing or is not a model."""
        if not self.side >= 64:
            raise InputError(f"--side {self.side}: expected 64 pixels or more.")
        names = _read_class_names(self.classes)
        detector: Detector | None = None
        if self.detector.endswith(".onnx"):
            detector = OnnxDetector(_check_file(self.detector), names, device)
        elif self.detector != GRID:
            detector = HubDetector(self.detector, names, device, self.precision)
        elif names:
            raise InputError("--classes names the classes of a detector: pass --detector too.")
        backbone: Backbone = Colours()
        is_onnx = self.features.endswith(".onnx")
        is_transformers = self.features != COLOURS and not is_onnx
        if self.pool != "crop" and not is_transformers:
            raise InputError(f"--pool {self.pool} applies to transformers models only: name one with --features.")
        if self.pixels and not is_onnx:
            raise InputError(f"--pixels {self.pixels} applies to .onnx files only: name one with --features.")
        if is_onnx:
            pixels = Pixels.named(self.pixels) if self.pixels else None
            backbone = OnnxBackbone(_check_file(self.features), pixels, device)
        elif is_transformers:
            backbone = HubBackbone(self.features, self.pool, device, self.precision)
        if self.project:
            backbone = ProjectedBackbone(backbone, _check_file(self.project))
        return ComposedExtractor(detector, backbone, self.regions, self.windows, self.sure, self.overlap)

    def model_fingerprints(self) -> dict[str, str]:
        """Return a hash of each local file or folder of a model, to notice a model that was replaced."""
        named = [Path(value) for value in (getattr(self, name) for name in FILES) if value]
        return {str(path): fingerprint(path) for path in named if path.exists()}


def fingerprint(path: Path) -> str:
    """Return a hash of a file or of the files of a folder.

    The hash of an .onnx file includes the files of settings and weights beside it.
    """
    files = [path] if path.is_file() else sorted(file for file in path.iterdir() if file.is_file())
    if path.suffix == ".onnx":
        beside = ("config.json", "preprocessor_config.json", f"{path.name}_data", f"{path.name}.data")
        files += [path.with_name(name) for name in beside if path.with_name(name).is_file()]
    digest = hashlib.blake2b(digest_size=8)
    for file in files:
        digest.update(file.name.encode())
        with open(file, "rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


class ProjectedBackbone:
    """A backbone with an affine projection after it, such as a PCA: (vector - mean) @ components.T.

    `path` is an .npz file of `mean` and `components`. Raises InputError if it is not, or does not fit the backbone.
    """

    def __init__(self, backbone: Backbone, path: Path) -> None:
        try:
            with np.load(path, allow_pickle=False) as file:
                self.mean, self.components = file["mean"].astype(np.float32), file["components"].astype(np.float32)
        except Exception as error:  # zipfile, zlib and numpy raise anything for a damaged file
            raise InputError(f"{path}: {error}. Expected an .npz of mean and components.") from None
        if self.components.ndim != 2 or not self.mean.shape == (self.components.shape[1],) == (backbone.dim,):
            shapes = f"mean {list(self.mean.shape)} and components {list(self.components.shape)}"
            raise InputError(
                f"{path} contains {shapes}: expected [{backbone.dim}] and [any, {backbone.dim}], because the features "
                f"have {backbone.dim} numbers."
            )
        self.backbone, self.dim = backbone, len(self.components)

    def __call__(
        self, photographs: Sequence[Image.Image], boxes: Sequence[Float[np.ndarray, "_ 4"]]
    ) -> list[Float[np.ndarray, "_ feature"]]:
        return [(vectors - self.mean) @ self.components.T for vectors in self.backbone(photographs, boxes)]


def _check_file(name: str) -> Path:
    path = Path(name)
    if not path.is_file():
        raise InputError(f"{path} is not there: expected the path of a file.")
    return path


def _read_class_names(path: str | None) -> list[str]:
    if path is None:
        return []
    names = [name for name in Lines(path) if name]
    if not names:
        raise InputError(f"{path} names no class: expected one name per line.")
    return names
