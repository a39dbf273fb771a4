"""G9: connections that are replaced under load, and channels that are closed with grace."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import grpc
import grpc.aio

from bench.grpc.adapter import aio_shared, graceful, shared
from bench.grpc.cases import Effort, Figure, take_turns
from bench.grpc.clients import PATIENCE, connection_of_its_own, path, stream, unary
from bench.grpc.server import GrpcServer
from bench.measure import NotRun

CALLERS, READERS = 6, 3
ROTATIONS = 4  # in one run
STREAM = b"9 1 100"  # 900 ms
IN_FLIGHT = 8
LONG = b"300"  # milliseconds
GRACE = 10.0


class Served(NamedTuple):
    failed: int
    calls: int
    connections: int


Current = Callable[[], Any]  # the channel to use now


@contextmanager
def rotated_by_hand(target: str, every: float) -> Iterator[Current]:
    """What people do: connect a new channel, use it from now on, close the old one."""

    def opened(index: int) -> Any:
        channel = grpc.insecure_channel(target, connection_of_its_own(index))
        unary(channel)(b"", timeout=PATIENCE)
        return channel

    current, stop = [opened(0)], threading.Event()

    def rotate() -> None:
        index = 0
        while not stop.wait(every):
            index += 1
            old, current[0] = current[0], opened(index)
            old.close()

    thread = threading.Thread(target=rotate)
    thread.start()
    try:
        yield lambda: current[0]
    finally:
        stop.set()
        thread.join()
        current[0].close()


@contextmanager
def rotated_by_age(target: str, every: float) -> Iterator[Current]:
    with shared(target, max_age=every) as channel:
        yield lambda: channel


def under_load(rotated: Callable[[str, float], Any], seconds: float) -> Served:
    with GrpcServer() as server, rotated(server.target, seconds / ROTATIONS) as current:
        failed, done = [], []
        end = time.monotonic() + seconds

        def work(call: Callable[[Any], Any]) -> None:
            while time.monotonic() < end:
                try:
                    call(current())
                    done.append(1)
                except (grpc.RpcError, ValueError) as error:
                    failed.append(error)

        def short(channel: Any) -> None:
            unary(channel, "Wait")(b"5", timeout=PATIENCE)

        def long(channel: Any) -> None:
            for _ in stream(channel, "Pour")(STREAM, timeout=PATIENCE):
                pass

        calls = [short] * CALLERS + [long] * READERS
        runner = [threading.Thread(target=work, args=(call,)) for call in calls]
        for thread in runner:
            thread.start()
        for thread in runner:
            thread.join()
        return Served(len(failed), len(done), server.counts().peers)


class Closed(NamedTuple):
    cut_off: int
    late: float  # milliseconds from the end of the last call to the return of close


def close_under_calls(creator: Callable[[str], Any], close: Callable[[Any], None]) -> Closed:
    with GrpcServer() as server:
        channel = creator(server.target)
        unary(channel)(b"", timeout=PATIENCE)
        ends: list[float] = []
        call = unary(channel, "Wait")
        futures = [call.future(LONG, timeout=PATIENCE) for _ in range(IN_FLIGHT)]
        for future in futures:
            future.add_done_callback(lambda _: ends.append(time.perf_counter()))
        while server.counts().running < IN_FLIGHT:
            time.sleep(0.005)
        close(channel)
        returned = time.perf_counter()
        cut_off = sum(future.exception() is not None for future in futures)
        while len(ends) < IN_FLIGHT:
            time.sleep(0.001)
        return Closed(cut_off, 1_000 * (returned - max(ends)))


async def close_on_loop(creator: Callable[[str], Any]) -> Closed:
    with GrpcServer() as server:
        channel = creator(server.target)
        await unary(channel)(b"", timeout=PATIENCE)
        ends: list[float] = []
        cut_off = 0

        async def call() -> None:
            nonlocal cut_off
            try:
                await channel.unary_unary(path("Wait"))(LONG, timeout=PATIENCE)
            except (grpc.aio.AioRpcError, asyncio.CancelledError):
                cut_off += 1
            ends.append(time.perf_counter())

        tasks = [asyncio.ensure_future(call()) for _ in range(IN_FLIGHT)]
        while server.counts().running < IN_FLIGHT:
            await asyncio.sleep(0.005)
        await channel.close(GRACE)
        returned = time.perf_counter()
        await asyncio.gather(*tasks)
        return Closed(cut_off, 1_000 * (returned - max(ends)))


def g9(effort: Effort) -> Iterator[Figure]:
    load = take_turns(
        {
            "bare": partial(under_load, rotated_by_hand, effort.seconds),
            "ours": partial(under_load, rotated_by_age, effort.seconds),
        },
        max(1, effort.turns // 2),
    )
    for name, results in load.results.items():
        if any(result.connections < 3 for result in results) and name not in load.errors:
            load.errors[name] = NotRun("no connection was replaced")
    failed = [load.median("bare", lambda each: each.failed)]
    failed += [load.worst("ours", lambda each: each.failed)]
    detail = {name: [each._asdict() for each in results] for name, results in load.results.items()}
    yield Figure("G9a", *failed, detail)

    def cut_off(result: Closed) -> float:
        return result.cut_off

    def late(result: Closed) -> float:
        return result.late

    closing = take_turns(
        {
            "bare": partial(close_under_calls, grpc.insecure_channel, lambda each: each.close()),
            "ours": partial(close_under_calls, shared, lambda each: graceful(each)(GRACE)),
        },
        effort.turns,
    )
    yield Figure("G9b", closing.median("bare", cut_off), closing.worst("ours", cut_off))
    yield Figure("G9c", ours=closing.median("ours", late))
    loops = take_turns(
        {
            "bare": lambda: asyncio.run(close_on_loop(grpc.aio.insecure_channel)),
            "ours": lambda: asyncio.run(close_on_loop(aio_shared)),
        },
        effort.turns,
    )
    for results in loops.results.values():
        if cut := sum(result.cut_off for result in results):
            raise AssertionError(f"close with a grace of {GRACE} s cut {cut} calls off")
    yield Figure("G9d", loops.median("bare", late), loops.median("ours", late))
