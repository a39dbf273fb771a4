"""`python -m bench`: run the rows for this interpreter, print the table, write the results.

Progress goes to standard error, the table to standard output. The exit code is 0 when everything
asked for ran to its end, whatever the verdicts: a benchmark informs, the guards in the test
command (`tests/test_ratio_guards.py`) judge.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from bench import machine, plots, report
from bench.rows import FULL, QUICK, ROWS, Figure, measure

RESULTS = Path(__file__).resolve().parent / "results"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="shorter runs, noisier figures")
    parser.add_argument("--only", metavar="ROWS", help="comma-separated rows, as in P1,P2")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    parser.add_argument("--no-write", action="store_true", help="print only")
    parsed = parser.parse_args()
    parsed.rows = [row.upper() for row in (parsed.only or ",".join(ROWS)).split(",")]
    if unknown := [row for row in parsed.rows if row not in ROWS]:
        parser.error(f"no such row: {', '.join(unknown)} (there are {', '.join(ROWS)})")
    return parsed


def progress(text: str, end: str = "\n") -> None:
    print(text, end=end, file=sys.stderr, flush=True)


def main() -> int:
    asked = arguments()
    effort = QUICK if asked.quick else FULL
    described = machine.describe()
    print("\n".join(machine.in_words(described)), end="\n\n", flush=True)

    figures: list[Figure] = []
    begun = time.monotonic()
    busy: dict[str, float | None] = {}
    for row in asked.rows:
        progress(f"{row:<4} ", end="")
        row_begun, others = time.monotonic(), machine.watch()
        found = list(measure(row, effort))
        figures += found
        busy[row] = others.share() if others else None
        progress(f"{time.monotonic() - row_begun:6.1f} s  {report.summary(found)}")
    progress(f"all  {time.monotonic() - begun:6.1f} s\n")
    described["busy_elsewhere"] = busy

    print(report.table(figures, busy))
    if not asked.no_write:
        written = report.write(asked.out, figures, described, "quick" if asked.quick else "full")
        try:
            written += plots.draw(asked.out)
        except ImportError:
            print(plots.HOW_TO_GET)
        print("written: " + ", ".join(path.name for path in written))
    return 1 if any(figure.note.startswith("failed") for figure in figures) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
