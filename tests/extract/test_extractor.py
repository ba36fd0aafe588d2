"""The selection of regions, windows, filtering of detections, crops, and features without weights."""

import numpy as np
import pytest
from PIL import Image

from regard.extract.colours import Colours
from regard.extract.extractor import (
    MAX_SAME_CLASS_IOU,
    ComposedExtractor,
    Detections,
    filter_detections,
    multi_scale_windows,
)
from regard.extract.pixels import NAMED, Pixels, crop_boxes, letterbox, stretch
from regard.files import InputError

WHOLE = [0, 0, 1, 1]


class FixedDetector:
    """A detector that always returns the same detections."""

    classes = ("none", "man", "dog")

    def __init__(self, *found: tuple[list[float], int, float]) -> None:
        boxes, labels, scores = zip(*found, strict=True) if found else ([], [], [])
        self.found = Detections(
            np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64), np.array(scores, np.float32)
        )

    def __call__(self, photographs):
        return [self.found] * len(photographs)


def grey(count: int = 1) -> list[Image.Image]:
    return [Image.new("RGB", (60, 40), (10 * number, 90, 90)) for number in range(count)]


def test_windows_are_within_the_image_and_from_coarse_to_fine():
    windows = multi_scale_windows()
    assert len(windows) == 5 + 9 + 16 + 25 + 36
    assert windows.min() >= 0
    assert windows.max() <= 1 + 1e-6
    sides = windows[:, 2] - windows[:, 0]
    assert (np.diff(sides) <= 1e-6).all()
    assert np.allclose(sides, windows[:, 3] - windows[:, 1])
    for side in (0.65, 0.42):  # each size covers the image
        own = windows[np.isclose(sides, side)]
        places = np.stack(np.meshgrid(np.linspace(0.01, 0.99, 30), np.linspace(0.01, 0.99, 30)), -1).reshape(-1, 2)
        assert all(((own[:, :2] <= place) & (place <= own[:, 2:])).all(1).any() for place in places)


def test_duplicates_weak_and_damaged_boxes_are_filtered():
    box, same, other = [0.1, 0.1, 0.5, 0.5], [0.1, 0.1, 0.5, 0.52], [0.6, 0.6, 1.4, 0.9]
    boxes = np.array([same, box, box, other, box, [np.nan, 0, 1, 1], [0.5, 0.5, 0.5, 0.9]], np.float32)
    found = filter_detections(
        boxes, np.array([1, 1, 2, 1, 1, 1, 1]), np.array([0.6, 0.9, 0.5, 0.4, 0.01, 0.9, 0.9], np.float32)
    )
    assert found.labels.tolist() == [1, 2, 1]
    assert np.allclose(found.boxes, [box, box, [0.6, 0.6, 1, 0.9]])
    assert np.allclose(found.scores, [0.9, 0.5, 0.4])


def test_duplicates_are_found_among_1600_classes():
    """With a large label too, an IoU just above the threshold is a duplicate, and one just below is not."""
    overlap = np.array([1.0, MAX_SAME_CLASS_IOU + 1e-4, MAX_SAME_CLASS_IOU - 1e-4])
    x = 0.3 + 0.2 * (1 - overlap) / (1 + overlap)
    boxes = np.stack([x, x * 0 + 0.3, x + 0.2, x * 0 + 0.5], 1).astype(np.float32)
    scores = np.array([0.9, 0.8, 0.7], np.float32)
    for label in range(1, 1601):
        found = filter_detections(boxes, np.full(3, label), scores)
        assert found.scores.tolist() == scores[[0, 2]].tolist(), label
    found = filter_detections(boxes, np.array([1599, 1600, 1599]), scores)
    assert found.labels.tolist() == [1599, 1600, 1599]


def test_the_order_of_regions():
    likely, unlikely = [0.0, 0.0, 0.2, 0.3], [0.5, 0.5, 0.62, 0.6]
    found = FixedDetector((unlikely, 2, 0.1), (likely, 1, 0.8), ([0, 0, 0.21, 0.3], 1, 0.7))  # the last is a duplicate
    regions = ComposedExtractor(found, Colours(), num_regions=40)(grey())[0]
    assert regions.features.shape == (40, Colours.dim)
    assert regions.boxes[0].tolist() == WHOLE
    assert np.allclose(regions.boxes[1], likely)
    assert np.allclose(regions.boxes[2:16], multi_scale_windows()[:14])
    assert np.allclose(regions.boxes[16], unlikely)
    assert regions.labels[[0, 1, 2, 16]].tolist() == [0, 1, 0, 2]
    assert np.allclose(regions.scores[[0, 1, 2, 16]], [0, 0.8, 0, 0.1])


def test_without_detections_the_whole_image_is_the_only_region():
    regions = ComposedExtractor(FixedDetector(), Colours(), windows=False)(grey(2))
    assert [found.boxes.tolist() for found in regions] == [[WHOLE], [WHOLE]]
    assert not np.array_equal(regions[0].features, regions[1].features)


@pytest.mark.parametrize("count", [1, 5, 36, 100])
def test_the_number_of_regions(count):
    many = FixedDetector(*(([x / 40, 0.0, x / 40 + 0.02, 0.3], 1, 0.9 - x / 100) for x in range(39)))
    for detector in (None, many):
        extractor = ComposedExtractor(detector, Colours(), num_regions=count)
        regions = extractor(grey())[0]
        assert len(regions.boxes) == min(count, 1 + 91 + (39 if detector else 0))
        assert (regions.labels > 0).sum() <= max(1, 7 * count // 10)
    assert extractor.classes == ("none", "man", "dog")


@pytest.mark.parametrize(
    "wrong", [{"num_regions": 0}, {"num_regions": 101}, {"confidence_threshold": 0.0}, {"overlap_threshold": 1.5}]
)
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(InputError, match=rf"{next(iter(wrong.values()))}: expected"):
        ComposedExtractor(None, Colours(), **wrong)


def test_colours_distinguish_colours_and_edges():
    def features(image: Image.Image) -> np.ndarray:
        return Colours()([image], [np.array([WHOLE], np.float32)])[0][0]

    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::4] = 255
    images = {
        "red": Image.new("RGB", (30, 30), (200, 20, 20)),
        "light red": Image.new("RGB", (30, 30), (220, 20, 20)),
        "green": Image.new("RGB", (30, 30), (20, 200, 20)),
        "down": Image.fromarray(stripes),
        "across": Image.fromarray(stripes.transpose(1, 0, 2)),
    }
    vectors = {name: features(image) for name, image in images.items()}
    assert all(vector.shape == (Colours.dim,) and np.isfinite(vector).all() for vector in vectors.values())

    def distance(one: str, other: str) -> float:
        return float(np.linalg.norm(vectors[one] - vectors[other]))

    assert distance("red", "light red") < 0.5 * distance("red", "green")
    assert distance("down", "across") > 0.5


def test_crops_are_the_parts_of_the_photograph():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    boxes = np.array([[0, 0, 1, 1], [0.25, 0.5, 0.5, 1], [0.5, 0.5, 0.5, 0.5], [-0.5, 0.9, 2, 1.5]], np.float32)
    found = crop_boxes(Image.fromarray(pixels), boxes, 60, 40)
    assert found.shape == (4, 3, 40, 60)
    assert np.array_equal(found[0], pixels.transpose(2, 0, 1))
    quarter = Image.fromarray(pixels[20:40, 15:30]).resize((60, 40), Image.Resampling.BILINEAR)
    inner = np.s_[:, 2:-2, 3:-3]  # at its edges a crop's neighbours count too
    assert np.abs(found[1] - np.asarray(quarter).transpose(2, 0, 1))[inner].max() <= 1
    assert np.abs(found[2][:, 20, 30] - pixels[20, 30]).max() <= 4  # a pixel at least
    assert np.array_equal(stretch(Image.fromarray(pixels), 60, 40), found[0])


def test_a_letterbox_keeps_the_aspect_ratio():
    photograph = Image.new("RGB", (80, 20), (200, 0, 0))
    pixels, scale = letterbox(photograph, 40, 40)
    assert scale == 0.5
    assert (pixels[:, :10] == np.array([200, 0, 0])[:, None, None]).all()
    assert (pixels[:, 10:] == 114).all()


def test_normalization_of_pixels():
    grey = np.full((3, 2, 2), 127.5, np.float32)
    assert np.allclose(NAMED["symmetric"](grey), 0)
    assert np.allclose(NAMED["unit"](grey), 0.5)
    channels = np.arange(3, dtype=np.float32).reshape(3, 1, 1)
    assert Pixels(bgr=True)(channels).ravel().tolist() == [2, 1, 0]
    pixels = Pixels.of_config({"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "rescale_factor": 1 / 255})
    assert np.allclose(pixels(grey), 0)
    assert np.allclose(Pixels.of_config({"do_normalize": False})(grey), 0.5)
    with pytest.raises(InputError, match=r"--pixels 'imagnet' is not known. Did you mean 'imagenet'?"):
        Pixels.named("imagnet")


def test_a_detection_that_fills_the_image_keeps_its_label():
    regions = ComposedExtractor(FixedDetector(([0, 0.05, 1, 1], 1, 0.9)), Colours(), windows=False)(grey())[0]
    assert regions.labels.tolist() == [0, 1]


def test_detections_with_high_scores_come_first():
    many = [([x / 40, 0.0, x / 40 + 0.02, 0.3], 1, 0.9) for x in range(34)]
    weak = [([x / 40, 0.5, x / 40 + 0.02, 0.8], 2, 0.06) for x in range(30)]
    regions = ComposedExtractor(FixedDetector(*weak, *many), Colours(), windows=False)(grey())[0]
    assert regions.labels.tolist() == [0] + [1] * 34 + [2]
