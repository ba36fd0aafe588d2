"""The verb ensemble."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from regard.cli.common import Device, Json, ProgressBar, console, write_json
from regard.files import InputError


def ensemble(
    *members: Annotated[
        str, Parameter(name="MEMBER", help="Two or more: folders of runs, or embeddings:NAME of an embedding model.")
    ],
    out: Path,
    data: Path | None = None,
    weights: Annotated[tuple[float, ...], Parameter(consume_multiple=True, negative="", show_default=False)] = (),
    json_: Json = None,
    device: Device = "auto",
) -> None:
    """Combine runs into one that adds their scores.

    The score of a pair is the weighted sum of the standardised scores of the members. Means, deviations and weights are
    measured on the validation split and recorded. The result is a run that evaluate, search, index, serve and explain
    take. Its members must stay where they are.

    Parameters
    ----------
    out
        Folder of the ensemble, which is created.
    data
        Data folder to fit on. Default: the one that the members were trained on.
    weights
        One weight per member. Default: those of the largest validation rSum.
    """
    from regard.runtime import device_named
    from regard.training.ensemble_folder import combine
    from regard.training.trained_run import TrainedRun, open_run

    opened = [open_run(member, device_named(device)) for member in members]
    if data is None:
        folders = {run.data.resolve() for run in opened if isinstance(run, TrainedRun)}
        if len(folders) != 1:
            known = " and ".join(sorted(map(str, folders))) or "no data folder"
            raise InputError(f"The members were trained on {known}: name the one to fit on with --data.")
        (data,) = folders
    with ProgressBar("scoring", None) as bar:
        done = 0

        def begin(name: str, pairs: int) -> Callable[[int], None]:
            nonlocal done
            done = 0

            def advance(count: int) -> None:
                nonlocal done
                done += count
                bar.reach(done, pairs)

            return advance

        report = combine(opened, data, out, weights or None, begin)
    console.print(report.render())
    console.print(f"Next: regard evaluate {out} --split test")
    write_json(json_, report.to_dict())
