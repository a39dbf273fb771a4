"""G8: thousands of random operations from threads and tasks, while the server dies now and then.

Afterwards no slot may be counted as held, all of them must be usable, no handler may run on at the
server for a caller who has gone, and every caller must have come back.
"""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import grpc
import grpc.aio

from bench.grpc.adapter import aio_shared, counters, shared
from bench.grpc.cases import Effort, Figure, median_of, missing, take_turns
from bench.grpc.clients import path, unary
from bench.grpc.server import GrpcServer

THREADS, LOOPS, TASKS = 6, 2, 12
CONNECTIONS, STREAMS = 4, 8  # ours; bare grpcio has no such limits
TIMEOUT = 5.0
LONGEST = 90.0  # seconds until a caller counts as lost
BETWEEN_DEATHS = 2.0

Operation = Callable[[Any, random.Random], Any]


class Balance(NamedTuple):
    held: int  # slots that are still counted, or that cannot be used any more
    running: int  # handlers that run on
    lost: int  # callers


class Broken(Exception):
    """What a request iterator of ours raises."""


# -- what threads do -----------------------------------------------------------------------------


def requests(rng: random.Random) -> Iterator[bytes]:
    yield b"a"
    if rng.random() < 0.5:
        raise Broken
    yield b"b"


def sync_call(channel: Any, rng: random.Random) -> None:
    unary(channel)(b"x", timeout=TIMEOUT)


def sync_deadline(channel: Any, rng: random.Random) -> None:
    unary(channel, "Wait")(b"5", timeout=rng.uniform(0.001, 0.009))


def sync_cancel(channel: Any, rng: random.Random) -> None:
    future = unary(channel, "Wait").future(b"20", timeout=TIMEOUT)
    if rng.random() < 0.5:
        future.add_done_callback(lambda _: None)
    time.sleep(rng.uniform(0, 0.003))
    future.cancel()


def sync_stream(channel: Any, rng: random.Random) -> None:
    call = channel.unary_stream(path("Count"))(rng.choice((b"abc", b"...")), timeout=TIMEOUT)
    if rng.random() < 0.5:
        call.add_done_callback(lambda _: None)
    next(call)
    if rng.random() < 0.5:
        call.cancel()


def sync_chat(channel: Any, rng: random.Random) -> None:
    for _ in channel.stream_stream(path("Chat"))(requests(rng), timeout=TIMEOUT):
        if rng.random() < 0.3:
            break


SYNC: tuple[Operation, ...] = (sync_call, sync_deadline, sync_cancel, sync_stream, sync_chat)


# -- what tasks do -------------------------------------------------------------------------------


async def aio_call(channel: Any, rng: random.Random) -> None:
    await unary(channel)(b"x", timeout=TIMEOUT)


async def aio_deadline(channel: Any, rng: random.Random) -> None:
    await unary(channel, "Wait")(b"5", timeout=rng.uniform(0.001, 0.009))


async def aio_cancel(channel: Any, rng: random.Random) -> None:
    async with asyncio.timeout(rng.uniform(0.0001, 0.004)):
        await unary(channel, "Wait")(b"20", timeout=TIMEOUT)


async def aio_dropped(channel: Any, rng: random.Random) -> None:
    unary(channel, "Wait")(b"20", timeout=TIMEOUT)  # and nobody awaits it


async def aio_stream(channel: Any, rng: random.Random) -> None:
    call = channel.unary_stream(path("Count"))(rng.choice((b"abc", b"...")), timeout=LONGEST)
    async for _ in call:
        break
    if rng.random() < 0.5:
        call.cancel()


async def aio_chat(channel: Any, rng: random.Random) -> None:
    async for _ in channel.stream_stream(path("Chat"))(requests(rng), timeout=TIMEOUT):
        if rng.random() < 0.3:
            break


AIO: tuple[Operation, ...] = (aio_call, aio_deadline, aio_cancel, aio_dropped, aio_stream, aio_chat)

EXPECTED = (grpc.RpcError, Broken, TimeoutError, StopIteration)


# -- the run -------------------------------------------------------------------------------------


class Run:
    """So many operations, dealt to threads and to the tasks of several loops."""

    def __init__(self, target: str, operations: int, seed: int) -> None:
        self.target = target
        self.seed = seed
        self.each = operations // (THREADS + LOOPS * TASKS)
        self.back = 0
        self.errors: list[BaseException] = []
        self._counting = threading.Lock()

    def thread(self, channel: Any, index: int) -> None:
        rng = random.Random(f"{self.seed} thread {index}")
        for _ in range(self.each):
            try:
                rng.choice(SYNC)(channel, rng)
            except EXPECTED:
                pass
            except BaseException as error:
                self.errors.append(error)
        self.came_back()

    async def task(self, channel: Any, index: str) -> None:
        rng = random.Random(f"{self.seed} task {index}")
        for _ in range(self.each):
            try:
                await rng.choice(AIO)(channel, rng)
            except EXPECTED:
                pass
            except asyncio.CancelledError:  # grpc's own, of a call whose requests failed
                assert not self.cancelled()
            except Exception as error:
                self.errors.append(error)
        self.came_back()

    @staticmethod
    def cancelled() -> bool:
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0

    def came_back(self) -> None:
        with self._counting:
            self.back += 1

    async def loop(self, creator: Callable[[str], Any], index: int, settled: Any) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # cancelled calls' tales
        async with creator(self.target) as channel:
            tasks = [self.task(channel, f"{index}.{i}") for i in range(TASKS)]
            await asyncio.gather(*tasks)
            await asyncio.to_thread(settled.wait)

    @property
    def lost(self) -> int:
        return THREADS + LOOPS * TASKS - self.back


def play(
    sync_opener: Callable[[str], Any],
    aio_opener: Callable[[str], Any],
    balance: Callable[[GrpcServer, Any], int],
    operations: int,
    seed: int,
) -> Balance:
    with GrpcServer() as server, sync_opener(server.target) as channel:
        run, settled = Run(server.target, operations, seed), threading.Event()
        runner = [threading.Thread(target=run.thread, args=(channel, i)) for i in range(THREADS)]
        loops = [
            threading.Thread(target=lambda i=i: asyncio.run(run.loop(aio_opener, i, settled)))
            for i in range(LOOPS)
        ]
        for thread in runner + loops:
            thread.daemon = True
            thread.start()
        limit = time.monotonic() + LONGEST
        death = time.monotonic() + BETWEEN_DEATHS
        while run.lost and time.monotonic() < limit:
            time.sleep(0.02)
            if time.monotonic() > death:
                server.kill()
                server.start()
                death = time.monotonic() + BETWEEN_DEATHS
        running = quiet(lambda: server.counts().running)
        held = quiet(lambda: balance(server, channel))
        settled.set()
        for thread in runner + loops:
            thread.join(10)
        if run.errors:
            raise run.errors[0]
        return Balance(held, running, run.lost)


def quiet(count: Callable[[], int], patience: float = 5.0) -> int:
    """What it counts when it has come to nothing, or after so many seconds."""
    deadline = time.monotonic() + patience
    while (left := count()) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.05)
    return left


def own_accounts(server: GrpcServer, channel: Any) -> int:
    """Slots that are counted though no call runs, or else those that no call can have any more."""
    now = counters(server.target)
    return now.in_use + now.waiting or unusable(server, channel)


def unusable(server: GrpcServer, channel: Any) -> int:
    """Of as many calls as there are slots, those that the server never ran beside the others."""
    slots = CONNECTIONS * STREAMS
    # Long enough for the last to begin before the first ends, on a busy machine too.
    futures = [unary(channel, "Wait").future(b"2000", timeout=TIMEOUT) for _ in range(slots)]
    seen = 0
    while not all(future.done() for future in futures):
        seen = max(seen, server.counts().running)
    return slots - seen


def g8(effort: Effort) -> Iterator[Figure]:
    capped = {"connections": (1, CONNECTIONS), "streams_per_connection": STREAMS}

    def mine() -> Balance:
        counters("")  # says at once that there are none
        return play(
            lambda target: shared(target, **capped),
            lambda target: aio_shared(target, **capped),
            own_accounts,
            effort.operations,
            seed=1,
        )

    def plain() -> Balance:
        return play(
            grpc.insecure_channel,
            grpc.aio.insecure_channel,
            lambda server, channel: 0,
            effort.operations,
            seed=1,
        )

    turns = take_turns({"bare": plain, "ours": mine}, 1)
    for key, name in (("G8a", "held"), ("G8b", "running"), ("G8c", "lost")):
        bare, ours = (
            missing(turns.errors[who])
            if who in turns.errors
            else median_of([getattr(turns.results[who][0], name)])
            for who in ("bare", "ours")
        )
        yield Figure(key, ours=ours) if key == "G8a" else Figure(key, bare, ours)
