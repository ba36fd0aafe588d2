"""The verb import."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from regard.cli.common import console


def import_(
    source: Literal["scan", "sgraf", "vse-infinity", "tvrn"],
    checkpoint: Path,
    *,
    vocab: Path,
    out: Path,
    data: Path | None = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", negative="", show_default=False)] = (),
    ignore: Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=True, show_default=False)] = (),
) -> None:
    """Make a run of a checkpoint that the authors of a model published.

    The run's scores are those of the authors' code, its captions are split as theirs. `evaluate`, `search`, `index` and
    `explain` take it like any other run. Nothing in the file is executed.

    Parameters
    ----------
    source
        The authors' repository.
    checkpoint
        The file that the authors' training script saved, such as model_best.pth.tar.
    vocab
        The vocabulary that the model was trained with: JSON, or a pickle. For BERT: its vocab.txt, or the folder of a
        Hugging Face model.
    out
        Folder of the run, which is created.
    data
        Data folder that the run is to name as its own, so that later commands do not need it.
    set_
        An argument of the authors' training script that replaces the file's, such as cross_attn=i2t. May be repeated.
    ignore
        Names of arguments in the file that Regard does not know, and that change no score.
    """
    from regard.training.published import import_checkpoint

    imported = import_checkpoint(source, checkpoint, vocab, out, data, set_, ignore)
    numbers = sum(tensor.numel() for tensor in imported.weights.values())
    console.print(f"{checkpoint}: {imported.model} with {numbers / 1e6:,.2f} M numbers")
    console.print(f"  arguments      {_list(imported.arguments) or '-'}")
    if absent := imported.arguments.keys() - imported.given:
        console.print(f"  not in the file, so by default: {', '.join(sorted(absent))}")
    if imported.unknown:
        console.print(f"  not read       {_list(imported.unknown)}")
    console.print(f"  options        {_list(imported.options | imported.words)}")
    console.print(f"Wrote {out}. Next: regard evaluate {out} --data {data or 'DIR'} --split test")


def _list(values: dict[str, Any]) -> str:
    return "  ".join(f"{name}={value}" for name, value in values.items())
