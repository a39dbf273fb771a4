"""A pool over event loops that end: what they leave is closed, and only then its slot is free."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from fastpool import FastPool, PoolTimeout
from support.helpers import PATIENCE, ThreadRunner, eventually


class Made:
    pass


class Pool:
    """One slot; a factory that keeps accounts, and a plain close hook."""

    def __init__(self, gate: threading.Event | None = None) -> None:
        self.made: list[Made] = []
        self.closed: list[Made] = []
        self.gate, self.closing = gate, threading.Event()
        self.pool: FastPool[Any] = FastPool(1, factory=self.make, close=self.close)

    async def make(self) -> Made:
        self.made.append(Made())
        return self.made[-1]

    def close(self, resource: Made) -> None:
        self.closing.set()
        if self.gate is not None:
            assert self.gate.wait(PATIENCE)
        self.closed.append(resource)

    async def use(self, timeout: float = PATIENCE) -> Any:
        async with self.pool.lease(timeout) as resource:
            return resource

    def end(self) -> None:
        asyncio.run(self.pool.aclose())
        eventually(lambda: self.closed == self.made)


def test_evicted_resource_of_a_loop_that_ends_is_closed(runner: ThreadRunner) -> None:
    """Its close was due on that loop, which never came to it."""
    its = Pool()
    loop = asyncio.new_event_loop()
    first = loop.run_until_complete(its.use())
    other = runner.start(lambda: asyncio.run(its.use()))
    eventually(lambda: its.pool.stats().closing == 1)
    loop.close()
    assert other.result() is not first
    assert its.closed[0] is first
    its.end()


def test_slot_is_free_when_what_an_ended_loop_left_is_closed() -> None:
    """And not before: the other side counts it until then."""
    its = Pool(gate := threading.Event())
    loop = asyncio.new_event_loop()
    first = loop.run_until_complete(its.use())
    loop.close()
    assert its.pool.stats().open == 0
    assert its.closing.wait(PATIENCE)
    with pytest.raises(PoolTimeout):
        asyncio.run(its.use(0.05))
    assert its.made == [first]
    gate.set()
    assert asyncio.run(its.use()) is not first
    assert its.closed[0] is first
    its.end()
