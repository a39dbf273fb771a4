"""Random operations on one shared channel while its server dies: no slot lost, nobody stranded."""

from __future__ import annotations

import gc
import random
import threading
import time
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

from bench.grpc.rows.accounting import CONNECTIONS, EXPECTED, STREAMS, SYNC, unusable  # noqa: E402
from fastpool.grpc import shared, stats  # noqa: E402
from grpc_server import GrpcServer  # noqa: E402
from support import Crew, eventually  # noqa: E402

pytestmark = [pytest.mark.process, pytest.mark.once]

THREADS, OPERATIONS = 6, 3_000
BETWEEN_DEATHS = 1.0


def replace(channel: Any, rng: random.Random) -> None:
    """Every connection is drained, after another one is there."""
    channel._live().pool.replace()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", [1, 2])
def test_random_operations_lose_nothing(
    crew: Crew, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL", "grpc._channel")  # request iterators that fail are meant to
    limits: dict[str, Any] = {
        "connections": (1, CONNECTIONS),
        "streams_per_connection": STREAMS,
        "reconnect_backoff": (0.05, 0.2),
        "shrink_after": 0.5,
    }
    with GrpcServer() as server, shared(server.target, **limits) as channel:
        done = threading.Event()

        def work(index: int) -> int:
            rng = random.Random(f"{seed} {index}")
            for _ in range(OPERATIONS // THREADS):
                operation = replace if rng.random() < 0.01 else rng.choice(SYNC)
                try:
                    operation(channel, rng)
                except EXPECTED:
                    pass
            return index

        def kill() -> None:
            while not done.wait(BETWEEN_DEATHS):
                server.kill()
                server.start()

        killer = crew.start(kill)
        workers = crew.together(THREADS, work)
        try:
            assert [each.result(90) for each in workers] == list(range(THREADS))
        finally:
            done.set()
            killer.result(30)

        def settled() -> bool:
            gc.collect()
            time.sleep(0.01)
            (now,) = stats()
            return (now.in_use, now.waiting, now.streams) == (0, 0, 0)

        eventually(settled)
        eventually(lambda: server.counts().running == 0)
        eventually(lambda: unusable(server, channel) == 0)
    assert stats() == ()
