"""`python -m bench.grpc`: the sixteen measurements of shared gRPC channels, beside bare grpcio.

Progress goes to standard error, the table to standard output. The exit code is 0 when everything
asked for ran to its end, whatever the verdicts.
"""

from __future__ import annotations

import os
import sys
import time

# grpc reads it when it is imported. Servers that are killed on purpose are not news.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from bench import machine
from bench.command import arguments, progress
from bench.grpc import report
from bench.grpc.cases import FULL, QUICK, ROWS, Figure, measure


def main() -> int:
    asked = arguments("python -m bench.grpc", __doc__, ROWS)
    effort = QUICK if asked.quick else FULL
    described = machine.describe()
    described["peers"] = {"grpcio": machine.version_of("grpcio")}
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
        kind = "quick" if asked.quick else "full"
        written = report.write(asked.out, figures, described, busy, kind)
        print("written: " + ", ".join(path.name for path in written))
    return 1 if any("failed" in (each.bare.lack, each.ours.lack) for each in figures) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
