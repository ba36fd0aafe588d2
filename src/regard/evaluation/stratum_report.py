"""Recalls in each stratum of a split, with intervals for all strata together, and a paired test of two runs in each."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from regard.evaluation.compare import RECALLS, Difference, Interval, hits_of, interval_of, p_value_of
from regard.evaluation.multiple_tests import holm
from regard.evaluation.strata import Strata
from regard.metrics import Ranks

TAIL = 5  # resamples that lie outside an interval on each side, at least
ALL = "all"


@dataclass(frozen=True)
class StratumResult:
    """The recalls of one stratum, in percent; their keys are `i2t r1` to `t2i r10`, without i2t if it is undefined."""

    name: str
    num_texts: int
    num_images: int  # with a sentence in the stratum
    recalls: dict[str, float]
    intervals: dict[str, Interval]  # of the recalls
    sum: float  # of the recalls
    sum_interval: Interval
    difference: Difference | None  # of the sums, from the other run

    def to_dict(self) -> dict[str, Any]:
        intervals = {key: asdict(interval) for key, interval in self.intervals.items()}
        values = {"name": self.name, "texts": self.num_texts, "images": self.num_images, **_nested(self.recalls)}
        values |= {"sum": self.sum, "intervals": {**_nested(intervals), "sum": asdict(self.sum_interval)}}
        return values | ({"difference": asdict(self.difference)} if self.difference else {})


@dataclass(frozen=True)
class StratumReport:
    """The results of each stratum, and of all sentences of the split last: a table of `regard evaluate --by`."""

    title: str
    results: tuple[StratumResult, ...]
    level: float  # of the intervals of the strata, in percent
    resamples: int
    num_left_out: int  # sentences in no stratum

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON, with the recalls by direction as in `Recalls.to_dict`."""
        about = {"level": self.level, "resamples": self.resamples, "left_out": self.num_left_out}
        return {**about, "strata": [result.to_dict() for result in self.results]}

    def render(self, against: str = "") -> str:
        """Return a table for the terminal; `against` names the other run."""
        title = f"by {self.title}" if len(self.results) > 1 else ""
        width = max(map(len, (title, *(result.name for result in self.results))))
        keys = list(self.results[0].recalls)
        names = [key.replace(" r", " R@") if key.endswith("r1") else f"R@{key.split(' r')[1]}" for key in keys]
        lines = [
            f"{title:{width}}{'texts':>8}{'images':>8}" + "".join(f"{name:>9}" for name in names)
            + f"{'sum':>8}{'interval':>17}" + (f"{'difference':>12}{'interval':>17}{'p':>7}" if against else "")
        ]  # fmt: skip
        for each in self.results:
            cells = (
                "".join(f"{each.recalls[key]:9.1f}" for key in keys) + f"{each.sum:8.1f}{_span(each.sum_interval):>17}"
            )
            if tested := each.difference:
                cells += f"{tested.rsum:+12.1f}{f'{tested.low:+.1f} to {tested.high:+.1f}':>17}{tested.p:7.3f}"
            lines.append(f"{each.name:{width}}{each.num_texts:8,}{each.num_images:8,}{cells}")
        lines.append(
            f"Intervals: 95 % for all strata together ({self.level:.1f} % each), and for {ALL} alone; {self.resamples} "
            "draws of the images."
        )
        if against:
            lines.append(f"difference: of the sums, from {against}; p is corrected for the number of strata (Holm).")
        if self.num_left_out:
            lines.append(f"{self.num_left_out:,} sentences are in no stratum: the table has no value for them.")
        return "\n".join(lines)


def measure_strata(
    ranks: Ranks, strata: Strata, against: Ranks | None = None, resamples: int = 2000, seed: int = 0
) -> StratumReport:
    """Return the recalls of each stratum, among all images and sentences of the split, with simultaneous intervals.

    Each stratum must have a sentence. Text to image, its sentences are the queries. Image to text is measured only if
    each image has all its sentences in one stratum; otherwise an image belongs to several.

    Intervals are percentile intervals of the bootstrap over images, as in `compare`. With k strata, each has the level
    1 - 0.05 / k: with a probability of at least 95 %, all intervals of a table contain their values together
    (Bonferroni). The interval of all sentences has the level 0.95. `against` are the ranks of another model on the
    same split; the difference of the sums of recalls is tested in each stratum on the same resamples, and the k
    p-values are adjusted by Holm's method. Holm's steps give no intervals of their own; where interval and p-value
    disagree, the p-value decides. More resamples than `resamples` are drawn for many strata, because their intervals
    reach further into the tails.
    """
    count = len(strata.names)
    resamples = max(resamples, round(TAIL * 2 * count / 0.05))
    of_image = strata.of_images(ranks.image_of_text)
    used = RECALLS if of_image is not None else RECALLS[3:]
    texts = np.stack([*(strata.of_text == number for number in range(count)), np.ones(len(strata.of_text), bool)])
    images = np.ones((count + 1, len(ranks.i2t)), bool)
    if of_image is not None:
        images[:count] = of_image == np.arange(count)[:, None]
    models = [
        np.stack([hits_of(each, *queries) for queries in zip(images, texts, strict=True)], 1)  # [image, stratum, 8]
        for each in (ranks, against)
        if each is not None
    ]
    whole = [_recalls(hits.sum(0))[:, -len(used) :] for hits in models]
    drawn = [values[..., -len(used) :] for values in _resampled(models, resamples, seed)]

    level = 1 - 0.05 / max(count, 1)
    levels = [level] * count + [0.95]
    differences: list[Difference | None] = [None] * (count + 1)
    if against is not None:
        change = whole[0].sum(1) - whole[1].sum(1)
        spread = [
            _known(np.round(drawn[0][:, place].sum(1) - drawn[1][:, place].sum(1), 9)) for place in range(count + 1)
        ]
        tests = list(map(p_value_of, spread))
        for place, p in enumerate([*holm(tests[:-1]), tests[-1]]):
            span = interval_of(spread[place], levels[place])
            differences[place] = Difference(float(change[place]), span.low, span.high, p)
    keys = [f"{way} {name}" for way, name in used]
    results = tuple(
        StratumResult(
            name,
            int(texts[place].sum()),
            len(np.unique(ranks.image_of_text[texts[place]])),
            dict(zip(keys, whole[0][place].tolist(), strict=True)),
            {key: interval_of(_known(drawn[0][:, place, at]), levels[place]) for at, key in enumerate(keys)},
            float(whole[0][place].sum()),
            interval_of(_known(drawn[0][:, place].sum(1)), levels[place]),
            differences[place],
        )
        for place, name in enumerate((*strata.names, ALL))
    )
    left_out = int((strata.of_text < 0).sum())
    return StratumReport(strata.title, results, 100 * level, resamples, left_out)


def _recalls(hits: Int[np.ndarray, "*draw 8"]) -> Float[np.ndarray, "*draw 6"]:
    """The six recalls in percent; NaN if there is no query."""
    queries = hits[..., [6, 6, 6, 7, 7, 7]]
    return np.divide(100 * hits[..., :6], queries, out=np.full(queries.shape, np.nan), where=queries > 0)


def _resampled(
    models: Sequence[np.ndarray], resamples: int, seed: int
) -> list[Float[np.ndarray, "resample stratum 6"]]:
    """The recalls of each model under the same draws of images."""
    random, size = np.random.default_rng(seed), len(models[0])
    flat = np.concatenate([hits.reshape(size, -1) for hits in models], 1)
    draws = (np.bincount(random.integers(size, size=size), minlength=size) for _ in range(resamples))
    sums = np.stack([draw @ flat for draw in draws]).reshape(resamples, len(models), -1, 8)
    return [_recalls(sums[:, model]) for model in range(len(models))]


def _known(drawn: Float[np.ndarray, " resample"]) -> Float[np.ndarray, " known"]:
    """The draws that have a query of a small stratum."""
    return drawn[~np.isnan(drawn)]


def _nested(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Values by direction and level."""
    nested: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        way, level = key.split(" ")
        nested.setdefault(way, {})[level] = value
    return nested


def _span(interval: Interval) -> str:
    return f"{interval.low:.1f} to {interval.high:.1f}"
