"""Verbs that share a run: card, push."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from regard.cli.common import Device, OutputFile, Run, RunData, console
from regard.files import InputError

if TYPE_CHECKING:
    from regard.training.card import CardNotes, ProbeReport
    from regard.training.trained_run import TrainedRun

SplitNames = Annotated[tuple[str, ...], Parameter(negative="", show_default=False)]


def card(
    run: Run,
    *,
    data: RunData = None,
    out: OutputFile | None = None,
    split: SplitNames = (),
    probe: Path | None = None,
    dataset: str = "",
    language: str = "",
    license: str = "",
    device: Device = "auto",
) -> None:
    """Write the model card of a run: a README.md for the Hugging Face hub.

    It contains the recipe, the data, the metrics with 95 % intervals, the training curves and the limits of the run. If
    the data are not at hand, the metrics are those that were recorded during training.

    Parameters
    ----------
    out
        File to write. Default: README.md in the folder of the run.
    split
        Split to measure. May be repeated. Default: the validation split and test, if the data have them.
    probe
        JSON file of the controls, which `regard probe RUN --json` wrote.
    dataset
        Name of the data set. The header of the card contains the results only if there is one.
    language
        Language of the sentences, as a code such as en.
    license
        License of the weights, as an identifier of the hub such as apache-2.0.
    """
    from regard.hub import hub_package, is_address
    from regard.runtime import device_named
    from regard.training.card import CardNotes, read_probe
    from regard.training.trained_run import TrainedRun

    hub_package()
    trained = TrainedRun(run, device_named(device))
    if out is None and is_address(run):
        raise InputError("The card of a run on the hub is written to a file of your own: give --out.")
    probed = read_probe(probe, trained.fingerprint) if probe else None
    _write_card(trained, out, data, split, probed, CardNotes(dataset, language, license))


def push(
    run: Run,
    name: Annotated[str, Parameter(help="Repository on the hub, as user/name. It is created if it does not exist.")],
    *,
    private: Annotated[bool, Parameter(negative="")] = False,
    device: Device = "auto",
) -> None:
    """Upload a run to the Hugging Face hub, with its card.

    If the run has no card, it is written first, as by `regard card`. The checkpoint for `--resume`, the place of the
    data and other files of the folder are not uploaded. Paths in the recipe are shortened to their last names.

    Parameters
    ----------
    private
        Create a private repository.
    """
    from regard.runtime import device_named
    from regard.training import sharing
    from regard.training.card import CardNotes
    from regard.training.trained_run import CARD, TrainedRun

    trained = TrainedRun(run, device_named(device))
    sharing.check_upload(trained, name)
    if not (trained.folder / CARD).is_file():
        _write_card(trained, None, None, (), None, CardNotes())
    address = sharing.push(trained, name, private)
    console.print(f"Uploaded to {address}")
    console.print(f"Next: regard evaluate {address.partition('@')[0]} --data DIR")


def _write_card(
    run: "TrainedRun",
    out: Path | None,
    data: Path | None,
    split: tuple[str, ...],
    probed: "ProbeReport | None",
    notes: "CardNotes",
) -> None:
    """Measure a run if its data are at hand, and write its card."""
    from regard.training.card import measure_splits, write_card

    with console.status(f"measuring {run.folder}"):
        measured = measure_splits(run, data, split)
    if not measured:
        console.print("The data are not at hand: the metrics are those recorded during training. --data measures them.")
    console.print(f"Wrote {write_card(run, out, measured, probed, notes)}")
