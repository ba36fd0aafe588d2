"""Long work in parts, on one machine or on the machines of a Ray cluster."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from regard.cli.common import (
    Json,
    OutputFile,
    Precision,
    ProgressBar,
    Run,
    RunData,
    SplitName,
    console,
    settle_precision,
    write_json,
)
from regard.cli.extract import ExtractArguments
from regard.cli.index import EncoderName, FirstStages, NewIndex, OneSplit, Prefix, Sentences, StoreAddress, ValidateOn
from regard.files import InputError, absolute_if_there

if TYPE_CHECKING:
    import numpy as np

    from regard.data import Split
    from regard.jobs.job_kinds import RunSplit
    from regard.jobs.running import Machines

app = App(name="job", help="Extract, encode, index and evaluate in parts, on several machines.")
Ray = Annotated[
    str,
    Parameter(
        show_default=False,
        help="Address of a Ray cluster, such as 10.0.0.1:6379, or auto for that of this machine. Its machines have the "
        "same folders under the same paths. Default: this machine alone does the parts, one after another.",
    ),
]
Cpus = Annotated[float, Parameter(help="Processors of a part. Each machine does as many parts at a time as fit.")]
JobDevice = Annotated[
    str, Parameter(help="cuda: each part takes one GPU. auto: with --ray the CPU, otherwise CUDA if there is a GPU.")
]
Size = Annotated[int, Parameter(name="--part", help="Items of a part, rounded up to whole batches.")]
JobOut = Annotated[Path, Parameter(help="The --out of a `regard job` command.")]


@app.command
def extract(
    photographs: Path, *, arguments: ExtractArguments, ray: Ray = "", cpus: Cpus = 1.0, part: Size = 256
) -> None:
    """Make a data folder from a folder of photographs, as `regard extract` does.

    The vectors of `--embeddings` are computed at the end, by this machine.

    Parameters
    ----------
    photographs
        Folder of photographs. Its subfolders are searched too.
    """
    from regard.extract.extraction import Extraction, render_report
    from regard.jobs.job_kinds import extract_job

    machines, out = _machines(ray, cpus, arguments.device, part), arguments.out.absolute()
    extraction = Extraction.of(
        photographs.absolute(), out, arguments.given(), device=machines.device, **arguments.others()
    )
    with ProgressBar("extracting", None) as bar:
        report = extract_job(extraction, machines, size=part, workers=arguments.workers, progress=bar.reach)
    console.print(render_report(report, arguments.out))


@app.command
def encode(
    run: Run,
    *,
    out: Path,
    data: RunData = None,
    split: SplitName = "test",
    ray: Ray = "",
    cpus: Cpus = 1.0,
    part: Size = 1024,
    device: JobDevice = "auto",
) -> None:
    """Write the encodings of the images and texts of a split to files, which `load` of their class reads.

    Parameters
    ----------
    out
        Folder of the files SPLIT_images.safetensors and SPLIT_texts.safetensors.
    """
    from regard.jobs.job_kinds import encode_job

    machines = _machines(ray, cpus, device, part)
    with ProgressBar("encoding", None) as bar:
        files = encode_job(_run_split(run, data, split), out.absolute(), machines, size=part, progress=bar.reach)
    console.print(f"Wrote {', '.join(path.name for path in files)} to {out}.")


@app.command
def evaluate(
    run: Run,
    *,
    out: Path,
    data: RunData = None,
    split: SplitName = "test",
    protocol: Literal["full", "5fold"] = "full",
    precision: Precision = "float32",
    encodings: Literal["float32", "float16"] = "float32",
    json_: Json = None,
    save_scores: OutputFile | None = None,
    ray: Ray = "",
    cpus: Cpus = 1.0,
    device: JobDevice = "auto",
) -> None:
    """Compute the retrieval metrics of a run, as `regard evaluate` does.

    Parameters
    ----------
    out
        Folder of the job. It takes as much room as the scores of all pairs.
    protocol
        full, or 5fold: the mean over five consecutive folds of images (COCO 1K).
    encodings
        Precision in which the encodings of images are kept in memory, in each process of the cluster.
    save_scores
        Write the score matrix to this .npy file, as `regard evaluate` does.
    """
    from regard.cli.evaluation import score_matrix, write_array
    from regard.jobs.job_kinds import score_job
    from regard.metrics import galleries, render, summary

    machines, of = _machines(ray, cpus, device), _run_split(run, data, split)
    chosen = settle_precision(precision, machines.device)

    def measure(scores: "np.ndarray", opened: "Split") -> dict[str, Any]:
        measured = summary(galleries(scores, opened.image_of_text, protocol))
        console.print(f"{run} on {of.data} {split}: {opened.num_images:,} images, {opened.num_texts:,} texts")
        console.print(render(measured))
        if save_scores:
            write_array(save_scores.with_suffix(".image_of_text.npy"), opened.image_of_text)
        write_json(json_, measured.to_dict())
        return measured.to_dict()

    matrix = partial(score_matrix, save_scores)
    with ProgressBar("scoring", None) as bar:
        score_job(
            of, out.absolute(), machines, matrix, measure, precision=chosen, encodings=encodings, progress=bar.reach
        )


@app.command
def index(
    run: EncoderName,
    source: Annotated[Path, Parameter(help="Data folder.")],
    *,
    out: NewIndex,
    store: StoreAddress = "",
    first: FirstStages = (),
    validate_on: ValidateOn = None,
    split: OneSplit = None,
    prefix: Prefix = "",
    texts: Sentences = False,
    ray: Ray = "",
    cpus: Cpus = 1.0,
    part: Size = 1024,
    device: JobDevice = "auto",
) -> None:
    """Create an index of a data folder, as `regard index` does.

    What is encoded in parts is pictures; this machine encodes the sentences of `--texts`, and writes the index.
    """
    from regard.jobs.job_kinds import index_job
    from regard.search.stages import encoder_named

    machines = _machines(ray, cpus, device, part)
    encoder = encoder_named(
        absolute_if_there(run), tuple(map(absolute_if_there, first)), machines.own_device, validate_on
    )
    options: dict[str, Any] = {"store": store, "split": split, "prefix": prefix, "texts": texts}
    with ProgressBar("indexing", None) as bar:
        report = index_job(
            out.absolute(), encoder, source.absolute(), machines, size=part, progress=bar.reach, **options
        )
    console.print(f"{report.added:,} added, {report.unchanged:,} unchanged, in {report.seconds:.1f} s.")
    console.print(f'Next: regard search {out} "a sentence"')


@app.command
def status(folder: JobOut, *, json_: Json = None) -> None:
    """Print how far a job is. Works without Ray, also after the process that ran the job has ended."""
    from regard.jobs.job_folder import JobFolder

    found = JobFolder(folder).status()
    write_json(json_, vars(found))
    console.print(f"{found.asked['kind']}: {found.finished:,} of {found.parts:,} parts finished, {found.state}")
    for name, value in found.asked.items():
        if name != "kind":
            console.print(f"  {name}: {value}")
    if found.state == "stopped":
        console.print("Next: the command that started it, which continues it.")


@app.command
def cancel(folder: JobOut) -> None:
    """Stop a job. What is finished is kept, and the command that started it continues it."""
    from regard.jobs.job_folder import JobFolder

    is_running = JobFolder(folder).cancel()
    console.print(f"The job of {folder} {'will stop in a moment' if is_running else 'is not running'}.")


def _machines(ray: str, cpus: float, device: str, part: int = 1) -> "Machines":
    """Where the parts run. Raises InputError if nothing answers at the address of Ray, before anything is done."""
    from regard.jobs.running import Machines, check_address
    from regard.runtime import device_named

    if not cpus > 0 or part < 1:
        raise InputError(f"--cpus {cpus:g} --part {part}: expected numbers above 0.")
    if ray:
        check_address(ray)
        if device not in ("auto", "cpu", "cuda"):
            raise InputError(f"--device {device!r} is not known: expected auto, cpu or cuda.")
        return Machines(ray, cpus, "cuda" if device == "cuda" else "cpu")
    return Machines("", cpus, device_named(device))


def _run_split(run: Path, data: Path | None, split: str) -> "RunSplit":
    from regard.jobs.job_kinds import RunSplit
    from regard.training.trained_run import TrainedRun

    folder = absolute_if_there(str(run))  # other machines read it too
    return RunSplit(folder, str((data or TrainedRun(folder).data).absolute()), split)
