"""Detectors and backbones of the transformers package, by name on the Hugging Face hub or from a local folder.

A backbone describes crops (each region is an image of its own), or pools each region from one feature map of the whole
photograph. The latter takes one pass per photograph, and a region's features depend on its surroundings too.

On CUDA, the layers of a model use bfloat16 by default (autocast), except for those that predict the boxes and scores of
detections: bfloat16 has only 128 values from 0.5 to 1, so that boxes would move by pixels, and scores would tie. All
photographs of a call are in one forward pass, or their crops in passes of `BATCH`. What the passes return is copied to
the CPU once per call, because each copy waits until the device has finished.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from regard.boxes import to_corners
from regard.extract.extractor import MIN_SCORE, Detections, filter_detections
from regard.extract.pixels import Pixels, crop_boxes, letterbox, stretch
from regard.files import InputError
from regard.pretrained import transformers_for
from regard.runtime import Precision, default_precision, wide

GROUNDING_DINO, OWL = (
    ("grounding-dino", "mm-grounding-dino"),
    ("owlvit", "owlv2"),
)  # open-vocabulary detectors, by `model_type`
DETECTOR = "a detector's config, its image processor and model.safetensors"
BACKBONE = "a vision model's config, its image processor and model.safetensors"
POINTS = 7  # sampled along each side of a region
BATCH = 32  # crops per forward pass
# Layers that predict boxes and scores, by the end of their names, and what the post-processing of detectors reads.
HEADS = re.compile(r"(bbox_(embed|predictor|head)|box_head|class_(embed|head|labels_classifier)|score_head)(\.|$)")
PREDICTIONS = ("logits", "pred_boxes", "out_masks", "order_logits")

Pool = Literal["crop", "map"]


class HubModel:
    """A transformers model on a device, in inference mode, with layers in `precision`."""

    def __init__(self, model: nn.Module, device: str, precision: Precision | None) -> None:
        self.device, self.precision = torch.device(device), precision or default_precision(device)
        self.model: Any = model.to(device).eval()
        if self.precision == "bfloat16":
            for name, layer in model.named_modules():
                if HEADS.search(name):
                    _keep_float32(layer, self.device.type)

    def __call__(self, **inputs: Tensor) -> Any:
        """Return the outputs of the model, which remain on the device."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            return self.model(**self.send(inputs))

    def send(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copy to the device. On CUDA, the copy is from pinned memory, and the CPU does not wait for it."""
        if self.device.type != "cuda":
            return {name: values.to(self.device) for name, values in inputs.items()}
        return {name: values.pin_memory().to(self.device, non_blocking=True) for name, values in inputs.items()}


def _keep_float32(layer: nn.Module, device_type: str) -> None:
    forward = layer.forward

    def in_float32(*inputs: Any, **named: Any) -> Any:
        with torch.autocast(device_type, enabled=False):
            return forward(*map(_widen, inputs), **{name: _widen(value) for name, value in named.items()})

    layer.forward = in_float32


def _widen(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


def _fetch(*tensors: Tensor) -> list[Tensor]:
    """Return tensors as float32 on the CPU, by one copy."""
    sizes = [tensor.numel() for tensor in tensors]
    parts = torch.cat([tensor.float().flatten() for tensor in tensors]).cpu().split(sizes)
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


class HubDetector:
    """A transformers detector: DETR, RT-DETR, Deformable DETR and similar models, or an open-vocabulary detector
    (Grounding DINO, OWL-ViT, OWLv2), which looks for `classes`.

    For other detectors, `classes` replace the names of the model's classes. `precision` is that of the model's layers:
    by default bfloat16 on CUDA, and float32 on other devices. Boxes and scores are always predicted in float32.

    Raises InputError if `name` is not a detector, if an open-vocabulary detector has no `classes`, or if the number of
    `classes` is not that of the model.
    """

    def __init__(
        self, name: str, classes: Sequence[str] = (), device: str = "cpu", precision: Precision | None = None
    ) -> None:
        with transformers_for(name, "vision", DETECTOR) as transformers:
            config = transformers.AutoConfig.from_pretrained(name)
            self.kind = config.model_type
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
            loaded = getattr(transformers, model).from_pretrained(name, dtype=torch.float32)
            self.model = HubModel(loaded, device, precision)
            processor = transformers.AutoProcessor if is_open else transformers.AutoImageProcessor
            self.processor = processor.from_pretrained(name)

    @torch.inference_mode()
    def __call__(self, photographs: Sequence[Image.Image]) -> list[Detections]:
        images = list(photographs)
        if self.kind in OWL:
            return self._detect_with_owl(images)
        if self.kind in GROUNDING_DINO:
            return self._detect_with_grounding_dino(images)
        outputs = self.model(**self.processor(images=images, return_tensors="pt"))
        names = [name for name in PREDICTIONS if getattr(outputs, name, None) is not None]
        for name, values in zip(names, _fetch(*(getattr(outputs, name) for name in names)), strict=True):
            setattr(outputs, name, values)
        sizes = [(image.height, image.width) for image in images]
        candidates = self.processor.post_process_object_detection(outputs, threshold=MIN_SCORE, target_sizes=sizes)
        return [
            filter_detections(
                own["boxes"].numpy() / np.array([width, height] * 2, np.float32),
                own["labels"].numpy() + 1,
                own["scores"].numpy(),
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
        outputs = self.model(**texts, pixel_values=pictures)
        extents = [
            (image.width * box[1] / width, image.height * box[1] / height) if box else (1.0, 1.0)
            for box, image in zip(boxed, images, strict=True)
        ]
        predicted, logits = _fetch(outputs.pred_boxes, outputs.logits)
        return _decode(predicted.numpy(), logits.sigmoid().numpy(), extents)

    def _detect_with_grounding_dino(self, images: list[Image.Image]) -> list[Detections]:
        """Detect with Grounding DINO. All classes are one text. The score of a class is the maximum over its tokens."""
        prompt, ends = "", []
        for name in self.classes[1:]:
            prompt += f"{name.lower()}. "
            ends.append(len(prompt))
        tokens = self.processor.tokenizer(prompt, return_offsets_mapping=True)["offset_mapping"]
        config = self.model.model.config
        limit = min(config.max_text_len, config.text_config.max_position_embeddings)
        if len(tokens) > limit:
            raise InputError(
                f"The names of the {len(ends)} classes are {len(tokens)} tokens: expected at most {limit}. Pass fewer "
                f"classes."
            )
        class_of = np.array([np.searchsorted(ends, first, "right") if last > first else -1 for first, last in tokens])
        outputs = self.model(**self.processor(images=images, text=[prompt] * len(images), return_tensors="pt"))
        predicted, logits = _fetch(outputs.pred_boxes, outputs.logits[..., : len(tokens)])
        token_scores = logits.sigmoid().numpy()
        scores = [token_scores[..., class_of == label].max(-1, initial=0) for label in range(len(ends))]
        return _decode(predicted.numpy(), np.stack(scores, -1), [(1.0, 1.0)] * len(images))


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
    al. 2017). Photographs and crops are stretched to the size that the model was trained with. `precision` is that of
    the model's layers: by default bfloat16 on CUDA, and float32 on other devices. Raises InputError if `name` is not a
    vision model.
    """

    def __init__(self, name: str, pool: Pool = "crop", device: str = "cpu", precision: Precision | None = None) -> None:
        self.pool = pool
        with transformers_for(name, "vision", BACKBONE) as transformers:
            model = transformers.AutoModel.from_pretrained(name, dtype=torch.float32)
            # Only the settings are read, because the image processor itself may need torchvision.
            settings, _ = transformers.BaseImageProcessor.get_image_processor_dict(name)
        model = getattr(model, "vision_model", model)  # the image encoder of CLIP and SigLIP
        self.pixels = Pixels.of_config(settings)
        self.width, self.height = _input_size(model.config, settings)
        self.config, self.model = model.config, HubModel(model, device, precision)
        blank = np.zeros((1, 3, self.height, self.width), np.float32)
        with torch.inference_mode():
            self.dim = (self._pooled_vectors(blank) if pool == "crop" else self._feature_maps(blank)).shape[1]

    @torch.inference_mode()
    def __call__(
        self, photographs: Sequence[Image.Image], boxes: Sequence[Float[np.ndarray, "_ 4"]]
    ) -> list[Float[np.ndarray, "_ feature"]]:
        size, counts = (self.width, self.height), [len(own) for own in boxes]
        if self.pool == "map":
            pictures = np.stack([stretch(photograph, *size) for photograph in photographs])
            padded = np.zeros((len(boxes), max(counts), 4), np.float32)
            for row, own in zip(padded, boxes, strict=True):
                row[: len(own)] = own
            sent = self.model.send({"boxes": torch.from_numpy(padded)})
            (pooled,) = _fetch(pool_regions(self._feature_maps(self.pixels(pictures)), sent["boxes"]))
            return [own[:count].numpy() for own, count in zip(pooled, counts, strict=True)]
        pictures = np.concatenate(
            [crop_boxes(photograph, own, *size) for photograph, own in zip(photographs, boxes, strict=True)]
        )
        vectors = [
            self._pooled_vectors(self.pixels(pictures[start : start + BATCH]))
            for start in range(0, len(pictures), BATCH)
        ]
        (described,) = _fetch(torch.cat(vectors))
        return [own.numpy() for own in described.split(counts)]

    def _pooled_vectors(self, pictures: Float[np.ndarray, "item 3 y x"]) -> Float[Tensor, "item feature"]:
        outputs = self.model(pixel_values=torch.from_numpy(np.ascontiguousarray(pictures)))
        vectors = getattr(outputs, "pooler_output", None)
        if vectors is not None:
            return vectors.flatten(1)
        states = outputs.last_hidden_state.float()
        return states.mean((2, 3)) if states.ndim == 4 else states[:, 0]

    def _feature_maps(self, pictures: Float[np.ndarray, "item 3 y x"]) -> Float[Tensor, "item feature row column"]:
        """The last feature map. For a transformer, its patch tokens as a grid, without the tokens before them."""
        outputs = self.model(pixel_values=torch.from_numpy(np.ascontiguousarray(pictures)))
        states = outputs.last_hidden_state
        if states.ndim == 4:
            return states
        patch = getattr(self.config, "patch_size", None)
        across, down = (self.width // patch, self.height // patch) if isinstance(patch, int) else (0, 0)
        if not 0 < across * down <= states.shape[1]:  # a grid of another size, which is square (Swin)
            across = down = int(states.shape[1] ** 0.5)
        patches = states[:, states.shape[1] - across * down :]
        return patches.transpose(1, 2).unflatten(2, (down, across))


def pool_regions(
    maps: Float[Tensor, "item feature row column"], boxes: Float[Tensor, "item region 4"], points: int = POINTS
) -> Float[Tensor, "item region feature"]:
    """Return the mean of points x points samples of a map within each box, with bilinear interpolation.

    Boxes are x1 y1 x2 y2 as fractions of the map. The points form a grid, so the mean is a weighted sum of the cells,
    in which a cell's weight is the product of one for its row and one for its column. No samples are stored.
    """
    maps = maps.to(wide(maps))
    low, high = boxes.to(maps).unflatten(2, (2, 2)).unbind(2)
    steps = (torch.arange(points, device=maps.device, dtype=maps.dtype) + 0.5) / points
    positions = low[:, :, None] + steps[:, None] * (high - low)[:, :, None]  # [item, region, point, x y]
    across, down = _weights(positions[..., 0], maps.shape[3]), _weights(positions[..., 1], maps.shape[2])
    rows = torch.einsum("ifyx,irx->ifry", maps, across)
    return torch.einsum("ifry,iry->irf", rows, down)


def _weights(positions: Float[Tensor, "item region point"], cells: int) -> Float[Tensor, "item region cell"]:
    """Weights of cells in the mean of linear interpolations. Beyond the outermost centres, those count."""
    places = (positions * cells - 0.5).clamp(0, cells - 1)
    centres = torch.arange(cells, device=places.device, dtype=places.dtype)
    return (1 - (places[..., None] - centres).abs()).clamp(min=0).mean(2)


def _input_size(config: Any, settings: dict[str, Any]) -> tuple[int, int]:
    """Width and height of the model's input: those of its image processor or of its config, or 224."""
    image_size = getattr(config, "image_size", None)
    processor_size = settings.get("crop_size") or settings.get("size") or {}
    if isinstance(image_size, list | tuple):
        return int(image_size[-1]), int(image_size[0])
    side = image_size or processor_size.get("shortest_edge") or 224
    return int(processor_size.get("width", side)), int(processor_size.get("height", side))
