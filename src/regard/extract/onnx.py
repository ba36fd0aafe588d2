"""Detectors and backbones in .onnx files, run by onnxruntime: fast on small machines.

The family of a detector is identified by the names and shapes of its outputs. For an input of S x S pixels, there are
A = (S/8)^2 + (S/16)^2 + (S/32)^2 cells (some models have (S/64)^2 more), C classes and Q queries:

  YOLOX                [n, A, 5 + C]   offsets in the cell and log sizes, or pixels; objectness; reads BGR 0..255
  YOLOv5, v7           [n, 3A, 5 + C]  pixels; objectness; reads RGB 0..1
  YOLOv8, v9, v11      [n, 4 + C, A]   pixels; reads RGB 0..1
  YOLOv10, end to end  [n, Q, 6]       corners in pixels, score, class from 0; reads RGB 0..1
  DETR and relatives   pred_boxes [n, Q, 4], centres and sizes as fractions; logits [n, Q, C] of a sigmoid, or
                       [n, Q, C + 1] of a softmax whose last class is "none"; reads the stretched photograph
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
from regard.extract.extractor import Detections, filter_detections
from regard.extract.pixels import NAMED, Pixels, crop_boxes, letterbox, read_config, stretch
from regard.files import InputError, missing_extra

STRIDES = (8, 16, 32, 64)
SOFTMAX = ("detr", "yolos", "table-transformer")  # relatives of DETR with a class "none"
BATCH = 32  # crops per forward pass

Outputs = Mapping[str, np.ndarray]  # of one photograph
# Boxes as centres and sizes in pixels of the input; scores.
RawDetections = tuple[Float[np.ndarray, "candidate 4"], Float[np.ndarray, "candidate class"]]


@dataclass(frozen=True)
class DetectorFamily:
    """The input format of a family of detectors, and the decoder of their outputs."""

    decode: Callable[[Outputs, int, int], RawDetections]  # outputs, width and height of the input
    num_classes: int
    pixels: Pixels = NAMED["unit"]
    letterbox: bool = True  # keep the aspect ratio of the photograph; otherwise it is stretched


class OnnxDetector:
    """A detector in an .onnx file. It reads the photographs of a call at once, if the file allows batches of any size.

    `classes` are the names of its classes. By default they are read from a `config.json` beside the file or from its
    metadata, or are those of COCO if there are 80. Raises InputError if the file is not a detector of a known family.
    """

    def __init__(self, path: Path, classes: Sequence[str] = (), device: str = "cpu") -> None:
        self.model = OnnxModel(path, device, size=640)
        config = read_config(path.parent / "config.json")
        self.family = identify_family(self.model, len(classes), config)
        self.classes = ("none", *_class_names(self.model, self.family.num_classes, classes, config))

    def __call__(self, photographs: Sequence[Image.Image]) -> list[Detections]:
        if not photographs:
            return []
        width, height = self.model.width, self.model.height
        pictures = np.empty((len(photographs), 3, height, width), np.float32)
        extents: list[tuple[float, float]] = []  # of each photograph in pixels of the input
        for picture, photograph in zip(pictures, photographs, strict=True):
            if self.family.letterbox:
                picture[:], scale = letterbox(photograph, width, height)
                extents.append((photograph.width * scale, photograph.height * scale))
            else:
                picture[:] = stretch(photograph, width, height)
                extents.append((width, height))
        outputs = self.model.run(self.family.pixels(pictures))
        found = []
        for number, extent in enumerate(extents):
            own = {name: values[number] for name, values in outputs.items()}
            boxes, scores = self.family.decode(own, width, height)
            corners = to_corners(boxes) / np.array(extent * 2, np.float32)
            found.append(filter_detections(corners, scores.argmax(1) + 1, scores.max(1)))
        return found


class OnnxBackbone:
    """A vision backbone in an .onnx file, which describes each crop by a vector.

    `pixels` is the normalization of its input. By default it is read from a `preprocessor_config.json` beside the file,
    or is that of ImageNet. Raises InputError if the model does not return vectors, maps or tokens.
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
            self._describe(self.pixels(crop_boxes(photograph, own, *size)))
            for photograph, own in zip(photographs, boxes, strict=True)
        ]

    def _describe(self, pictures: Float[np.ndarray, "region 3 y x"]) -> Float[np.ndarray, "region feature"]:
        parts = [self.model.run(pictures[start : start + BATCH]) for start in range(0, len(pictures), BATCH)]
        return np.concatenate([self._vectors(part) for part in parts])

    def _vectors(self, outputs: Outputs) -> Float[np.ndarray, "region feature"]:
        """The first output that is a vector per crop, or the mean of a map [n, feature, y, x] or of tokens."""
        for rank, axes in ((2, ()), (4, (2, 3)), (3, (1,))):
            for values in outputs.values():
                if values.ndim == rank:
                    return values.mean(axes) if axes else values
        raise InputError(f"{self.model.path} returns {_shapes(outputs)}: expected a vector for each image.")


class OnnxModel:
    """An ONNX model that reads images. `size` is the width and height of its input if the file does not fix them.

    Raises InputError if the file is not such a model.
    """

    def __init__(self, path: Path, device: str, size: int) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise missing_extra(f"{path} needs onnxruntime", "onnx") from None
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # only errors
        preferred = {"cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"]}[device]
        providers = [name for name in preferred if name in onnxruntime.get_available_providers()]
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=providers)
        except Exception as error:  # onnxruntime raises an exception type of its own for each defect
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
            raise InputError(f"{path} is not an ONNX model that can be run ({reason}).") from None
        self.path, self.metadata = path, self.session.get_modelmeta().custom_metadata_map
        first, *self.others = self.session.get_inputs()
        if len(first.shape) != 4 or first.shape[1] != 3 or first.type != "tensor(float)":
            raise InputError(
                f"{path} reads {first.name}, {first.type} {first.shape}: expected float images [n, 3, y, x]."
            )
        if extra := next((other.name for other in self.others if other.name != "pixel_mask"), None):
            raise InputError(f"{path} also reads {extra}: expected a model that reads only images.")
        batch, _, height, width = first.shape
        self.name, self.batch = first.name, batch if isinstance(batch, int) else None
        self.height, self.width = (side if isinstance(side, int) else size for side in (height, width))
        if self.batch is None and not self._reads_two(onnxruntime.RunOptions()):
            self.batch = 1

    def run(self, pictures: Float[np.ndarray, "item 3 y x"]) -> dict[str, np.ndarray]:
        """Return all outputs for all images, in batches of the size that the file fixes, if it does."""
        step = self.batch or len(pictures)
        parts = []
        for start in range(0, len(pictures), step):
            part = pictures[start : start + step]
            full = np.concatenate([part, np.zeros((step - len(part), *part.shape[1:]), np.float32)])
            parts.append([value[: len(part)] for value in self.session.run(None, self._inputs(full))])
        names = [output.name for output in self.session.get_outputs()]
        return {name: np.concatenate(values) for name, values in zip(names, zip(*parts, strict=True), strict=True)}

    def _inputs(self, pictures: Float[np.ndarray, "item 3 y x"]) -> dict[str, np.ndarray]:
        inputs = {self.name: np.ascontiguousarray(pictures, np.float32)}
        for mask in self.others:  # DETR's pixel mask: no pixel is padding
            sides = zip(mask.shape[1:], pictures.shape[2:], strict=False)
            shape = [side if isinstance(side, int) else own for side, own in sides]
            inputs[mask.name] = np.ones((len(pictures), *shape), np.int64)
        return inputs

    def _reads_two(self, options: Any) -> bool:
        """Whether two images give two results. Some files leave the size of the batch open, and only work with one."""
        options.log_severity_level = 4  # an error is an answer here
        try:
            blank = np.zeros((2, 3, self.height, self.width), np.float32)
            values = self.session.run(None, self._inputs(blank), options)
        except Exception:  # onnxruntime raises an exception type of its own for each defect
            return False
        return all(value.ndim > 0 and len(value) == 2 for value in values)


def identify_family(model: OnnxModel, num_names: int, config: Mapping[str, Any]) -> DetectorFamily:
    """Identify the family of a detector by its outputs for a blank image. Raises InputError if it is not known.

    A relative of DETR uses a softmax if the `model_type` of `config` says so, or, without a `model_type`, if it has one
    output more than there are class names (`num_names`), or 92 outputs, as DETR has.
    """
    outputs = model.run(np.zeros((1, 3, model.height, model.width), np.float32))
    if {"logits", "pred_boxes"} <= set(outputs):
        num_outputs = outputs["logits"].shape[2]
        softmax = config["model_type"] in SOFTMAX if "model_type" in config else num_outputs in (num_names + 1, 92)
        settings = read_config(model.path.parent / "preprocessor_config.json")
        pixels = Pixels.of_config(settings) if settings else NAMED["imagenet" if softmax else "unit"]
        return DetectorFamily(partial(_decode_detr, softmax=softmax), num_outputs - softmax, pixels, letterbox=False)
    cells = [model.width // stride * (model.height // stride) for stride in STRIDES]
    counts = {sum(cells[:3]), sum(cells)}
    for name, values in outputs.items():
        if values.ndim == 3:
            _, rows, columns = values.shape
            if rows in counts and columns > 5:
                return DetectorFamily(partial(_decode_yolox, name=name), columns - 5, Pixels(bgr=True))
            if rows in {3 * count for count in counts} and columns > 5:
                return DetectorFamily(partial(_decode_yolov5, name=name), columns - 5)
            if columns in counts and rows > 4:
                return DetectorFamily(partial(_decode_yolov8, name=name), rows - 4)
            if columns == 6:
                num_classes = num_names or len(_names_in_metadata(model)) or len(COCO80)
                return DetectorFamily(partial(_decode_end_to_end, name=name, num_classes=num_classes), num_classes)
    raise InputError(
        f"{model.path} returns {_shapes(outputs)}: expected the outputs of a known detector (YOLOX, YOLOv5 to v11 or "
        f"DETR)."
    )


def _decode_yolox(outputs: Outputs, width: int, height: int, name: str) -> RawDetections:
    rows = outputs[name]
    boxes = rows[:, :4]
    if boxes[:, :2].max() < width / 2:  # offsets in cells: centres in pixels would be all over the image
        corners, strides = [], []
        for stride in STRIDES:
            y, x = np.mgrid[: height // stride, : width // stride]
            corners.append(np.stack([x.ravel(), y.ravel()], 1))
            strides.append(np.full((x.size, 1), stride))
        cell, cell_size = np.concatenate(corners)[: len(rows)], np.concatenate(strides)[: len(rows)]
        boxes = np.concatenate([boxes[:, :2] + cell, np.exp(boxes[:, 2:])], 1) * cell_size
    return boxes.astype(np.float32), rows[:, 4:5] * rows[:, 5:]


def _decode_yolov5(outputs: Outputs, width: int, height: int, name: str) -> RawDetections:
    rows = outputs[name]
    return rows[:, :4], rows[:, 4:5] * rows[:, 5:]


def _decode_yolov8(outputs: Outputs, width: int, height: int, name: str) -> RawDetections:
    return outputs[name][:4].T, outputs[name][4:].T


def _decode_end_to_end(outputs: Outputs, width: int, height: int, name: str, num_classes: int) -> RawDetections:
    rows = outputs[name]
    low, high = rows[:, :2], rows[:, 2:4]
    scores = rows[:, 4:5] * (np.arange(num_classes) == rows[:, 5:].round())
    return np.concatenate([(low + high) / 2, high - low], 1), scores


def _decode_detr(outputs: Outputs, width: int, height: int, softmax: bool) -> RawDetections:
    logits = outputs["logits"]
    if softmax:
        exponentials = np.exp(logits - logits.max(1, keepdims=True))
        scores = (exponentials / exponentials.sum(1, keepdims=True))[:, :-1]
    else:
        scores = 1 / (1 + np.exp(-logits))
    return outputs["pred_boxes"] * np.array([width, height] * 2, np.float32), scores


def _class_names(model: OnnxModel, count: int, passed: Sequence[str], config: Mapping[str, Any]) -> list[str]:
    """The names of a detector's classes: `passed`, or those stored with the model, or those of COCO."""
    if passed and len(passed) != count:
        raise InputError(f"{model.path} has {count} classes: expected a name for each, got {len(passed)}.")
    in_config = config.get("id2label") or {}
    stored = {int(number): str(name) for number, name in in_config.items()}
    in_metadata = _names_in_metadata(model)
    if in_metadata and len(in_metadata) != count:
        raise InputError(
            f"{model.path} names {len(in_metadata)} classes and has outputs for {count}: expected a detector, not a "
            "model that also finds masks or key points."
        )
    stored = stored or dict(enumerate(in_metadata))
    if not passed and not stored and count == len(COCO80):
        return list(COCO80)
    return list(passed) or [stored.get(number, f"class {number}") for number in range(count)]


def _names_in_metadata(model: OnnxModel) -> list[str]:
    """The class names in the metadata, where the exporter of ultralytics writes a dictionary as a Python literal."""
    try:
        names = ast.literal_eval(model.metadata.get("names", "{}"))
        return [str(names[number]) for number in sorted(names)]
    except (ValueError, SyntaxError, TypeError):
        return []


def _shapes(outputs: Outputs) -> str:
    return ", ".join(f"{name} {list(values.shape)}" for name, values in outputs.items())
