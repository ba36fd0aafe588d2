"""The verbs bench and demo."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from regard.cli.common import Device, Json, Png, console, write_json
from regard.files import InputError


def bench(
    *,
    models: Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=True)] = (),
    quick: Annotated[bool, Parameter(negative="")] = False,
    data: Path | None = None,
    split: str = "test",
    dim: int = 0,
    precision: Literal["float32", "bfloat16"] = "float32",
    json_: Json = None,
    png: Png = None,
    device: Device = "auto",
) -> None:
    """Measure how fast each model scores, encodes and trains, beside what the machine could do and the field's loop.

    Parameters
    ----------
    models
        Only these, such as: --models scan cmsei. By default all.
    quick
        Half a minute a model: fewer pairs, and no training.
    data
        A data folder; by default random features of Flickr30K's size (1,000 images of 36 regions, 5,000 sentences).
    split
        Which split of it.
    dim
        The width of the models; by default each one's published one.
    precision
        Of the products of pairs, with the floor of that precision. The field's loop stays in float32.
    json_
        Write the rows there.
    png
        Draw them there.
    device
        auto, cpu or cuda.
    """
    from regard.bench.inputs import Inputs, OfSplit, Random
    from regard.bench.measurement import bench as run
    from regard.bench.report import draw, table
    from regard.data import Split
    from regard.files import nearest
    from regard.models import MODELS
    from regard.runtime import device_named

    device = device_named(device)
    for name in models:
        if name not in MODELS:
            raise InputError(f"There is no model {name!r}. {nearest(name, MODELS)}")
    inputs: Inputs = Random(200, 1000) if quick else Random()
    if data is not None:
        inputs = OfSplit.of(Split.open(data, split))
    with console.status("measuring") as status:
        rows = run(
            models or tuple(MODELS),
            inputs,
            seconds=4.0 if quick else 60.0,
            dim=dim,
            train=not quick,
            precision=precision,
            device=device,
            told=lambda text: status.update(f"measuring {text}"),
        )
    console.print(table(rows), markup=False)
    write_json(json_, [row.to_dict() for row in rows])
    if png:
        draw(rows, png)


def demo(*, out: Path = Path("demo"), device: Device = "auto") -> None:
    """Draw the made world, train CMSEI and SCAN on it, measure both, and show an alignment. A few minutes.

    Parameters
    ----------
    out
        The folder for data, runs and pictures. A second call goes on where the first stopped.
    device
        auto, cpu or cuda.
    """
    from regard.demo import demo as run

    run(out, console, device)
