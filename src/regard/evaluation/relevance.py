"""Metrics if a query has several right answers: R-precision, mAP@R, recalls and nDCG, with ties against the model.

R is the number of right answers of a query. R-precision is the share of them among its R best items. mAP@R is the mean
over the R best places of the precision there, where a place with a wrong item counts 0 (Musgrave et al., "A Metric
Learning Reality Check", ECCV 2020). nDCG is the sum of grade / log2(1 + rank), divided by its largest possible value
(Järvelin and Kekäläinen, 2002).

The right answers are those of Crisscrossed Captions (Parekh et al., EACL 2021) or ECCV Caption (Chun et al., ECCV 2022)
for the test images of MS-COCO, or those of a table of one's own.
"""

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from regard.data import Split
from regard.data.caption_tables import FILE, SENTENCE
from regard.data.ids import match_ids, show_ids
from regard.data.layout import Files, read_json
from regard.data.lines import Lines
from regard.data.pair_tables import cells_of, first_of, read_table
from regard.files import InputError, missing_extra
from regard.metrics import refuse_nan

Dataset = Literal["cxc", "eccv"]
PACKAGE = "eccv_caption"
GRADE = ("relevance", "grade", "rating", "score", "label")
ABSENT = -1  # in place of the row of a right answer that is not in the gallery
COLUMNS = 256  # texts whose scores are read at a time


@dataclass(frozen=True)
class RightAnswers:
    """The right answers of the queries of one direction, by row, with grades above 0. Each pair occurs once.

    An answer that the gallery does not have is ABSENT. It counts in R, and no ranking finds it.
    """

    query: Int[np.ndarray, " answer"]
    item: Int[np.ndarray, " answer"]
    grade: Float[np.ndarray, " answer"]

    def by_query(self) -> Iterator[tuple[int, slice]]:
        """Yield each query with the place of its answers, of answers that are sorted by query."""
        queries, starts = np.unique(self.query, return_index=True)
        for query, first, last in zip(queries.tolist(), starts, [*starts[1:], len(self.query)], strict=True):
            yield query, slice(int(first), int(last))


@dataclass(frozen=True)
class Relevance:
    """The right answers of images among texts, and of texts among images. Queries without answers are not measured."""

    i2t: RightAnswers
    t2i: RightAnswers

    @classmethod
    def of(
        cls, pairs: Sequence[tuple[int, int, float]], t2i_pairs: Sequence[tuple[int, int, float]] | None = None
    ) -> "Relevance":
        """Make it from (image row, text row, grade). The pairs hold for both directions if `t2i_pairs` is None."""
        backward = pairs if t2i_pairs is None else t2i_pairs
        return cls(_answers(pairs), _answers([(text, image, grade) for image, text, grade in backward]))

    @classmethod
    def read(
        cls, path: Path, shape: tuple[int, int], ids: Sequence[str] = (), captions: Sequence[str] = ()
    ) -> "Relevance":
        """Read a table with the columns image, text and, optionally, relevance (default: 1), for scores of `shape`.

        An image is an id of `ids` (matched by `match_ids`), or its row if there are no ids. A text is its row, or the
        sentence itself, of `captions`. Pairs that the table does not have are wrong, and so are those of relevance 0.
        Raises InputError for a row that cannot be read, and for a pair that occurs twice.
        """
        rows = [(place, _values(place, record, path)) for place, record in read_table(path)]
        image_of = _image_rows([image for _, (image, _, _) in rows], shape[0], ids, path)
        texts_of: dict[str, list[int]] = {}
        for row, sentence in enumerate(captions):
            texts_of.setdefault(" ".join(str(sentence).split()), []).append(row)
        found: dict[tuple[int, int], float] = {}
        for place, (image, text, grade) in rows:
            own = [int(text)] if text.isdecimal() else texts_of.get(" ".join(text.split()), [])
            if not own or own[0] >= shape[1]:
                raise InputError(f"{path}, {place}: {text!r:.60} is neither a sentence nor a row below {shape[1]}.")
            for row in own:
                if (image_of[image], row) in found:
                    raise InputError(f"{path}, {place}: the pair of {image} and {text!r:.60} occurs twice.")
                found[image_of[image], row] = grade
        pairs = [(image, text, grade) for (image, text), grade in found.items() if grade]
        if not pairs:
            raise InputError(f"{path} has no pair with a relevance above 0.")
        return cls.of(pairs)

    @classmethod
    def of_coco(cls, dataset: Dataset, split: Split) -> "Relevance":
        """Return the right answers of Crisscrossed Captions or ECCV Caption, by the `eccv_caption` package.

        The images are matched by their ids. The sentences of each image must be in the order of MS-COCO's annotations,
        as all published splits have them, or else {split}_capids.txt must list their annotation ids. Raises InputError
        if the package is missing, and if the split is not all of the 5,000 test images of MS-COCO.
        """
        folder = _package_folder()
        image_of, text_of = _coco_rows(folder, split)

        def pairs(direction: str) -> list[tuple[int, int]]:
            answers = read_json(folder / f"{dataset}_{direction}.json", dict[int, list[int]])
            return [(query, item) for query, items in answers.items() for item in dict.fromkeys(items)]

        # The lists of ECCV Caption contain two sentences that the test split, with five per image, does not.
        forward = [(image_of[image], text_of.get(text, ABSENT), 1.0) for image, text in pairs("image_to_caption")]
        backward = [(image_of[image], text_of[text], 1.0) for text, image in pairs("caption_to_image")]
        return cls.of(forward, backward)


@dataclass(frozen=True)
class DirectionRelevance:
    """The metrics of one direction, in percent, as means over its queries."""

    queries: int
    r1: float
    r5: float
    r10: float
    r_precision: float
    map_at_r: float
    ndcg: float


@dataclass(frozen=True)
class RelevanceReport:
    """The metrics of both directions."""

    i2t: DirectionRelevance
    t2i: DirectionRelevance

    @property
    def rsum(self) -> float:
        """The sum of the six recalls."""
        return sum(value for way in (self.i2t, self.t2i) for value in (way.r1, way.r5, way.r10))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"rsum": self.rsum}

    def render(self) -> str:
        """Return a small table for the terminal."""
        names = ("queries", "R@1", "R@5", "R@10", "R-prec", "mAP@R", "nDCG")
        lines = [f"{'':14}" + "".join(f"{name:>8}" for name in names)]
        for name, way in (("image to text", self.i2t), ("text to image", self.t2i)):
            count, *values = vars(way).values()
            lines.append(f"{name:14}{count:8,}" + "".join(f"{value:8.1f}" for value in values))
        lines.append(f"{'rSum':14}{'':8}{self.rsum:8.1f}   queries without a right answer are left out")
        return "\n".join(lines)


def measure_relevance(scores: Float[np.ndarray, "image text"], relevance: Relevance) -> RelevanceReport:
    """Return the metrics of a score matrix, memory-mapped or not. Raises InputError for NaN."""
    refuse_nan(scores)

    def text_rows() -> Callable[[int], np.ndarray]:
        """Read the columns of the matrix in blocks, for queries in ascending order."""
        first, block = 0, np.zeros((0, 0))

        def row(text: int) -> np.ndarray:
            nonlocal first, block
            if not first <= text < first + len(block):
                first = text
                block = np.ascontiguousarray(scores[:, first : first + COLUMNS].T)
            return block[text - first]

        return row

    return RelevanceReport(
        _direction(lambda image: np.asarray(scores[image]), relevance.i2t), _direction(text_rows(), relevance.t2i)
    )


def _direction(row_of: Callable[[int], np.ndarray], answers: RightAnswers) -> DirectionRelevance:
    measured = []
    for query, own in answers.by_query():
        ranks, grades = _ranks(row_of(query), answers.item[own], answers.grade[own])
        places = np.arange(1, len(ranks) + 1)
        in_top = ranks <= len(ranks)
        ideal = (np.sort(grades)[::-1] / np.log2(1 + places)).sum()
        measured.append(
            (
                *(bool(ranks[0] <= k) for k in (1, 5, 10)),
                in_top.mean(),
                (in_top * places / ranks).mean(),
                (grades / np.log2(1 + ranks)).sum() / ideal,
            )
        )
    return DirectionRelevance(len(measured), *(100 * fmean(values) for values in zip(*measured, strict=True)))


def _ranks(
    scores: Float[np.ndarray, " item"], items: Int[np.ndarray, " answer"], grades: Float[np.ndarray, " answer"]
) -> tuple[Float[np.ndarray, " answer"], Float[np.ndarray, " answer"]]:
    """The ranks of right answers, from 1, the best first, with their grades. The rank of an absent one is infinite.

    Wrong items with the same score come before a right answer, and right answers of a smaller grade before larger ones.
    """
    is_there = items != ABSENT
    own, of_own = scores[items[is_there]], grades[is_there]
    order = np.lexsort((of_own, -own))
    own = own[order]
    wrong = (scores >= own[:, None]).sum(1) - (own >= own[:, None]).sum(1)  # wrong items with at least the score
    absent = grades[~is_there]
    ranks = np.concatenate([np.arange(1, len(own) + 1) + wrong, np.full(len(absent), np.inf)])
    return ranks, np.concatenate([of_own[order], absent])


def _answers(triples: Sequence[tuple[int, int, float]]) -> RightAnswers:
    """The answers (query, item, grade), sorted by query."""
    query, item, grade = np.array(triples, np.float64).reshape(-1, 3).T
    order = np.lexsort((item, query))
    return RightAnswers(query[order].astype(np.int64), item[order].astype(np.int64), grade[order])


def _values(place: str, record: Any, path: Path) -> tuple[str, str, float]:
    """The image, the text and the relevance of a row."""
    values = cells_of(record) if isinstance(record, Mapping) else {}
    image, text = (first_of(values, names) for names in (FILE, SENTENCE))
    grade = first_of(values, GRADE) or "1"
    try:
        number = float(grade)
    except ValueError:
        number = -1.0
    if not image or not text or not 0 <= number < np.inf:
        raise InputError(
            f"{path}, {place}: expected an image, a text and a relevance of at least 0, got {image!r:.40}, "
            f"{text!r:.40} and {grade!r:.20} (columns: {', '.join(values) or 'none'})."
        )
    return image, text, number


def _image_rows(names: Sequence[str], num_images: int, ids: Sequence[str], path: Path) -> dict[str, int]:
    """The row of each image that a table names."""
    if not len(ids):
        wrong = [name for name in names if not name.isdecimal() or int(name) >= num_images]
        if wrong:
            raise InputError(f"{path} names the image {show_ids(wrong, 1)}: expected a row below {num_images}.")
        return {name: int(name) for name in names}
    matches, row_of = match_ids(names, list(ids)), {str(name): row for row, name in enumerate(ids)}
    matches |= match_ids([name for name in names if name not in matches], list(ids))  # another form of the same id
    if missing := [name for name in dict.fromkeys(names) if name not in matches]:
        raise InputError(
            f"{path} names {len(missing):,} images that the split does not have, such as {show_ids(missing, 1)}: "
            f"expected ids such as {show_ids(ids, 1)}."
        )
    return {name: row_of[match] for name, match in matches.items()}


def _package_folder() -> Path:
    """The folder of the data of the package, which is not imported: only its lists are read."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise missing_extra(f"This protocol needs {PACKAGE}", "protocols")
    return Path(next(iter(spec.submodule_search_locations))) / "data"


def _coco_rows(folder: Path, split: Split) -> tuple[dict[int, int], dict[int, int]]:
    """The row of each test image and of each sentence of MS-COCO, by the number of its annotation."""
    where = f"{split.folder} {split.name}"
    image_of_text = {text: own[0] for text, own in _original(folder).items()}
    order = [int(text) for text in np.load(folder / "coco_test_ids.npy")]
    texts_of: dict[int, list[int]] = {}
    for text in order:
        texts_of.setdefault(image_of_text[text], []).append(text)
    matches = match_ids([str(image) for image in texts_of], list(split.ids))
    if missing := [str(image) for image in texts_of if str(image) not in matches]:
        raise InputError(
            f"{where} lacks {len(missing):,} of the {len(texts_of):,} test images of MS-COCO, such as {missing[0]}: "
            f"this protocol requires all of them (its ids are such as {show_ids(split.ids, 1)})."
        )
    row_of = {str(name): row for row, name in enumerate(split.ids)}
    images = {image: row_of[matches[str(image)]] for image in texts_of}
    if path := Files(split.folder, split.name).found("capids.txt"):
        listed = Lines(path)
        numbers = {int(line): row for row, line in enumerate(listed) if line.isdecimal()}
        absent = set(order) - numbers.keys()
        if absent or len(listed) != split.num_texts:
            raise InputError(
                f"{path} has {len(listed):,} lines and lacks {len(absent):,} sentences of MS-COCO's test images: "
                f"expected the annotation id of each of {split.num_texts:,} sentences."
            )
        if wrong := [text for text in order if split.image_of_text[numbers[text]] != images[image_of_text[text]]]:
            line = numbers[wrong[0]]
            raise InputError(
                f"{path} has {len(wrong):,} sentences of other images: line {line + 1} is sentence {wrong[0]} of image "
                f"{image_of_text[wrong[0]]}, and there the split has image {split.ids[split.image_of_text[line]]}."
            )
        return images, numbers
    texts: dict[int, int] = {}
    by_image, bounds = split.texts_by_image()
    for image, row in images.items():
        own = by_image[bounds[row] : bounds[row + 1]].tolist()
        if len(own) != len(texts_of[image]):
            raise InputError(
                f"{where} has {len(own)} sentences of image {image}, and MS-COCO's test split {len(texts_of[image])}: "
                f"list the annotation id of each sentence in {split.name}_capids.txt."
            )
        texts |= zip(texts_of[image], own, strict=True)
    return images, texts


def _original(folder: Path) -> dict[int, list[int]]:
    answers: dict[int, list[int]] = read_json(folder / "original_caption_to_image.json", dict[int, list[int]])
    return answers
