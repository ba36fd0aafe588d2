import json

import numpy as np
import pytest
from PIL import Image

from regard.charts import draw_changes, draw_curves, draw_results
from regard.files import InputError


def test_names_are_not_read_as_mathematics(tmp_path):
    draw_changes([("cost$^$x", (1.0, 0.0, 2.0), ""), ("$", None, "a$_$b")], tmp_path / "changes.png", "of $^$")
    assert (tmp_path / "changes.png").stat().st_size > 0


def step(number, loss=1.0):
    return {"event": "step", "step": number, "epoch": number / 10, "loss": loss / number, "lr": 1e-3}


def validation(epoch, recall=None):
    recall = 20.0 * epoch if recall is None else recall
    way = {"r1": recall, "r5": recall, "r10": recall, "medr": 2.0, "meanr": 3.0}
    return {
        "event": "validation",
        "step": 10 * epoch,
        "epoch": float(epoch),
        "rsum": 6 * recall,
        "i2t": way,
        "t2i": way,
    }


def lines(*events):
    return [json.dumps(event) for event in events]


RUN = lines(*map(step, range(1, 11)), validation(1), *map(step, range(11, 21)), validation(2))


@pytest.fixture
def drawn(tmp_path):
    """Returns a function that draws the curves of some lines and returns the pixels."""

    def draw(some_lines):
        (tmp_path / "metrics.jsonl").write_text("\n".join(some_lines) + "\n")
        draw_curves(tmp_path / "metrics.jsonl", tmp_path / "curves.png")
        return np.asarray(Image.open(tmp_path / "curves.png").convert("RGB")).astype(int)

    return draw


def test_losses_and_recalls_are_drawn(drawn):
    whole = drawn(RUN)
    half = whole.shape[1] // 2
    other_loss = drawn([line.replace('"loss": 1.0', '"loss": 0.5') for line in RUN])
    other_recall = drawn([*RUN[:-1], *lines(validation(2, recall=50.0))])
    assert (other_loss[:, :half] != whole[:, :half]).any()
    assert (other_loss[:, half:] == whole[:, half:]).all()
    assert (other_recall[:, half:] != whole[:, half:]).any()
    assert (other_recall[:, : half - 100] == whole[:, : half - 100]).all()


def test_a_resumed_run_looks_like_an_uninterrupted_one(drawn):
    taken_again = lines(step(8, loss=50.0), step(9, loss=50.0))
    assert (drawn([*RUN[:7], *taken_again, *RUN[7:]]) == drawn(RUN)).all()


def test_incomplete_lines_are_skipped(drawn):
    whole = drawn(RUN)
    assert (drawn([*RUN, RUN[3][:20]]) == whole).all()
    assert (drawn([*RUN[:12], RUN[12][:30] + RUN[12], *RUN[12:]]) == whole).all()
    damaged = (
        '{"event": "step", "step": 1, "epoch": 0.1}',
        '{"event": "step", "step": 1, "epoch": 0.1, "loss": null}',
        '{"event": "step", "step": 1, "epoch": NaN, "loss": 1.0}',
        '{"event": "validation", "step": 1, "epoch": 1}',
        '{"event": "validation", "step": 1, "epoch": 1, "rsum": 90.0, "i2t": {}, "t2i": {}}',
    )
    assert (drawn([*RUN, *damaged]) == whole).all()


@pytest.mark.parametrize(
    "some_lines",
    [
        RUN[:1],
        RUN[:5],
        lines(validation(1)),
        lines(validation(0)),
        lines(step(1, np.inf)),
        lines(step(1, 0.0)),
        lines(step(1), step(90)),
    ],
)
def test_the_beginning_of_a_run_is_drawn(drawn, some_lines):
    assert drawn(some_lines).std() > 0


def test_nothing_to_draw(drawn, tmp_path):
    with pytest.raises(
        InputError, match=r"metrics.jsonl contains no step and no validation: there is nothing to draw yet"
    ):
        drawn(['{"event": "collapse", "step": 3}'])
    with pytest.raises(InputError, match=r"absent.jsonl cannot be read: No such file or directory."):
        draw_curves(tmp_path / "absent.jsonl", tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def row(name, recall, **more):
    way = {"r1": recall, "r5": recall, "r10": recall}
    return {"name": name, "i2t": way, "t2i": way, "rsum": 6 * recall, **more}


def width_of(path, colour):
    """Return the number of pixels of a colour in the widest row of a picture."""
    drawn = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return (np.abs(drawn - colour).sum(2) < 6).sum(1).max()


def test_bars_are_as_long_as_the_numbers(tmp_path):
    blue, green = (0x7F, 0xB4, 0xD6), (0xB9, 0xC4, 0x8F)
    draw_results([row("half", 50.0)], tmp_path / "half.png")
    draw_results([row("all", 100.0)], tmp_path / "all.png")
    for colour in (blue, green):
        assert width_of(tmp_path / "half.png", colour) == pytest.approx(
            width_of(tmp_path / "all.png", colour) / 2, abs=4
        )


def test_twins_are_shown_if_measured(tmp_path):
    plain = [row("scan", 40.0), row("cmsei", 50.0)]
    draw_results(plain, tmp_path / "plain.png")
    draw_results([plain[0], {**plain[1], "twins": {"relation": 80.0}}], tmp_path / "twins.png")
    purple = (0xC9, 0xB3, 0xE0)
    assert width_of(tmp_path / "plain.png", purple) == 0
    assert width_of(tmp_path / "twins.png", purple) == pytest.approx(0.8 * 1.03 * 120, abs=4)


def test_no_results(tmp_path):
    with pytest.raises(InputError, match="Expected one row of results for each model, got none"):
        draw_results([], tmp_path / "none.png")


def test_changes_are_drawn_beside_zero_and_what_has_none_has_a_note(tmp_path):
    def draw(*rows):
        draw_changes(rows, tmp_path / "changes.png", "change")
        return np.asarray(Image.open(tmp_path / "changes.png").convert("RGB")).astype(int)

    first = draw(("a", (-3.0, -5.0, -1.0), ""), ("b", None, "not read"))
    moved = draw(("a", (-2.0, -5.0, -1.0), ""), ("b", None, "not read"))
    noted = draw(("a", (-3.0, -5.0, -1.0), ""), ("b", None, "not bear"))
    upper = slice(0, first.shape[0] // 3)
    assert (moved[upper] != first[upper]).any()
    assert (noted != first).any()
    with pytest.raises(InputError, match="there is nothing to draw"):
        draw()
