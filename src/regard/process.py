"""Temporary changes of process-wide settings, which are undone correctly when threads overlap."""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

Value = TypeVar("Value")


class SharedChange(Generic[Value]):
    """A `with` block in which a process-wide setting has another value. Make one instance per setting and value.

    Blocks may overlap, on several threads or nested. The first to enter writes `value`, and the last to leave writes
    back what the first found. If every block saved and restored the setting alone, the second of two overlapping blocks
    would take the changed value for the original and leave it behind. A value that other code wrote in the meantime is
    kept.

    For example, for a flag of torch: SharedChange(lambda: flags.precision, lambda it: setattr(flags, "precision", it),
    "bf16").
    """

    def __init__(self, read: Callable[[], Value], write: Callable[[Value], object], value: Value) -> None:
        self._read, self._write, self._value = read, write, value
        self._lock, self._num_inside = threading.Lock(), 0
        self._before = self._during = value

    def __enter__(self) -> None:
        with self._lock:
            if self._num_inside == 0:
                self._before = self._read()
                self._write(self._value)
                self._during = self._read()  # the setting may normalize what is written
            self._num_inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._num_inside -= 1
            if self._num_inside == 0 and self._read() == self._during:
                self._write(self._before)
