"""The verbs of an index: a collection of pictures on disk. `regard index RUN SOURCE --out INDEX` creates one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from regard.cli.common import Device, Json, ProgressBar, Run, console, write_json
from regard.files import InputError

if TYPE_CHECKING:
    from regard.search.index import ChangeReport, Index

app = App(name="index", help="Index a collection of pictures, and maintain the index.")
IndexFolder = Annotated[Path, Parameter(help="Folder of an index.")]
Moved = Annotated[Path | None, Parameter(help="New place of the run of the index, if it was moved.")]
Prefix = Annotated[str, Parameter(help="Put this before each id, to tell apart pictures of several sources.")]
Sentences = Annotated[
    bool, Parameter(negative="", help="Also keep the sentences, for `regard search INDEX --image PICTURE --sentences`.")
]
EncoderName = Annotated[
    str, Parameter(help="Folder of a trained run, or an embedding model: a folder, or a name on the hub.")
]
NewIndex = Annotated[Path, Parameter(help="New folder of the index.")]
StoreAddress = Annotated[
    str,
    Parameter(
        show_default=False,
        help="Address of an object store for the rows, such as s3://bucket/pictures. Default: the folder of the index.",
    ),
]
FirstStages = Annotated[
    tuple[str, ...],
    Parameter(
        negative="",
        help="A first stage that makes the shortlists in place of the run's own summary vectors: an embedding model, "
        "or a run. Several runs are joined to one. The score is then the weighted sum of both stages, with weights "
        "chosen on the run's validation split.",
    ),
]
ValidateOn = Annotated[
    Path | None,
    Parameter(
        help="Data folder with the validation split that the weights are chosen on. Default: the data of the run."
    ),
]
OneSplit = Annotated[str | None, Parameter(help="The one split of a data folder to add. Default: all.")]
MAX_LISTED = 5


@app.default
def create(
    run: EncoderName,
    source: Annotated[Path, Parameter(help="Data folder, or folder of photographs.")],
    *,
    out: NewIndex,
    store: StoreAddress = "",
    first: FirstStages = (),
    validate_on: ValidateOn = None,
    split: OneSplit = None,
    captions: Path | None = None,
    prefix: Prefix = "",
    texts: Sentences = False,
    device: Device = "auto",
) -> None:
    """Create an index of a collection of pictures.

    Photographs are extracted first, with the options of the data that the run was trained on.

    Parameters
    ----------
    captions
        Table of sentences of photographs, as for `regard extract`. Its other columns can be used with --where.
    """
    from regard.runtime import device_named
    from regard.search.index import Index
    from regard.search.stages import encoder_named

    device = device_named(device)
    with console.status("reading the model"):
        encoder = encoder_named(run, first, device, validate_on)
    try:
        _report(
            Index.create(out, encoder, device, store),
            source,
            split=split,
            captions=captions,
            prefix=prefix,
            texts=texts,
        )
    except OSError as error:  # a full disk, or a folder that may not be written
        error.add_note(f"What {out} contains is whole: the same command continues it, or says how.")
        raise
    console.print(f'Next: regard search {out} "a sentence"')


@app.command
def add(
    index: IndexFolder,
    source: Annotated[Path, Parameter(help="Data folder, or folder of photographs.")],
    *,
    run: Moved = None,
    split: OneSplit = None,
    captions: Path | None = None,
    prefix: Prefix = "",
    texts: Sentences = False,
    device: Device = "auto",
) -> None:
    """Add pictures to an index. Those that it contains already are not encoded again.

    Parameters
    ----------
    captions
        Table of sentences of photographs, as for `regard extract`.
    """
    _report(_open(index, run, device), source, split=split, captions=captions, prefix=prefix, texts=texts)


@app.command
def sync(
    index: IndexFolder,
    source: Annotated[Path, Parameter(help="The data folder or folder of photographs that pictures were added from.")],
    *,
    dry_run: bool = False,
    run: Moved = None,
    prefix: Prefix = "",
    device: Device = "auto",
) -> None:
    """Update an index from a folder: add new pictures, follow moved ones, remove deleted ones.

    A folder that is absent or empty is an error, so that a disk that is not mounted removes nothing.

    Parameters
    ----------
    dry_run
        Only report what would change.
    """
    _report(_open(index, run, device), source, prefix=prefix, mirror=True, dry_run=dry_run)


@app.command
def remove(
    index: IndexFolder, *ids: Annotated[str, Parameter(help="Ids of pictures.")], where: str = "", run: Moved = None
) -> None:
    """Remove pictures from an index. The files of the pictures are not touched.

    Parameters
    ----------
    where
        SQL condition, such as "width < 200" or "array_has(objects, 'dog')".
    """
    if not ids and not where:
        raise InputError("Expected ids of pictures, or --where with a condition.")
    report = _open(index, run).remove(ids, where)
    console.print(f"{report.removed:,} pictures removed. Version {report.version}.")


@app.command
def build(
    index: IndexFolder,
    run: Run,
    *,
    as_: Annotated[str, Parameter(name="--as", help="Name of the new vector set.")],
    first: Annotated[tuple[str, ...], Parameter(negative="", help="A first stage, as for `regard index`.")] = (),
    device: Device = "auto",
) -> None:
    """Encode the pictures of an index by another run, as a second vector set beside the one in use.

    `regard index use` switches to it. An interrupted build is continued by the same command.
    """
    from regard.runtime import device_named
    from regard.search.stages import encoder_named

    opened = _open(index, None, device)
    with ProgressBar("encoding", None) as bar:
        report = opened.build(encoder_named(str(run), first, device_named(device)), as_, bar.reach)
    console.print(f"{report.added:,} pictures encoded for {as_} in {report.seconds:.1f} s. ", end="")
    console.print(f"Next: regard index use {index} {as_}")


@app.command
def use(index: IndexFolder, name: Annotated[str, Parameter(help="Name of a vector set.")]) -> None:
    """Search with another vector set from now on."""
    _open(index, None).use(name)
    console.print(f"{index} now uses the vector set {name}.")


@app.command
def info(index: IndexFolder, *, run: Moved = None, json_: Json = None) -> None:
    """Print what an index contains."""
    values = _open(index, run).info()
    write_json(json_, values)
    console.print(f"{values['pictures']:,} pictures, version {values['version']}, {values['bytes'] / 2**20:.1f} MiB")
    if "://" in values["store"]:
        console.print(f"  rows at {values['store']}, whose size is not counted")
    for name, entry in values["sets"].items():
        mark = "in use" if name == values["using"] else "not in use"
        console.print(f"  vector set {name} ({mark}): {entry['model']} {entry['run']}")
        if recall := entry.get("recall"):
            found = ", ".join(f"{length}: {value:.1f} %" for length, value in recall.items())
            console.print(f"    exact top 10 found by shortlists of {found}")
    columns = ", ".join(f"{name} ({kind})" for name, kind in values["columns"].items())
    console.print(f"  columns for --where: {columns}")


@app.command
def verify(index: IndexFolder, *, run: Moved = None) -> None:
    """Read every row of an index and compare its checksums."""
    opened = _open(index, run)
    faults = opened.verify()
    for fault in faults[:MAX_LISTED]:
        console.print(fault)
    if faults:
        raise InputError(
            f"{index} has {len(faults):,} faults. Remove these pictures and add them again, or restore a backup."
        )
    console.print(f"{len(opened):,} pictures, version {opened.version}: no fault.")


@app.command
def check(
    index: IndexFolder,
    *,
    queries: int = 200,
    sentences: Path | None = None,
    run: Moved = None,
    json_: Json = None,
    device: Device = "auto",
) -> None:
    """Measure how much of the exact top 10 shortlists find. The result is kept, and every answer reports it.

    All pictures are scored exactly for each sentence, which takes as long as `regard evaluate` on as many pairs.

    Parameters
    ----------
    queries
        Number of sentences.
    sentences
        Text file with one sentence per line. Default: sentences of the pictures themselves, or, if they have none, of
        the validation split of the run.
    """
    from regard.search.stages import check_sentences_of

    opened = _open(index, run, device)
    chosen = check_sentences_of(opened, queries, sentences)
    with ProgressBar("scoring", None) as bar:
        recall = opened.check(chosen, progress=bar.reach)
    write_json(json_, {"queries": len(chosen), "recall": recall})
    console.print(f"Exact top 10 of {len(opened):,} pictures that shortlists find ({len(chosen)} sentences):")
    for length, value in recall.items():
        console.print(f"  {length:>7,}  {value:5.1f} %")


@app.command
def mirror(
    index: IndexFolder,
    address: Annotated[str, Parameter(help="Address of a Milvus server, such as http://127.0.0.1:19530, or none.")],
    *,
    collection: str = "regard",
    run: Moved = None,
) -> None:
    """Let Milvus choose the shortlists: copy the summary vectors to a collection.

    After a change of the index, the same command updates the collection. Until then, shortlists are chosen in memory,
    as they are without Milvus. The environment variable MILVUS_TOKEN may contain the user and password.

    Parameters
    ----------
    collection
        Beginning of the name of the collection. The index and its model make the rest.
    """
    opened = _open(index, run)
    with ProgressBar("sending", None) as bar:
        changed = opened.mirror("" if address == "none" else address, collection, bar.reach)
    if address == "none":
        console.print(f"{index} chooses its shortlists in memory.")
    else:
        console.print(f"{changed:,} vectors sent or removed. Next: regard index check {index}")


@app.command
def approximate(
    index: IndexFolder, *, off: Annotated[bool, Parameter(negative="", help="End it.")] = False, run: Moved = None
) -> None:
    """Let an approximate index of LanceDB choose the shortlists. It pays beyond some million pictures.

    By default, one exact product chooses them. What the shortlists of either find is measured by `regard index check`.
    """
    _open(index, run).approximate(not off)
    how = "exactly" if off else "approximately"
    console.print(f"{index} chooses its shortlists {how}. Next: regard index check {index}")


@app.command
def compact(index: IndexFolder, *, run: Moved = None) -> None:
    """Rewrite small files as larger ones, and delete versions older than an hour."""
    opened = _open(index, run)
    before = opened.info()["bytes"]
    opened.compact()
    console.print(f"{before / 2**20:.1f} MiB before, {opened.info()['bytes'] / 2**20:.1f} MiB after")


@app.command
def backup(index: IndexFolder, target: Annotated[Path, Parameter(help="New folder.")], *, run: Moved = None) -> None:
    """Copy an index to a new folder, while it can be searched."""
    _open(index, run).backup(target)
    console.print(f"Wrote {target}. Next: regard index verify {target}")


@app.command
def restore(
    index: Annotated[Path, Parameter(help="New folder.")], source: Annotated[Path, Parameter(help="Backup.")]
) -> None:
    """Copy a backup to a new folder, after it has been verified."""
    from regard.search.index import restore as run

    run(source, index)
    console.print(f"Wrote {index}.")


def _open(index: Path, run: Path | None, device: str = "auto") -> "Index":
    from regard.runtime import device_named
    from regard.search.index import Index

    return Index(index, run=run, device=device_named(device))


def _report(index: "Index", source: Path, **options: Any) -> None:
    with ProgressBar("indexing", None) as bar:
        report: ChangeReport = index.add(source, progress=bar.reach, **options)
    would = "would be " if options.get("dry_run") else ""
    changes = {"added": report.added, "relinked": report.relinked, "removed": report.removed}
    told = ", ".join(f"{count:,} {would}{name}" for name, count in changes.items() if count or name == "added")
    console.print(f"{told}, {report.unchanged:,} unchanged, in {report.seconds:.1f} s. Version {report.version}.")
    for name in report.unreadable[:MAX_LISTED]:
        console.print(f"  skipped, cannot be read: {name}")
