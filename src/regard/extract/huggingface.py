"""Detectors and backbones of transformers, by a name on the Hugging Face hub or from a local folder.

Backbones describe crops (each region is a picture of its own), or pool each region from one map of the whole
photograph, which costs one pass a photograph and sees a region's surroundings.
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
from regard.extract.extractor import WEAK, Detections, suppressed
from regard.extract.pixels import Pixels, crops, letterboxed, squashed
from regard.files import InputError
from regard.pretrained import transformers_for

GROUNDED, OWL = ("grounding-dino", "mm-grounding-dino"), ("owlvit", "owlv2")  # find what they are told to look for
DETECTOR = "a detector's config, its image processor and model.safetensors"
BACKBONE = "a vision model's config, its image processor and model.safetensors"
POINTS = 7  # sampled along each side of a region
BATCH = 32  # pictures described at once

Pool = Literal["crop", "map"]


class HubDetector:
    """A detector of transformers: DETR, RT-DETR, Deformable DETR and their kin, or one that looks for named classes
    (Grounding DINO, OWLv2). Raises InputError if `name` is none, or where `classes` are wanted and not given.
    """

    def __init__(self, name: str, classes: Sequence[str] = (), device: str = "cpu") -> None:
        with transformers_for(name, "vision", DETECTOR) as transformers:
            config = transformers.AutoConfig.from_pretrained(name)
            self.kind, self.device = config.model_type, device
            named = self.kind in GROUNDED + OWL
            own = [config.id2label[number] for number in sorted(config.id2label)]
            if named and not classes:
                raise InputError(f"{name} finds what it is told to look for: give --classes FILE, a name a line.")
            if not named and classes and len(classes) != len(own):
                raise InputError(f"{name} tells {len(own)} classes apart, and {len(classes)} are named.")
            self.classes = ("none", *(classes or own))
            model = "AutoModelForZeroShotObjectDetection" if named else "AutoModelForObjectDetection"
            self.model = getattr(transformers, model).from_pretrained(name).to(device).eval()
            processor = transformers.AutoProcessor if named else transformers.AutoImageProcessor
            self.processor = processor.from_pretrained(name)

    @torch.inference_mode()
    def __call__(self, photographs: Sequence[Image.Image]) -> list[Detections]:
        images = list(photographs)
        if self.kind in OWL:
            return self._looked_for(images)
        if self.kind in GROUNDED:
            return self._grounded(images)
        inputs = self.processor(images=images, return_tensors="pt").to(self.device)
        sizes = [(image.height, image.width) for image in images]
        found = self.processor.post_process_object_detection(self.model(**inputs), threshold=WEAK, target_sizes=sizes)
        return [
            suppressed(
                _numpy(one["boxes"]) / np.array([width, height] * 2, np.float32),
                _numpy(one["labels"]) + 1,
                _numpy(one["scores"]),
            )
            for one, (height, width) in zip(found, sizes, strict=True)
        ]

    def _looked_for(self, images: list[Image.Image]) -> list[Detections]:
        """OWL-ViT's and OWLv2's: a text a class; v2 sees the photograph in the corner of a square."""
        size = self.processor.image_processor.size
        width, height = size["width"], size["height"]
        pixels = Pixels.of_config(self.processor.image_processor.to_dict())
        boxed = [letterboxed(image, width, height) if self.kind == "owlv2" else None for image in images]
        seen = [box[0] if box else squashed(image, width, height) for box, image in zip(boxed, images, strict=True)]
        texts = self.processor.tokenizer(list(self.classes[1:]) * len(images), padding=True, return_tensors="pt")
        pictures = torch.from_numpy(pixels(np.stack(seen)))
        outputs = self.model(**texts.to(self.device), pixel_values=pictures.to(self.device))
        extents = [
            (image.width * box[1] / width, image.height * box[1] / height) if box else (1.0, 1.0)
            for box, image in zip(boxed, images, strict=True)
        ]
        return _decoded(_numpy(outputs.pred_boxes), _numpy(outputs.logits.sigmoid()), extents)

    def _grounded(self, images: list[Image.Image]) -> list[Detections]:
        """Grounding DINO's: all classes are one text; a class's score is the best of its tokens'."""
        prompt, ends = "", []
        for name in self.classes[1:]:
            prompt += f"{name.lower()}. "
            ends.append(len(prompt))
        tokens = self.processor.tokenizer(prompt, return_offsets_mapping=True)["offset_mapping"]
        room = min(self.model.config.max_text_len, self.model.config.text_config.max_position_embeddings)
        if len(tokens) > room:
            raise InputError(
                f"The names of {len(ends)} classes are {len(tokens)} tokens, of {room} at most: name fewer."
            )
        class_of = np.array([np.searchsorted(ends, first, "right") if last > first else -1 for first, last in tokens])
        inputs = self.processor(images=images, text=[prompt] * len(images), return_tensors="pt").to(self.device)
        outputs = self.model(**inputs)
        scores = _numpy(outputs.logits[..., : len(tokens)].sigmoid())
        named = [scores[..., class_of == label].max(-1, initial=0) for label in range(len(ends))]
        return _decoded(_numpy(outputs.pred_boxes), np.stack(named, -1), [(1.0, 1.0)] * len(images))


def _decoded(
    boxes: Float[np.ndarray, "item query 4"],
    scores: Float[np.ndarray, "item query class"],
    extents: Sequence[tuple[float, float]],
) -> list[Detections]:
    """Centres and sizes in fractions of an input, of which the photograph fills the part `extents`, as detections."""
    return [
        suppressed(own / np.array(extent * 2, np.float32), each.argmax(-1) + 1, each.max(-1))
        for own, each, extent in zip(to_corners(boxes), scores, extents, strict=True)
    ]


class HubBackbone:
    """A vision model of transformers: DINOv2 and v3, SigLIP, CLIP, ConvNeXt, ViT, Swin, ResNet, timm's by their names.

    `pool` crop: the model's own pooled vector of each crop. map: one pass over the whole photograph, and the mean of
    7 x 7 points of the feature map within each region (RoIAlign, He et al. 2017). Photographs and crops are squashed to
    the size that the model was trained with. Raises InputError if `name` is no such model.
    """

    def __init__(self, name: str, pool: Pool = "crop", device: str = "cpu") -> None:
        self.pool, self.device = pool, device
        with transformers_for(name, "vision", BACKBONE) as transformers:
            model = transformers.AutoModel.from_pretrained(name)
            # Its settings alone: to make the processor itself may take torchvision.
            settings, _ = transformers.BaseImageProcessor.get_image_processor_dict(name)
        model = getattr(model, "vision_model", model)  # CLIP's and SigLIP's half that sees
        self.pixels = Pixels.of_config(settings)
        self.width, self.height = _size(model.config, settings)
        self.model = model.to(device).eval()
        blank = np.zeros((1, 3, self.height, self.width), np.float32)
        self.dim = (self._pooled(blank) if pool == "crop" else self._maps(blank)).shape[1]

    @torch.inference_mode()
    def __call__(
        self, photographs: Sequence[Image.Image], boxes: Sequence[Float[np.ndarray, "_ 4"]]
    ) -> list[Float[np.ndarray, "_ feature"]]:
        size = self.width, self.height
        if self.pool == "map":
            pictures = np.stack([squashed(photograph, *size) for photograph in photographs])
            maps = self._maps(self.pixels(pictures))
            return [_numpy(pooled(map_, own)) for map_, own in zip(maps, boxes, strict=True)]
        pictures = np.concatenate(
            [crops(photograph, own, *size) for photograph, own in zip(photographs, boxes, strict=True)]
        )
        found = [_numpy(self._pooled(self.pixels(pictures[at : at + BATCH]))) for at in range(0, len(pictures), BATCH)]
        return np.split(np.concatenate(found), np.cumsum([len(own) for own in boxes])[:-1])

    def _pooled(self, pictures: Float[np.ndarray, "item 3 y x"]) -> Float[Tensor, "item feature"]:
        outputs = self.model(pixel_values=torch.from_numpy(np.ascontiguousarray(pictures)).to(self.device))
        found = getattr(outputs, "pooler_output", None)
        if found is not None:
            return found.flatten(1)
        states = outputs.last_hidden_state
        return states.mean((2, 3)) if states.ndim == 4 else states[:, 0]

    def _maps(self, pictures: Float[np.ndarray, "item 3 y x"]) -> Float[Tensor, "item feature row column"]:
        """The last feature map; a transformer's patches in their places, without the tokens before them."""
        outputs = self.model(pixel_values=torch.from_numpy(np.ascontiguousarray(pictures)).to(self.device))
        states = outputs.last_hidden_state
        if states.ndim == 4:
            return states
        patch = getattr(self.model.config, "patch_size", None)
        across, down = (self.width // patch, self.height // patch) if isinstance(patch, int) else (0, 0)
        if not 0 < across * down <= states.shape[1]:  # Swin's and similar files's, which is square
            across = down = int(states.shape[1] ** 0.5)
        places = states[:, states.shape[1] - across * down :]
        return places.transpose(1, 2).unflatten(2, (down, across))


def pooled(
    map_: Float[Tensor, "feature row column"], boxes: Float[np.ndarray, "region 4"], points: int = POINTS
) -> Float[Tensor, "region feature"]:
    """The mean of points x points places of a map within each box, between its cells by bilinear interpolation."""
    low, high = torch.from_numpy(boxes).to(map_).unflatten(1, (2, 2)).unbind(1)
    steps = (torch.arange(points, device=map_.device, dtype=map_.dtype) + 0.5) / points
    places = (low[:, None] + steps[:, None] * (high - low)[:, None]) * 2 - 1  # [region, point, x y], from -1 to 1
    x, y = places[:, None, :, 0].expand(-1, points, -1), places[:, :, None, 1].expand(-1, -1, points)
    found = grid_sample(
        map_[None], torch.stack([x, y], -1).flatten(0, 1)[None], padding_mode="border", align_corners=False
    )
    return found[0].unflatten(1, (len(boxes), points)).mean((2, 3)).T


def _size(config: Any, settings: dict[str, Any]) -> tuple[int, int]:
    """Width and height: what the model was made for, else what its processor crops or scales to, else 224."""
    of_model = getattr(config, "image_size", None)
    asked = settings.get("crop_size") or settings.get("size") or {}
    if isinstance(of_model, list | tuple):
        return int(of_model[-1]), int(of_model[0])
    side = of_model or asked.get("shortest_edge") or 224
    return int(asked.get("width", side)), int(asked.get("height", side))


def _numpy(values: Tensor) -> np.ndarray:
    return values.float().cpu().numpy() if values.is_floating_point() else values.cpu().numpy()
