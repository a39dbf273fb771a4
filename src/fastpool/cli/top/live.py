"""The live screen: all pools of a process, again and again.  Needs textual."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.css.query import NoMatches
from textual.screen import Screen
from textual.widgets import DataTable, Footer, Static

from .figures import decimal, span, sparkline, whole
from .live_pool import PoolScreen
from .plain import SHORT, holder, used_of
from .rates import Row
from .watch import Gone, View, Watch

__all__ = ["TopApp"]

SPARK = 8  # characters of a sparkline
COLUMNS = (
    ("pool", "Pool"),
    ("kind", "Kind"),
    ("used", "Used/max"),
    ("used_line", ""),
    ("idle", "Idle"),
    ("waiting", "Waiting"),
    ("waiting_line", ""),
    ("p50", "p50"),
    ("p99", "p99"),
    ("creates", "New/s"),
    ("timeouts", "Timeouts"),
    ("oldest", "Oldest holder"),
)


class TopApp(App[None]):
    """Shows what ``watch`` sees, each ``interval`` seconds, until the user leaves it.  When the
    process has gone, what was last seen stays."""

    TITLE = "fastpool top"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[Any]] = [Binding("q", "quit", "Quit")]
    CSS = """
    Screen { layout: vertical; }
    DataTable { height: 1fr; min-height: 4; }
    Static { height: auto; padding: 0 1; }
    #about { background: $panel; }
    #gone { background: $error; color: $text; display: none; }
    #stack, #oldest { border-top: solid $panel; min-height: 2; max-height: 40%; }
    """

    def __init__(self, watch: Watch, interval: float = 1.0) -> None:
        super().__init__()
        self.watch = watch
        self.interval = interval
        self.view: View | None = None
        self.gone = ""
        self._asking = False

    def on_mount(self) -> None:
        self.push_screen(PoolsScreen())
        self.set_interval(self.interval, self.look)
        self.look()

    def on_unmount(self) -> None:
        self.watch.close()  # an answer that is awaited comes no more

    def look(self) -> None:
        """Ask in a thread, so that keys work meanwhile; not while an answer is awaited."""
        if not self._asking and not self.gone:
            self._asking = True
            self.run_worker(self._look)  # no coroutine that is never awaited, at the end

    async def _look(self) -> None:
        try:
            self.view = await asyncio.to_thread(self.watch.look)
            screen = self.screen_stack[-1] if self.screen_stack else None
            if isinstance(screen, PoolScreen) and screen.pool is not None:
                screen.detail = await asyncio.to_thread(self.watch.closely, screen.pool)
        except Gone as error:
            self.gone = str(error)
        finally:
            self._asking = False
        self.show()

    def show(self) -> None:
        """Show on the screen that is on top what was seen last."""
        screen = self.screen_stack[-1] if self.screen_stack else None  # none: the app ends
        if not isinstance(screen, PoolsScreen | PoolScreen) or not screen.ready:
            return
        with suppress(NoMatches):  # its parts are going, at the end
            if self.gone:
                banner = screen.query_one("#gone", Static)
                banner.update(Text(f"{self.gone}; this is what was last seen"))
                banner.display = True
            if self.view is not None:
                screen.show(self.view)


class Pools(DataTable[Text]):
    """The table; the key is told in the footer."""

    BINDINGS: ClassVar[list[Any]] = [Binding("enter", "select_cursor", "Holders")]


class PoolsScreen(Screen[None]):
    """A line for each pool, and where the oldest lease of the one under the cursor was taken."""

    app: TopApp

    def __init__(self) -> None:
        super().__init__()
        self.ready = False  # its parts are there
        self.rows: dict[str, Row] = {}

    def compose(self) -> ComposeResult:
        yield Static(id="about")
        yield Static(id="gone")
        yield Pools(cursor_type="row")
        yield Static(id="oldest")
        yield Footer()

    def on_mount(self) -> None:
        table = self.query_one(DataTable)
        for key, label in COLUMNS:
            table.add_column(label, key=key)
        self.ready = True
        self.app.show()

    def show(self, view: View) -> None:
        about = f"{view.program}   process {view.pid}   fastpool {view.version}"
        self.query_one("#about", Static).update(Text(about, no_wrap=True, overflow="ellipsis"))
        table = self.query_one(DataTable)
        self.rows = {row.key: row for row in view.rows}
        for old in [key.value for key in table.rows if key.value not in self.rows]:
            table.remove_row(old)
        there = {key.value for key in table.rows}
        for row in view.rows:
            texts = cells(row, *view.series[row.key])
            if row.key not in there:
                table.add_row(*texts, key=row.key)
                continue
            for (column, _), text in zip(COLUMNS, texts, strict=True):
                table.update_cell(row.key, column, text, update_width=True)
        self._show_oldest()

    def on_data_table_row_highlighted(self) -> None:
        self._show_oldest()

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        self.app.push_screen(PoolScreen(str(event.row_key.value)))
        self.app.look()

    def _show_oldest(self) -> None:
        table = self.query_one(DataTable)
        if not table.row_count:
            self.query_one("#oldest", Static).update("no pools")
            return
        key = table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value
        row = self.rows.get(str(key))
        self.query_one("#oldest", Static).update(Text(oldest_of(row)))


def cells(row: Row, used: list[int], waiting: list[int]) -> list[Text]:
    """One line of the table."""
    full = row.max is not None and row.used >= row.max
    return [
        Text(row.name),
        Text(SHORT.get(row.kind, row.kind)),
        Text(used_of(row), "yellow" if full else "", justify="right"),
        Text(sparkline(used, SPARK, row.max).rjust(SPARK), "green"),
        Text(whole(row.idle), justify="right"),
        Text(whole(row.waiting), "bold red" if row.waiting else "", justify="right"),
        Text(sparkline(waiting, SPARK).rjust(SPARK), "red"),
        Text(span(row.wait_p50), justify="right"),
        Text(span(row.wait_p99), justify="right"),
        Text(decimal(row.creates_per_s), justify="right"),
        Text(whole(row.timeouts), "bold red" if row.new_timeouts else "", justify="right"),
        Text(row.error or holder(row.oldest)),
    ]


def oldest_of(row: Row | None) -> str:
    """Who holds longest, and the line that took it."""
    if row is None or row.oldest is None:
        return "nobody holds anything"
    oldest = row.oldest
    who = f"held longest: {span(oldest.age)} by {oldest.thread or 'an unknown thread'}"
    if oldest.place is None:
        return f"{who}; the line that took it is known of pools with leak_after"
    return f"{who}, taken at\n{oldest.place}"
