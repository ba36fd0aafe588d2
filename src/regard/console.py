"""The console that commands print to: text is printed as it is."""

from contextlib import suppress
from typing import Any

from rich.console import Console
from rich.status import Status
from rich.text import Text

from regard.files import visible


class PlainConsole(Console):
    """A console without markup. Control characters are escaped: captions, ids and paths may contain anything."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, soft_wrap=True, markup=False, emoji=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print objects. Strings are escaped; use `style` for colours."""
        super().print(*(visible(each) if isinstance(each, str) else each for each in objects), **options)

    def on_broken_pipe(self) -> None:
        """End without an error, as other programs do, when the reader of the output has ended."""
        with suppress(SystemExit):
            super().on_broken_pipe()
        raise SystemExit(0)

    def status(self, status: Any, **options: Any) -> Status:
        """Show a text while a block runs."""
        return super().status(Text(visible(str(status))), **options)
