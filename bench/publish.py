"""`python -m bench.publish`: write docs/benchmarks*.md from what was recorded in bench/results/.

The first page says what the last recorded run of each interpreter said, losses first; those of gRPC
and of other RPC are the tables that `bench.grpc` and `bench.rpc` wrote there.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from bench.child import ROOT
from bench.machine import in_words
from bench.plots import recorded
from bench.report import disturbances, number
from bench.targets import MUSTS

DOCS = ROOT / "docs"

INTRODUCTION = """\
# Benchmarks

`make bench` prints this for your machine and your interpreter. What follows is what it printed on
ours. Every figure is a ratio of two things measured side by side in one run, or a count; how, and
why to distrust it all the same, is in [bench/README.md](../bench/README.md).

`>=` and `<=` say what fastpool promises itself. **Bold** falls short of that. Figures without a
promise are published for comparison. `-` was not run: the reasons stand at the end.

What the figures do not say: a query to a server takes a hundred microseconds or more, and the pool
is a small part of it. P14 measures whole queries. A pool matters when many threads want few
resources (P8, P9), when demand comes all at once (P13), and when its own cost is paid a million
times a second (P1 to P4, P6).

How an interpreter was built matters too: with profile-guided optimisation, what is written in
Python is faster, and the ratio to it smaller. Debian's CPython 3.11.2 is built so, and there P1a
was 54x, P1b 41x, P2a 1.71x and P3b 29x: all four below what is promised for the plain builds
measured here.
"""


GRPC = """\
# gRPC benchmarks

`make bench-grpc` prints these tables for your machine: twelve measurements of a shared channel
beside bare grpcio, taken in turns inside one run. What is measured, and how, is in
[bench/README.md](../bench/README.md).

What stands here is of a quick run. G1b is what a process grows by, in pages, and varies from run to
run: most of it is one TLS channel of grpc's. G2 is the difference of two costs of some 100 us; what
the instrument says of bare grpcio beside itself stands in the bare column, and is as large as what
it says of ours.

Times of bursts (G3a, G4b) contain the work of a thousand calls and more for client and server,
which share two cores here. What the machine itself needs for it stands beside: G3d is ten bare
channels by hand, G4f a server without any limit. G6c and G6d are likewise the floor of G6a and G6b:
a bare connection that small calls have for themselves. G5b is the line at work: 5,000 calls of
500 ms through 8 connections of 50 slots take 6.25 s at least, and bare grpcio is faster by losing
a third of them.
"""

RPC = """\
# RPC benchmarks

`make bench-rpc` prints these tables for your machine: 32 callers of one server, over a pool and as
people do it today, in turns inside one run. How is in [bench/README.md](../bench/README.md).

What stands here is of a quick run of three rounds; on two shared cores rates vary much from run to
run.
"""

# Record: page, and what stands above the tables.
TABLES = {"grpc": ("benchmarks-grpc.md", GRPC), "rpc": ("benchmarks-rpc.md", RPC)}


def cell(figure: dict[str, Any] | None) -> str:
    if figure is None or figure["measured"] is None:
        return "-"
    measured = number(figure["measured"], figure["unit"])
    if figure["verdict"] == "falls short":
        measured = f"**{measured}**"
    if figure["must"] is None:
        return measured
    return f"{measured} ({figure['sense']} {figure['must']:g})"


def table(results: dict[str, dict[str, Any]]) -> list[str]:
    by_key = {
        name: {figure["key"]: figure for figure in result["figures"]}
        for name, result in results.items()
    }
    lines = [f"| | what | {' | '.join(results)} |", f"|---|---|{'--:|' * len(results)}"]
    for must in MUSTS:
        cells = [cell(figures.get(must.key)) for figures in by_key.values()]
        lines.append(f"| {must.key} | {must.what} | {' | '.join(cells)} |")
    return lines


def losses(results: dict[str, dict[str, Any]]) -> list[str]:
    lines = []
    for name, result in results.items():
        for figure in result["figures"]:
            if figure["verdict"] == "falls short":
                promised = f"{figure['sense']} {number(figure['must'], figure['unit'])}"
                measured = number(figure["measured"], figure["unit"])
                what = f"{figure['key']}, {figure['what']}"
                lines.append(f"- {name}: {what}: {measured}, promised {promised}")
    return lines or ["None in these runs."]


def conditions(result: dict[str, Any]) -> list[str]:
    lines = ["```", *in_words(result["machine"])]
    if disturbed := disturbances(result["machine"].get("busy_elsewhere", {})):
        lines.append(disturbed)
    reasons = {
        figure["note"]: figure["key"] for figure in result["figures"][::-1] if figure["note"]
    }
    lines += [f"not run {key} and likewise: {reason}" for reason, key in reasons.items()]
    return [*lines, "```", ""]


def page(results: dict[str, dict[str, Any]]) -> str:
    lines = [INTRODUCTION, "## Where we fall short", "", *losses(results), ""]
    lines += ["## All figures", "", *table(results), "", "## Conditions", ""]
    for result in results.values():
        lines += conditions(result)
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "bench" / "results"
    written = []
    if found := recorded(folder):
        written.append(DOCS / "benchmarks.md")
        written[-1].write_text(page(found))
    for record, (name, introduction) in TABLES.items():
        if parts := sorted(folder.glob(f"{record}-*.md")):
            written.append(DOCS / name)
            written[-1].write_text("\n".join([introduction, *map(Path.read_text, parts)]))
    if not written:
        sys.exit("nothing recorded yet: run python -m bench first")
    print("written: " + ", ".join(str(path.relative_to(ROOT)) for path in written))
    return 0


if __name__ == "__main__":
    sys.exit(main())
