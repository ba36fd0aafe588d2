"""The verb search."""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from regard.cli.common import Device, Json, OutputFile, RunData, SplitName, check_sentences, console, write_json
from regard.cli.explain import check_form, write_explanation
from regard.files import InputError


def search(
    target: Annotated[Path, Parameter(help="Folder of an index, or of a trained run, whose data are then searched.")],
    *sentences: str,
    k: Annotated[int, Parameter(name=("--k", "-k"))] = 10,
    shortlist: str = "auto",
    where: str = "",
    not_: Annotated[str, Parameter(name="--not")] = "",
    not_weight: float = 0.5,
    image: str = "",
    of_sentences: Annotated[bool, Parameter(name="--sentences", negative="")] = False,
    format: Literal["table", "csv", "paths"] = "table",
    json_: Json = None,
    explain: OutputFile | None = None,
    run: Annotated[Path | None, Parameter(help="New place of the run of an index, if it was moved.")] = None,
    data: RunData = None,
    split: SplitName = "test",
    device: Device = "auto",
) -> None:
    """Find the pictures that match a sentence best.

    Parameters
    ----------
    sentences
        One or more sentences, each in quotes.
    k
        Number of pictures per sentence.
    shortlist
        Number of pictures per sentence that are scored exactly, chosen by summary vectors. auto: for an index, as
        measured by `regard index check`, otherwise 200; for a run, 100. 0: all pictures.
    where
        SQL condition on the columns of an index, such as "width > 800" or "array_has(objects, 'dog')".
    not_
        A sentence whose score is subtracted.
    not_weight
        Weight of the subtracted score.
    image
        Find pictures like this one instead: the id of a picture in the index, or a file.
    of_sentences
        With --image: find sentences for this picture, of those that were indexed with --texts.
    format
        table: rank, score, its parts, and id. csv: the same as comma-separated values. paths: only the files.
    explain
        Also show why the first picture matches the first sentence, in comparison to the second one if there are two: a
        picture (.png), a page (.html) or the numbers (.json).
    """
    from regard.runtime import device_named
    from regard.search.manifest import is_index

    if not (sentences or image):
        check_sentences(sentences, "regard search INDEX")
    length, is_run = _length(shortlist), not is_index(target)
    if explain:
        check_form(explain)
        if not sentences or is_run:
            raise InputError("--explain requires an index and a sentence.")
    if not is_run and (data or split != "test"):
        raise InputError(f"--data and --split require a run, and {target} is an index, which --where filters.")
    if is_run and run:
        raise InputError(f"--run requires an index, and {target} is not one.")
    if of_sentences:
        if not image or is_run:
            raise InputError("--sentences requires an index and --image.")
        if sentences or where or not_ or explain:
            raise InputError("--sentences searches by --image alone: omit sentences, --where, --not and --explain.")
        rows = _sentences_of(target, image, k, length, run, device_named(device))
    elif not is_run:
        rows = _search_index(target, sentences, k, length, where, not_, not_weight, image, run, device_named(device))
    elif where or not_ or image:
        raise InputError(f"--where, --not and --image require an index, and {target} is not one.")
    else:
        rows = _search_run(target, sentences, k, length, data, split, device_named(device))
    write_json(json_, rows)
    if format == "table":
        _print_table(rows)
    elif format == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["query", "rank", "score", "id", "path"])
        for answer in rows:
            writer.writerows(
                [answer["query"], hit["rank"], hit["score"], hit["id"], hit["path"]] for hit in answer["hits"]
            )
    else:
        for answer in rows:
            for hit in answer["hits"]:
                print(hit["path"] or hit["id"])
    if explain:
        _explain(target, sentences, rows, explain, run, device_named(device))


def _length(shortlist: str) -> int | None:
    if shortlist == "auto":
        return None
    try:
        return int(shortlist)
    except ValueError:
        raise InputError(f"--shortlist {shortlist}: expected a number of pictures, 0 for all, or auto.") from None


def _search_index(
    folder: Path,
    sentences: Sequence[str],
    k: int,
    shortlist: int | None,
    where: str,
    minus: str,
    minus_weight: float,
    image: str,
    run: Path | None,
    device: str,
) -> list[dict[str, Any]]:
    from regard.search.index import Index
    from regard.search.query import Query

    with console.status("opening the index"):
        index = Index(folder, run=run, device=device)
    queries = [Query(sentence, minus) for sentence in sentences] + ([Query(image=image)] if image else [])
    answers = index.search(queries, k=k, shortlist=shortlist, where=where, minus_weight=minus_weight)
    rows = []
    for answer in answers:
        items = index.items([hit.id for hit in answer.hits])
        hits = [
            vars(hit) | {"path": next(iter(item.paths), ""), "caption": next(iter(item.captions), "")}
            for hit, item in zip(answer.hits, items, strict=True)
        ]
        rows.append(answer.to_dict() | {"query": answer.query.text, "note": answer.note, "hits": hits})
    return rows


def _explain(
    folder: Path, sentences: Sequence[str], rows: Sequence[dict[str, Any]], out: Path, run: Path | None, device: str
) -> None:
    from regard.search.index import Index

    if not rows[0]["hits"]:
        raise InputError("--explain: no picture was found.")
    index, best = Index(folder, run=run, device=device), rows[0]["hits"][0]["id"]
    against = sentences[1] if len(sentences) > 1 else None
    write_explanation(index.explain(best, sentences[0], against), out, index.picture(best))


def _sentences_of(
    folder: Path, image: str, k: int, shortlist: int | None, run: Path | None, device: str
) -> list[dict[str, Any]]:
    from regard.search.index import Index
    from regard.search.query import DEFAULT_SHORTLIST

    with console.status("opening the index"):
        index = Index(folder, run=run, device=device)
    found = index.sentences_of(image, k=k, shortlist=DEFAULT_SHORTLIST if shortlist is None else shortlist)
    hits = [
        {"rank": rank, "id": sentence, "score": score, "parts": {}, "gap": False, "path": "", "caption": ""}
        for rank, (sentence, score) in enumerate(found, 1)
    ]
    return [{"query": f"sentences for {image}", "note": "", "hits": hits}]


def _search_run(
    folder: Path,
    sentences: Sequence[str],
    k: int,
    shortlist: int | None,
    data: Path | None,
    split: str,
    device: str,
) -> list[dict[str, Any]]:
    """Encode a split of a run's data and search it in memory."""
    from regard.hub import is_address
    from regard.search.gallery import Gallery
    from regard.training.trained_run import RECIPE, TrainedRun

    if not is_address(folder) and not (folder / RECIPE).is_file():
        raise InputError(
            f"{folder} is neither an index nor a run: it has no index.json and no {RECIPE}. `regard index RUN SOURCE` "
            f"makes an index."
        )
    trained = TrainedRun(folder, device)
    opened = trained.open_split(split, data)
    with console.status(f"reading {opened.num_images:,} images"):
        gallery = Gallery.of_split(trained.model, opened)
    rows = []
    length = 100 if shortlist is None else shortlist or None
    for sentence, hits in zip(sentences, gallery.search_sentences(sentences, k, length), strict=True):
        told = []
        for rank, hit in enumerate(hits, 1):
            captions = (opened.captions[row] for row in (opened.image_of_text == hit.image).nonzero()[0])
            told.append({"rank": rank, "id": hit.id, "score": hit.score, "parts": {}, "gap": False, "path": "",
                         "caption": str(next(captions, ""))})  # fmt: skip
        rows.append({"query": sentence, "note": "", "hits": told})
    return rows


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    for answer in rows:
        console.print(answer["query"])
        for hit in answer["hits"]:
            parts = "  ".join(f"{name} {value:.3f}" for name, value in hit["parts"].items() if len(hit["parts"]) > 1)
            line = f"{hit['rank']:4}  {hit['score']:8.4f}  {hit['id']}  {hit['caption']}"
            console.print(f"{line}  ({parts})" if parts else line)
            if hit["gap"]:
                console.print("      - - -  the scores fall most here")
        if answer["note"]:
            console.print(f"      {answer['note']}")
