"""Verbs that measure: evaluate, metrics, twins."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from regard.cli.common import (
    Device,
    Json,
    OutputFile,
    Precision,
    ProgressBar,
    RunData,
    RunOfSeveral,
    SplitName,
    check_runs,
    check_same_inputs,
    console,
    divided,
    settle_precision,
    write_json,
)
from regard.files import InputError, replacing
from regard.launchers import is_first

if TYPE_CHECKING:
    from regard.data import Split
    from regard.evaluation.relevance import Relevance
    from regard.evaluation.strata import Strata
    from regard.training.trained_run import TrainedRun

Protocol = Annotated[
    Literal["full", "5fold"],
    Parameter(
        help="full: rank all images and all texts of the split. "
        "5fold: the mean over five consecutive folds of images (COCO 1K)."
    ),
]


RelevanceTable = Annotated[
    Path | None,
    Parameter(
        help="Table with the columns image, text[, relevance]: also print R-precision, mAP@R and nDCG for these right "
        "answers. Pairs that are not in the table are wrong."
    ),
]


@divided
def evaluate(
    *runs: RunOfSeveral,
    data: RunData = None,
    split: SplitName = "test",
    protocol: Annotated[
        Literal["full", "5fold", "cxc", "eccv"],
        Parameter(
            help="full: rank all images and all texts of the split. 5fold: the mean over five consecutive folds of "
            "images (COCO 1K). cxc, eccv: the right answers of Crisscrossed Captions or ECCV Caption, on the 5,000 "
            "test images of MS-COCO."
        ),
    ] = "full",
    relevance: RelevanceTable = None,
    shortlist: str | None = None,
    embeddings: Annotated[str | None, Parameter(name="--embeddings")] = None,
    by: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = (),
    by_table: Path | None = None,
    against: Path | None = None,
    precision: Precision = "float32",
    encodings: Literal["float32", "float16"] = "float32",
    json_: Json = None,
    save_scores: OutputFile | None = None,
    device: Device = "auto",
) -> Callable[[], None]:
    """Compute the retrieval metrics of a run.

    With several runs, the metrics are those of the mean of their score matrices, by default on the data folder of the
    first run. `regard ensemble` standardises and weights the scores instead.

    Parameters
    ----------
    shortlist
        Score only the K best candidates per query exactly, chosen by summary vectors, and compare with scoring all
        pairs. K is a number such as 50, or auto: the smallest K that keeps every recall on the validation split within
        0.1 of that of all pairs. Requires one run, the full protocol and float32.
    embeddings
        In place of a run: measure an embedding model zero-shot, on the vectors of the photographs that
        `regard extract --embeddings` stored. A folder, or a name on the Hugging Face hub. Requires `--data`.
    by
        Also print the recalls for groups of sentences: relations (0, 1, 2, 3 or more, as parsed), words (length),
        spatial (with words of place or without), regions (of the image), or a column of `--by-table`. May be repeated.
    by_table
        Table of images, sentences and other columns, such as category, for `--by`.
    against
        Another run or embeddings:NAME, for a paired test of the difference: of rSum, and in each group of `--by`.
    encodings
        Precision in which the encodings of images are kept in memory. float16 halves their size.
    save_scores
        Write the score matrix to this .npy file (float32, image x text), and the row of each text's image to
        .image_of_text.npy beside it. The matrix is then kept in the file instead of in memory.
    """
    import numpy as np

    from regard.evaluation.compare import difference
    from regard.evaluation.evaluate import scores_of
    from regard.evaluation.relevance import measure_relevance
    from regard.evaluation.stratum_report import measure_strata
    from regard.metrics import galleries, render, summary
    from regard.training.trained_run import EMBEDDINGS, EmbeddingRun, TrainedRun, open_run

    named = [*map(str, runs), *([f"{EMBEDDINGS}{embeddings}"] if embeddings else [])]
    check_runs(named)
    trained = [open_run(run, device) for run in named]
    chosen = settle_precision(precision, device)
    first_run = trained[0]
    if isinstance(first_run, TrainedRun):
        data = data or first_run.data
    if any(isinstance(run, EmbeddingRun) for run in trained) and len(trained) > 1:
        raise InputError("--embeddings takes no runs: `regard ensemble` combines them with embedding models.")
    if data is None:
        raise InputError("--embeddings requires --data.")
    if shortlist is not None:
        if not isinstance(first_run, TrainedRun):
            raise InputError("--embeddings takes no --shortlist: the vectors score all pairs at once.")
        other_uses = save_scores or by or by_table or relevance or against
        if len(trained) > 1 or protocol != "full" or other_uses or chosen != "float32" or encodings != "float32":
            raise InputError(
                "--shortlist requires one run, the full protocol and float32, and cannot be used with --save-scores, "
                "--by, --by-table, --relevance or --against: it does not compute the whole matrix."
            )
        return _shortlist_evaluation(first_run, data, split, shortlist, json_)
    other_run = open_run(against, device) if against else None
    compared = [*trained, *([other_run] if other_run else [])]
    splits = [run.open_split(split, data) for run in compared]
    first = splits[0]
    for folder, other in zip((*named, against), splits, strict=False):
        if list(other.ids) != list(first.ids) or not np.array_equal(other.image_of_text, first.image_of_text):
            raise InputError(
                f"{folder} and {named[0]} read different images or texts from {data} {split}: an ensemble or a "
                "comparison requires the same data settings."
            )
    folds: Protocol = "5fold" if protocol == "5fold" else "full"
    strata = _strata(first, by, by_table, protocol)
    answers = _right_answers(first, relevance, protocol)

    def work() -> None:
        check_same_inputs(compared, splits)
        with score_matrix(save_scores if is_first() else None, (first.num_images, first.num_texts)) as scores:
            for run, opened in zip(trained, splits, strict=False):
                with ProgressBar(f"scoring with {run.folder}", scores.size) as bar:
                    own = scores_of(
                        run.model,
                        opened,
                        out=scores if opened is first else None,
                        progress=bar.advance,
                        precision=chosen,
                        encodings=encodings,
                    )
                if opened is not first:
                    scores += own.numpy()
            scores /= len(trained)
            ranks = galleries(scores, first.image_of_text, folds)
            report = measure_relevance(scores, answers) if answers else None
        measured = summary(ranks)
        values: dict[str, Any] = measured.to_dict() | ({"relevance": report.to_dict()} if report else {})
        names = " + ".join(named)
        console.print(f"{names} on {data} {split}: {first.num_images:,} images, {first.num_texts:,} texts")
        console.print(render(measured))
        if report:
            gallery = " (in the whole split)" if protocol == "5fold" else ""
            console.print(f"\nWith the right answers of {relevance or protocol}{gallery}:\n{report.render()}")
        if save_scores and is_first():
            write_array(save_scores.with_suffix(".image_of_text.npy"), first.image_of_text)
        others = None
        if other_run:
            with ProgressBar(f"scoring with {against}", first.num_images * first.num_texts) as bar:
                own = scores_of(
                    other_run.model, splits[-1], progress=bar.advance, precision=chosen, encodings=encodings
                )
            others = galleries(own, first.image_of_text, folds)
            tested = difference(ranks, others)
            console.print(f"From {against}: {tested.render()}")
            values |= {"against": summary(others).to_dict(), "difference": asdict(tested)}
        for division in strata:
            groups = measure_strata(ranks[0], division, others[0] if others else None)
            console.print(f"\n{groups.render(str(against) if against else '')}")
            values.setdefault("strata", {})[division.title] = groups.to_dict()
        write_json(json_, values)

    return work


def _strata(split: "Split", by: Sequence[str], by_table: Path | None, protocol: str) -> "list[Strata]":
    """The divisions of a split that are asked for."""
    from regard.data.captions import Captions
    from regard.evaluation.strata import KINDS, divide

    if by and protocol != "full":
        raise InputError("--by requires the full protocol: the folds are galleries of their own.")
    table = Captions.read(by_table) if by_table else None
    if table and not any(each.lower() in table.others or each not in KINDS for each in by):
        raise InputError(f"--by-table {by_table} requires --by COLUMN, with the name of one of its columns.")
    if table and table.skipped:
        place, why = table.skipped[0]
        console.print(f"{len(table.skipped):,} rows of {by_table} cannot be read: {place} is {why}.")
    return [divide(split, each, table) for each in dict.fromkeys(by)]


def _right_answers(
    split: "Split", table: Path | None, protocol: Literal["full", "5fold", "cxc", "eccv"]
) -> "Relevance | None":
    """The right answers of a protocol or of a table, if there is either."""
    from regard.evaluation.relevance import Relevance

    if protocol in ("cxc", "eccv"):
        if table is not None:
            raise InputError(f"--protocol {protocol} has right answers of its own: leave out --relevance.")
        return Relevance.of_coco(protocol, split)
    if table is None:
        return None
    return Relevance.read(table, (split.num_images, split.num_texts), split.ids, split.captions)


def _shortlist_evaluation(
    run: "TrainedRun", data: Path, split: str, shortlist: str, json_: Path | None
) -> Callable[[], None]:
    from regard.evaluation.cascade import cascade, smallest_shortlist

    if shortlist != "auto" and not (shortlist.isdecimal() and int(shortlist)):
        raise InputError(f"Expected --shortlist auto or a whole number of at least 1, got {shortlist!r}.")
    opened = run.open_split(split, data)
    validation = run.recipe.data.validation
    tuned = run.open_split(validation, data) if shortlist == "auto" else None

    def work() -> None:
        check_same_inputs([run], [opened, *([tuned] if tuned else [])])
        if tuned:
            with console.status(f"choosing the length of the shortlist on {validation}"):
                count = smallest_shortlist(run.model, tuned)
        else:
            count = int(shortlist)
        with console.status(f"scoring with {run.folder}"):
            measured = cascade(run.model, opened, count)
        console.print(f"{run.folder} on {data} {split}: {opened.num_images:,} images, {opened.num_texts:,} texts")
        console.print(measured.render())
        write_json(json_, measured.to_dict())

    return work


def metrics(
    scores: Path,
    image_of_text: Path,
    *,
    text_to_image: Path | None = None,
    against: Path | None = None,
    protocol: Protocol = "full",
    relevance: RelevanceTable = None,
    json_: Json = None,
) -> None:
    """Compute the retrieval metrics of any score matrix.

    The matrix may come from CLIP, BLIP or your own model. The intervals are 95 % bootstrap intervals over images.

    Parameters
    ----------
    scores
        A .npy file of floats, image x text. Larger scores are better.
    image_of_text
        A .npy file with, for each text, the row of its image.
    text_to_image
        A second .npy file of the same model, text x image, by which texts rank images; SCORES then ranks texts for
        images only. Re-rankers such as BLIP score each direction apart.
    against
        Another score matrix of the same images and texts, for a paired test of the difference in rSum.
    """
    from regard.evaluation.compare import measure, read_matrix
    from regard.evaluation.relevance import Relevance, measure_relevance

    if relevance and text_to_image:
        raise InputError("--relevance takes one matrix: leave out --text-to-image.")
    matrix = read_matrix(scores)  # memory-mapped
    answers = Relevance.read(relevance, matrix.shape) if relevance else None
    report = measure(scores, image_of_text, against, protocol, text_to_image=text_to_image)
    console.print(report.render())
    values = report.to_dict()
    if answers:
        graded = measure_relevance(matrix, answers)
        console.print(f"\nWith the right answers of {relevance}:\n{graded.render()}")
        values |= {"relevance": graded.to_dict()}
    write_json(json_, values)


@divided
def twins(
    *runs: RunOfSeveral,
    data: Path,
    split: SplitName = "test",
    pairs: Path | None = None,
    swapped: bool = False,
    json_: Json = None,
    device: Device = "auto",
) -> Callable[[], None]:
    """Measure whether runs distinguish similar images or sentences.

    By default, on twin images: two images of the same things that differ in a relation or in attributes. The result is
    the percentage of sentences that score their own image above its twin, for each run and kind of difference. A tie is
    wrong; the number in parentheses counts it as half right. With `--pairs`, on a table of your own.

    Parameters
    ----------
    data
        Data folder with twins, of `regard data scenes`, `spatial` or `collage`; with `--pairs`, one that has the
        images of the table.
    pairs
        Table with the columns image, caption, negative[, category] (such as SugarCrepe's), or image_0, image_1,
        caption_0, caption_1[, category] (such as Winoground's).
    swapped
        Compare each sentence of the split with the same sentence with its parts exchanged: who does what to whom,
        attributes, and places. Measure a run trained with `--set data.blind=true` beside: it sees no image, and what it
        can tell apart takes no understanding of images.
    """
    from regard.data.pair_tables import PairTable
    from regard.data.swapped import SwappedSentences
    from regard.evaluation.evaluate import scores_of
    from regard.evaluation.pairs import measure_pairs
    from regard.evaluation.twin_accuracy import twin_answers
    from regard.training.trained_run import open_run

    check_runs(runs)
    if pairs and swapped:
        raise InputError("--pairs and --swapped are two measurements: give one of them.")
    table = PairTable.read(pairs) if pairs else None
    trained = [open_run(run, device) for run in runs]
    splits = [run.open_split(split, data) for run in trained]

    def work() -> None:
        check_same_inputs(trained, splits)
        measured: dict[str, Any] = {}
        for name, run, opened in zip(runs, trained, splits, strict=True):
            compared = SwappedSentences(opened).pairs() if swapped else table
            if compared:
                report = measure_pairs(run.model, opened, compared)
                measured[str(name)] = report.to_dict()
                console.print(f"{name}\n{report.render()}")
                continue
            answers = twin_answers(scores_of(run.model, opened), opened)
            measured[str(name)] = {kind: own.correct for kind, own in answers.items()}
            measured[str(name)]["ties"] = {kind: own.ties for kind, own in answers.items()}
            measured[str(name)]["half_credit"] = {kind: own.half_credit for kind, own in answers.items()}
            shown = "  ".join(f"{kind} {own.correct:5.1f} ({own.half_credit:.1f})" for kind, own in answers.items())
            ties = ", ".join(f"{own.ties:.1f} % of {kind}" for kind, own in answers.items())
            console.print(f"{name}: {shown}  (percent correct; ties as half right in parentheses; chance is 50)")
            if any(own.ties for own in answers.values()):
                console.print(f"  ties: {ties}")
        write_json(json_, measured)

    return work


@contextmanager
def score_matrix(path: Path | None, shape: tuple[int, int]) -> Iterator[Any]:
    """Yield a float32 matrix in memory, or in the .npy file `path`, which appears when the block ends without error."""
    import numpy as np

    if path is None:
        yield np.empty(shape, np.float32)
        return
    with replacing(path) as temporary:
        scores = np.lib.format.open_memmap(temporary, "w+", np.float32, shape)
        if hasattr(os, "posix_fallocate"):  # reports a full disk now; a write to the memory map would end by a signal
            with open(temporary, "rb+") as file:
                os.posix_fallocate(file.fileno(), 0, temporary.stat().st_size)
        yield scores


def write_array(path: Path, values: Any) -> None:
    """Write an array to a .npy file, whole or not at all."""
    import numpy as np

    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.save(file, values)
