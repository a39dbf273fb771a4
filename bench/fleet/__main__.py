"""`python -m bench.fleet`; see the package."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

from bench import machine, servers
from bench.fleet.plot import svg
from bench.fleet.scenarios import LIMIT, SCENARIOS, WAYS, Run, Service, prepare
from bench.measure import NotRun

COLUMNS = ("way", "most", "turns/s", "refused", "errors of callers")


def table(runs: list[Run]) -> list[str]:
    """A row for each way, as Markdown."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---|--:|--:|--:|---|"]
    for run in runs:
        turns = sum(run.turns.values()) / run.seconds
        errors = ", ".join(f"{n} {name}" for name, n in sorted(run.errors.items())) or "0"
        row = (run.title, f"{run.most}", f"{turns:.0f}", f"{len(run.refusals)}", errors)
        lines.append(f"| {' | '.join(row)} |")
    return lines


def title_of(given: argparse.Namespace) -> str:
    what = "A rolling deploy" if given.scenario == "deploy" else "Faults"
    n = f"{given.processes} + {given.processes}" if given.scenario == "deploy" else given.processes
    return f"{what}: {n} processes, and a PostgreSQL that lets {LIMIT} connections in"


def say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.fleet", description=__doc__)
    parser.add_argument("--scenario", choices=SCENARIOS, default="deploy")
    parser.add_argument("--only", help="ways, separated by commas: " + ", ".join(WAYS))
    parser.add_argument("--processes", type=int, default=8, help="of a usual day (8)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each phase (5)")
    parser.add_argument("--hold", type=float, default=0.1, help="seconds of a query (0.1)")
    parser.add_argument("--plot", type=Path, help="write an SVG file")
    parser.add_argument("--json", type=Path, help="write what was counted")
    given = parser.parse_args()
    ways = given.only.split(",") if given.only else list(WAYS)
    runs: list[Run] = []
    print("\n".join(machine.in_words(machine.describe())), flush=True)
    try:
        with servers.postgresql_cluster() as start:
            with start(signal.SIGINT) as port:
                prepare(port)
            for number, name in enumerate(ways, 1):
                way = WAYS[name]
                title = way.title(given.processes)
                print(f"{number} of {len(ways)}: {title}", flush=True)
                with start(signal.SIGINT) as port:
                    service = Service(port, way, given.processes, given.hold, say)
                    try:
                        SCENARIOS[given.scenario](service, given.seconds)
                    finally:
                        runs.append(service.close())
    except NotRun as reason:
        print(f"not run: {reason}")
        return 0
    print("\nThe most connections in each second, as the server counts them:")
    for run in runs:
        print(f"  {run.title:28}", *(f"{n:2}" for n in run.by_second()))
    print(f"\n{given.scenario}, {LIMIT} connections:\n")
    print("\n".join(table(runs)))
    if given.plot:
        given.plot.write_text(svg(title_of(given), runs))
        print(f"\nwritten: {given.plot}")
    if given.json:
        given.json.write_text(json.dumps([vars(run) for run in runs]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
