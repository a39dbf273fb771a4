"""G13: packets are dropped on the way and nobody hears of it; calls with a deadline of 0.5 s."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import grpc

from bench.grpc.adapter import shared
from bench.grpc.bad_link import BadLink
from bench.grpc.cases import Effort, Figure, take_turns
from bench.grpc.clients import PATIENCE, unary
from bench.grpc.server import GrpcServer

DEADLINE = 0.5
GIVEN_UP = 20.0  # seconds: bare grpcio was seen to take longer than 80


class Loss(NamedTuple):
    """After the connection that carries the calls was black-holed."""

    failed: int
    seconds: float  # until the first call that went well


def black_hole(creator: Callable[[str], Any], siblings: bool) -> Loss:
    with GrpcServer() as server, BadLink(server.port) as link, creator(link.target) as channel:
        say = unary(channel)
        say(b"", timeout=PATIENCE, wait_for_ready=True)
        if siblings:
            time.sleep(0.5)  # they are connected by now
            say(bytes(100_000), timeout=PATIENCE)
            link.swallow(max(link.links, key=lambda each: each.carried))
        else:
            link.swallow()
        begun, failed = time.monotonic(), 0
        while (seconds := time.monotonic() - begun) < GIVEN_UP:
            try:
                say(b"", timeout=DEADLINE)
                break
            except grpc.RpcError:
                failed += 1
        return Loss(failed, seconds)


def g13(effort: Effort) -> Iterator[Figure]:
    turns = take_turns(
        {
            "bare": partial(black_hole, grpc.insecure_channel, False),
            "ours": partial(black_hole, shared, False),
            "siblings": partial(black_hole, partial(shared, connections=4), True),
        },
        min(effort.turns, 3),
    )

    def seconds(loss: Loss) -> float:
        return loss.seconds

    def failed(loss: Loss) -> float:
        return loss.failed

    yield Figure("G13a", turns.median("bare", seconds), turns.worst("ours", seconds))
    yield Figure("G13b", turns.median("bare", failed), turns.worst("ours", failed))
    yield Figure("G13c", ours=turns.worst("siblings", seconds))
