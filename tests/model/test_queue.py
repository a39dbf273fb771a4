"""Random operations on every queue, step by step beside a list (tests/model/oracle.py)."""

from __future__ import annotations

import queue
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import fastpool
import fastpool.queue
from model.oracle import ListQueue
from support.helpers import examples

ITEMS = st.one_of(st.none(), st.integers(), st.text(max_size=3))
SIZES = st.integers(0, 9)
SETTINGS = settings(
    max_examples=examples(60),
    stateful_step_count=80,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class QueueMachine(RuleBasedStateMachine):
    """One thread, calls that do not wait: the answer of each call is determined."""

    make: Any
    lifo: bool

    @initialize(maxsize=SIZES)
    def begin(self, maxsize: int) -> None:
        self.q: Any = type(self).make(maxsize)
        self.model = ListQueue(maxsize, self.lifo)

    @rule(item=ITEMS, form=st.sampled_from(["nowait", "block=False", "timeout=0"]))
    def put(self, item: object, form: str) -> None:
        expected = self.model.put(item)
        try:
            if form == "nowait":
                self.q.put_nowait(item)
            elif form == "block=False":
                self.q.put(item, block=False)
            else:
                self.q.put(item, timeout=0)
        except Exception as error:
            assert type(error) is expected
        else:
            assert expected is None

    @rule(form=st.sampled_from(["nowait", "block=False", "timeout=0"]))
    def get(self, form: str) -> None:
        expected = self.model.get()
        try:
            if form == "nowait":
                item = self.q.get_nowait()
            elif form == "block=False":
                item = self.q.get(block=False)
            else:
                item = self.q.get(timeout=0)
        except Exception as error:
            assert type(error) is expected
        else:
            assert item is expected

    @rule(count=st.integers(1, 40), base=st.integers(1000, 2000))
    def fill(self, count: int, base: int) -> None:
        for item in range(base, base + count):
            if self.model.shut or self.model.full():
                break
            self.model.put(item)
            self.q.put(item)

    @rule(count=st.integers(1, 40))
    def drain(self, count: int) -> None:
        for _ in range(min(count, len(self.model.items))):
            assert self.q.get() == self.model.get()

    @rule()
    def task_done(self) -> None:
        expected = self.model.task_done()
        if expected is None:
            self.q.task_done()
        else:
            with pytest.raises(expected):
                self.q.task_done()

    @rule(maxsize=SIZES)
    def assign_maxsize(self, maxsize: int) -> None:
        self.q.maxsize = self.model.maxsize = maxsize

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "q"):
            return
        q, model = self.q, self.model
        assert q.qsize() == len(model.items)
        assert q.empty() == (not model.items)
        assert q.full() == model.full()
        assert q.maxsize == model.maxsize
        assert q.unfinished_tasks == model.unfinished
        assert list(q.queue) == model.items


class ShutdownMachine(QueueMachine):
    """The same with shutdown, which the standard library has from 3.13 on."""

    @rule(immediate=st.booleans(), sure=st.integers(0, 4))
    def shutdown(self, immediate: bool, sure: int) -> None:
        if sure == 0:  # rarely: nothing much happens afterwards
            self.model.shutdown(immediate)
            self.q.shutdown(immediate)
            assert self.q.is_shutdown


def _fifo_pool(maxsize: int) -> Any:
    return fastpool.FastPool(maxsize, order="fifo")


def _case(name: str, make: Any, lifo: bool, base: type[QueueMachine] = ShutdownMachine) -> Any:
    machine: Any = type(name, (base,), {"make": staticmethod(make), "lifo": lifo})
    machine.TestCase.settings = SETTINGS
    return machine.TestCase


_STDLIB = ShutdownMachine if sys.version_info >= (3, 13) else QueueMachine

TestFastPoolLifo = _case("FastPoolLifo", fastpool.FastPool, True)
TestFastPoolFifo = _case("FastPoolFifo", _fifo_pool, False)
TestLifoQueue = _case("LifoQueue", fastpool.queue.LifoQueue, True)
TestQueue = _case("Queue", fastpool.queue.Queue, False)
# The control: the model itself is right about the standard library's classes.
TestStdlibLifoQueue = _case("StdlibLifoQueue", queue.LifoQueue, True, _STDLIB)
TestStdlibQueue = _case("StdlibQueue", queue.Queue, False, _STDLIB)
