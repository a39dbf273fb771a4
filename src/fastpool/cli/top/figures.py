"""Figures as text: spans, counts, sparklines, and strings of another process made harmless."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["clean", "decimal", "shorten", "span", "sparkline", "tail", "whole"]

BARS = " ▁▂▃▄▅▆▇█"


def clean(text: object) -> str:
    """The text without what a terminal would obey: a name is whatever another process says."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(text))


def shorten(text: str, width: int) -> str:
    """At most ``width`` characters; "~" where the end is missing."""
    return text if len(text) <= width else text[: width - 1] + "~"


def tail(text: str, width: int) -> str:
    """At most ``width`` characters; "~" where the beginning is missing: a path tells by its end."""
    return text if len(text) <= width else "~" + text[len(text) - width + 1 :]


def whole(number: int | None) -> str:
    """In at most 4 characters, below 10**12; "-" for None."""
    if number is None:
        return "-"
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size and number >= 10_000:
            return f"{number // size}{unit}"
    return str(number)


def decimal(number: float | None) -> str:
    """In at most 5 characters; "-" for None."""
    if number is None:
        return "-"
    return f"{number:.1f}" if number < 100 else whole(round(number))


def span(seconds: float | None) -> str:
    """A span of time in at most 5 characters; "-" for None."""
    if seconds is None:
        return "-"
    for unit, size, until in (("us", 1e-6, 1e-3), ("ms", 1e-3, 1.0), ("s", 1.0, 120.0)):
        if seconds < until:
            number = seconds / size
            text = f"{number:.1f}" if number < 9.95 and unit != "us" else f"{number:.0f}"
            return "1.0s" if text == "1000" and unit == "ms" else f"{text}{unit}"
    for unit, size, until in (("m", 60.0, 7200.0), ("h", 3600.0, 172800.0)):
        if seconds < until:
            return f"{seconds // size:.0f}{unit}"
    return f"{seconds // 86400:.0f}d"


def sparkline(values: Iterable[int], width: int, top: int | None = None) -> str:
    """The last ``width`` values, a character each.  ``top``: what a full bar stands for; None: the
    largest of them.  Any value but 0 is seen."""
    last = list(values)[-width:]
    most = max([top or 0, 1, *last])
    return "".join(BARS[max(1, round(value / most * 8)) if value else 0] for value in last)
