"""The table at 80 columns, and the JSON and Markdown records."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.machine import in_words
from bench.report import WIDTH
from bench.rpc.clients import ROWS, SIZE
from bench.rpc.round_trips import CALLERS, Result

COLUMNS = "{:<30}{:>9}{:>9}{:>8}{:>8}{:>6}{:>10}"
HEADS = ("calls/s", "ours is", "CPU us", "opened", "most", "errors")


def cells(result: Result, ours: Result) -> tuple[str, ...]:
    """Rate, ours as a multiple of it, CPU of the client a call, connections that the server counted
    in a turn, the most at once, and errors in percent: medians, but the worst of the last two."""
    if not result.turns:
        return ("-",) * len(HEADS)
    rate = result.median("rate")
    calls = result.turns[0].calls
    times = "-"
    if result is not ours and ours.turns and rate:
        times = f"{ours.median('rate') / rate:.2f}x"
    failed = result.worst("errors")
    return (
        f"{rate:,.0f}",
        times,
        f"{result.median('cpu'):,.0f}",
        f"{result.median('opened'):,.0f}",
        str(result.worst("most")),
        f"{failed / calls:.0%}" if failed >= calls / 100 else str(failed),
    )


def table(row: str, results: Sequence[Result]) -> str:
    lines = [COLUMNS.format(ROWS[row][0], *HEADS), "-" * WIDTH]
    lines += [COLUMNS.format(each.contestant, *cells(each, results[0])) for each in results]
    lines += [f"  {each.contestant}: {each.why}" for each in results if each.why]
    return "\n".join(lines)


def legend(calls: int, rounds: int) -> str:
    text = (
        f"{CALLERS} callers, {calls} calls each, pools of {SIZE}; medians of {rounds} rounds; "
        "'opened' and 'most' are connections, as the server counts them; 'ours is': our calls/s "
        "as a multiple of theirs, below 1 we lose; errors: the worst round."
    )
    return textwrap.fill(text, WIDTH)


def lost(found: Mapping[str, Sequence[Result]]) -> list[str]:
    """What is faster than ours."""
    return [
        f"{ours.contestant} makes {ours.median('rate') / each.median('rate'):.2f} times the calls "
        f"of: {each.contestant}"
        for ours, *others in found.values()
        for each in others
        if ours.turns and each.turns and each.median("rate") > ours.median("rate")
    ]


def markdown(found: Mapping[str, Sequence[Result]], described: dict[str, Any]) -> str:
    lines = [f"## {described['interpreter']}", "", "```", *in_words(described), "```"]
    for row, results in found.items():
        lines += ["", "| " + " | ".join((ROWS[row][0], *HEADS)) + " |"]
        lines += ["|---" + "|--:" * len(HEADS) + "|"]
        lines += [
            "| " + " | ".join((each.contestant, *cells(each, results[0]))) + " |"
            for each in results
        ]
    lines += ["", *(f"- {text}" for text in lost(found))]
    return "\n".join(lines).rstrip() + "\n"


def write(
    folder: Path, found: Mapping[str, Sequence[Result]], described: dict[str, Any], effort: str
) -> list[Path]:
    """JSON and Markdown named after the interpreter; returns what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"rpc-{described['interpreter']}"
    written = [stem.with_name(stem.name + suffix) for suffix in (".json", ".md")]
    rows = {row: [asdict(each) for each in results] for row, results in found.items()}
    record = {"machine": described, "effort": effort, "rows": rows}
    written[0].write_text(json.dumps(record, indent=1) + "\n")
    written[1].write_text(markdown(found, described))
    return written
