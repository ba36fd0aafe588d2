"""The pictures and the pages of explanations."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from regard.explain import Alignment, Explanation, draw_explanation, write_explanation_page
from regard.explain.alignment import MatchedRelation
from regard.explain.explanation import WordDifference
from regard.explain.explanation_view import MAX_BARS, ExplanationView, decisive_charts, views_of
from regard.explain.palette import COLOURS, PLAIN
from regard.explain.relation_effects import RelationEffects

VOID = {"meta", "rect", "path", "image"}  # elements without an end tag, or that close themselves


def made(regions=4, words=5, relations=6, seed=0, **more):
    rng = np.random.default_rng(seed)
    boxes = np.sort(rng.uniform(size=(regions, 2, 2)), axis=1).reshape(regions, 4).astype(np.float32)
    texts = tuple(f"word{at}" for at in range(words))
    labels = tuple(f"thing {at}" for at in range(regions))
    alignment = Alignment(texts, rng.uniform(0, 1, (regions, words)).astype(np.float32), boxes, labels, 0.5)
    pairs = [(s, 1, o) for s in range(regions) for o in range(regions) if s != o][:relations]
    effects = RelationEffects(tuple(pairs), rng.normal(0, 0.02, len(pairs)), rng.normal(0, 0.01, 20))
    return Explanation(
        "an image",
        " ".join(texts),
        alignment,
        ("none", "near"),
        {"local": 0.3, "global": 0.2},
        {},
        rng.normal(0, 0.1, words),
        effects,
        **more,
    )


def pair(**more):
    change = (WordDifference(("word1",), ("other", "words"), 0.12), WordDifference((), ("more",), -0.02))
    return made(against=made(words=7, seed=1), differences=change, **more)


def test_notable_relations_and_those_that_match_are_arrows():
    found = made()
    view = ExplanationView.of(found)
    names = [(arrow.subject, arrow.object) for arrow in view.arrows]
    notable = [found.relations.relations[at] for at in np.flatnonzero(found.relations.notable)]
    assert set(names) == {(subject, object_) for subject, _, object_ in notable}
    assert 0 < len(names) < len(found.relations.relations)
    sizes = {(s, o): abs(e) for (s, _, o), e in zip(found.relations.relations, found.relations.effects, strict=True)}
    assert [sizes[name] for name in names] == sorted((sizes[name] for name in names), reverse=True)
    related = MatchedRelation(("a", "b", "c"), ("3 thing 3", "near", "2 thing 2"), 0.4, (3, 2))
    matched = replace(found, relations=None, alignment=replace(found.alignment, relations=(related,)))
    view = ExplanationView.of(matched)
    assert [(arrow.subject, arrow.object) for arrow in view.arrows] == [(3, 2)]
    assert {2, 3} <= {box.region for box in view.boxes}
    assert view.charts[-1].bars[0].name == "a –b→ c   ≈   3 thing 3 –near→ 2 thing 2"


def test_regions_beyond_the_colours_are_shown_for_their_relations():
    found = made(36, 25, relations=40)
    view = ExplanationView.of(found)
    ends = {end for arrow in view.arrows for end in (arrow.subject, arrow.object)}
    drawn = {box.region: box.colour for box in view.boxes}
    assert PLAIN in view.colours.values()
    assert ends <= drawn.keys()
    assert PLAIN not in [*drawn.values(), *(arrow.colour for arrow in view.arrows)]
    second = views_of(replace(found, against=made(36, 21, seed=2)))[1]
    assert set(second.colours.values()) - {PLAIN} == set(COLOURS)


def test_a_chart_says_what_is_noise():
    found = made(regions=6, relations=20)
    chart = ExplanationView.of(found).charts[-1]
    assert len(chart.bars) == MAX_BARS
    assert chart.noise == found.relations.noise
    assert [bar.is_faint for bar in chart.bars] == [abs(bar.value) <= chart.noise for bar in chart.bars]
    assert chart.note.startswith("the 8 largest of 20; gray: no more than ±0.0")
    unknown = replace(found, relations=replace(found.relations, random=np.zeros(0)))
    assert "the noise is unknown" in ExplanationView.of(unknown).charts[-1].note


def test_two_sentences_have_the_same_colours_and_scales():
    first, second = views_of(pair())
    shared = first.colours.keys() & second.colours.keys()
    assert shared
    assert all(first.colours[region] == second.colours[region] for region in shared)
    assert len(set(second.colours.values())) == len(second.colours)
    assert set(second.colours.values()) <= set(COLOURS)
    assert [chart.limits for chart in first.charts] == [chart.limits for chart in second.charts]
    assert [bar.name for bar in decisive_charts(pair())[0].bars] == ["word1 / other words", "· / more"]
    assert str(WordDifference(("a",) * 30, (), 0.1)) == f"{'a ' * 19}… / ·"


@pytest.mark.parametrize(("regions", "words"), [(1, 1), (4, 5), (36, 25)])
@pytest.mark.parametrize("with_boxes", [True, False])
def test_explanations_of_any_size_are_drawn(tmp_path, regions, words, with_boxes):
    found = made(regions, words)
    if not with_boxes:
        found = replace(found, alignment=replace(found.alignment, boxes=None))
    draw_explanation(found, tmp_path / "pair.png", aspect=0.5)
    with Image.open(tmp_path / "pair.png") as drawn:
        assert min(drawn.size) > 150
    assert [path.name for path in tmp_path.iterdir()] == ["pair.png"]


def test_two_sentences_are_drawn_beside_each_other(tmp_path):
    photograph = Image.new("RGB", (300, 200), "#101010")
    draw_explanation(made(), tmp_path / "one.png", photograph)
    draw_explanation(pair(), tmp_path / "two.png", photograph)
    dark = {}
    for name in ("one", "two"):
        with Image.open(tmp_path / f"{name}.png") as drawn:
            dark[name] = (np.asarray(drawn.convert("L")) < 40).sum()
    assert dark["two"] == pytest.approx(2 * dark["one"], rel=0.1)


class Page(HTMLParser):
    """Checks that elements are closed in order, and collects attributes."""

    def __init__(self, text):
        super().__init__()
        self.open, self.attributes = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("found", [made(), pair(), made(36, 25)], ids=["one", "two", "large"])
@pytest.mark.parametrize("with_photograph", [True, False])
def test_a_page_is_whole_and_requests_nothing(tmp_path, found, with_photograph):
    photograph = Image.new("RGB", (30, 20), "red") if with_photograph else None
    write_explanation_page(found, tmp_path / "page.html", photograph)
    text = (tmp_path / "page.html").read_text("utf-8")
    page = Page(text)
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    links = [value for name, value in page.attributes if name in ("href", "src")]
    inside, outside = ([link for link in links if link.startswith("#") == kind] for kind in (True, False))
    assert {link[1:] for link in inside} <= set(ids)
    assert len(inside) == sum(len(each.explanation.alignment.words) for each in views_of(found))
    assert all(link.startswith("data:image/jpeg;base64,") for link in outside)
    assert len(outside) == with_photograph * len(views_of(found))
    assert set(re.findall(r"url\(#([^)]*)\)", text)) <= set(ids)
    assert not re.search(r"https?:|@import|<script|<link", text)


def test_names_are_escaped(tmp_path):
    found = made(1, 1)
    alignment = replace(found.alignment, words=("<i>",), labels=("<b>",))
    write_explanation_page(replace(found, image_id="<u>", alignment=alignment), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text("utf-8")
    assert not re.search(r"<[ibu]>", text)
    Page(text)
