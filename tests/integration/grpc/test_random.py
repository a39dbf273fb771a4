"""Random operations on one shared channel while its server dies: no slot lost, nobody stranded."""

from __future__ import annotations

import gc
import random
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

from bench.grpc.cases.accounting import CONNECTIONS, EXPECTED, STREAMS, SYNC  # noqa: E402
from fastpool.grpc import shared, stats  # noqa: E402
from integration.grpc.server import SERVICE, GrpcServer  # noqa: E402
from support.helpers import ThreadRunner, eventually  # noqa: E402

pytestmark = [pytest.mark.process, pytest.mark.once]

THREADS, OPERATIONS, DEATHS = 6, 3_000, 3
LONG = 60.0  # seconds that only a bug takes


def replace(channel: Any, rng: random.Random) -> None:
    """Every connection is drained, after another one is there."""
    channel._live().pool.replace()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", [1, 2])
def test_random_operations_lose_nothing(
    runner: ThreadRunner, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL", "grpc._channel")  # request iterators that fail are meant to
    limits: dict[str, Any] = {
        "connections": (1, CONNECTIONS),
        "streams_per_connection": STREAMS,
        "reconnect_backoff": (0.05, 0.2),
        "shrink_after": 0.5,
    }
    with GrpcServer() as server, shared(server.target, **limits) as channel:
        made: list[int] = []  # for each operation, whose it was

        def work(index: int) -> int:
            rng = random.Random(f"{seed} {index}")
            for _ in range(OPERATIONS // THREADS):
                operation = replace if rng.random() < 0.01 else rng.choice(SYNC)
                try:
                    operation(channel, rng)
                except EXPECTED:
                    pass
                made.append(index)
            return index

        workers = runner.together(THREADS, work)
        for death in range(1, DEATHS + 1):
            due = death * OPERATIONS // (DEATHS + 1)
            eventually(lambda due=due: len(made) >= due, LONG)
            server.kill()
            server.start()
        assert [each.result(LONG) for each in workers] == list(range(THREADS))

        def settled() -> bool:
            (now,) = stats()
            return (now.in_use, now.waiting, now.streams) == (0, 0, 0)

        gc.collect()
        eventually(settled)
        eventually(lambda: server.counts().running == 0)
        streams = [
            channel.unary_stream(f"/{SERVICE}/Count")(b"...", wait_for_ready=True)
            for _ in range(CONNECTIONS * STREAMS)
        ]
        for stream in streams:  # every slot can be used, beside the others
            assert next(stream) == b"first"
        assert server.counts().running == len(streams)
        for stream in streams:
            stream.cancel()
        eventually(settled)
    assert stats() == ()
