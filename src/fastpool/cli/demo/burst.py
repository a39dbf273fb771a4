"""More gRPC calls at once than the server allows on a connection: who loses how many of them.

The server is grpcio's with a limit of 100 streams a connection, which is what many servers and
proxies have. What is above the limit it refuses in part, and what a burst over one channel loses is
lost for good: gRPC tries again by itself only what never left.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

from ..tables import PlainView, Row, count
from .accounting import Check, no_errors
from .clients import TIMEOUT, check
from .load import clock, percentile
from .server_process import STREAM_LIMIT
from .servers import Server

if TYPE_CHECKING:
    from ...grpc import ChannelStats

CALLS, MILLISECONDS = 2_000, 50
METHOD = "/fastpool.demo.Echo/Wait"
MOST = 8
"""Connections that ours may open."""
SECONDS = 3.0
"""What all of it takes, about."""

TITLE = f"gRPC, {CALLS:,} calls of {MILLISECONDS} ms at once, limit {STREAM_LIMIT} a connection"


class Contestant(NamedTuple):
    """One way to send the burst: its label in the table, its name in a sentence, the channels that
    it opens on the loop that runs. The calls are dealt to them in turn."""

    label: str
    name: str
    channels: Callable[[str], Sequence[Any]]


class Burst(NamedTuple):
    """What became of the calls. `times`: seconds from the begin to each answer, in order."""

    contestant: Contestant
    seconds: float
    times: list[float]
    errors: Counter[str]
    opened: int
    left: int | None
    """Connections that the server still had when the channels were closed; None = not known."""

    def row(self) -> Row:
        return Row(
            self.contestant.label,
            len(self.times) / self.seconds,
            percentile(self.times, 0.50),
            percentile(self.times, 0.99),
            self.opened,
            self.errors.total(),
        )

    @property
    def outcome(self) -> str:
        if not self.errors:
            return f"all {CALLS:,} answered in {self.seconds:.2f} s"
        lost = self.errors.total()
        codes = ", ".join(name for name, _ in self.errors.most_common())
        return f"{lost:,} of {CALLS:,} lost, {100 * lost / CALLS:.0f} % ({codes})"


class Outcome(NamedTuple):
    stats: str
    verdicts: list[str]
    checks: list[Check]


def contestants() -> list[Contestant]:
    """The last one is ours."""
    import grpc.aio

    from ...grpc import aio_shared

    def one(target: str) -> Sequence[Any]:
        return [grpc.aio.insecure_channel(target)]

    def by_hand(target: str) -> Sequence[Any]:
        # Equal channels would share one connection.
        own = [("grpc.use_local_subchannel_pool", 1)]
        return [grpc.aio.insecure_channel(target, options=own) for _ in range(4)]

    def ours(target: str) -> Sequence[Any]:
        return [aio_shared(target, connections=(1, MOST), max_queue=CALLS)]

    return [
        Contestant("grpcio, one channel", "grpcio, one channel", one),
        Contestant("grpcio, 4 channels by hand", "4 channels by hand", by_hand),
        Contestant("fastpool.grpc.aio_shared()", "aio_shared()", ours),
    ]


def burst(server: Server, view: PlainView) -> Outcome:
    """Send the burst by each way, one after the other. Blocks; runs an event loop of its own."""
    everybody = contestants()
    view.begin(TITLE, [each.label for each in everybody])
    try:
        results, stats = asyncio.run(_all(everybody, server, view))
    finally:
        view.end()
    return outcome_of(results, stats)


async def _all(
    everybody: Sequence[Contestant], server: Server, view: PlainView
) -> tuple[list[Burst], ChannelStats]:
    from ...grpc import stats

    seen: list[ChannelStats] = []
    results = []
    for index, contestant in enumerate(everybody):
        before = server.mark().accepted
        async with AsyncExitStack() as stack:
            methods = []
            for channel in contestant.channels(server.target):
                await stack.enter_async_context(channel)
                method = channel.unary_unary(METHOD)
                # So that each has a connection, and has been told of the limit.
                await method(b"0", timeout=TIMEOUT, wait_for_ready=True)
                methods.append(method)
            seconds, times, errors = await _one(methods, contestant, index, view)
            seen = list(stats())
        after = await asyncio.to_thread(server.wait_until, lambda now: now.open in (0, None))
        result = Burst(contestant, seconds, times, errors, after.accepted - before, after.open)
        results.append(result)
        view.complete(index, result.row())
    return results, seen[0]


async def _one(
    methods: Sequence[Any], contestant: Contestant, index: int, view: PlainView
) -> tuple[float, list[float], Counter[str]]:
    import grpc

    request = b"%d" % MILLISECONDS
    times: list[float] = []
    errors: Counter[str] = Counter()
    begun = clock()

    async def call(method: Any) -> None:
        try:
            check(await method(request, timeout=TIMEOUT), request)
        except grpc.RpcError as error:
            errors[error.code().name] += 1
        else:
            times.append(clock() - begun)

    async def show() -> None:
        while True:
            await asyncio.sleep(0.1)
            rate = len(times) / (clock() - begun)
            view.progress(index, Row(contestant.label, rate, errors=errors.total()))

    shown = asyncio.ensure_future(show()) if view.live else None
    try:
        await asyncio.gather(*(call(methods[each % len(methods)]) for each in range(CALLS)))
    finally:
        if shown:
            shown.cancel()
    return clock() - begun, times, errors


def outcome_of(results: Sequence[Burst], stats: ChannelStats) -> Outcome:
    """What must hold of ours, the last one. What the others lose is shown, and asked of nobody."""
    ours = results[-1]
    left = "?" if ours.left is None else ours.left
    return Outcome(
        f"slots held {stats.in_use}, in the queue {stats.waiting}, connections {stats.connections}",
        [
            f"{each.contestant.name}: {each.outcome}; {count(each.opened, 'connection')}"
            for each in reversed(results)
        ],
        [
            no_errors(ours.errors, f"none of {CALLS:,} calls failed"),
            Check(
                f"at most {MOST} connections (at the server: {ours.opened})",
                1 <= ours.opened <= MOST,
            ),
            Check(
                f"every slot free again: {stats.in_use} held, {stats.waiting} in the queue",
                stats.in_use == stats.waiting == 0,
            ),
            Check(
                f"after close(): server has {left} open",
                None if ours.left is None else ours.left == 0,
            ),
        ],
    )
