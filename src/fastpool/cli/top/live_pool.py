"""The second live screen: one pool, its last minutes, and who holds what.  Needs textual."""

from __future__ import annotations

from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.screen import Screen
from textual.widgets import DataTable, Footer, Static

from .figures import decimal, span, sparkline, whole
from .plain import budget, used_of, waits
from .rates import Row
from .watch import Detail, View

__all__ = ["PoolScreen"]

COUNTERS = (  # shown where they are not 0
    *("queued", "creating", "checking", "closing", "draining", "overdue"),
    *("uses", "created", "create_failures", "timeouts", "overloads"),
)
MOST_PLACES = 5
MOST_KEYS = 5


class PoolScreen(Screen[None]):
    """The pool whose row has the key ``key``.  ``detail``: what was seen of it last."""

    BINDINGS: ClassVar[list[Any]] = [Binding("escape,backspace,left", "app.pop_screen", "Back")]

    def __init__(self, key: str) -> None:
        super().__init__()
        self.ready = False  # its parts are there
        self.key = key
        self.pool: int | None = None  # what to ask its holders by
        self.detail: Detail | None = None

    def compose(self) -> ComposeResult:
        yield Static(id="about")
        yield Static(id="gone")
        yield Static(id="lines")
        yield Static(id="places")
        yield DataTable(cursor_type="row")
        yield Static(id="stack")
        yield Footer()

    def on_mount(self) -> None:
        table = self.query_one(DataTable)
        table.add_columns("Held for", "Thread", "Resource", "Taken at")
        self.ready = True
        app: Any = self.app
        app.show()

    def show(self, view: View) -> None:
        row = next((row for row in view.rows if row.key == self.key), None)
        if row is None:
            self.query_one("#about", Static).update("this pool is gone")
            return
        self.pool = row.id
        self.query_one("#about", Static).update(Text(about(row, self.detail)))
        used, waiting = view.series[row.key]
        width = max(10, self.size.width - 30)
        lines = Text()
        lines.append("used     ").append(sparkline(used, width, row.max), "green")
        lines.append(f" {used_of(row)}\nwaiting  ").append(sparkline(waiting, width), "red")
        lines.append(f" {whole(row.waiting)}")
        self.query_one("#lines", Static).update(lines)
        self.query_one("#places", Static).update(Text(places(self.detail)))
        self._show_holders()

    def _show_holders(self) -> None:
        table = self.query_one(DataTable)
        cursor = table.cursor_row
        table.clear()
        for one in self.detail.holders if self.detail else ():
            place = one.stack[0] if one.stack else "-"
            table.add_row(
                Text(span(one.age), justify="right"),
                Text(one.thread or "?"),
                Text(one.resource),
                Text(place),
            )
        table.move_cursor(row=min(cursor, max(0, table.row_count - 1)))
        self._show_stack()

    def on_data_table_row_highlighted(self) -> None:
        self._show_stack()

    def _show_stack(self) -> None:
        holders = self.detail.holders if self.detail else []
        row = self.query_one(DataTable).cursor_row
        if not holders:
            text = "" if self.detail is None else "nobody holds anything"
        elif stack := holders[min(row, len(holders) - 1)].stack:
            text = "\n".join(stack)
        else:
            text = "the stack of a lease is known of pools with leak_after"
        self.query_one("#stack", Static).update(Text(text))


def about(row: Row, detail: Detail | None) -> str:
    """The pool in words: its sizes, and what it has counted that is not 0."""
    parts = [f"{row.name}   {row.kind}   {used_of(row)} used"]
    if row.idle is not None:
        parts.append(f"{row.idle} idle")
    if row.waiting is not None:
        parts.append(f"{row.waiting} waiting (p50/p99 {waits(row)})")
    if row.creates_per_s is not None:
        parts.append(f"{decimal(row.creates_per_s)} new/s")
    counters = detail.counters if detail else {}
    counted = [
        f"{counters[name]} {name.replace('_', ' ')}" for name in COUNTERS if counters.get(name)
    ]
    lines = ["   ".join(parts), "   ".join(counted), budget(row) if row.budget else ""]
    return "\n".join(line for line in lines if line)


def places(detail: Detail | None) -> str:
    """The lines that hold most, and the keys that hold most."""
    if detail is None:
        return ""
    text = [
        f"{each.count} of {len(detail.holders)} taken at {each.place} (oldest {span(each.age)})"
        for each in detail.places[:MOST_PLACES]
    ]
    if len(detail.places) > MOST_PLACES:
        text.append(f"and {len(detail.places) - MOST_PLACES} more lines")
    keys = sorted(detail.keys.items(), key=lambda item: -item[1]["leased"] - item[1]["waiting"])
    text += [
        f"key {key}: {sizes['leased']} leased, {sizes['idle']} idle, {sizes['waiting']} waiting"
        for key, sizes in keys[:MOST_KEYS]
    ]
    if len(keys) > MOST_KEYS:
        text.append(f"and {len(keys) - MOST_KEYS} more keys")
    return "\n".join(text)
