"""G6: small calls beside three streams of 2 MiB messages.

On one connection a small reply stands in the queue behind what the streams have already written.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import grpc

from bench.grpc.adapter import shared
from bench.grpc.cases import Effort, Figure, take_turns
from bench.grpc.clients import PATIENCE, connection_of_its_own, path, stream, unary
from bench.grpc.server import GrpcServer

STREAMS = 3
MESSAGE = b"x" * 64
FEWEST, LONGEST = 40, 3.0  # calls; seconds
BULK = b"0 2097152 0"  # until it is cancelled, 2 MiB each


class Small(NamedTuple):
    """Milliseconds of the small calls."""

    p50: float
    p95: float


def small_calls(open_channels: Callable[[], tuple[Any, Any]], streams: int, calls: int) -> Small:
    """`open_channels` gives the channel for small calls and the one for bulk."""
    small, bulk = open_channels()
    try:
        say = unary(small)
        say(MESSAGE, timeout=PATIENCE)
        pouring = [stream(bulk, "Pour")(BULK, timeout=PATIENCE) for _ in range(streams)]
        running = threading.Barrier(streams + 1)

        def drink(messages: Any) -> None:
            next(messages)
            running.wait()
            try:
                for _ in messages:
                    pass
            except grpc.RpcError:
                pass

        drinkers = [threading.Thread(target=drink, args=(each,)) for each in pouring]
        for thread in drinkers:
            thread.start()
        running.wait()
        took = []
        enough = time.perf_counter() + LONGEST
        while len(took) < calls and (len(took) < FEWEST or time.perf_counter() < enough):
            begun = time.perf_counter()
            say(MESSAGE, timeout=PATIENCE)
            took.append(1_000 * (time.perf_counter() - begun))
        for each in pouring:
            each.cancel()
        for thread in drinkers:
            thread.join()
    finally:
        small.close()
        bulk.close()
    took.sort()
    return Small(took[len(took) // 2], took[int(0.95 * len(took))])


def g6(effort: Effort) -> Iterator[Figure]:
    calls = 100 * effort.turns
    with GrpcServer() as server:
        target = server.target

        def one() -> tuple[Any, Any]:
            channel = grpc.insecure_channel(target)
            return channel, channel

        def two() -> tuple[Any, Any]:
            first, second = (
                grpc.insecure_channel(target, connection_of_its_own(i)) for i in range(2)
            )
            return first, second

        def ours() -> tuple[Any, Any]:
            channel = shared(target, bulk=(path("Pour"),))
            return channel, channel

        turns = take_turns(
            {
                "bare": partial(small_calls, one, STREAMS, calls),
                "apart": partial(small_calls, two, STREAMS, calls),
                "alone": partial(small_calls, one, 0, calls),
                "ours": partial(small_calls, ours, STREAMS, calls),
            },
            effort.turns,
        )

    def p50(result: Small) -> float:
        return result.p50

    def p95(result: Small) -> float:
        return result.p95

    yield Figure("G6a", turns.median("bare", p50), turns.median("ours", p50))
    yield Figure("G6b", turns.median("bare", p95), turns.median("ours", p95))
    yield Figure("G6c", turns.median("apart", p50))
    yield Figure("G6d", turns.median("apart", p95))
    yield Figure("G6e", turns.median("alone", p50))
