"""The table as plain text: 80 columns, readable without colour; and as JSON, an object a line."""

from __future__ import annotations

import json

from .figures import clean, decimal, shorten, span, tail, whole
from .rates import Oldest, Row
from .watch import View

__all__ = ["SHORT", "budget", "holder", "lines", "table", "used_of", "waits"]

WIDTH = 80
COLUMNS = (  # heading, width, whether it is a number
    ("POOL", 14, False),
    ("KIND", 10, False),
    ("USED/MAX", 9, True),
    ("IDLE", 4, True),
    ("WAIT", 4, True),
    ("P50/P99", 11, True),
    ("NEW/S", 5, True),
    ("T/O", 4, True),
    ("OLDEST", 11, False),
)
SHORT = {"WeightedSemaphore": "Semaphore", "gRPC channel": "gRPC"}


def table(view: View) -> str:
    """The whole table, a line for each pool, and a line for each that knows who holds longest."""
    head = f", process {view.pid}, fastpool {view.version}"
    text = [tail(view.program, WIDTH - len(head)) + head, ""]
    if not view.rows:
        return "\n".join([*text, "no pools"]) + "\n"
    text.append(_line([heading for heading, _, _ in COLUMNS]))
    text += [_line(_cells(row)) for row in view.rows]
    if oldest := [held for row in view.rows if row.oldest for held in _held(row, row.oldest)]:
        text += ["", *oldest]
    if budgets := [budget(row) for row in view.rows if row.budget]:
        text += ["", *budgets]
    seconds = max((row.seconds or 0 for row in view.rows), default=0)
    text += [
        "",
        "WAIT: callers waiting. P50/P99: how long they waited, NEW/S: what was opened, in",
        f"the last {span(seconds)}. T/O: timeouts so far. OLDEST: who holds longest.",
    ]
    if any(row.oldest and row.oldest.place is None for row in view.rows):
        text.append("The line that took a lease is known of pools with leak_after.")
    return "\n".join(text) + "\n"


def lines(view: View) -> str:
    """A JSON object a line for each pool: its row, with the process and the time."""
    about = {"time": view.time, "pid": view.pid, "program": view.program}
    return "".join(json.dumps(about | row.as_json()) + "\n" for row in view.rows)


def used_of(row: Row) -> str:
    """Such as "3/10"; "3" where there is no limit."""
    return f"{whole(row.used)}/{whole(row.max)}" if row.max is not None else whole(row.used)


def waits(row: Row) -> str:
    """Such as "1.2ms/260ms"; "-" if nobody has waited."""
    if row.wait_p50 is None:
        return "-"
    return f"{span(row.wait_p50)}/{span(row.wait_p99)}"


def holder(oldest: Oldest | None) -> str:
    """Such as "62s worker-3"; "-" if nobody holds anything."""
    if oldest is None:
        return "-"
    return f"{span(oldest.age)} {oldest.thread or '?'}"


def budget(row: Row) -> str:
    """Such as "orders: 7 of 60 permits of budget db (60 in force, 8 members), wants 20"."""
    b = row.budget or {}
    return shorten(
        f"{row.name}: {b.get('allowance')} of {b.get('limit')} permits of budget "
        f"{clean(str(b.get('name')))} ({b.get('in_force')} in force, {b.get('members')} members), "
        f"wants {b.get('wanted')}",
        WIDTH,
    )


def _cells(row: Row) -> list[str]:
    return [
        row.name,
        SHORT.get(row.kind, row.kind),
        used_of(row),
        whole(row.idle),
        whole(row.waiting),
        waits(row),
        decimal(row.creates_per_s),
        whole(row.timeouts),
        holder(row.oldest),
    ]


def _line(cells: list[str]) -> str:
    padded = []
    for cell, (_, width, number) in zip(cells, COLUMNS, strict=True):
        cell = shorten(cell, width)
        padded.append(cell.rjust(width) if number else cell.ljust(width))
    return " ".join(padded).rstrip()


def _held(row: Row, oldest: Oldest) -> list[str]:
    """Who holds longest, and where it was taken: never cut at its end, where the line stands."""
    who = f"{row.name}: held for {span(oldest.age)} by {oldest.thread or 'an unknown thread'}"
    if oldest.place is None:
        return [shorten(who, WIDTH)]
    return [shorten(f"{who}, taken at", WIDTH), f"    {tail(oldest.place, WIDTH - 4)}"]
