"""P10 for tasks: from one task's put to another's get, as a ping-pong.

On one loop: CPU time of the thread per hand-off, the loop's own turn included, against two tasks
that wake each other by setting a bare future, which is the least that a hand-off can cost. The
promise is for the form that threads play too, two queues; one resource with both tasks waiting for
it in turn stands beside it. Between loops, and between a thread and a task: wall time.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from bench.adapter import fastpool, pool_use
from bench.cases import Effort, Figure, of_ratio
from bench.measure import Series

ROUND_TRIPS = 500

Game = Callable[[], Awaitable[Any]]


# --- two tasks of one loop -----------------------------------------------------------------------


async def futures() -> None:
    """The floor: each sets the other's future and awaits its own."""
    loop = asyncio.get_running_loop()
    balls = [loop.create_future(), loop.create_future()]

    async def player(me: int, other: int) -> None:
        for _ in range(ROUND_TRIPS):
            await balls[me]
            balls[me] = loop.create_future()
            balls[other].set_result(None)

    balls[0].set_result(None)
    await asyncio.gather(player(0, 1), player(1, 0))


async def wrapped_futures() -> None:
    """The same inside two coroutine functions, as any get and put for tasks are: also a floor."""
    loop = asyncio.get_running_loop()
    balls = [loop.create_future(), loop.create_future()]

    async def get(me: int) -> Any:
        item = await balls[me]
        balls[me] = loop.create_future()
        return item

    async def put(other: int, item: Any) -> None:
        balls[other].set_result(item)

    async def player(me: int, other: int) -> None:
        for _ in range(ROUND_TRIPS):
            await put(other, await get(me))

    balls[0].set_result(None)
    await asyncio.gather(player(0, 1), player(1, 0))


async def queues() -> None:
    there, back = fastpool().FastPool(), fastpool().FastPool()

    async def player(get: Any, put: Any) -> None:
        for _ in range(ROUND_TRIPS):
            await put(await get())

    await there.aput(None)
    await asyncio.gather(player(there.aget, back.aput), player(back.aget, there.aput))


async def asyncio_queues() -> None:
    there: asyncio.Queue[None] = asyncio.Queue()
    back: asyncio.Queue[None] = asyncio.Queue()

    async def player(get: Any, put: Any) -> None:
        for _ in range(ROUND_TRIPS):
            await put(await get())

    await there.put(None)
    await asyncio.gather(player(there.get, back.put), player(back.get, there.put))


async def one_resource() -> None:
    """Whoever gives it back finds the other waiting, and waits next."""
    pool = pool_use(1)
    resource = pool.get()

    async def player() -> None:
        for _ in range(ROUND_TRIPS):
            async with pool.lease():
                pass

    players = [asyncio.create_task(player()), asyncio.create_task(player())]
    await asyncio.sleep(0)  # both wait
    pool.put(resource)
    await asyncio.gather(*players)
    await pool.aclose()


GAMES: dict[str, Game] = {
    "future": futures,
    "wrapped": wrapped_futures,
    "ours": queues,
    "resource": one_resource,
    "asyncio.Queue": asyncio_queues,
}


def on_one_loop(rounds: int) -> dict[str, Series]:
    """Microseconds of CPU per hand-off of each game, turn by turn; the first two rounds warm."""
    played: dict[str, list[float]] = {name: [] for name in GAMES}
    with asyncio.Runner() as runner:
        for round_ in range(rounds + 2):
            for name, game in GAMES.items():
                took = runner.run(timed(game))
                if round_ >= 2:
                    played[name].append(took)
    return {name: Series(tuple(each)) for name, each in played.items()}


async def timed(game: Game) -> float:
    start = time.thread_time_ns()
    await game()
    return (time.thread_time_ns() - start) / 2e3 / ROUND_TRIPS


# --- across threads ------------------------------------------------------------------------------


def between(first: Callable[[], object], second: Callable[[], object]) -> float:
    """Microseconds of wall time per hand-off of two players in a thread each."""
    thread = threading.Thread(target=second)
    thread.start()
    start = time.perf_counter_ns()
    first()
    took = time.perf_counter_ns() - start
    thread.join()
    return took / 2e3 / ROUND_TRIPS


async def task(get: Any, put: Any) -> None:
    for _ in range(ROUND_TRIPS):
        await put(await get())


async def serving_task(get: Any, put: Any) -> None:
    for _ in range(ROUND_TRIPS):
        await put(None)
        await get()


def serving_thread(get: Any, put: Any) -> None:
    for _ in range(ROUND_TRIPS):
        put(None)
        get()


def loop_to_loop() -> float:
    there, back = fastpool().FastPool(), fastpool().FastPool()
    return between(
        lambda: asyncio.run(serving_task(back.aget, there.aput)),
        lambda: asyncio.run(task(there.aget, back.aput)),
    )


def thread_to_task() -> float:
    there, back = fastpool().FastPool(), fastpool().FastPool()
    return between(
        lambda: serving_thread(back.get, there.put),
        lambda: asyncio.run(task(there.aget, back.aput)),
    )


def calls_between_loops() -> float:
    """The floor of loop_to_loop: `call_soon_threadsafe` sets a bare future of the other loop."""
    loops: list[Any] = [None, None]
    balls: list[Any] = [None, None]
    ready = threading.Barrier(2)

    async def player(me: int, other: int, *, serves: bool) -> None:
        loop = loops[me] = asyncio.get_running_loop()
        balls[me] = loop.create_future()
        await loop.run_in_executor(None, ready.wait)
        for _ in range(ROUND_TRIPS):
            if serves:
                loops[other].call_soon_threadsafe(balls[other].set_result, None)
            await balls[me]
            balls[me] = loop.create_future()
            if not serves:
                loops[other].call_soon_threadsafe(balls[other].set_result, None)

    return between(
        lambda: asyncio.run(player(0, 1, serves=True)),
        lambda: asyncio.run(player(1, 0, serves=False)),
    )


def across(key: str, play: Callable[[], float], rounds: int) -> Figure:
    play()
    each = Series(tuple(play() for _ in range(rounds)))
    return Figure(key, each.median, min(each.samples), max(each.samples))


def p10_tasks(effort: Effort) -> Iterator[Figure]:
    times = on_one_loop(effort.rounds)
    yield of_ratio("P10e", times["ours"], times["future"])
    yield of_ratio("P10f", times["resource"], times["future"])
    yield of_ratio("P10g", times["asyncio.Queue"], times["future"])
    yield of_ratio("P10h", times["wrapped"], times["future"])
    rounds = max(3, effort.rounds // 6)
    yield across("P10i", loop_to_loop, rounds)
    yield across("P10j", calls_between_loops, rounds)
    yield across("P10k", thread_to_task, rounds)
