"""Random operations on a shared pool, step by step beside a dict of counts.

One thread, which does the work of the pool's own as well, and a manual clock.  Calls that would
wait are not made.  The model leaves open which of the least loaded resources a lease goes to; that
it is one of the least loaded is checked.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fastpool import PoolTimeout, SharedPool
from fastpool.testing import ManualClock
from model.one_thread import OneThread
from support.helpers import Maker, examples

SETTINGS = settings(
    max_examples=examples(60),
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
PICK = st.integers(0, 10)


class Broken(Exception):
    """Matches discard_on."""


class SharedMachine(RuleBasedStateMachine):
    """acquire, get, put, release, discard, blocks that fail, drain, flush and close."""

    @initialize(most=st.integers(1, 3), slots=st.integers(1, 3))
    def begin(self, most: int, slots: int) -> None:
        self.most, self.slots = most, slots
        self.maker = Maker(cap=2 * most)
        self.world = OneThread()
        self.world.__enter__()
        self.pool: Any = SharedPool(
            self.maker, items=(0, most), slots=slots, discard_on=Broken, clock=ManualClock()
        )
        self.leases: list[Any] = []
        self.counts: dict[Any, int] = {}  # leases of each open resource
        self.barred: set[Any] = set()  # those that take no more

    def teardown(self) -> None:
        if not hasattr(self, "pool"):
            return
        try:
            for held in self.leases:
                self._give(held)
            self.world.work()
            assert self.pool.close(timeout=0) is True
        finally:
            self.world.close()
        assert self.pool.stats().leases == 0
        assert self.maker.made == self.maker.closed and not self.maker.faults

    def _open(self) -> dict[Any, int]:
        return {r: n for r, n in self.counts.items() if r not in self.barred}

    def _took(self, resource: Any, held: Any) -> None:
        capacity = {r: n for r, n in self._open().items() if n < self.slots}
        if capacity:
            assert capacity.get(resource) == min(capacity.values()), "not one of the least loaded"
        else:
            assert resource not in self.counts, "a slot was given twice"
            self.counts[resource] = 0
        self.counts[resource] += 1
        self.leases.append(held)

    def _take(self, take: Any, resource_of: Any) -> None:
        live = self._open()
        full = all(n == self.slots for n in live.values())
        if full and (len(live) == self.most or len(self.counts) >= 2 * self.most):
            with pytest.raises(PoolTimeout):
                take(0)
            return
        held = take(10)
        self._took(resource_of(held), held)

    @rule()
    def acquire(self) -> None:
        self._take(self.pool.acquire, lambda lease: lease.resource)

    @rule()
    def get(self) -> None:
        self._take(self.pool.get, lambda resource: resource)

    def _gone(self, resource: Any) -> None:
        """One lease fewer, or none left of a resource that takes no more."""
        if resource in self.barred and not self.counts[resource]:
            del self.counts[resource]
            self.barred.discard(resource)

    def _give(self, held: Any, discard: bool = False) -> None:
        resource = held if held in self.maker.all else held.resource
        if held is resource:
            self.pool.put(held)
        elif discard:
            self.barred.add(resource)
            held.discard()
        else:
            held.release()
        self.counts[resource] -= 1
        self._gone(resource)

    @precondition(lambda self: self.leases)
    @rule(pick=PICK, discard=st.booleans())
    def give(self, pick: int, discard: bool) -> None:
        self._give(self.leases.pop(pick % len(self.leases)), discard)

    @rule(fail=st.sampled_from([None, Broken, ValueError]))
    def block(self, fail: type[Exception] | None) -> None:
        if all(n == self.slots for n in self._open().values()):
            return
        try:
            with self.pool.lease(timeout=0) as resource:
                if fail is not None:
                    raise fail
        except (Broken, ValueError):
            pass
        if fail is Broken:
            self.barred.add(resource)
            self._gone(resource)

    @precondition(lambda self: self.counts)
    @rule(pick=PICK)
    def drain(self, pick: int) -> None:
        resource = list(self.counts)[pick % len(self.counts)]
        self.pool.drain(resource)
        self.barred.add(resource)
        self._gone(resource)

    @rule(sure=st.integers(0, 3))
    def flush(self, sure: int) -> None:
        if sure == 0:
            self.pool.flush()
            for resource in list(self.counts):
                self.barred.add(resource)
                self._gone(resource)

    @precondition(lambda self: self.maker.closings)
    @rule(pick=PICK)
    def put_what_is_closed(self, pick: int) -> None:
        with pytest.raises(ValueError):
            self.pool.put(self.maker.closings[pick % len(self.maker.closings)])

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "pool"):
            return
        self.world.work()
        assert {r for r in self.maker.all if not r.closed} == {*self.counts}
        stats = self.pool.stats()
        assert stats.open == len(self.counts)
        assert stats.leases == sum(self.counts.values())
        assert stats.leased == sum(n > 0 for n in self.counts.values())
        assert stats.draining == len(self.barred)
        assert stats.idle + stats.leased == stats.open


TestShared = SharedMachine.TestCase
TestShared.settings = SETTINGS
