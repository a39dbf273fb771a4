"""`python -m bench.rpc`: pooled XML-RPC and JSON-RPC beside what people use today.

32 callers against one server in a process of its own. Progress goes to standard error, the tables
to standard output. The exit code is 1 if ours had an error or opened more connections than allowed.
"""

from __future__ import annotations

import sys
import time

from bench import machine
from bench.command import arguments, progress
from bench.rpc import report
from bench.rpc.clients import ROWS, SIZE
from bench.rpc.round_trips import Result, measure
from bench.rpc.server import Server

PEERS = ("urllib3", "requests", "httpx", "httpcore")


def main() -> int:
    asked = arguments("python -m bench.rpc", __doc__, ROWS)
    rounds, calls = (3, 15) if asked.quick else (9, 50)
    described = machine.describe()
    described["peers"] = {name: machine.version_of(name) for name in PEERS}
    print("\n".join(machine.in_words(described)), flush=True)

    found: dict[str, list[Result]] = {}
    others = machine.watch()
    with Server() as server:
        for row in asked.rows:
            progress(f"{row} ", end="")
            began = time.monotonic()
            found[row] = measure(ROWS[row][1], server, rounds, calls)
            progress(f"{time.monotonic() - began:6.1f} s")
            print("\n" + report.table(row, found[row]), flush=True)
    print("\n" + report.legend(calls, rounds))
    for text in report.lost(found):
        print(f"lost: {text}")
    if others and (share := others.share()) > 0.1:
        print(f"other programs took {share:.0%} of the CPUs: rates are worth little")
    if not asked.no_write:
        effort = "quick" if asked.quick else "full"
        written = report.write(asked.out, found, described, effort)
        print("written: " + ", ".join(path.name for path in written))
    ours = [results[0] for results in found.values() if results[0].turns]
    return int(any(each.worst("errors") or each.worst("most") > SIZE for each in ours))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
