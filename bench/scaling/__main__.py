"""`python -m bench.scaling --out DIR`: a table and a picture of 1, 2, 4, 8 and 16 threads.

Needs nothing but fastpool, built; pools of other projects are measured too where they are
installed.  Ends within four minutes.  Writes scaling-VERSION.json, .md and .svg to DIR.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench import machine
from bench.command import RESULTS, progress
from bench.measure import NotRun
from bench.scaling import THREADS, Found, measure
from bench.scaling.plot import OURS, svg
from bench.targets import free_threaded


def rows(
    found: Found, sizes: Sequence[int], cell: Callable[[Mapping[int, float], int], str], head: str
) -> list[str]:
    """A Markdown table: contestants down, threads across."""
    lines = ["", f"| {head} | {' | '.join(map(str, sizes))} |", "|---|" + "--:|" * len(sizes)]
    for name, rates in found.items():
        medians = {n: each.median for n, each in rates.items()}
        marks = {n: "*" if each.doubtful else "" for n, each in rates.items()}
        cells = [cell(medians, n) + marks[n] for n in sizes]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def markdown(
    found: Found, sizes: Sequence[int], notes: Sequence[str], described: Sequence[str]
) -> str:
    first = sizes[0]
    lines = ["```", *described, "```"]
    lines += rows(found, sizes, lambda m, n: f"{m[n] / 1e6:.3g}", "million turns/s, threads")
    lines += rows(found, sizes, lambda m, n: f"{m[n] / m[first]:.2f}", f"x of {first}, threads")
    ours = next(name for name in found if name.startswith(OURS))
    against = {n: each.median for n, each in found[ours].items()}
    lines += rows(found, sizes, lambda m, n: f"{against[n] / m[n]:.2f}", f"{ours} / it, threads")
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)]).rstrip() + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    parser.add_argument("--threads", help="as in 1,2,4: more than there are CPUs, too")
    parser.add_argument("--rounds", type=int, default=15, help="of which figures are medians (15)")
    parser.add_argument("--window", type=float, help="seconds (0.005; 0.1 with a GIL)")
    parser.add_argument("--patience", type=float, default=200, help="seconds of all rounds (200)")
    given = parser.parse_args()
    described, cpus = machine.describe(), machine.cpus_allowed()
    sizes = [int(n) for n in given.threads.split(",")] if given.threads else list(THREADS)
    notes = []
    if not given.threads and sizes[-1] > cpus:
        left_out = [n for n in sizes if n > cpus]
        sizes = [n for n in sizes if n <= cpus]
        notes.append(f"not run with {', '.join(map(str, left_out))} threads: {cpus} CPUs allowed")
    seconds = given.window or (0.005 if free_threaded() else 0.1)
    others = machine.watch()
    try:
        found, missing = measure(sizes, given.rounds, seconds, given.patience, progress)
    except NotRun as reason:
        print(f"not run: {reason}")
        return 1
    share = others.share() if others else None
    notes += [f"not run {name}: {reason}" for name, reason in missing.items()]
    notes.append("the last rows are other projects' pools over connections that do nothing")
    if any(each.doubtful for rates in found.values() for each in rates.values()):
        notes.append("*: threads lost their CPU in most windows; those are counted, too")
    if share is not None and share > 0.1:
        notes.append(f"other programs took {share:.0%} of the CPUs meanwhile")
    page = markdown(found, sizes, notes, machine.in_words(described))
    print(page)
    given.out.mkdir(parents=True, exist_ok=True)
    stem = given.out / f"scaling-{described['interpreter']}"
    rates = {
        name: {
            n: {"median": each.median, "calm": each.calm, "disturbed": each.disturbed}
            for n, each in sizes_.items()
        }
        for name, sizes_ in found.items()
    }
    record = {"machine": described, "busy_elsewhere": share, "notes": notes, "rates": rates}
    stem.with_name(stem.name + ".json").write_text(json.dumps(record, indent=1) + "\n")
    stem.with_name(stem.name + ".md").write_text(page)
    title = f"One pool, many threads: CPython {described['interpreter']}, {described['cpu']}"
    stem.with_name(stem.name + ".svg").write_text(svg(title, found, sizes))
    print(f"written: {stem.name}.json, .md, .svg")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
