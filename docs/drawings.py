"""Draw the data flow of each model.

    python docs/drawings.py             write docs/models/*.svg
    python docs/drawings.py FOLDER      write FOLDER/*.png

A box is a quantity that the model computes, with its equation on the model's page. The colour of a box says how often
it is computed: once per image, once per sentence, or once per pair, which costs the most.
"""

import sys
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

Box = tuple[float, float, str, str, str]  # column, row, kind, name, note

KINDS = {
    "given": ("#ecebe7", "input"),
    "image": ("#cfe3f1", "once per image"),
    "text": ("#d9ecd0", "once per sentence"),
    "pair": ("#f8ddc2", "once per pair"),
    "score": ("#f2b9ab", "the score"),
}
INK, PLAIN = "#22252a", "#5d6066"
WIDTH, HEIGHT, COLUMN, ROW = 2.8, 0.82, 3.3, 1.25

# The boxes of each model by name, and its arrows: "a b" is an arrow from a to b.
MODELS: dict[str, tuple[dict[str, Box], str]] = {
    "vse_infinity": (
        {
            "f": (0, 0, "given", "region features", "from a detector"),
            "s": (0, 1, "given", "sentence", ""),
            "v": (1, 0, "image", "regions", "linear + perceptron, eq. 1"),
            "t": (1, 1, "text", "words", "text encoder"),
            "pv": (2, 0, "image", "one vector", "sorted, weighted by rank, eq. 2-3"),
            "pt": (2, 1, "text", "one vector", "sorted, weighted by rank, eq. 2-3"),
            "S": (3, 0.5, "score", "score", "product, eq. 4"),
        },
        "f v, s t, v pv, t pt, pv S, pt S",
    ),
    "scan": (
        {
            "f": (0, 0, "given", "region features", "from a detector"),
            "s": (0, 1, "given", "sentence", ""),
            "v": (1, 0, "image", "regions", "linear, unit length"),
            "t": (1, 1, "text", "words", "text encoder, unit length"),
            "a": (2, 0, "pair", "attention", "words attend to regions, eq. 1-2"),
            "c": (2, 1, "pair", "one cosine per word", "word, attended regions, eq. 3"),
            "S": (3, 0.5, "score", "score", "mean or log-sum-exp, eq. 4-5"),
        },
        "f v, s t, v a, t a, t c, a c, c S",
    ),
    "cmsei": (
        {
            "b": (0, -0.5, "given", "boxes", ""),
            "f": (0, 0.5, "given", "region features", "from a detector"),
            "r": (0, 1.5, "given", "relations", "from a scene graph"),
            "s": (0, 2.5, "given", "sentence", ""),
            "v": (1, 0.5, "image", "regions", "linear, unit length, eq. 1"),
            "t": (3, 2.5, "text", "words", "text encoder, unit length, eq. 1"),
            "spa": (2, 0, "image", "spatial graph", "edges from boxes, eq. 2, 4"),
            "sem": (2, 1, "image", "semantic graph", "edges from relations, eq. 3, 4"),
            "V": (3, 0.5, "image", "regions, whole image", "mean of both, eq. 5"),
            "va": (4, 0.5, "pair", "regions attend to words", "scaled and shifted, eq. 6-7"),
            "ta": (4, 2.0, "pair", "words attend to regions", "scaled and shifted, eq. 6-7"),
            "vg": (5, 0.5, "pair", "reweighted regions", "by the whole sentence, eq. 8"),
            "tg": (5, 2.0, "pair", "reweighted words", "by the whole image, eq. 8"),
            "S": (6, 1.25, "score", "score", "pooled · whole, eq. 9-11"),
        },
        "b spa, f v, r sem, s t, v spa, v sem, spa V, sem V, V va, t va, V ta, t ta, va vg, ta tg, vg S, tg S",
    ),
    "hire": (
        {
            "b": (0, -0.5, "given", "boxes", ""),
            "f": (0, 0.5, "given", "region features", "from a detector"),
            "r": (0, 1.5, "given", "relations", "from a scene graph"),
            "s": (0, 2.5, "given", "sentence", ""),
            "v": (1, 0.5, "image", "regions", "linear, unit length, eq. 1"),
            "t": (4, 2.5, "text", "words", "text encoder, unit length, eq. 1"),
            "i": (2, 0.5, "image", "implicit relations", "regions attend to regions, eq. 2-3"),
            "spa": (3, 0, "image", "spatial graph", "edges from boxes, eq. 4"),
            "sem": (3, 1, "image", "semantic graph", "edges from relations, eq. 4"),
            "V": (4, 0.5, "image", "regions, whole image", "mean of both, eq. 4"),
            "va": (5, 0.5, "pair", "regions attend to words", "guided by the sentence, eq. 6"),
            "ta": (5, 2.0, "pair", "words attend to regions", "guided by the image, eq. 6"),
            "S": (6, 1.25, "score", "score", "pooled · whole, eq. 6"),
        },
        "b spa, f v, r sem, s t, v i, i spa, i sem, spa V, sem V, V va, t va, V ta, t ta, va S, ta S",
    ),
    "sgraf": (
        {
            "f": (0, 0.5, "given", "region features", "from a detector"),
            "s": (0, 2.5, "given", "sentence", ""),
            "v": (1, 0.5, "image", "regions", "linear, unit length, eq. 1"),
            "t": (1, 2.5, "text", "words", "text encoder, unit length, eq. 1"),
            "vg": (2, 0, "image", "whole image", "weighted regions, eq. 2"),
            "tg": (2, 3, "text", "whole sentence", "weighted words, eq. 2"),
            "a": (2, 1.5, "pair", "words attend to regions", "eq. 3-4"),
            "n0": (3, 0.75, "pair", "global node", "similarity vector, eq. 5"),
            "nw": (3, 2.25, "pair", "one node per word", "similarity vectors, eq. 5"),
            "h": (4, 1.5, "pair", "combined nodes", "reasoning, eq. 6-7; filtering, eq. 8-9"),
            "S": (5, 1.5, "score", "score", "sigmoid, eq. 10"),
        },
        "f v, s t, v vg, t tg, v a, t a, vg n0, tg n0, a nw, n0 h, nw h, h S",
    ),
    "tvrn": (
        {
            "b": (0, -0.5, "given", "boxes", ""),
            "f": (0, 0.5, "given", "region features", "from a detector"),
            "s": (0, 2.5, "given", "sentence", ""),
            "d": (0, 3.5, "given", "word relations", "from a parser"),
            "v": (1, 0.5, "image", "regions", "linear, unit length, eq. 1"),
            "t": (1, 2.5, "text", "words", "text encoder, unit length, eq. 1"),
            "c": (2, 0, "image", "context of regions", "similar, overlapping ones, eq. 2-4"),
            "e": (2, 3.5, "text", "context of words", "similar, related ones, eq. 2-4"),
            "u": (3, 0.5, "image", "unified regions", "GRU over regions, context, eq. 5-6"),
            "x": (3, 1.6, "pair", "visual context of words", "attention to regions, eq. 7"),
            "z": (4, 2.3, "pair", "refined words", "GRU over words, context, eq. 8"),
            "g": (4, 0.5, "pair", "whole image and sentence", "weighted fragments, eq. 9"),
            "r": (5, 2.3, "pair", "words attend to regions", "guided by the image, eq. 10-12"),
            "n": (6, 1.25, "pair", "nodes", "similarity vectors, eq. 13"),
            "S": (7, 1.25, "score", "score", "reasoning, sigmoid, eq. 14-15"),
        },
        "b c, f v, s t, d e, v c, t e, v u, c u, c x, e x, t z, x z, u g, z g, z r, u r, g r, g n, r n, n S",
    ),
    "resg": (
        {
            "b": (0, -0.5, "given", "boxes, labels", ""),
            "f": (0, 0.5, "given", "region features", "from a detector"),
            "r": (0, 1.5, "given", "relations", "from a scene graph, or inferred"),
            "s": (0, 2.5, "given", "sentence", ""),
            "d": (0, 3.5, "given", "roles of words", "from a parser"),
            "o": (1, 0, "image", "concepts", "regions with classes, eq. 1-2"),
            "k": (1, 1, "image", "image relations", "subject, predicate, object, eq. 3-5"),
            "w": (1, 2.5, "text", "words", "text encoder, eq. 7"),
            "q": (1, 3.5, "text", "sentence relations", "GRU over their words, eq. 8"),
            "I": (2, 0.5, "image", "image graph", "attention to neighbours, eq. 6"),
            "T": (2, 3, "text", "sentence graph", "attention to neighbours, eq. 6"),
            "m": (3, 1.1, "pair", "concepts and words", "the best match of each, eq. 9"),
            "n": (3, 2.4, "pair", "relations of both", "the best match of each, eq. 9"),
            "S": (4, 1.75, "score", "score", "sum of both, eq. 10"),
        },
        "b o, f o, f k, r k, s w, d q, w q, o I, k I, w T, q T, I m, T m, I n, T n, m S, n S",
    ),
}


def draw_model(name: str, path: Path) -> None:
    """Draw the data flow of a model to an SVG or a PNG."""
    boxes, arrows = MODELS[name]
    rows, columns = [box[1] for box in boxes.values()], [box[0] for box in boxes.values()]
    width, height = COLUMN * max(columns) + WIDTH, ROW * (max(rows) - min(rows)) + HEIGHT
    figure = Figure(figsize=(0.62 * (width + 0.6), 0.62 * (height + 1.1)), dpi=130)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-0.3, width + 0.3), ylim=(ROW * max(rows) + HEIGHT + 0.8, ROW * min(rows) - 0.3))
    axes.axis("off")
    for arrow in arrows.split(", "):
        start, end = (boxes[key] for key in arrow.split())
        _arrow(axes, start, end)
    for column, row, kind, title, note in boxes.values():
        x, y = COLUMN * column, ROW * row
        shape = FancyBboxPatch((x, y), WIDTH, HEIGHT, boxstyle="round,pad=0,rounding_size=0.12", lw=0.8)
        shape.set(facecolor=KINDS[kind][0], edgecolor=PLAIN, zorder=3)
        axes.add_patch(shape)
        middle = (x + WIDTH / 2, y + HEIGHT / 2)
        axes.text(
            middle[0], middle[1] - 0.15 * bool(note), title, ha="center", va="center", size=9, color=INK, zorder=4
        )
        axes.text(middle[0], middle[1] + 0.2, note, ha="center", va="center", size=6.3, color=PLAIN, zorder=4)
    x, used = 0.0, {box[2] for box in boxes.values()}
    for kind, (colour, meaning) in KINDS.items():
        if kind in used - {"score"}:
            y = ROW * max(rows) + HEIGHT + 0.38
            axes.add_patch(FancyBboxPatch((x, y), 0.3, 0.2, boxstyle="round,pad=0", fc=colour, ec=PLAIN, lw=0.5))
            axes.text(x + 0.42, y + 0.1, meaning, va="center", size=7, color=PLAIN)
            x += 0.8 + 0.125 * len(meaning)
    # SVG text stays text, in fonts of similar widths. The fixed salt and date give the same bytes on every call.
    options = {"svg.fonttype": "none", "svg.hashsalt": name, "font.family": ["DejaVu Sans", "Verdana", "sans-serif"]}
    with rc_context(options):
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _arrow(axes, start: Box, end: Box) -> None:
    """Draw an arrow from the right edge to the left edge; within a column, between the facing edges."""
    is_forward = end[0] > start[0]
    below = 1 if end[1] > start[1] else 0
    tail = (
        (COLUMN * start[0] + WIDTH, ROW * start[1] + HEIGHT / 2)
        if is_forward
        else (COLUMN * start[0] + WIDTH / 2, ROW * start[1] + HEIGHT * below)
    )
    head = (
        (COLUMN * end[0], ROW * end[1] + HEIGHT / 2)
        if is_forward
        else (COLUMN * end[0] + WIDTH / 2, ROW * end[1] + HEIGHT * (1 - below))
    )
    style = {
        "arrowstyle": "-|>,head_width=0.16,head_length=0.32",
        "color": PLAIN,
        "lw": 0.9,
        "shrinkA": 0,
        "shrinkB": 0,
    }
    axes.annotate("", head, tail, arrowprops=style, zorder=2)


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    for name in MODELS:
        draw_model(name, folder / f"{name}.png" if folder else Path(__file__).parent / "models" / f"{name}.svg")


if __name__ == "__main__":
    main()
