"""Detectors and backbones of the transformers package, by name on the Hugging Face hub or from a local folder.

A backbone describes crops (each region is an image of its own), or pools each region from one feature map of the whole
photograph. The latter takes one pass per photograph, and a region's features depend on its surroundings too.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn.functional import grid_sample

from regard.boxes import to_corners
from regard.extract.extractor import MIN_SCORE, Detections, filter_detections
from regard.extract.pixels import Pixels, crop_boxes, letterbox, stretch
from regard.files import InputError
from regard.pretrained import transformers_for

GROUNDING_DINO, OWL = (
    ("grounding-dino", "mm-grounding-dino"),
    ("owlvit", "owlv2"),
)  # open-vocabulary detectors, by `model_type`
DETECTOR = "a detector's config, its image processor and model.safetensors"
BACKBONE = "a vision model's config, its image processor and model.safetensors"
POINTS = 7  # sampled along each side of a region
BATCH = 32  # crops per forward pass

Pool = Literal["crop", "map"]


class HubDetector:
    """A transformers detector: DETR, RT-DETR, Deformable DETR and similar models, or an open-vocabulary detector
    (Grounding DINO, OWL-ViT, OWLv2), which looks for `classes`.

    For other detectors, `classes` replace the names of the model's classes. Raises InputError if `name` is not a
    detector, if an open-vocabulary detector has no `classes`, or if the number of `classes` is not that of the model.
    """

    def __init__(self, name: str, classes: Sequence[str] = (), device: str = "cpu") -> None:
        with transformers_for(name, "vision", DETECTOR) as transformers:
            config = transformers.AutoConfig.from_pretrained(name)
            self.kind, self.device = config.model_type, device
            is_open = self.kind in GROUNDING_DINO + OWL
            own = [config.id2label[number] for number in sorted(config.id2label)]
            if is_open and not classes:
                raise InputError(
                    f"{name} needs the classes to look for: pass --classes FILE, a text file with one name per line."
                )
            if not is_open and classes and len(classes) != len(own):
                raise InputError(f"{name} has {len(own)} classes: expected a name for each, got {len(classes)}.")
            self.classes = ("none", *(classes or own))
            model = "AutoModelForZeroShotObjectDetection" if is_open else "AutoModelForObjectDetection"
            self.model = getattr(transformers, model).from_pretrained(name).to(device).eval()
            processor = transformers.AutoProcessor if is_open else transformers.AutoImageProcessor
            self.processor = processor.from_pretrained(name)

    @torch.inference_mode()
    def __call__(self, photographs: Sequence[Image.Image]) -> list[Detections]:
        images = list(photographs)
        if self.kind in OWL:
            return self._detect_with_owl(images)
        if self.kind in GROUNDING_DINO:
            return self._detect_with_grounding_dino(images)
        inputs = self.processor(images=images, return_tensors="pt").to(self.device)
        sizes = [(image.height, image.width) for image in images]
        outputs = self.model(**inputs)
        candidates = self.processor.post_process_object_detection(outputs, threshold=MIN_SCORE, target_sizes=sizes)
        return [
            filter_detections(
                _to_numpy(own["boxes"]) / np.array([width, height] * 2, np.float32),
                _to_numpy(own["labels"]) + 1,
                _to_numpy(own["scores"]),
            )
            for own, (height, width) in zip(candidates, sizes, strict=True)
        ]

    def _detect_with_owl(self, images: list[Image.Image]) -> list[Detections]:
        """Detect with OWL-ViT or OWLv2. Each class is a text. OWLv2 reads the photograph in the corner of a square."""
        size = self.processor.image_processor.size
        width, height = size["width"], size["height"]
        pixels = Pixels.of_config(self.processor.image_processor.to_dict())
        boxed = [letterbox(image, width, height) if self.kind == "owlv2" else None for image in images]
        arrays = [box[0] if box else stretch(image, width, height) for box, image in zip(boxed, images, strict=True)]
        texts = self.processor.tokenizer(list(self.classes[1:]) * len(images), padding=True, return_tensors="pt")
        pictures = torch.from_numpy(pixels(np.stack(arrays)))
        outputs = self.model(**texts.to(self.device), pixel_values=pictures.to(self.device))
        extents = [
            (image.width * box[1] / width, image.height * box[1] / height) if box else (1.0, 1.0)
            for box, image in zip(boxed, images, strict=True)
        ]
        return _decode(_to_numpy(outputs.pred_boxes), _to_numpy(outputs.logits.sigmoid()), extents)

    def _detect_with_grounding_dino(self, images: list[Image.Image]) -> list[Detections]:
        """Detect with Grounding DINO. All classes are one text. The score of a class is the maximum over its tokens."""
        prompt, ends = "", []
        for name in self.classes[1:]:
            prompt += f"{name.lower()}. "
            ends.append(len(prompt))
        tokens = self.processor.tokenizer(prompt, return_offsets_mapping=True)["offset_mapping"]
        limit = min(self.model.config.max_text_len, self.model.config.text_config.max_position_embeddings)
        if len(tokens) > limit:
            raise InputError(
                f"The names of the {len(ends)} classes are {len(tokens)} tokens: expected at most {limit}. Pass fewer "
                f"classes."
            )
        class_of = np.array([np.searchsorted(ends, first, "right") if last > first else -1 for first, last in tokens])
        inputs = self.processor(images=images, text=[prompt] * len(images), return_tensors="pt").to(self.device)
        outputs = self.model(**inputs)
        token_scores = _to_numpy(outputs.logits[..., : len(tokens)].sigmoid())
        scores = [token_scores[..., class_of == label].max(-1, initial=0) for label in range(len(ends))]
        return _decode(_to_numpy(outputs.pred_boxes), np.stack(scores, -1), [(1.0, 1.0)] * len(images))


def _decode(
    boxes: Float[np.ndarray, "item query 4"],
    scores: Float[np.ndarray, "item query class"],
    extents: Sequence[tuple[float, float]],
) -> list[Detections]:
    """Detections from boxes (centres and sizes as fractions of the input) and scores.

    `extents` are the width and height of each photograph as fractions of the input.
    """
    return [
        filter_detections(own / np.array(extent * 2, np.float32), each.argmax(-1) + 1, each.max(-1))
        for own, each, extent in zip(to_corners(boxes), scores, extents, strict=True)
    ]


class HubBackbone:
    """A transformers vision model: DINOv2 and v3, SigLIP, CLIP, ConvNeXt, ViT, Swin, ResNet, or a timm model by name.

    With pool "crop", a region is described by the model's pooled vector of its crop. With pool "map", the model reads
    the whole photograph once, and a region is described by the mean of 7 x 7 points of the feature map (RoIAlign, He et
    al. 2017). Photographs and crops are stretched to the size that the model was trained with. Raises InputError if
    `name` is not a vision model.
    """

    def __init__(self, name: str, pool: Pool = "crop", device: str = "cpu") -> None:
        self.pool, self.device = pool, device
        with transformers_for(name, "vision", BACKBONE) as transformers:
            model = transformers.AutoModel.from_pretrained(name)
            # Only the settings are read, because the image processor itself may need torchvision.
            settings, _ = transformers.BaseImageProcessor.get_image_processor_dict(name)
        model = getattr(model, "vision_model", model)  # the image encoder of CLIP and SigLIP
        self.pixels = Pixels.of_config(settings)
        self.width, self.height = _input_size(model.config, settings)
        self.model = model.to(device).eval()
        blank = np.zeros((1, 3, self.height, self.width), np.float32)
        self.dim = (self._pooled_vectors(blank) if pool == "crop" else self._feature_maps(blank)).shape[1]

    @torch.inference_mode()
    def __call__(
        self, photographs: Sequence[Image.Image], boxes: Sequence[Float[np.ndarray, "_ 4"]]
    ) -> list[Float[np.ndarray, "_ feature"]]:
        size = self.width, self.height
        if self.pool == "map":
            pictures = np.stack([stretch(photograph, *size) for photograph in photographs])
            maps = self._feature_maps(self.pixels(pictures))
            return [_to_numpy(pool_regions(map_, own)) for map_, own in zip(maps, boxes, strict=True)]
        pictures = np.concatenate(
            [crop_boxes(photograph, own, *size) for photograph, own in zip(photographs, boxes, strict=True)]
        )
        vectors = [
            _to_numpy(self._pooled_vectors(self.pixels(pictures[start : start + BATCH])))
            for start in range(0, len(pictures), BATCH)
        ]
        return np.split(np.concatenate(vectors), np.cumsum([len(own) for own in boxes])[:-1])

    def _pooled_vectors(self, pictures: Float[np.ndarray, "item 3 y x"]) -> Float[Tensor, "item feature"]:
        outputs = self.model(pixel_values=torch.from_numpy(np.ascontiguousarray(pictures)).to(self.device))
        vectors = getattr(outputs, "pooler_output", None)
        if vectors is not None:
            return vectors.flatten(1)
        states = outputs.last_hidden_state
        return states.mean((2, 3)) if states.ndim == 4 else states[:, 0]

    def _feature_maps(self, pictures: Float[np.ndarray, "item 3 y x"]) -> Float[Tensor, "item feature row column"]:
        """The last feature map. For a transformer, its patch tokens as a grid, without the tokens before them."""
        outputs = self.model(pixel_values=torch.from_numpy(np.ascontiguousarray(pictures)).to(self.device))
        states = outputs.last_hidden_state
        if states.ndim == 4:
            return states
        patch = getattr(self.model.config, "patch_size", None)
        across, down = (self.width // patch, self.height // patch) if isinstance(patch, int) else (0, 0)
        if not 0 < across * down <= states.shape[1]:  # a grid of another size, which is square (Swin)
            across = down = int(states.shape[1] ** 0.5)
        patches = states[:, states.shape[1] - across * down :]
        return patches.transpose(1, 2).unflatten(2, (down, across))


def pool_regions(
    map_: Float[Tensor, "feature row column"], boxes: Float[np.ndarray, "region 4"], points: int = POINTS
) -> Float[Tensor, "region feature"]:
    """Return the mean of points x points samples of a map within each box, with bilinear interpolation.

    Boxes are x1 y1 x2 y2 as fractions of the map.
    """
    low, high = torch.from_numpy(boxes).to(map_).unflatten(1, (2, 2)).unbind(1)
    steps = (torch.arange(points, device=map_.device, dtype=map_.dtype) + 0.5) / points
    positions = (low[:, None] + steps[:, None] * (high - low)[:, None]) * 2 - 1  # [region, point, x y], from -1 to 1
    x, y = positions[:, None, :, 0].expand(-1, points, -1), positions[:, :, None, 1].expand(-1, -1, points)
    samples = grid_sample(
        map_[None], torch.stack([x, y], -1).flatten(0, 1)[None], padding_mode="border", align_corners=False
    )
    return samples[0].unflatten(1, (len(boxes), points)).mean((2, 3)).T


def _input_size(config: Any, settings: dict[str, Any]) -> tuple[int, int]:
    """Width and height of the model's input: those of its image processor or of its config, or 224."""
    image_size = getattr(config, "image_size", None)
    processor_size = settings.get("crop_size") or settings.get("size") or {}
    if isinstance(image_size, list | tuple):
        return int(image_size[-1]), int(image_size[0])
    side = image_size or processor_size.get("shortest_edge") or 224
    return int(processor_size.get("width", side)), int(processor_size.get("height", side))


def _to_numpy(values: Tensor) -> np.ndarray:
    return values.float().cpu().numpy() if values.is_floating_point() else values.cpu().numpy()
