"""The server dies under load and comes back: what becomes of the pool and of its borrowers."""

from __future__ import annotations

import time
from typing import NamedTuple

from ... import FastPool
from ..tables import PlainView, Row, count
from .accounting import Accounts, Check, audit, cap_kept, no_errors
from .clients import EchoClient, describe
from .load import Load, clock
from .servers import Server

# A caller that failed tries again this much later, in seconds, as a client would.
_PAUSE = 0.02
# How long a caller waits for a connection, in seconds. Not longer, for Ctrl-C waits for callers.
_PATIENCE = 2.0

_LABELS = ("server up", "killed, callers go on", "back on its port")


class Stretches(NamedTuple):
    """How long the server is up, down, and up again, in seconds."""

    up: float
    down: float
    back: float


class Outcome(NamedTuple):
    stats: str
    verdict: str
    checks: list[Check]


def outage(
    title: str, server: Server, size: int, threads: int, stretches: Stretches, view: PlainView
) -> Outcome:
    """Kill and restart the echo server while `threads` threads call it through one FastPool."""

    def watch(index: int, seconds: float) -> float:
        """Let the load run for some seconds and show it; when that began."""
        begun = clock()
        while (left := begun + seconds - clock()) > 0:
            time.sleep(min(left, 0.1))
            if view.live:  # not for nothing: it costs the load some of its time
                view.progress(index, row(index, begun, clock(), None))
        return begun

    def row(index: int, begun: float, ended: float, opened: int | None) -> Row:
        seen = load.between(begun, ended)
        return Row(
            _LABELS[index],
            seen.rate,
            seen.p50,
            seen.p99,
            opened,
            seen.errors.total(),
            seen.evenness,
        )

    def call() -> None:
        with pool.lease() as connection:
            connection.call()

    pool = FastPool(
        size,
        factory=lambda: EchoClient(server.address),
        check=EchoClient.alive,
        timeout=_PATIENCE,
        name=server.kind,
    )
    view.begin(title, _LABELS)
    try:
        with pool:
            before = server.mark()
            with Load(call, threads, pause=_PAUSE) as load:
                begun = watch(0, stretches.up)
                first = server.counts()
                killed = clock()
                server.kill()
                view.complete(0, row(0, begun, killed, first.accepted - before.accepted))

                watch(1, stretches.down)
                server.restart()
                back = clock()
                view.complete(1, row(1, killed, back, 0))

                watch(2, stretches.back)
                ended = clock()
            stats = pool.stats()
            second = server.wait_until(lambda now: now.open == stats.open)
            view.complete(2, row(2, back, ended, second.accepted))
        closed = pool.stats()
        left = server.wait_until(lambda now: now.open == 0).open
    finally:
        view.end()

    errors = load.errors(begun_after=back)
    answered = load.first_success(begun_after=back)
    recovery = f"{(answered - back) * 1000:.1f} ms" if answered else "never"
    return Outcome(
        describe(stats),
        f"FastPool: first answer {recovery} after the server's return,"
        f" {count(errors.total(), 'error')} since",
        [
            no_errors(errors, "no call that began after the restart failed"),
            Check(
                f"all {first.open} broken ones closed ({stats.closed_total}) and replaced:"
                f" pool has {stats.open} open, new server {second.open}",
                stats.closed_total >= (first.open or 0) > 0 < stats.open == second.open,
            ),
            cap_kept([first.peak, second.peak], size),
            *audit([Accounts(stats, second.open, closed, left)]),
        ],
    )
