"""The verb extract."""

import os
from pathlib import Path
from typing import Literal

from regard.cli.common import Device, ProgressBar, console


def extract(
    photographs: Path,
    *,
    out: Path,
    like: Path | None = None,
    captions: Path | None = None,
    split: str | None = None,
    detector: str | None = None,
    features: str | None = None,
    pool: Literal["crop", "map"] | None = None,
    pixels: Literal["raw", "unit", "symmetric", "imagenet", "clip"] | None = None,
    project: str | None = None,
    classes: str | None = None,
    regions: int | None = None,
    windows: bool | None = None,
    sure: float | None = None,
    overlap: float | None = None,
    side: int | None = None,
    relations: str | None = None,
    workers: int = min(os.cpu_count() or 1, 8),
    device: Device = "auto",
) -> None:
    """Make a data folder of a folder of photographs: regions, features, relations.

    What has been extracted is not extracted again: after an interruption, or when photographs were added, the same
    command does the rest; options that are left out are as before. Under torchrun the processes divide the work.

    Parameters
    ----------
    photographs
        The folder; folders in it are looked through too.
    out
        The data folder, new or begun by this command.
    like
        Another data folder of this command: extract as it was, for a run that was trained on it.
    captions
        A table (CSV, TSV) with the columns file, sentence and perhaps split. Without a split, eight photographs in ten
        are for training, one for validation, one for test. Photographs without a sentence are the split rest.
        "none": no longer.
    split
        All photographs, or with captions all that have some, are this split; without captions it is test. "none": no
        longer.
    detector
        A .onnx file, a model of transformers (folder or name on the hub), or grid: windows alone, the default.
    features
        A .onnx file, a model of transformers, or colours: colours and edges, without weights, the default.
    pool
        Of a model of transformers. crop: each region is a picture (the default). map: one pass a photograph.
    pixels
        What values an .onnx backbone reads: raw is 0 to 255, unit 0 to 1, symmetric -1 to 1. The default is what a
        preprocessor_config.json beside it says, else imagenet.
    project
        A .npz of mean and components, which the features are projected by.
    classes
        A file that names the detector's classes, or those that an open detector shall look for: a name a line.
    regions
        The most regions of a photograph, 1 to 100; the default is 36. The first is the whole.
    windows
        Fill up with windows what the detector leaves (the default).
    sure
        A detection of this score comes before the windows; the default is 0.25.
    overlap
        Regions that overlap an earlier one by a larger IoU are left out; the default is 0.7.
    side
        A larger photograph is scaled down to so many pixels; the default is 1024.
    relations
        boxes: geometric ones (the default); none; or a file of `regard relations fit`.
    workers
        Threads that read and decode photographs ahead of the model.
    device
        auto, cpu or cuda.
    """
    from regard.extract.extraction import extract as run
    from regard.extract.extraction import told
    from regard.runtime import device_named

    chosen = {"detector": detector, "features": features, "pool": pool, "pixels": pixels, "project": project,
              "classes": classes, "regions": regions, "windows": windows, "sure": sure, "overlap": overlap,
              "side": side}  # fmt: skip
    given = {name: value for name, value in chosen.items() if value is not None}
    with ProgressBar("extracting", None) as bar:
        report = run(
            photographs,
            out,
            given,
            like=like,
            captions=captions,
            split=split,
            relations=relations,
            workers=workers,
            device=device_named(device),
            progress=bar.reach,
        )
    console.print(told(report, out), markup=False)
