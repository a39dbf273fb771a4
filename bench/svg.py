"""Pieces of pictures that are written by hand: one SVG file with nothing outside it."""

from __future__ import annotations

from collections.abc import Iterable
from xml.sax.saxutils import escape, quoteattr

INK, FAINT = "#263238", "#607d8b"


def picture(width: int, height: int, title: str, about: str, lines: Iterable[str]) -> str:
    """The whole file; `about` is what it shows, for those who do not see it."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-label={quoteattr(title)} '
        'font-family="system-ui, sans-serif">'
    )
    said = f"<title>{escape(title)}</title><desc>{escape(about)}</desc>"
    back = f'<rect width="{width}" height="{height}" fill="#ffffff"/>'
    return "\n".join([head, said, back, *lines, "</svg>\n"])


def line(x1: float, y1: float, x2: float, y2: float, dashes: str = "", colour: str = INK) -> str:
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}"{dashed}/>'


def text(
    x: float, y: float, what: str, size: int, fill: str, weight: str = "400", anchor: str = "start"
) -> str:
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" fill="{fill}" font-weight="{weight}" '
        f'text-anchor="{anchor}">{escape(what)}</text>'
    )
