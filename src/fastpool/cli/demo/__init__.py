"""`fastpool demo`: real servers under load, pooled and as people do without; ends with verdicts."""

from __future__ import annotations

import importlib.util
import textwrap
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

from ..machine import Elsewhere
from ..tables import WIDTH, PlainView, count
from . import burst, clients, verdicts
from .accounting import Check
from .clients import EchoClient, Way, XmlRpcClient
from .comparison import Pace, Result, compare
from .outage import Stretches, outage
from .servers import Server

POOL_SIZE = 8

# What starting and stopping everything takes, about, in seconds, however long the demo is; and what
# setting up a turn and waiting until the server has counted takes.
_OVERHEAD, _RUN_OVERHEAD = 1.5, 0.05


class Chapter(NamedTuple):
    """One server, the ways to call it (the last one is ours), and what must hold of ours."""

    title: str
    kind: str
    ways: Sequence[Way]
    checks: Callable[[Result, Result, int], list[Check]]
    note: str = ""


def chapters(size: int) -> list[Chapter]:
    def pooled(title: str, kind: str, client: clients.Client) -> Chapter:
        return Chapter(
            title,
            kind,
            [
                Way(
                    "a connection per call",
                    "a connection per call",
                    partial(clients.connection_per_call, client),
                ),
                Way(
                    f"queue.LifoQueue of {size}",
                    "queue.LifoQueue",
                    partial(clients.lifo_queue, client, size),
                ),
                Way(
                    f"FastPool({size})",
                    "FastPool",
                    partial(clients.fast_pool, client, size),
                ),
            ],
            verdicts.pool_checks,
        )

    return [
        Chapter(
            "gRPC, unary calls",
            "grpc",
            [
                Way("a channel per call", "a channel per call", clients.channel_per_call),
                Way(
                    f"queue.LifoQueue, {size} channels",
                    "queue.LifoQueue",
                    partial(clients.lifo_queue_of_channels, size),
                ),
                Way("fastpool.grpc.shared()", "shared()", clients.shared_channel),
            ],
            verdicts.channel_checks,
            "(equal plain channels share a connection while one of them is open)",
        ),
        pooled("XML-RPC over HTTP/1.1, keep-alive", "xmlrpc", XmlRpcClient),
        pooled("TCP echo, 64 bytes there and back", "echo", EchoClient),
    ]


def run(seconds: float, threads: int, view: PlainView) -> bool:
    """The whole demo, in about `seconds`; whether every check held. Leaves no process behind."""
    selected = chapters(POOL_SIZE)
    if importlib.util.find_spec("grpc") is None:
        view.say("gRPC chapters: not run, grpcio is missing (pip install 'fastpool[grpc]')")
        selected = [chapter for chapter in selected if chapter.kind != "grpc"]
    # Calls beyond a limit of streams are told last, where gRPC is told at all.
    flooded = any(chapter.kind == "grpc" for chapter in selected)
    if flooded:
        seconds = max(seconds - burst.SECONDS, seconds / 2)
    pace, stretches = _schedule(seconds, threads, sum(len(chapter.ways) for chapter in selected))
    view.say(
        f"{count(threads, 'thread')}, pools of {POOL_SIZE}; every way has"
        f" {count(pace.rounds, 'turn')} of {pace.measured:.2f} s; medians.\n"
        "opened: connections, counted by the server. least/most: calls of the thread that\n"
        "made the fewest, over those of the one that made the most."
    )
    checks: list[Check] = []
    elsewhere = Elsewhere()
    with ExitStack() as stack:
        kinds = [chapter.kind for chapter in selected] + ["burst"] * flooded
        servers = {kind: stack.enter_context(Server(kind)) for kind in kinds}
        for server in servers.values():
            server.ready()
        for chapter in selected:
            results = compare(chapter.title, chapter.ways, servers[chapter.kind], pace, view)
            ours, others = results[-1], results[:-1]
            if chapter.note:
                _show(view, chapter.note)
            _show(view, "stats(): " + ours.runs[-1].stats)
            for other in others:
                _show(view, verdicts.verdict(ours, other))
                if why := verdicts.better_median(ours, other):
                    _show(view, why)
            checks += _announce(view, chapter.checks(ours, others[0], POOL_SIZE))
        result = outage(
            "TCP echo through one FastPool, the server killed and restarted under load",
            servers["echo"],
            POOL_SIZE,
            threads,
            stretches,
            view,
        )
        _show(view, "stats(): " + result.stats)
        _show(view, result.verdict)
        checks += _announce(view, result.checks)
        if flooded:
            flood = burst.burst(servers["burst"], view)
            _show(view, "stats(): " + flood.stats)
            for verdict in flood.verdicts:
                _show(view, verdict)
            checks += _announce(view, flood.checks)
    if busy := elsewhere.sentence():
        view.say()
        view.say(textwrap.fill(busy, WIDTH))
    return _conclude(view, checks)


def _schedule(seconds: float, threads: int, runs_a_round: int) -> tuple[Pace, Stretches]:
    """Share out the time: a fifth to the outage, the rest to the turns, which warm up for a fifth
    of theirs."""
    rounds = 5 if seconds >= 12 else 3 if seconds >= 6 else 1
    runs = rounds * runs_a_round
    left = max(seconds - _OVERHEAD - _RUN_OVERHEAD * runs, seconds / 2)
    run, stretch = 0.8 * left / runs, 0.2 * left / 4
    return Pace(threads, rounds, 0.2 * run, 0.8 * run), Stretches(stretch, stretch, 2 * stretch)


def _show(view: PlainView, text: str) -> None:
    view.say(textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="      "))


def _announce(view: PlainView, checks: list[Check]) -> list[Check]:
    marks = {True: "[ok]", False: "[FAILED]", None: "[not run]"}
    for check in checks:
        _show(view, f"{marks[check.held]} {check.text}")
    return checks


def _conclude(view: PlainView, checks: list[Check]) -> bool:
    failed = [check for check in checks if check.held is False]
    unseen = sum(check.held is None for check in checks)
    view.say()
    for check in failed:
        _show(view, f"[FAILED] {check.text}")
    view.say(
        f"{len(checks) - len(failed) - unseen} of {count(len(checks), 'check')} held"
        + (f", {len(failed)} failed" if failed else "")
        + (f", {unseen} not run" if unseen else "")
        + "."
    )
    return not failed
