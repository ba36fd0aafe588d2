"""Choose what pictures and pages show of an explanation: colours, tags, arrows and bars. Nothing is drawn here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from regard.explain.alignment import arrow_name
from regard.explain.explanation import Explanation
from regard.explain.palette import COLOURS, PLAIN, MarkedRegion, MatchedRegion, matched_regions, region_tag
from regard.explain.relation_effects import RelationEffects

MAX_BARS, MAX_ARROWS = 8, 8
END_COLOUR = "#44546a"  # of a region that only a relation names


@dataclass(frozen=True)
class Bar:
    """A number and its name. A faint bar is one that noise may explain."""

    name: str
    value: float
    colour: str = END_COLOUR
    is_faint: bool = False


@dataclass(frozen=True)
class BarChart:
    """Bars from a common zero. Values in `noise`, on both sides of zero, are as large as those of random changes."""

    title: str
    bars: tuple[Bar, ...]
    note: str = ""
    noise: float = 0.0
    shared: tuple[float, ...] = ()  # values of another chart with the same scale

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and the highest value of the scale, zero included."""
        values = [0.0, -self.noise, self.noise, *(bar.value for bar in self.bars), *self.shared]
        return min(values), max(values)


@dataclass(frozen=True)
class RelationArrow:
    """An arrow from the box of the subject to that of the object."""

    subject: int
    object: int
    colour: str
    name: str


@dataclass(frozen=True)
class ExplanationView:
    """What is shown of one sentence. A region has one colour: in its box, its row, its words and its arrows."""

    explanation: Explanation
    matched: tuple[MatchedRegion, ...]
    boxes: tuple[MarkedRegion, ...]
    arrows: tuple[RelationArrow, ...]
    charts: tuple[BarChart, ...]

    @classmethod
    def of(cls, explanation: Explanation, taken: Mapping[int, str] | None = None) -> "ExplanationView":
        """Choose what to show. `taken` are the colours of regions in the view of another sentence."""
        taken = {region: colour for region, colour in (taken or {}).items() if colour != PLAIN}
        alignment, matched = explanation.alignment, matched_regions(explanation.alignment)
        kept = {each.region: taken[each.region] for each in matched if each.region in taken}
        # First the colours of no region, then those of regions that are not shown here.
        free = [colour for colour in COLOURS if colour not in kept.values()]
        unused = iter(sorted(free, key=lambda colour: colour in taken.values()))
        matched = [replace(each, colour=kept.get(each.region) or next(unused, PLAIN)) for each in matched]
        boxes = [
            MarkedRegion(each.region, each.colour, region_tag(alignment, each))
            for each in matched
            if each.colour != PLAIN
        ]
        own = {box.region: box.colour for box in boxes}
        arrows = _arrows(explanation, own)
        for region in dict.fromkeys(end for arrow in arrows for end in (arrow.subject, arrow.object)):
            if region not in own:
                boxes.append(MarkedRegion(region, END_COLOUR, f"{region}  {alignment.labels[region]}".strip()))
        return cls(explanation, tuple(matched), tuple(boxes), tuple(arrows), tuple(_charts(explanation, own)))

    @property
    def colour_of_word(self) -> dict[int, str]:
        """The colours of the words that have a region."""
        return {word: each.colour for each in self.matched for word in each.words}

    @property
    def colours(self) -> dict[int, str]:
        """The colours of the regions that words match."""
        return {each.region: each.colour for each in self.matched}


def views_of(explanation: Explanation) -> list[ExplanationView]:
    """Return the view of the sentence and, if there is another, of that sentence, with the same colours and scales."""
    first = ExplanationView.of(explanation)
    if explanation.against is None:
        return [first]
    second = ExplanationView.of(explanation.against, first.colours)
    return [_with_scales_of(first, second), _with_scales_of(second, first)]


def _with_scales_of(view: ExplanationView, other: ExplanationView) -> ExplanationView:
    limits = {chart.title: chart.limits for chart in other.charts}
    charts = tuple(replace(chart, shared=limits.get(chart.title, ())) for chart in view.charts)
    return replace(view, charts=charts)


def decisive_charts(explanation: Explanation) -> list[BarChart]:
    """Return which words and which relations decide between the two sentences; nothing if there is only one."""
    if explanation.against is None:
        return []
    bars = tuple(Bar(str(each), each.effect) for each in explanation.differences[:MAX_BARS])
    charts = [BarChart("words that decide", bars, "score minus the score with the other words in this place")]
    if explanation.decisive_relations is not None:
        title = "relations of the image that decide"
        charts.append(_relation_chart(title, explanation, explanation.decisive_relations, {}))
    return [chart for chart in charts if chart.bars]


def shortened(value: float) -> str:
    """Return a score with three decimals, or a number below 0.1 with four."""
    return f"{value:.{3 if abs(value) >= 0.1 else 4}f}"


def signed(value: float) -> str:
    """Return a difference with its sign and three decimals; without a sign of zero."""
    return f"{round(value, 3) + 0.0:+.3f}"


def _arrows(explanation: Explanation, colours: Mapping[int, str]) -> list[RelationArrow]:
    """The relations of the image that the sentence's relations match, and the notable ones, largest effect first."""
    named = {each.regions: arrow_name(each.image_relation) for each in explanation.alignment.relations}
    names = explanation.name_relations()
    if explanation.relations is not None:
        for place in _largest(explanation.relations):
            if explanation.relations.notable[place]:
                subject, _, object_ = explanation.relations.relations[place]
                named.setdefault((subject, object_), arrow_name(names[place]))
    return [
        RelationArrow(subject, object_, colours.get(subject, END_COLOUR), name)
        for (subject, object_), name in list(named.items())[:MAX_ARROWS]
        if subject != object_
    ]


def _charts(explanation: Explanation, colours: Mapping[int, str]) -> list[BarChart]:
    charts = [BarChart("parts of the score", _bars(explanation.parts), f"their sum is {explanation.score:.3f}")]
    if explanation.without:
        note = "the model scores again with less; the differences are no addends"
        charts.append(BarChart("score without", _bars(explanation.without), note))
    if explanation.relations is not None and explanation.relations.relations:
        charts.append(
            _relation_chart("what each relation of the image adds", explanation, explanation.relations, colours)
        )
    if matched := explanation.alignment.relations:
        bars = tuple(
            Bar(f"{arrow_name(each.text_relation)}   ≈   {arrow_name(each.image_relation)}", each.score)
            for each in matched[:MAX_BARS]
        )
        note = "each relation of the sentence with the most similar one of the image"
        charts.append(BarChart("relations that match", bars, note))
    return charts


def _bars(values: Mapping[str, float]) -> tuple[Bar, ...]:
    return tuple(Bar(name, value) for name, value in values.items())


def _relation_chart(
    title: str, explanation: Explanation, effects: RelationEffects, colours: Mapping[int, str]
) -> BarChart:
    """The largest effects. Those that do not exceed the noise are faint."""
    names = explanation.name_relations()
    bars = tuple(
        Bar(
            arrow_name(names[place]),
            float(effects.effects[place]),
            colours.get(effects.relations[place][0], END_COLOUR),
            not effects.notable[place],
        )
        for place in _largest(effects)[:MAX_BARS]
    )
    hidden = len(effects.relations) - len(bars)
    shown = f"the {len(bars)} largest of {len(effects.relations)}; " if hidden else ""
    noise = "the noise is unknown: no two regions are unrelated"
    if effects.noise is not None:
        noise = f"gray: no more than ±{effects.noise:.4f}, the largest effect of {len(effects.random)} random relations"
    return BarChart(title, bars, shown + noise, effects.noise or 0.0)


def _largest(effects: RelationEffects) -> Sequence[int]:
    return abs(effects.effects).argsort(kind="stable")[::-1].tolist()
