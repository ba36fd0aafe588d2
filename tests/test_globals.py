"""No call leaves a process-wide setting other than it found it, even when two threads call at once."""

import importlib
import io
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from types import SimpleNamespace

import pytest
from matplotlib.figure import Figure
from PIL import Image

from regard.explain.canvas import draw_text, make_canvas, save_canvas
from regard.explain.palette import INK
from regard.photographs import decode_photograph
from regard.pretrained import transformers_for
from regard.process import SharedChange

SECONDS = 60  # a test that waits longer fails


class Overlap:
    """Two threads that make a call each: A enters, B enters, A leaves, B leaves. The call itself calls `pause`."""

    def __init__(self) -> None:
        self.inside, self.may_leave = ([threading.Event() for _ in "AB"] for _ in range(2))
        self.number = threading.local()

    def pause(self) -> None:
        self.inside[self.number.own].set()
        assert self.may_leave[self.number.own].wait(SECONDS)

    def run(self, call: Callable[[], object], look: Callable[[], object]) -> list[object]:
        """Return what `look` returns after each of the four steps."""
        with ThreadPoolExecutor(2) as pool:
            try:
                return list(self._steps(pool, call, look))
            finally:
                for event in self.may_leave:  # so that the threads end after a failure
                    event.set()

    def _steps(
        self, pool: ThreadPoolExecutor, call: Callable[[], object], look: Callable[[], object]
    ) -> Iterator[object]:
        calls = []
        for number in range(2):
            calls.append(pool.submit(self._call, number, call))
            while not self.inside[number].wait(0.01):
                assert not calls[-1].done(), calls[-1].exception()
            yield look()
        for number in range(2):
            self.may_leave[number].set()
            calls[number].result(SECONDS)
            yield look()

    def _call(self, number: int, call: Callable[[], object]) -> None:
        self.number.own = number
        call()


def overlap(make: Callable[[], AbstractContextManager], look: Callable[[], object]) -> list[object]:
    """Return what `look` returns after each step, while two threads overlap in `with make()`."""
    both = Overlap()

    def call() -> None:
        with make():
            both.pause()

    return both.run(call, look)


def shared(flags: SimpleNamespace) -> SharedChange[str]:
    return SharedChange(lambda: flags.precision, lambda value: setattr(flags, "precision", value), "bf16")


def test_a_shared_change_is_undone_when_the_last_of_two_threads_leaves():
    flags = SimpleNamespace(precision="ieee")
    change = shared(flags)
    for original in ("ieee", "tf32"):  # each time, the original is read anew
        flags.precision, overlap = original, Overlap()

        def call(pause: Callable[[], None] = overlap.pause) -> None:
            with change:
                pause()

        assert overlap.run(call, lambda: flags.precision) == ["bf16", "bf16", "bf16", original]


def test_a_shared_change_may_be_nested_and_is_undone_after_an_error():
    flags = SimpleNamespace(precision="ieee")
    change = shared(flags)
    seen = []

    def fail() -> None:
        with change:
            with change:
                pass
            seen.append(flags.precision)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [*seen, flags.precision] == ["bf16", "ieee"]


def test_what_other_code_wrote_in_the_meantime_is_kept():
    flags = SimpleNamespace(precision="ieee")
    with shared(flags):
        flags.precision = "tf32"
    assert flags.precision == "tf32"


def reports() -> tuple:
    """The settings of transformers and of the hub, of which the second has a group of its own."""
    own, hub = importlib.import_module("transformers").utils.logging, importlib.import_module("huggingface_hub.utils")
    return own.get_verbosity(), own.is_progress_bar_enabled(), hub.are_progress_bars_disabled("regard.test")


@pytest.mark.parametrize("bars", [True, False])
def test_reading_pretrained_models_leaves_the_reports_of_transformers(bars, monkeypatch):
    pytest.importorskip("transformers", reason="the extra regard[text] is not installed")
    hub, own = importlib.import_module("huggingface_hub.utils.tqdm"), importlib.import_module("transformers").utils
    monkeypatch.setattr(hub, "progress_bar_states", {"regard": False, "_global": True})
    monkeypatch.setattr(own.logging, "_tqdm_active", bars)
    before, overlap = reports(), Overlap()

    def call() -> None:
        with transformers_for("model"):
            overlap.pause()

    assert overlap.run(call, reports) == [(logging.ERROR, False, True)] * 3 + [before]
    assert hub.progress_bar_states == {"regard": False, "_global": True}
    assert before[0] != logging.ERROR


def test_decoding_leaves_the_limit_and_the_plugins_of_pillow(monkeypatch):
    """The plugin of the format pauses, so that both threads are within the decoding."""
    out, overlap = io.BytesIO(), Overlap()
    Image.new("RGB", (8, 8)).save(out, "JPEG")
    factory, accept = Image.OPEN["JPEG"]

    def open_slowly(*given) -> Image.Image:
        overlap.pause()
        return factory(*given)

    monkeypatch.setitem(Image.OPEN, "JPEG", (open_slowly, accept))
    limit = Image.MAX_IMAGE_PIXELS
    assert overlap.run(lambda: decode_photograph("a", out.getvalue()), lambda: Image.MAX_IMAGE_PIXELS) == [limit] * 4
    assert limit is not None


def test_pictures_leave_the_filters_of_warnings(monkeypatch, tmp_path):
    """Without a filter, a character without a glyph would be an error here."""
    overlap, save = Overlap(), Figure.savefig

    def save_slowly(*given, **named) -> None:
        overlap.pause()
        save(*given, **named)

    def call() -> None:
        axes = make_canvas(2.0, 1.0)
        draw_text(axes, 0.1, 0.5, "cat 猫 🐈 \u0e41", 9.0, INK, weight="bold")
        save_canvas(axes, tmp_path / f"{threading.get_ident()}.png")

    monkeypatch.setattr(Figure, "savefig", save_slowly)
    before = list(warnings.filters)
    assert overlap.run(call, lambda: list(warnings.filters)) == [before] * 4
    assert len(list(tmp_path.glob("*.png"))) == 2
