"""`python -m bench.instructions [--record]`: count, show beside what is recorded; or record."""

from __future__ import annotations

import sys

from bench.instructions import REFERENCE, built_with, count, each, ratios, record, recorded
from bench.measure import NotRun


def main() -> int:
    try:
        counts = count()
    except NotRun as reason:
        print(f"not run: {reason}", file=sys.stderr)
        return 1
    now, before = ratios(counts), recorded().get(built_with(), {})
    print(
        f"{built_with()}\n\n{'':<22}{'instructions':>12}{'ratio':>8}{'recorded':>10}{'change':>9}"
    )
    for name, instructions in each(counts).items():
        line = f"{name:<22}{instructions:>12.0f}"
        if name != REFERENCE:
            line += f"{now[name]:>8.3f}"
            if name in before:
                line += f"{before[name]:>10.3f}{now[name] / before[name] - 1:>+9.1%}"
        print(line)
    if "--record" in sys.argv[1:]:
        record(now)
        print("\nrecorded")
    return 0


if __name__ == "__main__":
    sys.exit(main())
