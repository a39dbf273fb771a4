"""The picture of a run of `fastpool bench`: one SVG file, written by hand, with nothing outside it.

Left of the line fastpool loses, right of it fastpool wins; nothing is left out for being lost.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

WIDTH, MARGIN, LABEL, ROW, BAR = 800, 24, 300, 26, 16
WON, LOST, INK, PALE = "#00796b", "#c62828", "#263238", "#78909c"


class Bar(NamedTuple):
    """One comparison: theirs over ours, above 1 where fastpool is better."""

    label: str
    ratio: float


class Chart(NamedTuple):
    """Bars under a heading, on a scale of their own."""

    heading: str
    bars: Sequence[Bar]


def svg(title: str, charts: Sequence[Chart], notes: Sequence[str]) -> str:
    """The whole file.  ``notes`` stand under the charts: the conditions, a line each."""
    lines = [*_text(MARGIN, 34, title, 20, INK, weight=700)]
    y = 66
    for chart in charts:
        lines += _text(MARGIN, y, chart.heading, 14, INK, weight=600)
        y += 14
        lines += _bars(chart.bars, y)
        y += ROW * len(chart.bars) + 30
    for note in notes:
        lines += _text(MARGIN, y, note, 12, PALE)
        y += 18
    height = y + 6
    described = "; ".join(f"{bar.label} {_shown(bar.ratio)}" for one in charts for bar in one.bars)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" height="{height}" role="img" aria-label={quoteattr(title)} '
            'font-family="system-ui, sans-serif">',
            f"<title>{escape(title)}</title>",
            f"<desc>{escape(described)}</desc>",
            f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
            *lines,
            "</svg>\n",
        ]
    )


def _bars(bars: Sequence[Bar], top: int) -> Iterator[str]:
    """On a scale of logarithms, which shows 0.5 and 2 as equally far from 1."""
    known = [math.log(bar.ratio) for bar in bars if _is_known(bar.ratio)]
    low, high = min([0.0, *known]), max([math.log(2), *known])
    left, right = LABEL, WIDTH - MARGIN - 60
    unit = (right - left) / (high - low)
    one = left - low * unit
    for number, bar in enumerate(bars):
        y = top + number * ROW
        yield from _text(LABEL - 10, y + 13, bar.label, 13, INK, anchor="end")
        if not _is_known(bar.ratio):
            yield from _text(one + 6, y + 13, _shown(bar.ratio), 12, PALE)
            continue
        end = one + math.log(bar.ratio) * unit
        colour = WON if bar.ratio >= 1 else LOST
        yield (
            f'<rect x="{min(one, end):.1f}" y="{y + 1}" width="{abs(end - one):.1f}" '
            f'height="{BAR}" rx="2" fill="{colour}"/>'
        )
        yield from _text(max(one, end) + 6, y + 13, _shown(bar.ratio), 13, INK, weight=600)
    bottom = top + ROW * len(bars)
    yield f'<line x1="{one:.1f}" y1="{top - 3}" x2="{one:.1f}" y2="{bottom}" stroke="{INK}"/>'


def _is_known(ratio: float) -> bool:
    return 0 < ratio < math.inf


def _shown(ratio: float) -> str:
    if not _is_known(ratio):
        return "too noisy"
    return f"{ratio:.{2 if ratio < 10 else 0}f}x"


def _text(
    x: float, y: float, text: str, size: int, fill: str, weight: int = 400, anchor: str = "start"
) -> Iterator[str]:
    yield (
        f'<text x="{x:.1f}" y="{y}" font-size="{size}" font-weight="{weight}" fill="{fill}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )
