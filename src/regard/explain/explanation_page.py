"""Write an explanation as one HTML file: no script, no request, readable in a dark and in a light theme.

Each word is a link to its region in the table of weights. The region's box and row are emphasised while the word has
the pointer or the keyboard's focus.
"""

import base64
import io
import os
from html import escape

from PIL import Image

from regard.explain.alignment import largest
from regard.explain.explanation import Explanation
from regard.explain.explanation_view import (
    END_COLOUR,
    BarChart,
    ExplanationView,
    decisive_charts,
    shortened,
    signed,
    views_of,
)
from regard.explain.tag_placement import Rect, place_tag
from regard.files import replacing
from regard.photographs import aspect_of, load_photograph

SIDE = 1000.0  # units of the longer side of the drawing, as of the next two
TAG_LETTER, TAG_HEIGHT = 12.5, 28.0  # the mean width of a letter, at most
JPEG_QUALITY = 88

STYLE = """
:root { color-scheme: light dark; --ink: #22252a; --plain: #63666b; --paper: #ffffff; --panel: #efede7;
  --line: #d8d5cc; --heat: #d0573c; --bar: #44546a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e6e1; --plain: #a5a29a; --paper: #191b1e; --panel: #2a2d31;
  --line: #41454b; --heat: #e0694d; --bar: #8fa3bf; } }
* { box-sizing: border-box; }
body { margin: 2rem auto; padding: 0 1.5rem; max-width: 90rem; font: 16px/1.5 system-ui, sans-serif;
  color: var(--ink); background: var(--paper); }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .25rem; }
p { margin: .25rem 0; } .plain { color: var(--plain); font-size: .875rem; }
.columns { display: grid; gap: 2rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); }
.columns > section { min-width: 0; }
svg.image { display: block; width: 100%; max-width: 46rem; height: auto; }
svg.image rect.ground { fill: var(--panel); }
svg.image text { font-size: 20px; font-weight: 700; fill: white; text-anchor: middle; }
.words { display: flex; flex-wrap: wrap; gap: .25rem .35rem; margin: .75rem 0; padding: 0; list-style: none; }
.words a { display: block; padding: .05rem .5rem; border-radius: .4rem; text-decoration: none; font-size: 1.1rem;
  color: var(--ink); background: color-mix(in srgb, var(--c, var(--panel)) var(--s, 100%), var(--paper));
  border-bottom: 4px solid var(--c, var(--line)); }
.words a:focus-visible, .scroll:focus-visible { outline: 3px solid var(--ink); outline-offset: 2px; }
.words small { display: block; padding-left: .5rem; color: var(--plain); }
.words .most small.cost { color: var(--ink); font-weight: 700; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .8rem; }
.weights td { min-width: 2.6rem; padding: .1rem .25rem; text-align: right; border: 1px solid var(--paper);
  font-variant-numeric: tabular-nums;
  background: color-mix(in srgb, var(--heat) calc(var(--w) * 70%), var(--panel)); }
.weights th { padding: .1rem .4rem; text-align: right; font-weight: 600; white-space: nowrap; }
.weights thead th { text-align: center; border-bottom: 3px solid var(--c, transparent); }
.weights tbody th { border-right: 4px solid var(--c, transparent); }
.weights tr:target th { outline: 2px solid var(--ink); }
.bars td, .bars th { padding: .1rem .4rem; text-align: left; font-weight: 400; }
.bars td:last-child { text-align: right; font-variant-numeric: tabular-nums; }
.bars .faint th, .bars .faint td { color: var(--plain); }
.bars svg { display: block; width: 11rem; height: .8rem; } .bars svg .noise { fill: var(--line); }
.bars svg .zero { stroke: var(--plain); } .bars svg .bar { fill: var(--bar); }
.bars .faint svg .bar { fill: var(--plain); }
"""


def write_explanation_page(
    explanation: Explanation,
    path: str | os.PathLike[str],
    photograph: Image.Image | str | os.PathLike[str] | None = None,
    aspect: float = 4 / 3,
) -> None:
    """Write an explanation to `path` as one HTML file with the photograph in it. A failed call leaves no file.

    Without a photograph, the boxes are drawn on a plain panel whose width is `aspect` times its height. Raises
    InputError if the photograph cannot be read.
    """
    photograph = load_photograph(photograph)
    aspect = aspect_of(photograph, aspect)
    views = views_of(explanation)
    keys = "ab"[: len(views)]
    title = escape(explanation.image_id or "Explanation")
    sections = [_section(view, key, photograph, aspect) for view, key in zip(views, keys, strict=True)]
    decisive = ""
    if explanation.against is not None:
        charts = "".join(f"<section>{_chart(chart)}</section>" for chart in decisive_charts(explanation))
        heading = f"What decides between the two: a difference of {explanation.margin:+.3f}"
        decisive = f"<h2>{heading}</h2>\n<div class='columns'>{charts}</div>"
    rules = "".join(_emphasis(view, key) for view, key in zip(views, keys, strict=True))
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{STYLE}{rules}</style>
</head>
<body>
<h1>{title}</h1>
<p class="plain">Each word has the colour of its best-matching region, and leads to the weights of that region.</p>
<main>
<div class="columns">
{"".join(sections)}
</div>
{decisive}
</main>
</body>
</html>
"""
    with replacing(path) as temporary:
        temporary.write_text(page, "utf-8")


def _section(view: ExplanationView, key: str, photograph: Image.Image | None, aspect: float) -> str:
    explanation = view.explanation
    heading = f"<h2>“{escape(explanation.caption)}”: score {explanation.score:.3f}</h2>"
    parts = [heading, _image(view, key, photograph, aspect), _words(view, key)]
    parts += ["<div class='charts'>", *map(_chart, view.charts), "</div>"]
    parts += ["<h3>Weights of regions and words</h3>", _weights(view, key)]
    return f"<section class='{key}'>\n{chr(10).join(parts)}\n</section>\n"


def _image(view: ExplanationView, key: str, photograph: Image.Image | None, aspect: float) -> str:
    """The photograph with boxes, tags and arrows; nothing if there are neither a photograph nor boxes."""
    boxes = view.explanation.alignment.boxes
    if photograph is None and boxes is None:
        return ""
    width, height = min(SIDE, SIDE * aspect), min(SIDE, SIDE / aspect)
    drawn = [f"<rect class='ground' width='{width:.0f}' height='{height:.0f}'/>"]
    if photograph is not None:
        data = io.BytesIO()
        photograph.convert("RGB").save(data, "JPEG", quality=JPEG_QUALITY)
        source = base64.b64encode(data.getvalue()).decode()
        drawn = [f"<image width='{width:.0f}' height='{height:.0f}' href='data:image/jpeg;base64,{source}'/>"]
    described = "; ".join(each.tag for each in view.boxes)
    tags = []
    if boxes is not None:
        corners = boxes.clip(0, 1) * [width, height, width, height]
        taken: list[Rect] = []
        for each in view.boxes:
            wide = TAG_LETTER * len(each.tag) + 14
            x, y = place_tag(corners[each.region], (wide, TAG_HEIGHT), (0.0, 0.0, width, height), taken)
            taken.append((x, y, x + wide, y + TAG_HEIGHT))
            tags.append(
                f"<rect x='{x:.1f}' y='{y:.1f}' width='{wide:.1f}' height='{TAG_HEIGHT}' fill='{each.colour}' "
                f"stroke='white'/><text x='{x + wide / 2:.1f}' y='{y + 20:.1f}'>{escape(each.tag)}</text>"
            )
        for each in reversed(view.boxes):  # the first is drawn last, on top
            x1, y1, x2, y2 = corners[each.region].tolist()
            rect = f"x='{x1:.1f}' y='{y1:.1f}' width='{x2 - x1:.1f}' height='{y2 - y1:.1f}' fill='none'"
            drawn.append(
                f"<g class='box-{each.region}'><rect {rect} stroke='white' stroke-opacity='.8' stroke-width='8'/>"
                f"<rect {rect} stroke='{each.colour}' stroke-width='5'/></g>"
            )
        for number, arrow in enumerate(view.arrows):
            (x1, y1), (x2, y2) = (
                ((corners[end][:2] + corners[end][2:]) / 2).tolist() for end in (arrow.subject, arrow.object)
            )
            marker = f"{key}-arrow-{number}"
            drawn.append(
                f"<defs><marker id='{marker}' viewBox='0 0 10 10' refX='9' refY='5' markerWidth='22' markerHeight='22' "
                f"markerUnits='userSpaceOnUse' orient='auto'><path d='M0 0L10 5L0 10z' fill='{arrow.colour}' "
                f"stroke='white'/></marker></defs><g stroke-linecap='round'><title>{escape(arrow.name)}</title>"
                f"<path d='M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}' stroke='white' stroke-width='9'/>"
                f"<path d='M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}' stroke='{arrow.colour}' stroke-width='4' "
                f"marker-end='url(#{marker})'/></g>"
            )
    label = escape(f"Regions: {described}", quote=True)
    size = f"0 0 {width:.0f} {height:.0f}"
    return f'<svg class="image" viewBox="{size}" role="img" aria-label="{label}">{"".join(drawn + tags)}</svg>'


def _words(view: ExplanationView, key: str) -> str:
    alignment, costs = view.explanation.alignment, view.explanation.word_costs.tolist()
    best, colours = alignment.best_regions().tolist(), view.colour_of_word
    highest = max(float(alignment.weights.max(initial=0)), 1e-9)
    context = None if alignment.context is None else largest(alignment.context).tolist()
    items = []
    for at, (word, cost, region) in enumerate(zip(alignment.words, costs, best, strict=True)):
        style = ""
        if at in colours:
            strength = 15 + 40 * float(alignment.weights[:, at].max().clip(0)) / highest
            style = f" style='--c:{colours[at]};--s:{strength:.0f}%'"
        target = f" href='#{key}-region-{region}'" if region >= 0 else ""
        notes = f"<small class='cost'>{signed(cost)}</small>"
        if context is not None and context[at] >= 0:
            notes += f"<small>← {context[at]}</small>"
        most = " class='most'" if at == view.explanation.costliest_word else ""
        items.append(f"<li{most}><a class='word-{at}'{target}{style}>{escape(word)}</a>{notes}</li>")
    note = "Below each word: what the score loses without it."
    if context is not None:
        note += " ←: the region that the word takes most context from."
    return f"<ol class='words'>{''.join(items)}</ol><p class='plain'>{note}</p>"


def _weights(view: ExplanationView, key: str) -> str:
    alignment, colours, colour_of_word = view.explanation.alignment, view.colours, view.colour_of_word
    highest = max(float(alignment.weights.max(initial=0)), 1e-9)

    def heading(scope: str, text: str, colour: str | None) -> str:
        style = f" style='--c:{colour}'" if colour else ""
        return f"<th scope='{scope}'{style}>{escape(text)}</th>"

    head = "".join(heading("col", word, colour_of_word.get(at)) for at, word in enumerate(alignment.words))
    rows = []
    for region, (label, weights) in enumerate(zip(alignment.labels, alignment.weights.tolist(), strict=True)):
        cells = "".join(f"<td style='--w:{max(value, 0) / highest:.2f}'>{value:.2f}</td>" for value in weights)
        name = heading("row", f"{label} {region}".strip(), colours.get(region))
        rows.append(f"<tr id='{key}-region-{region}'>{name}{cells}</tr>")
    table = f"<table class='weights'><thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f"<div class='scroll' tabindex='0' role='region' aria-label='Weights of regions and words'>{table}</div>"


def _chart(chart: BarChart) -> str:
    low, high = chart.limits
    scale = 100 / max(high - low, 1e-9)
    zero, noise = 0.0 - low * scale, chart.noise * scale
    band = f"<rect class='noise' x='{zero - noise:.1f}' width='{2 * noise:.1f}' height='12'/>" if noise else ""
    rows = []
    for bar in chart.bars:
        start, size = zero + min(bar.value, 0.0) * scale, abs(bar.value) * scale
        fill = "" if bar.is_faint or bar.colour == END_COLOUR else f" style='fill:{bar.colour}'"
        rect = f"<rect class='bar' x='{start:.1f}' y='2' width='{size:.1f}' height='8'{fill}/>"
        line = f"<path class='zero' d='M{zero:.1f} 0V12'/>"
        drawing = f"<svg viewBox='0 0 100 12' preserveAspectRatio='none' aria-hidden='true'>{band}{rect}{line}</svg>"
        faint = " class='faint'" if bar.is_faint else ""
        name = f"<th scope='row'>{escape(bar.name)}</th>"
        rows.append(f"<tr{faint}>{name}<td>{drawing}</td><td>{shortened(bar.value)}</td></tr>")
    note = f"<p class='plain'>{escape(chart.note)}</p>" if chart.note else ""
    title = chart.title[:1].upper() + chart.title[1:]
    return f"<h3>{escape(title)}</h3>{note}<table class='bars'><tbody>{''.join(rows)}</tbody></table>"


def _emphasis(view: ExplanationView, key: str) -> str:
    """The rules that emphasise the box and the row of a word's region while the word is pointed at or focused."""
    rules = []
    for region in view.colours:
        words = next(each.words for each in view.matched if each.region == region)
        active = ",".join(f".word-{word}:is(:hover,:focus)" for word in words)
        section = f".{key}:has({active})"
        rules.append(f"{section} .box-{region} rect{{stroke-width:14}}\n")
        rules.append(f"{section} #{key}-region-{region} th{{outline:2px solid var(--ink)}}\n")
    return "".join(rules)
