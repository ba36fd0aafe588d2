"""The verb probe: does a run read relations, boxes, the order of words?"""

from collections.abc import Callable

from regard.cli.common import (
    Device,
    Json,
    Png,
    ProgressBar,
    Run,
    RunData,
    SplitName,
    check_same_inputs,
    console,
    divided,
    write_json,
)
from regard.files import InputError
from regard.launchers import is_first


@divided
def probe(
    run: Run,
    *,
    data: RunData = None,
    split: SplitName = "test",
    seed: int = 0,
    json_: Json = None,
    png: Png = None,
    device: Device = "auto",
) -> Callable[[], None]:
    """Measure whether a run reads relations, boxes and words.

    Each of these inputs is made wrong in turn: relations are dropped, moved, reversed; boxes, labels and predicates
    permuted; boxes mirrored; words shuffled, subject and object exchanged. The table shows the metrics and the paired
    change of rSum for each.

    Parameters
    ----------
    seed
        Random seed of the changes. The same seed gives the same changes.
    """
    from regard.evaluation.control_report import measure_controls
    from regard.evaluation.controls import CONTROLS
    from regard.training.trained_run import TrainedRun, open_run

    if seed < 0:
        raise InputError(f"Expected --seed of 0 or more, got {seed}.")
    trained = open_run(run, device)
    if data is None:
        if not isinstance(trained, TrainedRun):
            raise InputError(f"{run} is an embedding model: name the data folder with --data.")
        data = trained.data
    opened = trained.open_split(split, data)
    pairs = opened.num_images * opened.num_texts

    def work() -> None:
        check_same_inputs([trained], [opened])
        with ProgressBar(f"probing {run}", (1 + len(CONTROLS)) * pairs) as bar:
            report = measure_controls(trained.model, opened, seed=seed, progress=bar.advance)
        console.print(f"{run} on {data} {split}: {opened.num_images:,} images, {opened.num_texts:,} texts")
        console.print(report.render())
        write_json(json_, report.to_dict() | {"fingerprint": trained.fingerprint})  # `regard card` compares it
        if png and is_first():
            report.draw(png)

    return work
