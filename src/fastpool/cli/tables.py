"""What the demo shows: a table per chapter, live on a terminal, row by row elsewhere.

Everything is plain ASCII and fits 80 columns; nothing is said by colour alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

WIDTH = 80
_LABEL = 27
_HEADINGS = ("calls/s", "p50 ms", "p99 ms", "opened", "errors", "least/most")
_WIDTHS = (8, 8, 8, 8, 8, 11)


class Row(NamedTuple):
    """One line of a table. None = not measured (yet). Times in seconds."""

    label: str
    rate: float | None = None
    p50: float | None = None
    p99: float | None = None
    opened: int | None = None
    errors: int | None = None
    evenness: float | None = None

    def cells(self) -> tuple[str, ...]:
        return (
            _number(self.rate, 0),
            _milliseconds(self.p50),
            _milliseconds(self.p99),
            _number(self.opened, 0),
            _number(self.errors, 0),
            _number(self.evenness, 2),
        )


def count(number: int, noun: str) -> str:
    """Such as "1 error" or "12,345 errors"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _number(value: float | None, digits: int) -> str:
    if value is None or value != value:  # NaN: a percentile of no calls
        return "-"
    return f"{value:,.{digits}f}"


def _milliseconds(seconds: float | None) -> str:
    value = None if seconds is None else seconds * 1000
    return _number(value, 2 if value is None or value < 100 else 1 if value < 10_000 else 0)


class PlainView:
    """Prints a row when it is complete. For files, pipes, and terminals without rich."""

    live = False

    def say(self, text: str = "") -> None:
        print(text, flush=True)

    def begin(self, title: str, labels: Iterable[str]) -> None:
        self.say()
        self.say(title)
        self.say(_line("", _HEADINGS))

    def progress(self, index: int, row: Row) -> None:
        """A row that is still being measured."""

    def complete(self, index: int, row: Row) -> None:
        self.say(_line(row.label, row.cells()))

    def end(self) -> None:
        """The table is complete."""


def _line(label: str, cells: Iterable[str]) -> str:
    columns = (cell.rjust(width) for cell, width in zip(cells, _WIDTHS, strict=True))
    return "  " + label.ljust(_LABEL) + "".join(columns)


class RichView(PlainView):
    """The same table, its rows moving while they are measured. Needs rich and a terminal."""

    live = True

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(highlight=False, soft_wrap=True)
        self._live: Any = None
        self._rows: list[Row] = []
        self._moving: int | None = None

    def say(self, text: str = "") -> None:
        self._console.print(text, markup=False)

    def begin(self, title: str, labels: Iterable[str]) -> None:
        from rich.live import Live

        self.say()
        self._console.print(title, style="bold", markup=False)
        self._rows = [Row(label) for label in labels]
        self._moving = None
        self._live = Live(self._table(), console=self._console, auto_refresh=False, transient=False)
        self._live.start()

    def progress(self, index: int, row: Row) -> None:
        self._rows[index], self._moving = row, index
        self._live.update(self._table(), refresh=True)

    def complete(self, index: int, row: Row) -> None:
        self._rows[index], self._moving = row, None
        self._live.update(self._table(), refresh=True)

    def end(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _table(self) -> Any:
        from rich.text import Text

        lines = [Text(_line("", _HEADINGS), style="dim")]
        for index, row in enumerate(self._rows):
            moving = index == self._moving
            line = _line(row.label, row.cells())
            lines.append(Text("> " + line[2:] if moving else line, style="cyan" if moving else ""))
        return Text("\n").join(lines)


def make_view(plain: bool) -> PlainView:
    """The live view where it can work: a terminal, and rich installed."""
    if plain or not sys.stdout.isatty():
        return PlainView()
    try:
        return RichView()
    except ImportError:
        view = PlainView()
        view.say("(pip install rich, or fastpool[demo], for a table that moves)")
        return view
