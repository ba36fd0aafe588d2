"""Verbs that show what the package does and how fast: demo, bench, compile."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from regard.cli.common import Device, Json, Png, Precision, SplitName, console, settle_precision, write_json
from regard.files import InputError


def bench(
    *,
    models: Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=True, show_default=False)] = (),
    quick: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    data: Path | None = None,
    split: SplitName = "test",
    dim: int = 0,
    precision: Precision = "float32",
    json_: Json = None,
    png: Png = None,
    device: Device = "auto",
) -> None:
    """Measure how fast each model encodes, scores and trains.

    Scoring is compared with its floor (the time of its arithmetic at the speed of this machine's fastest matrix
    product) and with a loop over captions, as published implementations have it. With `--precision bfloat16` the floor
    is that of bfloat16, and the loop stays in float32.

    Parameters
    ----------
    models
        Models to measure, such as --models scan cmsei. Default: all models.
    quick
        Measure fewer pairs, and no training: half a minute per model.
    data
        Data folder. Default: random features of the size of Flickr30K (1,000 images of 36 regions, 5,000 sentences).
    dim
        Width of the models. 0: the published width of each model.
    """
    from regard.bench.inputs import Inputs, RandomInputs, SplitInputs
    from regard.bench.measurement import bench as run
    from regard.bench.report import draw_bench, table
    from regard.data import Split
    from regard.files import nearest
    from regard.models import MODELS
    from regard.runtime import device_named

    device = device_named(device)
    chosen = settle_precision(precision, device)
    if dim < 0:
        raise InputError(f"--dim {dim}: expected 0 or more.")
    for name in models:
        if name not in MODELS:
            raise InputError(f"There is no model {name!r}. {nearest(name, MODELS)}")
    inputs: Inputs = RandomInputs(200, 1000) if quick else RandomInputs()
    if data is not None:
        inputs = SplitInputs.of(Split.open(data, split))
    with console.status("measuring") as status:
        rows = run(
            models or tuple(MODELS),
            inputs,
            seconds=4.0 if quick else 60.0,
            dim=dim,
            train=not quick,
            precision=chosen,
            device=device,
            progress=lambda text: status.update(f"measuring {text}"),
        )
    console.print(table(rows))
    write_json(json_, [row.to_dict() for row in rows])
    if png:
        draw_bench(rows, png)


def compile_() -> None:
    """Build the C++ kernels that make scoring on a CPU faster.

    They fuse the work between the matrix products. Building takes half a minute, once per processor and version of
    Regard and torch, and requires a C++ compiler and ninja. Every later command uses them; REGARD_KERNELS=0 turns them
    off.
    """
    from regard.kernels import build

    with console.status("compiling"):
        path = build()
    console.print(f"The kernels are ready: {path}")


def demo(*, out: Path = Path("demo"), device: Device = "auto") -> None:
    """Generate images, train SCAN and CMSEI on them, and compare both.

    The demonstration generates Scenes, trains both models, measures them, and draws which region matches which word of
    a sentence. It takes a few minutes.

    Parameters
    ----------
    out
        Folder for data, runs and pictures. The same command continues after an interruption.
    """
    from regard.demo import demo as run

    run(out, console, device)
