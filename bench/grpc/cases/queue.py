"""G15: what calls cost that wait in the queue: threads, and CPU beside calls on a bare channel.

All calls are begun at once. Bare grpcio sends them, to a server without a limit; ours lets 50 at a
time go, on one connection, and the rest wait. By hand: bare grpcio with no more than a deque before
it, from which the end of a call begins the next one; what a queue costs at least, since calls that
follow one another are not sent in one go. The CPU is that of this whole process; the contestants
take turns, and a figure is the median of ratios within a round.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import grpc
import grpc.aio

from bench.grpc.adapter import aio_shared, shared
from bench.grpc.cases import Effort, Figure, Reading, median_of
from bench.grpc.cases.idle import threads
from bench.grpc.clients import PATIENCE, unary
from bench.grpc.server import GrpcServer

CALLS = 800
SLOTS = 50
ONE: dict[str, Any] = {"connections": 1, "streams_per_connection": SLOTS}
APART = [("fastpool.apart", 1)]  # so that the channel has a connection of its own
HELD = b"300"  # milliseconds that the slots are taken while threads are counted
TURNS = 4  # for each of the effort's


def begin(channel: Any, request: bytes, calls: int) -> list[Any]:
    wait = unary(channel, "Wait")
    return [wait.future(request, timeout=PATIENCE) for _ in range(calls)]


def threads_more(creator: Callable[[str], Any], target: str) -> float:
    """While the calls wait, than before them."""
    with creator(target) as channel:
        unary(channel)(b"", timeout=PATIENCE)
        before = threads()
        futures = begin(channel, HELD, CALLS)
        counted = threads() - before
        for future in futures:
            future.result()
    return counted


def cpu_of_futures(begin: Callable[..., list[Any]], channel: Any) -> float:
    """Seconds a call."""
    gc.collect()
    begun = time.process_time()
    for future in begin(channel, b"0", CALLS):
        future.result()
    return (time.process_time() - begun) / CALLS


class Paced:
    """A future that waits in a deque."""

    def __init__(self) -> None:
        self.call: Any = None
        self.begun = threading.Lock()
        self.begun.acquire()

    def result(self) -> Any:
        self.begun.acquire()
        return self.call.result()


def begin_paced(channel: Any, request: bytes, calls: int) -> list[Paced]:
    wait, lock, free = unary(channel, "Wait"), threading.Lock(), SLOTS
    waiting: deque[Paced] = deque()

    def start(future: Paced) -> None:
        future.call = wait.future(request, timeout=PATIENCE)
        future.call.add_callback(ended)
        future.begun.release()

    def ended() -> None:
        nonlocal free
        with lock:
            if not waiting:
                free += 1
                return
            future = waiting.popleft()
        start(future)

    futures = [Paced() for _ in range(calls)]
    for future in futures:
        with lock:
            if not free:
                waiting.append(future)
                continue
            free -= 1
        start(future)
    return futures


async def cpu_of_tasks(begin: Callable[[Any], Callable[[], Awaitable[Any]]], channel: Any) -> float:
    gc.collect()
    begun = time.process_time()
    call = begin(channel)
    await asyncio.gather(*(call() for _ in range(CALLS)))
    return (time.process_time() - begun) / CALLS


def as_it_is(channel: Any) -> Callable[[], Awaitable[Any]]:
    wait = unary(channel, "Wait")
    return lambda: wait(b"0", timeout=PATIENCE)


def paced(channel: Any) -> Callable[[], Awaitable[Any]]:
    wait, loop, free = unary(channel, "Wait"), asyncio.get_running_loop(), SLOTS
    waiting: deque[asyncio.Future[Any]] = deque()

    def ended(*_: object) -> None:
        nonlocal free
        free += 1
        while waiting and free:
            waiting.popleft().set_result(start())

    def start() -> Any:
        nonlocal free
        free -= 1
        call = wait(b"0", timeout=PATIENCE)
        call._cython_call.add_done_callback(ended)  # `call`'s own costs more
        return call

    async def one() -> Any:
        if free:
            return await start()
        waiting.append(loop.create_future())
        return await (await waiting[-1])

    return one


def ratios_of_futures(target: str, turns: int) -> tuple[list[float], list[float]]:
    """Ours to bare, and by hand to bare."""
    with (
        grpc.insecure_channel(target) as bare,
        grpc.insecure_channel(target, APART) as apart,
        shared(target, **ONE) as ours,
    ):
        contestants = [(begin, bare), (begin, ours), (begin_paced, apart)]
        rounds = []
        for turn in range(turns + 1):
            cpu = {}
            for each in contestants[turn % 3 :] + contestants[: turn % 3]:
                cpu[each] = cpu_of_futures(*each)
            rounds.append([cpu[each] for each in contestants])
    return ratios(rounds)


async def ratios_of_tasks(target: str, turns: int) -> tuple[list[float], list[float]]:
    async with (
        grpc.aio.insecure_channel(target) as bare,
        grpc.aio.insecure_channel(target, APART) as apart,
        aio_shared(target, **ONE) as ours,
    ):
        contestants = [(as_it_is, bare), (as_it_is, ours), (paced, apart)]
        rounds = []
        for turn in range(turns + 1):
            cpu = {}
            for each in contestants[turn % 3 :] + contestants[: turn % 3]:
                cpu[each] = await cpu_of_tasks(*each)
            rounds.append([cpu[each] for each in contestants])
    return ratios(rounds)


def ratios(rounds: list[list[float]]) -> tuple[list[float], list[float]]:
    later = rounds[1:]  # the first one connects
    return [ours / bare for bare, ours, _ in later], [floor / bare for bare, _, floor in later]


def g15(effort: Effort) -> Iterator[Figure]:
    turns = TURNS * effort.turns
    with GrpcServer() as server:
        bare = threads_more(grpc.insecure_channel, server.target)
        ours = threads_more(partial(shared, **ONE), server.target)
        yield Figure("G15a", Reading(bare), Reading(ours))
        mine, floor = ratios_of_futures(server.target, turns)
        yield Figure("G15b", Reading(1.0), median_of(mine))
        yield Figure("G15d", median_of(floor))
        mine, floor = asyncio.run(ratios_of_tasks(server.target, turns))
        yield Figure("G15c", Reading(1.0), median_of(mine))
        yield Figure("G15e", median_of(floor))
