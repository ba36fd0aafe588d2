"""Measure how many photographs per second each extractor handles, and how much of that is the models' forward passes.

    python benchmarks/extract.py PHOTOS MODELS [--count 100]

PHOTOS is a folder of photographs. MODELS is a folder with yolox_nano_coco80.onnx and mobilenet_v2_float.onnx. Models of
transformers are built with random weights, which take as long as trained ones.

The total time is that of `regard.extract` on a folder: reading, decoding, regions, features, shards, splits and
relations. The forward time is that of the models alone on the same photographs, decoded before. The last column is the
fraction of the total time that is not spent in forward passes: the overhead.
"""

import argparse
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers

from regard.bench.machine import hardware
from regard.extract.extraction import extract
from regard.extract.onnx import OnnxModel
from regard.extract.options import Options
from regard.photographs import decode_photograph, list_photographs


@contextmanager
def timed() -> Iterator[list[float]]:
    """Yield a list that collects the seconds of each forward pass of an ONNX session or a transformers model."""
    seconds: list[float] = []

    def clock(call: Any) -> Any:
        def run(*arguments: Any, **named: Any) -> Any:
            started = time.perf_counter()
            result = call(*arguments, **named)
            seconds.append(time.perf_counter() - started)
            return result

        return run

    session, module = OnnxModel.run, torch.nn.Module.__call__

    def outermost(self: torch.nn.Module, *arguments: Any, **named: Any) -> Any:
        if not isinstance(self, transformers.PreTrainedModel) or outermost.inside:
            return module(self, *arguments, **named)
        outermost.inside = True
        try:
            return clock(module)(self, *arguments, **named)
        finally:
            outermost.inside = False

    outermost.inside = False
    OnnxModel.run, torch.nn.Module.__call__ = clock(session), outermost
    try:
        yield seconds
    finally:
        OnnxModel.run, torch.nn.Module.__call__ = session, module


def hub_models(folder: Path) -> dict[str, str]:
    """Write transformers models of their published sizes with random weights. Return their folders by name."""
    models = {
        "RT-DETR R18": (
            transformers.RTDetrForObjectDetection(
                transformers.RTDetrConfig(
                    backbone_config=transformers.RTDetrResNetConfig(
                        hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic",
                        out_features=["stage2", "stage3", "stage4"],
                    ),
                    encoder_in_channels=[128, 256, 512], hidden_expansion=0.5, decoder_layers=3, num_labels=80,
                )
            ),
            transformers.RTDetrImageProcessorPil(),
        ),
        "DINOv2 small": (
            transformers.Dinov2Model(transformers.Dinov2Config(hidden_size=384, num_attention_heads=6)),
            transformers.BitImageProcessorPil(crop_size={"height": 224, "width": 224}, size={"shortest_edge": 256}),
        ),
    }  # fmt: skip
    for name, parts in models.items():
        for part in parts:
            part.save_pretrained(folder / name)
    return {name: str(folder / name) for name in models}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("models", type=Path)
    parser.add_argument("--count", type=int, default=100)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    names = list_photographs(given.photographs)[: given.count]
    yolox, mobilenet = (str(given.models / f"{name}.onnx") for name in ("yolox_nano_coco80", "mobilenet_v2_float"))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "photos").mkdir()
        for number, name in enumerate(names):
            (folder / "photos" / f"{number}-{Path(name).name}").symlink_to((given.photographs / name).resolve())
        pictures = [decode_photograph(name, (given.photographs / name).read_bytes(), 1024)[0] for name in names]
        hub = hub_models(folder)
        small = {"detector": yolox, "features": mobilenet, "pixels": "raw"}
        chosen = {
            "windows, colours": {},
            "YOLOX nano, MobileNetV2 of 36 crops": small,
            "YOLOX nano, MobileNetV2 of 20 crops": {**small, "regions": 20},
            "YOLOX nano, DINOv2 small, one map": {"detector": yolox, "features": hub["DINOv2 small"], "pool": "map"},
            "RT-DETR R18, DINOv2 small, one map": {
                "detector": hub["RT-DETR R18"], "features": hub["DINOv2 small"], "pool": "map",
            },
        }  # fmt: skip
        print(f"{hardware('cpu')}; {len(names)} photographs")
        print(f"{'':38} {'photographs/s':>13} {'ms each':>8} {'forward ms':>10} {'overhead':>9}")
        for number, (title, options) in enumerate(chosen.items()):
            extractor = Options(**options).extractor("cpu")
            totals, forwards = [], []
            for turn in range(2):  # of each, the faster of two runs counts
                with timed() as seconds:
                    for at in range(0, len(pictures), 8):
                        extractor(pictures[at : at + 8])
                forwards.append(sum(seconds) / len(names))
                started = time.perf_counter()
                extract(
                    folder / "photos",
                    folder / f"out{number}-{turn}",
                    options,
                    extractor=lambda _, built=extractor: built,
                )
                totals.append((time.perf_counter() - started) / len(names))
            total, forward = min(totals), min(forwards)
            print(f"{title:38} {1 / total:13.1f} {total * 1e3:8.1f} {forward * 1e3:10.1f} {1 - forward / total:8.0%}")


if __name__ == "__main__":
    main()
