"""G10: the server is killed and listens again after 1.5 s; a caller tries every 20 ms."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import grpc

from bench.grpc.adapter import shared
from bench.grpc.cases import Effort, Figure, take_turns
from bench.grpc.clients import PATIENCE, unary
from bench.grpc.server import GrpcServer

AWAY = 1.5
PAUSE = 0.02


class Outage(NamedTuple):
    failed: int
    delay: float  # seconds from when the server listened to the first answer


def outage(creator: Callable[[str], Any], wait: bool) -> Outage:
    """`wait`: calls wait for the connection, up to their deadline."""
    options = {"timeout": PATIENCE, "wait_for_ready": wait}
    with GrpcServer() as server, creator(server.target) as channel:
        say = unary(channel)
        say(b"", **options)
        server.kill()
        again = threading.Thread(target=server.start, args=(time.monotonic() + AWAY,))
        again.start()
        failed = 0
        while True:
            try:
                say(b"", **options)
                break
            except grpc.RpcError:
                failed += 1
            time.sleep(PAUSE)
        answered = time.monotonic()
        again.join()
        return Outage(failed, answered - server.listening_since)


def g10(effort: Effort) -> Iterator[Figure]:
    turns = take_turns(
        {
            "bare": partial(outage, grpc.insecure_channel, False),
            "waiting": partial(outage, grpc.insecure_channel, True),
            "ours": partial(outage, shared, True),
        },
        effort.turns,
    )

    def failed(result: Outage) -> float:
        return result.failed

    def delay(result: Outage) -> float:
        return result.delay

    yield Figure("G10a", turns.median("bare", failed), turns.worst("ours", failed))
    yield Figure("G10b", turns.median("bare", delay), turns.median("ours", delay))
    yield Figure("G10c", turns.median("waiting", delay))
