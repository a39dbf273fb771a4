"""Figures as people read them: an 80-column table, a Markdown table, a JSON record.

The verdict is arithmetic on the unrounded figure, `budget.Must.reached_by`; so 0.97 measured, 0.97
promised and "falls short" can stand in one line.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.cases import Figure
from bench.machine import in_words
from bench.targets import BY_KEY, MUSTS, Must

WIDTH = 80
COLUMNS = "{:<5} {:<41} {:>9} {:>9}  {}"  # the verdict is at most 11 wide


def number(value: float | None, unit: str) -> str:
    """Three significant digits and the unit, or "-" for a figure that is not there."""
    if value is None:
        return "-"
    digits = 0 if value == int(value) or value >= 100 else 1 if value >= 10 else 2
    text = f"{value:.{digits}f}" if value >= 0.1 else f"{value:.2g}"
    return text + unit if unit == "x" else f"{text} {unit}".strip()


def verdict(figure: Figure) -> str:
    """'reached', 'falls short', 'published' (nothing promised) or 'not run'."""
    if figure.value is None:
        return "not run"
    reached = BY_KEY[figure.key].reached_by(figure.value)
    if reached is None:
        return "published"
    return "reached" if reached else "falls short"


def promised(must: Must) -> str:
    value = must.value()
    if value is None:
        return "-"
    return f"{must.sense} {value:g}{must.unit if must.unit == 'x' else ' ' + must.unit}".strip()


def cells(figure: Figure) -> tuple[str, str, str, str, str]:
    must = BY_KEY[figure.key]
    measured = number(figure.value, must.unit)
    return figure.key, must.what, promised(must), measured, verdict(figure)


def heading() -> str:
    return COLUMNS.format("row", "what", "must", "measured", "verdict") + "\n" + "-" * WIDTH


def line(figure: Figure) -> str:
    return COLUMNS.format(*cells(figure))


def notes(figures: Sequence[Figure]) -> list[str]:
    """Why what was not run was not run, one paragraph per reason."""
    reasons: dict[str, list[str]] = {}
    for figure in figures:
        if figure.value is None:
            reasons.setdefault(figure.note, []).append(figure.key)
    return [f"{', '.join(shortened(keys))}: {reason}" for reason, keys in reasons.items()]


def shortened(keys: Sequence[str]) -> list[str]:
    """The row's name in place of its keys where all of them are there."""
    short: list[str] = []
    for key in keys:
        row = BY_KEY[key].row
        whole = all(must.key in keys for must in MUSTS if must.row == row)
        name = row if whole else key
        if name not in short:
            short.append(name)
    return short


def summary(figures: Sequence[Figure]) -> str:
    counts: dict[str, int] = {}
    for figure in figures:
        counts[verdict(figure)] = counts.get(verdict(figure), 0) + 1
    order = ("reached", "falls short", "published", "not run")
    return ", ".join(f"{counts[name]} {name}" for name in order if name in counts)


def disturbances(busy: Mapping[str, float | None]) -> str:
    """A sentence on the rows during which other programs took more than a tenth of the machine."""
    rows = [f"{row} {share:.0%}" for row, share in busy.items() if share and share > 0.1]
    return f"share of the CPUs taken by other programs: {', '.join(rows)}" if rows else ""


def table(figures: Sequence[Figure], busy: Mapping[str, float | None]) -> str:
    """What the command prints at its end."""
    lines = [heading(), *(line(figure) for figure in figures), "-" * WIDTH, summary(figures)]
    below = [f"not run {note}" for note in notes(figures)] + [disturbances(busy)]
    for text in below:
        lines += textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(lines)


def markdown(figures: Sequence[Figure], described: dict[str, Any]) -> str:
    lines = [f"## {described['interpreter']}", ""]
    lines += ["```", *in_words(described), "```"]
    lines += [
        "",
        "| row | what | must | measured | middle half | verdict |",
        "|---|---|--:|--:|--:|---|",
    ]
    for figure in figures:
        key, what, must, measured, judged = cells(figure)
        spread = "-"
        if figure.low is not None and figure.high is not None:
            unit = BY_KEY[key].unit
            spread = f"{number(figure.low, unit)} to {number(figure.high, unit)}"
        judged = f"**{judged}**" if judged == "falls short" else judged
        lines.append(f"| {key} | {what} | {must} | {measured} | {spread} | {judged} |")
    lines += ["", summary(figures) + "."]
    if disturbed := disturbances(described.get("busy_elsewhere", {})):
        lines += ["", disturbed.capitalize() + "."]
    if reasons := notes(figures):
        lines += ["", *(f"- not run {note}" for note in reasons)]
    return "\n".join(lines) + "\n"


def record(figures: Sequence[Figure], described: dict[str, Any], effort: str) -> dict[str, Any]:
    """The machine-readable result."""
    return {
        "machine": described,
        "effort": effort,
        "figures": [
            {
                "key": figure.key,
                "what": BY_KEY[figure.key].what,
                "sense": BY_KEY[figure.key].sense,
                "unit": BY_KEY[figure.key].unit,
                "must": BY_KEY[figure.key].value(),
                "measured": figure.value,
                "low": figure.low,
                "high": figure.high,
                "verdict": verdict(figure),
                "note": figure.note,
                "detail": figure.detail,
            }
            for figure in figures
        ],
    }


def write(
    folder: Path, figures: Sequence[Figure], described: dict[str, Any], effort: str
) -> list[Path]:
    """Write JSON and Markdown named after the interpreter; returns what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"cpython-{described['interpreter']}"
    result = record(figures, described, effort)
    (folder / f"{stem}.json").write_text(json.dumps(result, indent=1) + "\n")
    (folder / f"{stem}.md").write_text(markdown(figures, described))
    return [folder / f"{stem}.json", folder / f"{stem}.md"]
