"""`python -m bench.hosts.plot`: the picture of the turns that threads got, from the pages' tables.

These are what the measurements printed; so the picture cannot say anything else.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench.svg import FAINT, INK, line, picture, text

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs/images/hosts.svg"
PAGES = {
    "redis-py": ROOT / "docs/howto/redis.md",
    "SQLAlchemy": ROOT / "docs/howto/sqlalchemy.md",
    "psycopg_pool": ROOT / "docs/howto/psycopg.md",
}
CALLERS = 8
TITLE = f"Turns of {CALLERS} threads on 4 connections: the unluckiest to the luckiest"
WIDTH, LEFT, RIGHT, TOP, ROW, GAP = 900, 230, 170, 60, 26, 20
OURS, THEIRS = "#00796b", "#90a4ae"

ROWS = re.compile(r"^ +(\d+) (\S.*?) {2,}[\d,]+ +([\d.]+) +(\d+)/(\d+) +[\d,.]+$", re.MULTILINE)


class Row(NamedTuple):
    """What the threads got of one pool."""

    pool: str
    times: float  # turns a second as a multiple of the host's own
    least: int
    most: int


def rows_of(page: str) -> list[Row]:
    """The rows of so many threads, the host's own first; ValueError: there are none."""
    _, _, table = page.partition("by threads, ")
    threads = table.partition("\n\n")[0]
    found = [
        Row(pool, float(times), int(least), int(most))
        for callers, pool, times, least, most in ROWS.findall(threads)
        if int(callers) == CALLERS
    ]
    if not found:
        raise ValueError(f"no row of {CALLERS} threads in the page's table")
    return found


def svg(hosts: dict[str, list[Row]]) -> str:
    """The whole file.  A bar goes from the unluckiest to the luckiest thread; each host has a scale
    of its own."""
    height = TOP + sum(len(rows) * ROW + GAP + 18 for rows in hosts.values()) + 10

    def drawn() -> Iterator[str]:
        yield text(20, 28, TITLE, 16, INK, "600")
        note = "a short bar: all get alike; on the right turns a second of all, by the host's own"
        yield text(20, 46, note, 11, FAINT)
        y = TOP + 10
        for host, rows in hosts.items():
            yield text(20, y + 4, host, 13, INK, "600")
            yield line(LEFT, y, WIDTH - RIGHT, y, "2 3", FAINT)
            y += 18
            longest = max(row.most for row in rows)
            scale = (WIDTH - RIGHT - LEFT) / longest
            for i, row in enumerate(rows):
                first, last = LEFT + row.least * scale, LEFT + row.most * scale
                colour = OURS if i else THEIRS
                yield text(LEFT - 10, y + 12, row.pool, 11, INK, anchor="end")
                yield (
                    f'<rect x="{first:.1f}" y="{y + 2}" width="{max(6.0, last - first):.1f}" '
                    f'height="14" rx="3" fill="{colour}"/>'
                )
                said = f"{row.least} to {row.most}"
                yield text(max(last, first + 6) + 10, y + 13, said, 10, FAINT)
                yield text(WIDTH - 20, y + 13, f"{row.times:.2f} x", 12, INK, anchor="end")
                y += ROW
            y += GAP

    about = "; ".join(
        f"{host}, {row.pool}: {row.least} to {row.most} turns, {row.times:.2f} x"
        for host, rows in hosts.items()
        for row in rows
    )
    return picture(WIDTH, height, TITLE, about, drawn())


def of_pages() -> str:
    """The picture that belongs to the pages as they are."""
    return svg({host: rows_of(page.read_text("utf-8")) for host, page in PAGES.items()})


def main() -> None:
    PICTURE.write_text(of_pages(), "utf-8")
    print(PICTURE.relative_to(ROOT))


if __name__ == "__main__":
    sys.exit(main())
