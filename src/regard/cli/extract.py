"""The verb extract."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cyclopts import Parameter

from regard.cli.common import Device, ProgressBar, console
from regard.files import InputError

# The fields of regard.extract.options.Options.
OPTIONS = ("detector", "features", "pool", "precision", "pixels", "project", "classes", "regions", "windows", "sure",
           "overlap", "side")  # fmt: skip


@Parameter(name="*")
@dataclass(kw_only=True)
class ExtractArguments:
    """The arguments of an extraction, which `regard job extract` has too.

    Attributes
    ----------
    out
        Data folder to create or to continue.
    like
        Another extracted data folder, whose options are used. This suits a run that was trained on it.
    captions
        Table (CSV or TSV) with the columns file, sentence and, optionally, split. Without split, 80 % of the
        photographs are for training, 10 % for validation and 10 % for test. Photographs without a sentence form the
        split rest. Pass none to clear the earlier choice.
    split
        Put all photographs (with captions: all that have a sentence) in this split. Default without captions: test.
        Pass none to clear the earlier choice.
    detector
        An .onnx file, a transformers model (a folder, or a name on the Hugging Face hub), or grid: only windows.
        Default: grid.
    features
        An .onnx file, a transformers model, or colours: colours and edges, which need no weights. Default: colours.
    pool
        How a transformers model describes regions. crop: each region is an image of its own. map: one pass per
        photograph, pooled over the regions. Default: crop.
    precision
        Precision of the layers of transformers models. Boxes and scores are predicted in float32. Default: bfloat16 on
        a GPU, otherwise float32.
    pixels
        Pixel values that an .onnx backbone expects: raw is 0 to 255, unit is 0 to 1, symmetric is -1 to 1; imagenet
        and clip are normalized by the mean and deviation of that data set or model. Default: as in the
        preprocessor_config.json beside the file, otherwise imagenet.
    project
        An .npz file of a mean and components. Features are replaced by (features - mean) @ components.T.
    classes
        Text file with one class name per line: the classes of the detector, or those that an open-vocabulary detector
        looks for.
    regions
        Largest number of regions per photograph, 1 to 100. The first region is the whole photograph. Default: 36.
    windows
        Fill the remaining regions with windows. Default: yes.
    sure
        Detections with at least this score come before the windows, up to 70 % of the regions. Default: 0.25.
    overlap
        Skip a region if its IoU with an earlier region is larger than this. Default: 0.7.
    side
        Scale larger photographs down so that the longer side has this number of pixels. Default: 1024.
    relations
        boxes: geometric relations. none: no relations. Otherwise a file that `regard relations fit` wrote. Default:
        boxes.
    embeddings
        An embedding model of CLIP's or SigLIP's family (a folder, or a name on the Hugging Face hub): also store one
        vector per photograph, for `regard evaluate --embeddings` and as a member of `regard ensemble`. May be repeated.
        Later runs store the vectors of new photographs too; none clears the choice.
        If `--out` is a data folder of other origin, only these vectors are added to it.
    workers
        Number of threads that read and decode photographs ahead of the model.
    """

    out: Path
    like: Path | None = None
    captions: Path | None = None
    split: str | None = None
    detector: str | None = None
    features: str | None = None
    pool: Literal["crop", "map"] | None = None
    precision: Literal["float32", "bfloat16"] | None = None
    pixels: Literal["raw", "unit", "symmetric", "imagenet", "clip"] | None = None
    project: str | None = None
    classes: str | None = None
    regions: int | None = None
    windows: bool | None = None
    sure: float | None = None
    overlap: float | None = None
    side: int | None = None
    relations: str | None = None
    embeddings: tuple[str, ...] = ()
    workers: int = min(os.cpu_count() or 1, 8)
    device: Device = "auto"

    def given(self) -> dict[str, Any]:
        """Return the options of the extractor that were given."""
        return {name: value for name in OPTIONS if (value := getattr(self, name)) is not None}

    def others(self) -> dict[str, Any]:
        """Return what the functions of an extraction take beside them."""
        return {name: getattr(self, name) for name in ("like", "captions", "split", "relations", "embeddings")}


def extract(photographs: Path, *, arguments: ExtractArguments) -> None:
    """Make a data folder from a folder of photographs.

    The data folder contains the regions of each photograph, their features and their relations. Photographs that were
    extracted before are skipped: after an interruption, or after photographs were added, the same command extracts the
    rest. Options that are left out keep their earlier values. Under torchrun the processes share the work.

    Parameters
    ----------
    photographs
        Folder of photographs. Its subfolders are searched too.
    """
    from regard.data.layout import extraction_of, splits_of
    from regard.extract.embeddings import embed_photographs
    from regard.extract.extraction import embedding_models, render_embedded, render_report
    from regard.extract.extraction import extract as run
    from regard.runtime import device_named, stoppable

    given, others, out = arguments.given(), arguments.others(), arguments.out
    device, embeddings = device_named(arguments.device), arguments.embeddings
    if embeddings and out.is_dir() and splits_of(out) and not extraction_of(out):
        if given or any(value for name, value in others.items() if name != "embeddings"):
            raise InputError(f"{out} was not made by `regard extract`: only --embeddings can be added to it.")
        embedded = {}
        for model in embedding_models({}, embeddings, device):
            with ProgressBar(f"encoding by {model.name}", None) as bar, stoppable() as is_stopped:
                embedded[model.name] = embed_photographs(
                    photographs, out, model, progress=bar.reach, is_stopped=is_stopped
                )
        console.print("\n".join(render_embedded(embedded)))
        return
    with ProgressBar("extracting", None) as bar:
        report = run(
            photographs,
            out,
            given,
            **others,
            workers=arguments.workers,
            device=device,
            progress=bar.reach,
        )
    console.print(render_report(report, out))
