"""G16: a new channel and its first call, beside bare grpcio's.

What a process does once, imports and threads of grpc's own included, is done before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import grpc
import grpc.aio

from bench.grpc.adapter import aio_shared, shared
from bench.grpc.cases import Effort, Figure, median_of, take_turns
from bench.grpc.clients import PATIENCE, unary
from bench.grpc.server import GrpcServer

A_TURN = 10  # channels of one contestant before the other's
PAUSE = 0.005  # between two, in which grpc and the pool end the last one


class First(NamedTuple):
    wall: float
    cpu: float  # of the process


def g16(effort: Effort) -> Iterator[Figure]:
    turns = 4 * effort.turns
    with GrpcServer() as server:
        target = server.target
        plain = {
            "bare": lambda: _sync(lambda: grpc.insecure_channel(target)),
            "ours": lambda: _sync(lambda: shared(target)),
        }
        yield from _figures("a", "b", plain, turns)
        tasks = {
            "bare": lambda: asyncio.run(_aio(lambda: grpc.aio.insecure_channel(target))),
            "ours": lambda: asyncio.run(_aio(lambda: aio_shared(target))),
        }
        yield from _figures("c", "d", tasks, turns)


def _figures(
    wall: str, cpu: str, contestants: dict[str, Callable[[], list[First]]], turns: int
) -> Iterator[Figure]:
    """Ours over bare, turn by turn."""
    for contestant in contestants.values():
        contestant()
    taken = take_turns(contestants, turns)
    for name, error in taken.errors.items():
        raise RuntimeError(f"{name}: {error!r}") from error
    pairs = list(zip(taken.results["ours"], taken.results["bare"], strict=True))
    for key, field in ((wall, "wall"), (cpu, "cpu")):
        yield Figure(
            f"G16{key}",
            ours=median_of(
                _typical(mine, field) / _typical(theirs, field) for mine, theirs in pairs
            ),
        )


def _typical(several: list[First], field: str) -> float:
    value = median_of(getattr(each, field) for each in several).value
    assert value is not None
    return value


def _sync(make: Callable[[], Any]) -> list[First]:
    several = []
    for _ in range(A_TURN):
        wall, cpu = time.perf_counter(), time.process_time()
        channel = make()
        unary(channel)(b"", timeout=PATIENCE)
        several.append(First(time.perf_counter() - wall, time.process_time() - cpu))
        channel.close()
        time.sleep(PAUSE)
    return several


async def _aio(make: Callable[[], Any]) -> list[First]:
    several = []
    for _ in range(A_TURN):
        wall, cpu = time.perf_counter(), time.process_time()
        channel = make()
        await unary(channel)(b"", timeout=PATIENCE)
        several.append(First(time.perf_counter() - wall, time.process_time() - cpu))
        await channel.close()
        await asyncio.sleep(PAUSE)
    return several
