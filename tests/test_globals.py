"""No call leaves a process-wide setting other than it found it, even when two threads call at once."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import SimpleNamespace

import pytest

from regard.process import SharedChange

SECONDS = 60  # a test that waits longer fails


def overlap(make: Callable[[], AbstractContextManager], look: Callable[[], object]) -> list[object]:
    """Let A enter, B enter, A leave and B leave on two threads. Return what `look` returns after each of the four."""
    inside, may_leave = [threading.Event() for _ in "AB"], [threading.Event() for _ in "AB"]

    def visit(number: int) -> None:
        with make():
            inside[number].set()
            assert may_leave[number].wait(SECONDS)

    threads, seen = [threading.Thread(target=visit, args=(number,)) for number in range(2)], []
    for number, thread in enumerate(threads):
        thread.start()
        assert inside[number].wait(SECONDS)
        seen.append(look())
    for number, thread in enumerate(threads):
        may_leave[number].set()
        thread.join(SECONDS)
        seen.append(look())
    return seen


def shared(flags: SimpleNamespace) -> SharedChange[str]:
    return SharedChange(lambda: flags.precision, lambda value: setattr(flags, "precision", value), "bf16")


def test_a_shared_change_is_undone_when_the_last_of_two_threads_leaves():
    flags = SimpleNamespace(precision="ieee")
    change = shared(flags)
    assert overlap(lambda: change, lambda: flags.precision) == ["bf16", "bf16", "bf16", "ieee"]
    flags.precision = "tf32"  # each time, the original is read anew
    assert overlap(lambda: change, lambda: flags.precision) == ["bf16", "bf16", "bf16", "tf32"]


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
