"""`python -m bench`: run the rows for this interpreter, print the table, write the results.

Progress goes to standard error, the table to standard output. The exit code is 0 when everything
asked for ran to its end, whatever the verdicts: a benchmark informs, the guards in the test
command (`tests/project/test_ratio_guards.py`) judge.
"""

from __future__ import annotations

import sys
import time

from bench import machine, plots, report
from bench.cases import FULL, QUICK, ROWS, Figure, measure
from bench.command import arguments, progress


def main() -> int:
    asked = arguments("python -m bench", __doc__, ROWS)
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
