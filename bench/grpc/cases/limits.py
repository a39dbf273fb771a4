"""G3 to G5, G14: more calls at once than the server takes, from the tasks of one loop.

The servers are grpcio's, with a limit of 100 streams a connection. G3's lets what is over the limit
wait, as servers of other makes do; G4's refuses some of it, as grpcio's do by themselves. G5's has
no limit, and sheds calls that it has not accepted. Ours are at their defaults.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import grpc

from bench.grpc.adapter import aio_shared, shared
from bench.grpc.cases import Effort, Figure, Reading, take_turns
from bench.grpc.clients import (
    PATIENCE,
    Burst,
    Opened,
    bare,
    burst,
    by_hand,
    native_scaling,
    unary,
)
from bench.grpc.server import GrpcServer
from bench.measure import NotRun

LIMIT = 100


def ours(target: str, **parameters: Any) -> Opened:
    return lambda: aio_shared(target, **parameters)


def needs_native() -> None:
    version = tuple(int(part) for part in grpc.__version__.split(".")[:2])
    if version < (1, 84):
        raise NotRun(f"grpcio {grpc.__version__} has no connection scaling, 1.84 has")


def native(target: str, connections: int, calls: int, milliseconds: int) -> Burst:
    needs_native()
    return burst([bare(target, native_scaling(connections))], calls, milliseconds)


def g3(effort: Effort) -> Iterator[Figure]:
    calls, milliseconds = 1_000, 200
    with GrpcServer(streams=LIMIT, patient=True) as server:
        target = server.target
        several = ours(target)
        turns = take_turns(
            {
                "bare": partial(burst, [bare(target)], calls, milliseconds),
                "native": partial(native, target, 10, calls, milliseconds),
                "by hand": partial(burst, by_hand(target, 10), calls, milliseconds),
                "ours": partial(burst, [several], calls, milliseconds),
            },
            effort.turns,
        )
    yield Figure("G3a", turns.median("bare", seconds), turns.median("ours", seconds))
    yield Figure("G3b", ours=first_call_later(turns.results, turns.median("ours", first)))
    yield Figure("G3c", turns.median("native", seconds))
    yield Figure("G3d", turns.median("by hand", seconds))


def first_call_later(results: dict[str, list[Burst]], ours_first: Reading) -> Reading:
    """Milliseconds, of turns side by side."""
    if ours_first.value is None:
        return ours_first
    from bench.grpc.cases import median_of

    pairs = zip(results["ours"], results["bare"])
    return median_of(1_000 * (mine.first - theirs.first) for mine, theirs in pairs)


def seconds(result: Burst) -> float:
    return result.seconds


def first(result: Burst) -> float:
    return result.first


def lost_percent(result: Burst) -> float:
    return result.lost_percent


def codes(results: list[Burst]) -> dict[str, int]:
    return dict(sum((result.codes for result in results), Counter()))


def g4(effort: Effort) -> Iterator[Figure]:
    calls, milliseconds = 2_000, 50
    with GrpcServer(streams=LIMIT) as server, GrpcServer() as unlimited:
        target = server.target
        several = ours(target)
        turns = take_turns(
            {
                "bare": partial(burst, [bare(target)], calls, milliseconds),
                "native": partial(native, target, 4, calls, milliseconds),
                "by hand": partial(burst, by_hand(target, 4), calls, milliseconds),
                "unlimited": partial(burst, [bare(unlimited.target)], calls, milliseconds),
                "ours": partial(burst, [several], calls, milliseconds),
            },
            2 * effort.turns,
        )
        detail = {name: codes(results) for name, results in turns.results.items()}
        # One call lost in one run is one too many, so that is not a median.
        none_lost = turns.worst("ours", lost_percent)
        yield Figure("G4a", turns.median("bare", lost_percent), none_lost, detail)
        yield Figure("G4b", turns.median("bare", seconds), turns.median("ours", seconds))
        yield Figure("G4c", turns.median("native", lost_percent))
        yield Figure("G4d", turns.median("by hand", lost_percent))
        yield Figure("G4f", turns.median("unlimited", seconds))

        def plain() -> Any:
            return grpc.insecure_channel(target)

        def sharing() -> Any:
            return shared(target)

        threads = take_turns(
            {"bare": partial(crowd, plain), "ours": partial(crowd, sharing)}, effort.turns
        )
    lost = (threads.median("bare", lost_percent), threads.worst("ours", lost_percent))
    yield Figure("G4e", *lost)


def crowd(open_channel: Callable[[], Any], threads: int = 300, each: int = 7) -> Burst:
    """Threads that make calls of 50 ms one after the other, all of them beginning at once."""
    outcomes: Counter[str] = Counter()
    counting = threading.Lock()
    together = threading.Barrier(threads)
    with open_channel() as channel:
        unary(channel)(b"", timeout=PATIENCE, wait_for_ready=True)
        method = unary(channel, "Wait")

        def work() -> None:
            mine: Counter[str] = Counter()
            together.wait()
            for _ in range(each):
                try:
                    method(b"50", timeout=PATIENCE)
                    mine["OK"] += 1
                except grpc.RpcError as error:
                    mine[error.code().name] += 1
            with counting:
                outcomes.update(mine)

        runner = [threading.Thread(target=work) for _ in range(threads)]
        for thread in runner:
            thread.start()
        for thread in runner:
            thread.join()
    return Burst(0.0, 0.0, outcomes)


def g5(effort: Effort) -> Iterator[Figure]:
    calls, milliseconds = 5_000, 500
    with GrpcServer() as server:
        target = server.target
        turns = take_turns(
            {
                "bare": partial(burst, [bare(target)], calls, milliseconds),
                "ours": partial(burst, [ours(target)], calls, milliseconds),
            },
            effort.turns,
        )
    detail = {name: codes(results) for name, results in turns.results.items()}
    shed = turns.worst("ours", lambda result: result.codes["CANCELLED"])
    lost = turns.worst("ours", lambda result: result.lost)
    if shed.value == 0 and lost.value:  # lost some other way, which is no better
        shed = lost
    bare_shed = turns.median("bare", lambda result: result.codes["CANCELLED"])
    yield Figure("G5a", bare_shed, shed, detail)
    yield Figure("G5b", turns.median("bare", seconds), turns.median("ours", seconds))


def g14(effort: Effort) -> Iterator[Figure]:
    calls, milliseconds = 10_000, 10
    with GrpcServer() as server:
        turns = take_turns(
            {
                "bare": partial(burst, [bare(server.target)], calls, milliseconds),
                "ours": partial(burst, [ours(server.target)], calls, milliseconds),
            },
            min(effort.turns, 3),
        )

    def lost(result: Burst) -> float:
        return result.lost

    yield Figure("G14a", turns.median("bare", lost), turns.worst("ours", lost))
    yield Figure("G14b", turns.median("bare", seconds), turns.median("ours", seconds))
