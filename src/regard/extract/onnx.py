"""Detectors and backbones as .onnx files, run by onnxruntime: something fast for small machines.

What a detector's answers mean is told from their names and shapes, for an input of S x S pixels and thus
A = (S/8)^2 + (S/16)^2 + (S/32)^2 cells (and (S/64)^2 of some), C classes and Q queries:

  YOLOX                [n, A, 5 + C]   offsets in the cell and log sizes, or pixels; objectness; reads BGR 0..255
  YOLOv5, v7           [n, 3A, 5 + C]  pixels; objectness; reads RGB 0..1
  YOLOv8, v9, v11      [n, 4 + C, A]   pixels; reads RGB 0..1
  YOLOv10, end to end  [n, Q, 6]       corners in pixels, score, class from 0; reads RGB 0..1
  DETR and similar files     pred_boxes [n, Q, 4], centres and sizes as fractions; logits [n, Q, C] of a sigmoid, or
                       [n, Q, C + 1] of a softmax whose last class is "none"; read the photograph squashed
"""

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from regard.boxes import to_corners
from regard.extract.coco_classes import COCO80
from regard.extract.extractor import Detections, suppressed
from regard.extract.pixels import NAMED, Pixels, crops, letterboxed, read_config, squashed
from regard.files import InputError

STRIDES = (8, 16, 32, 64)
SOFTMAX = ("detr", "yolos", "table-transformer")  # of DETR's kin, those with a class "none"
BATCH = 32  # crops described at once

Outputs = Mapping[str, np.ndarray]  # of one photograph
Answers = tuple[Float[np.ndarray, "candidate 4"], Float[np.ndarray, "candidate class"]]  # centres and sizes; scores


@dataclass(frozen=True)
class Family:
    """How detectors of one kind read a photograph, and what their answers mean: boxes in pixels of the input."""

    decode: Callable[[Outputs, int, int], Answers]  # outputs, width and height of the input
    num_classes: int
    pixels: Pixels = NAMED["unit"]
    letterbox: bool = True


class OnnxDetector:
    """A detector's .onnx file. Raises InputError if it is none, or of no family that is known.

    `classes` name its labels; by default what the file's own metadata, a `config.json` beside it, or COCO's 80 say.
    """

    def __init__(self, path: Path, classes: Sequence[str] = (), device: str = "cpu") -> None:
        self.model = OnnxModel(path, device, size=640)
        config = read_config(path.parent / "config.json")
        self.family = family_of(self.model, len(classes), config)
        self.classes = ("none", *_names(self.model, self.family.num_classes, classes, config))

    def __call__(self, photographs: Sequence[Image.Image]) -> list[Detections]:
        return [self._detect(photograph) for photograph in photographs]

    def _detect(self, photograph: Image.Image) -> Detections:
        width, height = self.model.width, self.model.height
        if self.family.letterbox:
            pixels, scale = letterboxed(photograph, width, height)
            extent = photograph.width * scale, photograph.height * scale
        else:
            pixels, extent = squashed(photograph, width, height), (width, height)
        outputs = self.model.run(self.family.pixels(pixels)[None])
        boxes, scores = self.family.decode({name: value[0] for name, value in outputs.items()}, width, height)
        return suppressed(to_corners(boxes) / np.array(extent * 2, np.float32), scores.argmax(1) + 1, scores.max(1))


class OnnxBackbone:
    """A vision backbone's .onnx file: a vector for each crop. Raises InputError if it gives none.

    `pixels` is what values it reads; by default what a `preprocessor_config.json` beside it says, else ImageNet's.
    """

    def __init__(self, path: Path, pixels: Pixels | None = None, device: str = "cpu") -> None:
        self.model = OnnxModel(path, device, size=224)
        config = read_config(path.parent / "preprocessor_config.json")
        self.pixels = pixels or (Pixels.of_config(config) if config else NAMED["imagenet"])
        self.dim = self._describe(np.zeros((1, 3, self.model.height, self.model.width), np.float32)).shape[1]

    def __call__(
        self, photographs: Sequence[Image.Image], boxes: Sequence[Float[np.ndarray, "_ 4"]]
    ) -> list[Float[np.ndarray, "_ feature"]]:
        size = self.model.width, self.model.height
        return [
            self._describe(self.pixels(crops(photograph, own, *size)))
            for photograph, own in zip(photographs, boxes, strict=True)
        ]

    def _describe(self, pictures: Float[np.ndarray, "region 3 y x"]) -> Float[np.ndarray, "region feature"]:
        parts = [self.model.run(pictures[at : at + BATCH]) for at in range(0, len(pictures), BATCH)]
        return np.concatenate([self._vectors(part) for part in parts])

    def _vectors(self, outputs: Outputs) -> Float[np.ndarray, "region feature"]:
        """The first output of one vector a crop; else the mean over a map [n, feature, y, x] or over tokens."""
        for rank, axes in ((2, ()), (4, (2, 3)), (3, (1,))):
            for values in outputs.values():
                if values.ndim == rank:
                    return values.mean(axes) if axes else values
        raise InputError(f"{self.model.path} gives {_shapes(outputs)}: expected a vector for each picture.")


class OnnxModel:
    """A session that reads pictures, in whatever batches its file wants; `size` where the file leaves theirs open."""

    def __init__(self, path: Path, device: str, size: int) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise InputError(f"{path} needs onnxruntime: pip install 'regard[onnx]'.") from None
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors alone
        wanted = {"cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"]}[device]
        usable = [name for name in wanted if name in onnxruntime.get_available_providers()]
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=usable)
        except Exception as error:  # onnxruntime has a kind of its own for each way in which a file is no model
            said = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
            raise InputError(f"{path} is no ONNX model that can be run ({said}).") from None
        self.path, self.metadata = path, self.session.get_modelmeta().custom_metadata_map
        first, *self.others = self.session.get_inputs()
        if len(first.shape) != 4 or first.shape[1] != 3 or first.type != "tensor(float)":
            raise InputError(
                f"{path} reads {first.name}, {first.type} {first.shape}: expected float pictures [n, 3, y, x]."
            )
        if wrong := next((other.name for other in self.others if other.name != "pixel_mask"), None):
            raise InputError(f"{path} also reads {wrong}: expected a model of pictures alone.")
        batch, _, height, width = first.shape
        self.name, self.batch = first.name, batch if isinstance(batch, int) else None
        self.height, self.width = (side if isinstance(side, int) else size for side in (height, width))

    def run(self, pictures: Float[np.ndarray, "item 3 y x"]) -> dict[str, np.ndarray]:
        """Every output for all pictures."""
        step = self.batch or len(pictures)
        parts = []
        for at in range(0, len(pictures), step):
            part = pictures[at : at + step]
            full = np.concatenate([part, np.zeros((step - len(part), *part.shape[1:]), np.float32)])
            fed = {self.name: np.ascontiguousarray(full, np.float32)}
            for mask in self.others:  # DETR's, of which pixels are real: all
                shape = [side if isinstance(side, int) else full.shape[2] for side in mask.shape[1:]]
                fed[mask.name] = np.ones((step, *shape), np.int64)
            parts.append([value[: len(part)] for value in self.session.run(None, fed)])
        names = [output.name for output in self.session.get_outputs()]
        return {name: np.concatenate(values) for name, values in zip(names, zip(*parts, strict=True), strict=True)}


def family_of(model: OnnxModel, num_named: int, config: Mapping[str, Any]) -> Family:
    """A detector's family, told from what it answers to a blank picture.

    Of DETR's kin, softmax is told from the `model_type` of `config`, else from whether one class more is answered than
    is named (`num_named`; 92 answers are DETR's own).
    """
    outputs = model.run(np.zeros((1, 3, model.height, model.width), np.float32))
    if {"logits", "pred_boxes"} <= set(outputs):
        answered = outputs["logits"].shape[2]
        softmax = config["model_type"] in SOFTMAX if "model_type" in config else answered in (num_named + 1, 92)
        settings = read_config(model.path.parent / "preprocessor_config.json")
        pixels = Pixels.of_config(settings) if settings else NAMED["imagenet" if softmax else "unit"]
        return Family(partial(_queries, softmax=softmax), answered - softmax, pixels, letterbox=False)
    cells = [model.width // stride * (model.height // stride) for stride in STRIDES]
    counts = {sum(cells[:3]), sum(cells)}
    for name, values in outputs.items():
        if values.ndim == 3:
            _, rows, columns = values.shape
            if rows in counts and columns > 5:
                return Family(partial(_cells, name=name), columns - 5, Pixels(bgr=True))
            if rows in {3 * count for count in counts} and columns > 5:
                return Family(partial(_anchors, name=name), columns - 5)
            if columns in counts and rows > 4:
                return Family(partial(_columns, name=name), rows - 4)
            if columns == 6:
                num_classes = num_named or len(_own_names(model)) or len(COCO80)
                return Family(partial(_final, name=name, num_classes=num_classes), num_classes)
    raise InputError(
        f"{model.path} gives {_shapes(outputs)}: no detector of a family that is known (YOLOX, YOLOv5 to v11, DETR)."
    )


def _cells(outputs: Outputs, width: int, height: int, name: str) -> Answers:
    found = outputs[name]
    boxes = found[:, :4]
    if boxes[:, :2].max() < width / 2:  # offsets in cells: pixels would reach over the picture
        places, strides = [], []
        for stride in STRIDES:
            y, x = np.mgrid[: height // stride, : width // stride]
            places.append(np.stack([x.ravel(), y.ravel()], 1))
            strides.append(np.full((x.size, 1), stride))
        place, stride_ = np.concatenate(places)[: len(found)], np.concatenate(strides)[: len(found)]
        boxes = np.concatenate([boxes[:, :2] + place, np.exp(boxes[:, 2:])], 1) * stride_
    return boxes.astype(np.float32), found[:, 4:5] * found[:, 5:]


def _anchors(outputs: Outputs, width: int, height: int, name: str) -> Answers:
    found = outputs[name]
    return found[:, :4], found[:, 4:5] * found[:, 5:]


def _columns(outputs: Outputs, width: int, height: int, name: str) -> Answers:
    return outputs[name][:4].T, outputs[name][4:].T


def _final(outputs: Outputs, width: int, height: int, name: str, num_classes: int) -> Answers:
    found = outputs[name]
    low, high = found[:, :2], found[:, 2:4]
    scores = found[:, 4:5] * (np.arange(num_classes) == found[:, 5:].round())
    return np.concatenate([(low + high) / 2, high - low], 1), scores


def _queries(outputs: Outputs, width: int, height: int, softmax: bool) -> Answers:
    logits = outputs["logits"]
    if softmax:
        odds = np.exp(logits - logits.max(1, keepdims=True))
        scores = (odds / odds.sum(1, keepdims=True))[:, :-1]
    else:
        scores = 1 / (1 + np.exp(-logits))
    return outputs["pred_boxes"] * np.array([width, height] * 2, np.float32), scores


def _names(model: OnnxModel, count: int, given: Sequence[str], config: Mapping[str, Any]) -> list[str]:
    """The names of a detector's classes: as given, else as found with the model, else COCO's."""
    if given and len(given) != count:
        raise InputError(
            f"{model.path} tells {count} classes apart, and {len(given)} are named: expected a name for each."
        )
    beside = config.get("id2label") or {}
    named = {int(number): str(name) for number, name in beside.items()} or dict(enumerate(_own_names(model)))
    if not given and not named and count == len(COCO80):
        return list(COCO80)
    return list(given) or [named.get(number, f"class {number}") for number in range(count)]


def _own_names(model: OnnxModel) -> list[str]:
    """The names that ultralytics' exporter writes into a file, as a dictionary in Python's own spelling."""
    try:
        found = ast.literal_eval(model.metadata.get("names", "{}"))
        return [str(found[number]) for number in sorted(found)]
    except (ValueError, SyntaxError, TypeError):
        return []


def _shapes(outputs: Outputs) -> str:
    return ", ".join(f"{name} {list(values.shape)}" for name, values in outputs.items())
