"""The table of must, bare and ours at 80 columns, and the JSON and Markdown records."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.grpc.cases import Figure, Reading
from bench.grpc.targets import BY_KEY, MARKS, Mark
from bench.machine import in_words
from bench.report import WIDTH, disturbances, number

COLUMNS = "{:<5}{:<36}{:>9}{:>9}{:>9} {}"  # the verdict is at most 11 wide


def verdict(figure: Figure) -> str:
    """ "reached", "falls short", "published", or what the reading lacks: "not built", ..."""
    mark = BY_KEY[figure.key]
    if mark.must is None and not figure.ours.lack and figure.bare.value is not None:
        return "published"
    if figure.ours.value is None:
        return figure.ours.lack or figure.bare.lack or "-"
    return "reached" if mark.reached_by(figure.ours.value) else "falls short"


def reading(value: Reading, mark: Mark) -> str:
    return number(value.value, mark.unit)


def promised(mark: Mark) -> str:
    return "-" if mark.must is None else f"{mark.sense}{number(mark.must, mark.unit)}"


def cells(figure: Figure) -> tuple[str, str, str, str, str, str]:
    mark = BY_KEY[figure.key]
    bare, ours = reading(figure.bare, mark), reading(figure.ours, mark)
    return figure.key, mark.what, promised(mark), bare, ours, verdict(figure)


def heading() -> str:
    return COLUMNS.format("row", "what", "must", "bare", "ours", "verdict") + "\n" + "-" * WIDTH


def line(figure: Figure) -> str:
    return COLUMNS.format(*cells(figure))


def summary(figures: Iterable[Figure]) -> str:
    counts: dict[str, int] = {}
    for figure in figures:
        counts[verdict(figure)] = counts.get(verdict(figure), 0) + 1
    order = ("reached", "falls short", "published", "not built", "not run", "failed", "-")
    return ", ".join(f"{counts[name]} {name}" for name in order if name in counts)


def notes(figures: Sequence[Figure]) -> list[str]:
    """Why there is no figure, one sentence per reason; and where bare is not what is known."""
    reasons: dict[str, list[str]] = {}
    for figure in figures:
        for each in (figure.bare, figure.ours):
            if each.lack:
                keys = reasons.setdefault(f"{each.lack}: {each.why}", [])
                if figure.key not in keys:
                    keys.append(figure.key)
    said = [f"{', '.join(shortened(keys))} {reason}" for reason, keys in reasons.items()]
    for figure in figures:
        mark = BY_KEY[figure.key]
        value = figure.bare.value
        if value is not None and not mark.reproduced_by(value):
            low, high = (number(each, mark.unit) for each in mark.known or (0, 0))
            seen = number(value, mark.unit)
            said.append(f"{figure.key} bare grpcio gave {seen}, and is known for {low} to {high}")
        said += [f"{figure.key} {text}" for text in figure.detail.get("notes", ())]
    return said


def shortened(keys: Sequence[str]) -> list[str]:
    """The row's name in place of its keys where all of them are there."""
    short: list[str] = []
    for key in keys:
        row = BY_KEY[key].row
        whole = all(mark.key in keys for mark in MARKS if mark.row == row)
        name = row if whole else key
        if name not in short:
            short.append(name)
    return short


def below(figures: Sequence[Figure], busy: Mapping[str, float | None]) -> list[str]:
    return [text for text in [*notes(figures), disturbances(busy)] if text]


def table(figures: Sequence[Figure], busy: Mapping[str, float | None]) -> str:
    """What the command prints at its end."""
    lines = [heading(), *(line(figure) for figure in figures), "-" * WIDTH, summary(figures)]
    for text in below(figures, busy):
        lines += textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(lines)


def markdown(
    figures: Sequence[Figure], described: dict[str, Any], busy: Mapping[str, float | None]
) -> str:
    lines = [f"## {described['interpreter']}", "", "```", *in_words(described), "```", ""]
    lines += ["| row | what | must | bare | ours | verdict |", "|---|---|--:|--:|--:|---|"]
    lines += ["| " + " | ".join(cells(figure)) + " |" for figure in figures]
    lines += ["", summary(figures) + ".", ""]
    lines += [f"- {text}" for text in below(figures, busy)]
    return "\n".join(lines) + "\n"


def record(figures: Sequence[Figure], described: dict[str, Any], effort: str) -> dict[str, Any]:
    """The machine-readable result."""
    return {
        "machine": described,
        "effort": effort,
        "figures": [
            {
                **asdict(BY_KEY[figure.key]),
                "bare": asdict(figure.bare),
                "ours": asdict(figure.ours),
                "verdict": verdict(figure),
                "reproduced": figure.bare.value is None
                or BY_KEY[figure.key].reproduced_by(figure.bare.value),
                "detail": figure.detail,
            }
            for figure in figures
        ],
    }


def write(
    folder: Path,
    figures: Sequence[Figure],
    described: dict[str, Any],
    busy: Mapping[str, float | None],
    effort: str,
) -> list[Path]:
    """Write JSON and Markdown named after the interpreter; returns what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"grpc-{described['interpreter']}"
    written = [stem.with_name(stem.name + suffix) for suffix in (".json", ".md")]
    written[0].write_text(json.dumps(record(figures, described, effort), indent=1) + "\n")
    written[1].write_text(markdown(figures, described, busy))
    return written
