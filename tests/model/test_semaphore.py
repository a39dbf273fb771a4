"""Random operations on a WeightedSemaphore, step by step beside a number and a list."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fastpool import WeightedSemaphore
from model.oracle import ListSemaphore
from support.helpers import examples


class SemaphoreMachine(RuleBasedStateMachine):
    """Any number of tasks that wait, one step of the loop at a time: each outcome is determined."""

    @initialize(size=st.integers(1, 9))
    def begin(self, size: int) -> None:
        self.loop = asyncio.SelectorEventLoop()
        self.real = WeightedSemaphore(size)
        self.model = ListSemaphore(size)
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.cancelled: set[int] = set()

    def run(self) -> None:
        """Let every task that can go on do so."""
        for _ in range(4):
            self.loop.run_until_complete(asyncio.sleep(0))

    @rule(data=st.data())
    def acquire(self, data: Any) -> None:
        n = data.draw(st.integers(0, self.model.size))
        who = len(self.tasks)
        self.tasks[who] = self.loop.create_task(self.real.aacquire(n))
        self.model.acquire(who, n)
        self.run()

    @rule(data=st.data())
    def try_acquire(self, data: Any) -> None:
        n = data.draw(st.integers(0, self.model.size))
        assert self.real.try_acquire(n) == self.model.try_acquire(n)

    @rule(data=st.data())
    def release(self, data: Any) -> None:
        n = data.draw(st.integers(0, self.model.size))
        if self.model.release(n):
            self.real.release(n)
        else:
            with pytest.raises(ValueError, match="more than is taken"):
                self.real.release(n)
        self.run()

    @precondition(lambda self: self.model.queue)
    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        """Somebody in the queue gives up: perhaps the head, for whom the others may have waited."""
        who = data.draw(st.sampled_from([who for who, _ in self.model.queue]))
        self.tasks[who].cancel()
        self.cancelled.add(who)
        self.model.leave(who)
        self.run()

    @precondition(lambda self: self.model.queue and self.model.taken)
    @rule()
    def cancel_what_is_granted(self) -> None:
        """The head is granted its units and cancelled before its task runs: they go on."""
        who, n = self.model.queue[0]
        enough = max(0, n - (self.model.size - self.model.taken))
        self.model.release(enough)
        self.real.release(enough)
        assert who in self.model.granted
        self.tasks[who].cancel()
        self.cancelled.add(who)
        self.model.granted.discard(who)
        self.model.release(n)
        self.run()

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "real"):
            return
        assert self.real.in_use == self.model.taken <= self.real.size
        assert self.real.waiting == len(self.model.queue)
        for who, task in self.tasks.items():
            assert task.done() == (who in self.model.granted | self.cancelled)

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            for task in self.tasks.values():
                task.cancel()
            self.run()
            assert self.real.waiting == 0 and self.real.in_use <= self.real.size
            self.loop.close()


TestSemaphore = SemaphoreMachine.TestCase
TestSemaphore.settings = settings(
    max_examples=examples(60),
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
