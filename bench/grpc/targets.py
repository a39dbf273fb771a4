"""What sharing must reach, and what bare grpcio is known to give: the table behind the verdicts.

A row whose bare column does not show the trouble that it is about proves nothing. So each mark has
the range that bare grpcio is known to fall in (measured on Linux with grpcio 1.85, Python 3.11 and
3.13, two shared cores), and the table says where a run does not reproduce it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mark:
    """One line of the table. `must` None = published, judged by nobody.

    `known` is the range of the bare column, None where bare grpcio has no such thing.
    """

    key: str
    what: str
    sense: str
    must: float | None
    unit: str
    known: tuple[float, float] | None

    @property
    def row(self) -> str:
        return self.key.rstrip("abcdefgh")

    def reached_by(self, value: float) -> bool | None:
        if self.must is None:
            return None
        return value >= self.must if self.sense == ">=" else value <= self.must

    def reproduced_by(self, bare: float) -> bool:
        return self.known is None or self.known[0] <= bare <= self.known[1]


def _published(key: str, what: str, unit: str, known: tuple[float, float] | None) -> Mark:
    return Mark(key, what, "", None, unit, known)


MARKS: tuple[Mark, ...] = (
    # Sharing. A hundred stubs over TLS; bare: a channel for each, the same credentials object.
    Mark("G1a", "100 stubs, TLS: connections", "<=", 1, "", (100, 100)),
    Mark("G1b", "same: memory", "<=", 110, "KiB", (3_000, 30_000)),
    _published("G1c", "bare: one channel, one stub: memory", "KiB", None),
    # Cost over bare grpcio. The bare column is bare grpcio beside itself: the instrument's noise.
    Mark("G2a", "sync call: CPU, calling thread", "<=", 1, "us", None),
    Mark("G2b", "sync call: CPU, whole process", "<=", 1, "us", None),
    Mark("G2c", "aio call: CPU, calling thread", "<=", 2, "us", None),
    Mark("G2d", "aio call: CPU, whole process", "<=", 2, "us", None),
    Mark("G2e", "sync, 8 threads: calls/s over bare", ">=", 0.98, "x", None),
    Mark("G2f", "aio, 100 tasks: calls/s over bare", ">=", 0.96, "x", None),
    # A limit of 100 streams whose server lets others wait; 1,000 calls of 200 ms at once.
    Mark("G3a", "limit 100, 1,000 x 200 ms", "<=", 0.35, "s", (1.9, 3.0)),
    Mark("G3b", "same: first call, later than bare", "<=", 5, "ms", None),
    _published("G3c", "bare: native scaling to 10", "s", (0.2, 1.5)),
    _published("G3d", "bare: 10 channels by hand", "s", (0.2, 1.0)),
    # The same limit at a server that refuses, as grpcio's does; 2,000 calls of 50 ms at once.
    Mark("G4a", "limit 100, 2,000 x 50 ms: lost", "<=", 0, "%", (5, 75)),
    Mark("G4b", "same: time for all", "<=", 0.45, "s", (0.4, 2.0)),
    _published("G4c", "bare: native scaling to 4: lost", "%", (5, 80)),
    _published("G4d", "bare: 4 channels by hand: lost", "%", (5, 80)),
    Mark("G4e", "same limit, 300 threads: lost", "<=", 0, "%", (1, 75)),
    _published("G4f", "bare, server without a limit: all", "s", (0.2, 1.5)),
    # No limit of streams: the server sheds what it has not accepted.
    Mark("G5a", "5,000 at once: CANCELLED", "<=", 0, "", (100, 4_000)),
    _published("G5b", "same: time for all", "s", (0.5, 5.0)),
    # A small call beside three streams of 2 MiB messages.
    Mark("G6a", "small call beside bulk: p50", "<=", 0.5, "ms", (1, 50)),
    Mark("G6b", "small call beside bulk: p95", "<=", 8, "ms", (5, 200)),
    _published("G6c", "bare: connection of its own: p50", "ms", (0.2, 5)),
    _published("G6d", "same: p95", "ms", (0.5, 40)),
    _published("G6e", "bare: without bulk: p50", "ms", (0.1, 2)),
    # A hundred streams left unfinished at a limit of 4; then one call.
    Mark("G7a", "100 aio breaks, limit 4: next call", "<=", 50, "ms", (900, 3_000)),
    Mark("G7b", "same, sync with a done callback", "<=", 50, "ms", (900, 3_000)),
    # Random calls, cancels, deadlines, abandoned streams, a server that dies.
    Mark("G8a", "random operations: slots not free", "<=", 0, "", None),
    Mark("G8b", "same: handlers that still run", "<=", 0, "", (1, 20_000)),
    Mark("G8c", "same: callers that never came back", "<=", 0, "", (0, 0)),
    # Every connection replaced under load, again and again.
    Mark("G9a", "connections replaced: calls failed", "<=", 0, "", (1, 10_000)),
    Mark("G9b", "sync close(grace): cut off, of 8", "<=", 0, "", (8, 8)),
    Mark("G9c", "same: returns after the last call", "<=", 20, "ms", None),
    Mark("G9d", "aio close(grace): returns after it", "<=", 20, "ms", (0, 20)),
    # The server dies and is back after 1.5 s; a call every 20 ms.
    Mark("G10a", "server away 1.5 s: calls failed", "<=", 0, "", (20, 200)),
    Mark("G10b", "same: first answer once it is back", "<=", 0.3, "s", (0.5, 3.0)),
    _published("G10c", "bare: wait_for_ready: first answer", "s", (0.3, 3.0)),
    # Fork and loops. What fails is the first call of each.
    Mark("G11a", "8 forked children: first calls lost", "<=", 0, "", (0, 8)),
    Mark("G11b", "3 loops, threads: first calls lost", "<=", 0, "", (1, 3)),
    Mark("G11c", "second asyncio.run: first call lost", "<=", 0, "", (1, 1)),
    # 64 targets, 4 connections each, nothing to do. Bare: subscribed to, to see their state.
    Mark("G12a", "64 x 4 idle: threads more", "<=", 0, "", (64, 256)),
    Mark("G12b", "same: CPU", "<=", 0.2, "%", (0.3, 50)),
    Mark("G12c", "same: close of one", "<=", 5, "ms", (50, 400)),
    # The connection is black-holed; calls with a deadline of 0.5 s, given up after 20 s.
    Mark("G13a", "black hole: until a call succeeds", "<=", 5, "s", (19, 30)),
    _published("G13b", "same: calls lost", "", (30, 60)),
    Mark("G13c", "same, healthy siblings: until", "<=", 1, "s", None),
    # Calls of 10 ms at once, from tasks, at a server without a limit.
    Mark("G14a", "10,000 at once, 10 ms: failed", "<=", 0, "", None),
    _published("G14b", "same: time for all", "s", None),
    # 800 calls at once through 50 slots; bare: to a server without a limit.
    Mark("G15a", "800 futures in the queue: threads", "<=", 4, "", (0, 4)),
    Mark("G15b", "same: CPU of a call over bare", "<=", 1.15, "x", None),
    Mark("G15c", "same, tasks: CPU over bare", "<=", 1.15, "x", None),
    _published("G15d", "bare, 50 at a time by hand: futures", "x", None),
    _published("G15e", "bare, 50 at a time by hand: tasks", "x", None),
    # A new channel and its first call, from a process that has made others.
    Mark("G16a", "new channel and first call over bare", "<=", 1.3, "x", None),
    Mark("G16b", "same: CPU", "<=", 1.3, "x", None),
    Mark("G16c", "same, aio", "<=", 1.3, "x", None),
    Mark("G16d", "same, aio: CPU", "<=", 1.3, "x", None),
)

BY_KEY = {mark.key: mark for mark in MARKS}
