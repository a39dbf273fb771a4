"""What the commands of the benchmarks have in common."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"


def arguments(prog: str, about: str | None, rows: Collection[str]) -> argparse.Namespace:
    """The command line; `rows` are all that there are. An unknown one ends the program."""
    parser = argparse.ArgumentParser(prog=prog, description=about)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    example = ",".join(list(rows)[:2])
    parser.add_argument("--quick", action="store_true", help="shorter runs, noisier figures")
    parser.add_argument("--only", metavar="ROWS", help=f"comma-separated rows, as in {example}")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    parser.add_argument("--no-write", action="store_true", help="print only")
    parsed = parser.parse_args()
    parsed.rows = [row.upper() for row in (parsed.only or ",".join(rows)).split(",")]
    if unknown := [row for row in parsed.rows if row not in rows]:
        parser.error(f"no such row: {', '.join(unknown)} (there are {', '.join(rows)})")
    return parsed


def progress(text: str, end: str = "\n") -> None:
    print(text, end=end, file=sys.stderr, flush=True)
