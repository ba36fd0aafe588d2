"""ONNX detectors and backbones, on small files made here: each family is decoded correctly."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regard.extract.coco_classes import COCO80
from regard.extract.extractor import ComposedExtractor
from regard.extract.onnx import OnnxBackbone, OnnxDetector, OnnxModel
from regard.extract.pixels import NAMED
from regard.files import InputError

onnx = pytest.importorskip("onnx", reason="onnx, which writes the tests' models, is not installed")
helper, numpy_helper = onnx.helper, onnx.numpy_helper

REAL = Path(__file__).parents[2].parent / "shared" / "real"
SIDE = 64
CELLS = 8 * 8 + 4 * 4 + 2 * 2


def write(path: Path, outputs: dict[str, np.ndarray], nodes=(), shape=(1, 3, SIDE, SIDE), more=(), names=None) -> Path:
    """Write a model that returns constants, or what `nodes` compute from `images`."""
    given = [helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, shape)]
    given += [helper.make_tensor_value_info(name, onnx.TensorProto.INT64, dims) for name, dims in more]
    constants = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value.astype(np.float32)))
        for name, value in outputs.items()
    ]
    names_out = list(outputs) if not nodes else [nodes[-1].output[0]]
    out = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names_out]
    graph = helper.make_graph([*constants, *nodes], "made", given, out)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if names:
        helper.set_model_props(model, {"names": str(dict(enumerate(names)))})
    onnx.save(model, path)
    return path


def photograph() -> Image.Image:
    return Image.new("RGB", (128, 64), (90, 60, 30))  # letterboxed into 64 x 32


def only(detector: OnnxDetector) -> tuple[np.ndarray, list[int], list[float]]:
    found = detector([photograph()])[0]
    return found.boxes, found.labels.tolist(), found.scores.tolist()


# In pixels of the input, centre and size: the left half of the photograph, and its lower right quarter.
LEFT, QUARTER = (16.0, 16.0, 32.0, 32.0), (48.0, 24.0, 32.0, 16.0)
WANTED = [[0, 0, 0.5, 1], [0.5, 0.5, 1, 1]]


def yolox(decoded: bool) -> np.ndarray:
    """Outputs with LEFT in cell 3 of the 2 x 2 cells (stride 32) and QUARTER in cell 9 of the 8 x 8; three classes."""
    found = np.zeros((1, CELLS, 8))
    if decoded:
        found[0, :, :2] = np.linspace(0, SIDE, CELLS)[:, None]
    for cell, stride, (x, y), box, label, objectness in [
        (82, 32, (0, 1), LEFT, 2, 0.9),  # the third cell of the coarsest grid lies at (0, 1)
        (9, 8, (1, 1), QUARTER, 0, 0.5),
    ]:
        centre, size = np.array(box[:2]), np.array(box[2:])
        found[0, cell, :4] = box if decoded else [*(centre / stride - (x, y)), *np.log(size / stride)]
        found[0, cell, 4] = objectness
        found[0, cell, 5 + label] = 0.8
    return found


@pytest.mark.parametrize("decoded", [False, True])
def test_yolox(tmp_path, decoded):
    detector = OnnxDetector(write(tmp_path / "a.onnx", {"output": yolox(decoded)}), ["man", "dog", "hat"])
    boxes, labels, scores = only(detector)
    assert np.allclose(boxes, WANTED, atol=1e-6)
    assert [detector.classes[label] for label in labels] == ["hat", "man"]
    assert np.allclose(scores, [0.72, 0.4])
    assert detector.family.pixels.bgr


def test_yolov5_has_three_boxes_per_cell(tmp_path):
    found = np.zeros((1, 3 * CELLS, 8))
    found[0, 5, :] = [*LEFT, 0.9, 0, 0, 0.8]
    found[0, 70, :] = [*QUARTER, 0.5, 0.8, 0, 0]
    detector = OnnxDetector(write(tmp_path / "a.onnx", {"output": found}))
    boxes, labels, scores = only(detector)
    assert np.allclose(boxes, WANTED)
    assert [detector.classes[label] for label in labels] == ["class 2", "class 0"]
    assert np.allclose(scores, [0.72, 0.4])
    assert detector.family.pixels == NAMED["unit"]


def test_yolov8_has_columns_and_class_names(tmp_path):
    found = np.zeros((1, 7, CELLS))
    found[0, :, 5] = [*LEFT, 0, 0, 0.72]
    found[0, :, 70] = [*QUARTER, 0.4, 0, 0]
    detector = OnnxDetector(write(tmp_path / "a.onnx", {"output0": found}, names=["man", "dog", "hat"]))
    boxes, labels, scores = only(detector)
    assert np.allclose(boxes, WANTED)
    assert [detector.classes[label] for label in labels] == ["hat", "man"]
    assert np.allclose(scores, [0.72, 0.4])


def test_a_model_with_more_outputs_than_class_names_is_refused(tmp_path):
    """As a segmentation model, whose further columns are masks."""
    found = np.zeros((1, 4 + 3 + 32, CELLS))
    with pytest.raises(InputError, match="names 3 classes and has outputs for 35: expected a detector"):
        OnnxDetector(write(tmp_path / "a.onnx", {"output0": found}, names=["man", "dog", "hat"]))


def test_end_to_end(tmp_path):
    found = np.zeros((1, 10, 6))
    found[0, 0] = [0, 0, 32, 32, 0.72, 16]
    found[0, 4] = [32, 16, 64, 32, 0.4, 0]
    detector = OnnxDetector(write(tmp_path / "a.onnx", {"output0": found}))
    boxes, labels, _ = only(detector)
    assert np.allclose(boxes, WANTED)
    assert detector.classes == ("none", *COCO80)
    assert [detector.classes[label] for label in labels] == ["dog", "person"]


def shades(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (128, 64), (250, 60 * number, 30)) for number in range(count)]


@pytest.mark.parametrize("kind", ["fixed", "open", "open, works with one"])
def test_a_detector_reads_batches_if_the_file_allows_it(tmp_path, kind, monkeypatch):
    """Columns of an end-to-end detector: a box, and a score that is the mean of the input's green."""
    corners = np.array([[[0, 0, 32, 32]]])
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("Gather", ["mean", "one"], ["green"], axis=1),
        helper.make_node("Reshape", ["green", "shape"], ["score"]),
        helper.make_node("Mul", ["score", "zero"], ["label"]),
        helper.make_node("Expand", ["corners", "shape of score"], ["box"]),
        helper.make_node("Concat", ["box", "score", "label"], ["found"], axis=2),
    ]
    integers = {"one": np.array([1]), "shape": np.array([1 if "one" in kind else -1, 1, 1])}
    nodes[:0] = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))
        for name, value in integers.items()
    ]
    nodes.insert(5, helper.make_node("Shape", ["score"], ["score's"]))
    nodes.insert(6, helper.make_node("Mul", ["score's", "one"], ["shape of score"]))
    shape = (1 if kind == "fixed" else "n", 3, SIDE, SIDE)
    path = write(tmp_path / "a.onnx", {"corners": corners, "zero": np.zeros(1)}, nodes, shape)
    detector = OnnxDetector(path)
    run, sizes = detector.model._inputs, []
    monkeypatch.setattr(detector.model, "_inputs", lambda pictures: sizes.append(len(pictures)) or run(pictures))
    found = detector(shades(4))
    assert sizes == ([4] if kind == "open" else [1] * 4)
    assert [len(own.scores) for own in found] == [1] * 4
    assert np.allclose([own.scores[0] for own in found], [(60 * number + 114) / 510 for number in range(4)], atol=1e-3)
    for own, photograph in zip(found, shades(4), strict=True):
        assert np.allclose(own.scores, detector([photograph])[0].scores)
    assert detector([]) == []


@pytest.mark.parametrize("softmax", [False, True])
def test_detr_and_relatives_read_the_stretched_photograph(tmp_path, softmax):
    logits = np.full((1, 5, 3 + softmax), -9.0)
    if softmax:
        logits[0, :, -1] = 9.0
        logits[0, 3] = [0, 0, 3, -9]
    else:
        logits[0, 3, 2] = 1.0
    boxes = np.full((1, 5, 4), 0.5)
    boxes[0, 3] = [0.25, 0.5, 0.5, 1.0]
    path = write(tmp_path / "a.onnx", {"logits": logits, "pred_boxes": boxes}, more=[("pixel_mask", (1, 64, 64))])
    settings = {"id2label": {"0": "man", "1": "dog", "2": "hat"}, "model_type": "detr" if softmax else "rt_detr"}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    found, labels, scores = only(OnnxDetector(path))
    assert np.allclose(found, WANTED[:1])
    assert labels == [3]
    odds = np.exp([0.0, 0, 3, -9])
    assert np.allclose(scores, odds[2] / odds.sum() if softmax else 1 / (1 + np.exp(-1)))
    (tmp_path / "config.json").unlink()
    assert np.allclose(only(OnnxDetector(path, ["man", "dog", "hat"]))[2], scores)  # by the number of names


def test_a_backbone_reads_batches_of_any_size(tmp_path):
    mean = [helper.make_node("ReduceMean", ["images"], ["vectors"], axes=[2, 3], keepdims=0)]
    boxes = [np.array([[0, 0, 1, 1], [0, 0, 0.5, 1], [0.5, 0, 1, 1]], np.float32)] * 2
    halves = photograph()
    halves.paste((10, 20, 40), (64, 0, 128, 64))
    want = [[50, 40, 35], [90, 60, 30], [10, 20, 40]]
    for shape in (("n", 3, 8, 8), (1, 3, 8, 8), (2, 3, 8, 8)):
        backbone = OnnxBackbone(write(tmp_path / "b.onnx", {}, mean, shape), NAMED["raw"])
        assert backbone.dim == 3
        found = backbone([photograph(), halves], boxes)
        assert np.allclose(found[1], want, atol=3)
        assert np.allclose(found[0], want[1])


def test_maps_are_averaged_and_pixels_normalized_by_the_settings(tmp_path):
    path = write(tmp_path / "b.onnx", {}, [helper.make_node("Identity", ["images"], ["map"])], ("n", 3, None, None))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0, 0, 0], "image_std": [1, 1, 1]}))
    backbone = OnnxBackbone(path)
    found = backbone([photograph()], [np.array([[0, 0, 1, 1]], np.float32)])[0]
    assert np.allclose(found, np.array([[90, 60, 30]]) / 255, atol=1e-6)
    (tmp_path / "preprocessor_config.json").unlink()
    assert OnnxBackbone(path).pixels == NAMED["imagenet"]


def test_files_without_the_right_model_are_refused(tmp_path):
    path = tmp_path / "a.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(InputError, match=r"a.onnx is not an ONNX model that can be run \(.*\)\.$"):
        OnnxModel(path, "cpu", 64)
    write(path, {"out": np.zeros((1, 5, 7))})
    with pytest.raises(InputError, match=r"returns out \[1, 5, 7\]: expected the outputs of a known detector"):
        OnnxDetector(path)
    write(path, {"output": yolox(False)})
    with pytest.raises(InputError, match="has 3 classes: expected a name for each, got 2"):
        OnnxDetector(path, ["man", "dog"])
    write(path, {"out": np.zeros((1, 2, 3, 4, 5))})
    with pytest.raises(InputError, match=r"returns out \[1, 2, 3, 4, 5\]: expected a vector for each image"):
        OnnxBackbone(path)
    write(path, {"out": np.zeros((1, 5))}, shape=(1, 9))
    with pytest.raises(InputError, match=r"reads images, tensor\(float\) \[1, 9\]: expected float images"):
        OnnxBackbone(path)
    write(path, {"out": np.zeros((1, 5))}, more=[("words", (1, 9))])
    with pytest.raises(InputError, match="also reads words: expected a model that reads only images"):
        OnnxBackbone(path)


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/real")
def test_a_real_detector_finds_annotated_objects():
    """Most large annotated objects of COCO's classes are detected with an IoU above 0.5."""
    detector = OnnxDetector(REAL / "models" / "yolox_nano_coco80.onnx")
    lines = (REAL / "pictures" / "manifest.jsonl").read_text("utf-8").splitlines()
    records = [json.loads(line) for line in lines[:30]]
    images = [Image.open(REAL / "pictures" / "images" / record["file"]).convert("RGB") for record in records]
    hit = large = 0
    for found, record in zip(detector(images), records, strict=True):
        for own in record["gt"]:
            x1, y1, x2, y2 = own["box"]
            if own["crowd"] or (x2 - x1) * (y2 - y1) < 0.1:
                continue
            large += 1
            alike = found.boxes[found.labels == detector.classes.index(own["label"])]
            low, high = np.maximum(alike[:, :2], [x1, y1]), np.minimum(alike[:, 2:], [x2, y2])
            shared = (high - low).clip(0).prod(1)
            union = (alike[:, 2:] - alike[:, :2]).prod(1) + (x2 - x1) * (y2 - y1) - shared
            hit += bool((shared / union > 0.5).any())
    assert large > 30
    assert hit / large > 0.6, (hit, large)


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/real")
def test_a_real_backbone_describes_every_region():
    backbone = OnnxBackbone(REAL / "models" / "mobilenet_v2_float.onnx", NAMED["raw"])
    regions = ComposedExtractor(None, backbone, num_regions=3)([photograph()])[0]
    assert regions.features.shape == (3, 1280)
    assert np.isfinite(regions.features).all()
