"""Transformers detectors and backbones: small models with random weights, saved and loaded from their folders."""

import warnings
from collections import Counter

import numpy as np
import pytest
import torch
import transformers as tf
from PIL import Image

from regard.extract.extractor import ComposedExtractor
from regard.extract.huggingface import HubBackbone, HubDetector, HubModel, pool_regions
from regard.files import InputError
from regard.runtime import default_precision

CLASSES = ["man", "red hat", "dog"]
SIZE = {"height": 64, "width": 64}
RESNET = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1] * 4, "layer_type": "basic"}
SMALL = {"encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
         "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "num_queries": 6}  # fmt: skip
TRANSFORMER = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
STAGES = ["stage2", "stage3", "stage4"]
pytestmark = pytest.mark.filterwarnings("ignore")  # of transformers, which differ between versions


def photographs() -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (50, side, 3), dtype=np.uint8)) for side in (80, 40)]


def detr() -> list:
    config = tf.DetrConfig(use_timm_backbone=False, backbone=None, d_model=16, num_labels=3, **SMALL,
                           backbone_config=tf.ResNetConfig(**RESNET, out_features=["stage4"]))  # fmt: skip
    return [tf.DetrForObjectDetection(config), tf.DetrImageProcessorPil(size=SIZE)]


def deformable_detr() -> list:
    config = tf.DeformableDetrConfig(use_timm_backbone=False, backbone=None, d_model=32, num_labels=3, **SMALL,
                                     backbone_config=tf.ResNetConfig(**RESNET, out_features=STAGES),
                                     num_feature_levels=3)  # fmt: skip
    return [tf.DeformableDetrForObjectDetection(config), tf.DeformableDetrImageProcessorPil(size=SIZE)]


def rt_detr() -> list:
    config = tf.RTDetrConfig(backbone_config=tf.RTDetrResNetConfig(**RESNET, out_features=STAGES), num_queries=6,
                             encoder_hidden_dim=16, encoder_in_channels=[8, 16, 16], d_model=16, encoder_layers=1,
                             encoder_ffn_dim=16, encoder_attention_heads=2, decoder_in_channels=[16] * 3,
                             decoder_layers=1, decoder_ffn_dim=16, decoder_attention_heads=2, num_denoising=0,
                             num_labels=3)  # fmt: skip
    return [tf.RTDetrForObjectDetection(config), tf.RTDetrImageProcessorPil(size=SIZE)]


def grounding_dino() -> list:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?", "man", "dog", "red", "hat"]
    tokenizer = tf.BertTokenizerFast(vocab={word: number for number, word in enumerate(words)})
    seen = tf.SwinConfig(image_size=64, patch_size=4, embed_dim=8, depths=[1] * 4, num_heads=[1, 1, 2, 2],
                         window_size=2, out_features=STAGES)  # fmt: skip
    read = tf.BertConfig(vocab_size=len(words), max_position_embeddings=32, **TRANSFORMER)
    config = tf.GroundingDinoConfig(backbone_config=seen, text_config=read, d_model=32, num_feature_levels=3,
                                    max_text_len=32, **SMALL)  # fmt: skip
    processor = tf.GroundingDinoProcessor(tf.GroundingDinoImageProcessorPil(size=SIZE), tokenizer)
    return [tf.GroundingDinoForObjectDetection(config), processor]


def owlv2() -> list:
    letters = "abcdefghijklmnopqrstuvwxyz"
    names = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = tf.CLIPTokenizerFast(vocab={name: number for number, name in enumerate(names)}, merges=[])
    read = {"vocab_size": len(names), "max_position_embeddings": 16, "bos_token_id": 52, "eos_token_id": 53,
            "pad_token_id": 0, **TRANSFORMER}  # fmt: skip
    seen = {"image_size": 64, "patch_size": 16, **TRANSFORMER}
    model = tf.Owlv2ForObjectDetection(tf.Owlv2Config(text_config=read, vision_config=seen, projection_dim=16))
    torch.nn.init.constant_(model.class_head.logit_shift.bias, 0.0)
    return [model, tf.Owlv2Processor(tf.Owlv2ImageProcessorPil(size=SIZE), tokenizer)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return a function that returns the folder of a model, which is made on first use."""
    made: dict[str, str] = {}

    def save(name: str) -> str:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            torch.manual_seed(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for part in globals()[name]():
                    part.save_pretrained(folder)
            made[name] = str(folder)
        return made[name]

    return save


def corners(boxes: torch.Tensor) -> np.ndarray:
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], -1).clamp(0, 1).detach().numpy()


@pytest.mark.parametrize("name", ["detr", "deformable_detr", "rt_detr"])
def test_the_best_detection_is_that_of_the_model(saved, name):
    detector = HubDetector(saved(name), CLASSES)
    found = detector(photographs())
    model = tf.AutoModelForObjectDetection.from_pretrained(saved(name)).eval()
    processor = tf.AutoImageProcessor.from_pretrained(saved(name))
    with torch.no_grad():
        outputs = model(**processor(images=photographs(), return_tensors="pt"))
    scores = outputs.logits.softmax(-1)[..., :-1] if name == "detr" else outputs.logits.sigmoid()
    for own, score, boxes in zip(found, scores, outputs.pred_boxes, strict=True):
        query, label = divmod(int(score.argmax()), score.shape[-1])
        assert np.allclose(own.scores[0], score.max(), atol=1e-5)
        assert own.labels[0] == label + 1
        assert np.allclose(own.boxes[0], corners(boxes[query]), atol=1e-5)
    assert detector.classes == ("none", *CLASSES)
    assert HubDetector(saved(name)).classes == ("none", "LABEL_0", "LABEL_1", "LABEL_2")


def test_grounding_dino_scores_each_class_by_its_tokens(saved):
    detector = HubDetector(saved("grounding_dino"), CLASSES)
    found = detector(photographs())
    model, processor = detector.model.model, detector.processor
    with torch.no_grad():
        inputs = processor(images=photographs(), text=["man. red hat. dog."] * 2, return_tensors="pt")
        outputs = model(**inputs)
    words = processor.tokenizer.convert_ids_to_tokens(inputs.input_ids[0])
    assert words == ["[CLS]", "man", ".", "red", "hat", ".", "dog", ".", "[SEP]"]
    spans = {1: [1, 2], 2: [3, 4, 5], 3: [6, 7]}
    for own, logits, boxes in zip(found, outputs.logits, outputs.pred_boxes, strict=True):
        best = max(
            (float(logits[query, tokens].sigmoid().max()), label, query)
            for query in range(6)
            for label, tokens in spans.items()
        )
        assert np.allclose(own.scores[0], best[0], atol=1e-5)
        assert own.labels[0] == best[1]
        assert np.allclose(own.boxes[0], corners(boxes[best[2]]), atol=1e-5)


def test_owlv2_reads_the_photograph_in_the_corner_of_a_square(saved):
    detector = HubDetector(saved("owlv2"), CLASSES)
    wide, high = detector(photographs())
    assert min(len(wide.boxes), len(high.boxes)) > 0
    assert set(wide.labels) <= {1, 2, 3}
    square = Image.new("RGB", (80, 80), (114, 114, 114))
    square.paste(photographs()[0])
    whole = detector([square])[0]  # the same pixels, of which the photograph fills five eighths
    assert np.abs(whole.scores[0] - wide.scores[0]) < 1e-3
    stretched = (whole.boxes * [1, 1.6, 1, 1.6]).clip(0, 1)
    for box in wide.boxes:
        assert np.abs(stretched - box).max(1).min() < 0.06
    assert (wide.boxes[:, 3] > 0.7).any()  # so that to be stretched makes a difference


def test_a_detector_makes_regions(saved):
    regions = ComposedExtractor(HubDetector(saved("rt_detr")), HubBackbone(saved("dinov2"), "map"), num_regions=9)(
        photographs()
    )
    assert [own.features.shape for own in regions] == [(9, 16), (9, 16)]
    assert (regions[0].labels > 0).any()


def test_wrong_numbers_of_classes_are_refused(saved):
    with pytest.raises(InputError, match=r"needs the classes to look for: pass --classes FILE"):
        HubDetector(saved("owlv2"))
    with pytest.raises(InputError, match=r"has 3 classes: expected a name for each, got 2"):
        HubDetector(saved("detr"), ["man", "dog"])
    with pytest.raises(InputError, match=r"The names of the 30 classes are 62 tokens: expected at most 32. Pass fewer"):
        HubDetector(saved("grounding_dino"), ["dog"] * 30)(photographs())


def dinov2() -> list:
    config = tf.Dinov2Config(image_size=56, patch_size=14, **TRANSFORMER)
    size = {"crop_size": {"height": 28, "width": 28}, "size": {"shortest_edge": 32}}
    return [tf.Dinov2Model(config), tf.BitImageProcessorPil(**size)]


def dinov3() -> list:
    config = tf.DINOv3ViTConfig(image_size=32, patch_size=16, num_register_tokens=4, **TRANSFORMER)
    return [tf.DINOv3ViTModel(config), tf.ViTImageProcessorPil(size={"height": 32, "width": 32})]


def clip() -> list:
    read = {"vocab_size": 20, "bos_token_id": 1, "eos_token_id": 2, **TRANSFORMER}
    config = tf.CLIPConfig(vision_config={"image_size": 32, "patch_size": 16, **TRANSFORMER}, text_config=read)
    processor = tf.CLIPImageProcessorPil(crop_size={"height": 32, "width": 32}, size={"shortest_edge": 32})
    return [tf.CLIPModel(config), processor]


def siglip() -> list:
    read = {"vocab_size": 20, "bos_token_id": 1, "eos_token_id": 2, **TRANSFORMER}
    config = tf.SiglipConfig(vision_config={"image_size": 32, "patch_size": 16, **TRANSFORMER}, text_config=read)
    return [tf.SiglipModel(config), tf.SiglipImageProcessorPil(size={"height": 32, "width": 32})]


def convnext() -> list:
    config = tf.ConvNextConfig(hidden_sizes=[8, 8, 8, 16], depths=[1] * 4, image_size=64)
    return [tf.ConvNextModel(config), tf.ConvNextImageProcessorPil(size={"shortest_edge": 64})]


def swin() -> list:
    config = tf.SwinConfig(image_size=64, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=2)
    return [tf.SwinModel(config), tf.ViTImageProcessorPil(size=SIZE)]


BACKBONES = {"dinov2": (28, 2), "dinov3": (32, 2), "clip": (32, 2), "siglip": (32, 2), "convnext": (64, 2),
             "swin": (64, 8)}  # fmt: skip


@pytest.mark.parametrize("name", BACKBONES)
def test_a_crop_is_described_like_an_image(saved, name):
    backbone = HubBackbone(saved(name))
    assert (backbone.width, backbone.height, backbone.dim) == (BACKBONES[name][0],) * 2 + (16,)
    left, whole = np.array([[0, 0, 0.5, 1]], np.float32), np.array([[0, 0, 1, 1]], np.float32)
    photograph = photographs()[0]
    found = backbone([photograph, photograph.crop((0, 0, 40, 50))], [np.concatenate([left, whole]), whole])
    assert found[0].shape == (2, 16)
    assert not np.allclose(found[0][0], found[0][1], atol=1e-3)
    assert np.abs(found[0][0] - found[1][0]).max() < 0.2 * np.abs(found[1][0]).max() + 0.05


@pytest.mark.parametrize("name", BACKBONES)
def test_the_feature_map_is_that_of_the_model(saved, name):
    backbone = HubBackbone(saved(name), "map")
    side, cells = BACKBONES[name]
    pictures = np.random.default_rng(0).normal(size=(2, 3, side, side)).astype(np.float32)
    with torch.no_grad():
        maps = backbone._feature_maps(pictures)
        states = backbone.model.model(pixel_values=torch.from_numpy(pictures)).last_hidden_state
    assert maps.shape == (2, 16, cells, cells)
    if states.ndim == 3:  # patches are the last tokens, row by row
        last = states[:, -cells * cells :]
        assert torch.equal(maps[1, :, 0, cells - 1], last[1, cells - 1])
        assert torch.equal(maps[1, :, cells - 1, 0], last[1, -cells])
    whole = np.array([[0, 0, 1, 1]], np.float32)
    assert [own.shape for own in backbone(photographs(), [whole, whole])] == [(1, 16), (1, 16)]


def test_pooling_equals_a_plain_loop():
    maps = torch.randn(2, 3, 5, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    boxes = np.array([[0, 0, 1, 1], [0.2, 0.1, 0.5, 0.9], [0.7, 0.7, 0.7, 0.7], [0.9, 0.0, 1.0, 0.05]])
    boxes = np.stack([boxes, boxes[::-1] / 2])
    found = pool_regions(maps, torch.from_numpy(boxes), points=4)

    def value(map_: torch.Tensor, x: float, y: float) -> torch.Tensor:
        """Between the centres of cells; beyond the outermost, those."""
        column, row = min(max(x * 8 - 0.5, 0), 7), min(max(y * 5 - 0.5, 0), 4)
        left, top = min(int(column), 6), min(int(row), 3)
        right, down = column - left, row - top
        upper = (1 - right) * map_[:, top, left] + right * map_[:, top, left + 1]
        lower = (1 - right) * map_[:, top + 1, left] + right * map_[:, top + 1, left + 1]
        return (1 - down) * upper + down * lower

    for item in range(2):
        for box, own in zip(boxes[item], found[item], strict=True):
            x1, y1, x2, y2 = box
            steps = [(step + 0.5) / 4 for step in range(4)]
            places = [value(maps[item], x1 + a * (x2 - x1), y1 + b * (y2 - y1)) for a in steps for b in steps]
            assert torch.allclose(own, torch.stack(places).mean(0), atol=1e-9)


@pytest.fixture
def traffic(monkeypatch):
    """Count copies to the CPU, and passes of the model. On a CPU, `cpu()` copies nothing and is only counted."""
    counts = Counter()

    def counted(owner: type, name: str) -> None:
        method = getattr(owner, name)

        def count(*given, **named):
            counts[name] += 1
            return method(*given, **named)

        monkeypatch.setattr(owner, name, count)

    counted(torch.Tensor, "cpu")
    counted(HubModel, "__call__")
    return counts


def three() -> list[Image.Image]:
    """Of one shape, so that a batch is not padded: padding changes what DETR returns."""
    random = np.random.default_rng(1)
    return [Image.fromarray(random.integers(0, 256, (48, 64, 3), dtype=np.uint8)) for _ in range(3)]


@pytest.mark.parametrize("name", ["detr", "deformable_detr", "rt_detr", "grounding_dino", "owlv2"])
def test_photographs_are_detected_in_one_pass_and_one_copy(saved, name, traffic):
    detector = HubDetector(saved(name), CLASSES)
    found = detector(three())
    assert traffic == {"cpu": 1, "__call__": 1}
    for own, photograph in zip(found, three(), strict=True):
        (single,) = detector([photograph])
        assert len(own.boxes) > 0
        assert np.allclose(own.boxes, single.boxes, atol=1e-4)
        assert np.array_equal(own.labels, single.labels)
        assert np.allclose(own.scores, single.scores, atol=1e-5)


@pytest.mark.parametrize("pool", ["crop", "map"])
def test_regions_are_described_in_few_passes_and_one_copy(saved, pool, traffic):
    backbone = HubBackbone(saved("dinov2"), pool)
    traffic.clear()
    corners = np.sort(np.random.default_rng(2).random((40, 2, 2)), 1).reshape(40, 4).astype(np.float32)
    boxes = [corners[:1], corners[1:38], corners[38:]]
    found = backbone(three(), boxes)
    assert traffic == {"cpu": 1, "__call__": 1 if pool == "map" else 2}  # 40 crops are two passes
    for own, photograph, its_boxes in zip(found, three(), boxes, strict=True):
        assert own.shape == (len(its_boxes), 16)
        assert np.allclose(own, backbone([photograph], [its_boxes])[0], atol=1e-5)


@pytest.mark.parametrize("name", ["detr", "deformable_detr", "rt_detr", "grounding_dino", "owlv2"])
def test_in_bfloat16_boxes_and_scores_are_predicted_in_float32(saved, name, monkeypatch):
    dtypes = set()
    plain = HubModel.__call__

    def call(model, **inputs):
        outputs = plain(model, **inputs)
        dtypes.update({outputs.logits.dtype, outputs.pred_boxes.dtype})
        return outputs

    monkeypatch.setattr(HubModel, "__call__", call)
    exact = HubDetector(saved(name), CLASSES)
    narrow = HubDetector(saved(name), CLASSES, precision="bfloat16")
    assert (exact.model.precision, narrow.model.precision) == ("float32", "bfloat16")
    pairs = zip(exact(three()), narrow(three()), strict=True)
    assert dtypes == {torch.float32}
    for wanted, found in pairs:
        assert np.allclose(found.boxes[0], wanted.boxes[0], atol=0.02)
        assert np.allclose(found.scores[0], wanted.scores[0], atol=0.02)
        same = [np.array_equal(getattr(found, part)[0], getattr(wanted, part)[0]) for part in ("boxes", "scores")]
        assert not all(same)  # the other layers are narrow


@pytest.mark.parametrize("pool", ["crop", "map"])
@pytest.mark.parametrize("name", BACKBONES)
def test_in_bfloat16_features_are_near_those_in_float32(saved, name, pool):
    boxes = [np.array([[0, 0, 1, 1], [0.2, 0.1, 0.7, 0.9]], np.float32)] * 3
    wanted, found = (HubBackbone(saved(name), pool, "cpu", own)(three(), boxes) for own in ("float32", "bfloat16"))
    for one, other in zip(wanted, found, strict=True):
        assert other.dtype == np.float32
        assert 0 < np.abs(one - other).max() < 0.05 * np.abs(one).max()


def test_bfloat16_is_the_default_on_cuda_only():
    assert [default_precision(device) for device in ("cpu", "cuda", "cuda:1")] == ["float32", "bfloat16", "bfloat16"]


def test_weights_in_float16_are_read_as_float32(saved, tmp_path):
    tf.AutoModel.from_pretrained(saved("dinov2")).half().save_pretrained(tmp_path)
    dinov2()[1].save_pretrained(tmp_path)
    backbone = HubBackbone(str(tmp_path))
    assert {values.dtype for values in backbone.model.model.parameters()} == {torch.float32}
    assert np.isfinite(backbone(three()[:1], [np.array([[0, 0, 1, 1]], np.float32)])[0]).all()


def test_folders_without_the_right_model_are_refused(saved, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match=r"is not a complete model .*: expected a detector's config"):
        HubDetector(str(tmp_path))
    with pytest.raises(InputError, match=r"dinov2.* is not a complete model .*: expected a detector's config"):
        HubDetector(saved("dinov2"))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"is not a complete model .*: expected a vision model's config"):
        HubBackbone(str(tmp_path))
