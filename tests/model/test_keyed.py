"""Random operations on a pool of many keys, step by step beside a dict (tests/model/oracle.py).

One thread, which does the work of the pool's own as well, and a manual clock, which moves with
every step, so that it is known what was idle longest.  Which idle resource of a key is lent is left
open.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fastpool import KeyedPool, PoolTimeout, _core
from fastpool.testing import ManualClock
from model.one_thread import OneThread
from model.oracle import DictOfPools
from support.helpers import PATIENCE, consistent, examples
from support.keyed_factories import KeyedMaker

KEYS = st.sampled_from("abcde")
PICK = st.integers(0, 10)
INFINITY = float("inf")


class KeyedMachine(RuleBasedStateMachine):
    """acquire, release, discard, flush, warm, resize and time under all limits."""

    @initialize(
        total=st.none() | st.integers(1, 6),
        per_key=st.none() | st.integers(1, 3),
        idle_total=st.none() | st.integers(0, 4),
        idle_per_key=st.none() | st.integers(0, 2),
        idle_timeout=st.none() | st.just(20.5),
    )
    def begin(
        self, total: int | None, per_key: int | None, idle_total: int | None,
        idle_per_key: int | None, idle_timeout: float | None,
    ) -> None:  # fmt: skip
        def least(one: int | None, *others: int | None) -> int | None:
            """A limit that is no larger than what it is part of."""
            found = [other for other in others if other is not None]
            return one if one is None else min([one, *found])

        per_key = least(per_key, total)
        idle_total = least(idle_total, total)
        idle_per_key = least(idle_per_key, per_key, idle_total)
        limits = [
            INFINITY if one is None else one for one in (total, per_key, idle_total, idle_per_key)
        ]
        self.model = DictOfPools(*limits, INFINITY if idle_timeout is None else idle_timeout)
        self.maker = KeyedMaker(*limits[:2])
        self.clock = ManualClock()
        self.world = OneThread()
        self.world.__enter__()
        self.pool: Any = KeyedPool(
            self.maker,
            max_total=total,
            max_per_key=per_key,
            max_idle_total=idle_total,
            max_idle_per_key=idle_per_key,
            idle_timeout=idle_timeout,
            max_lifetime=None,
            clock=self.clock,
        )
        self.leases: list[Any] = []

    def _step(self, seconds: float = 1.0) -> None:
        self.clock.advance(seconds)
        self.model.advance(seconds)

    @rule(key=KEYS)
    def acquire(self, key: str) -> None:
        self._step()
        how = self.model.may_lend(key)
        if how == "wait":
            with pytest.raises(PoolTimeout):
                self.pool.acquire(key, timeout=0)
            return
        made = self.maker.made
        lease = self.pool.acquire(key, timeout=PATIENCE)
        assert lease.resource.key == key and (self.maker.made > made) == (how != "idle")
        assert not lease.resource.closed
        self.model.lent(how, lease.resource)
        self.leases.append(lease)

    @precondition(lambda self: self.leases)
    @rule(pick=PICK)
    def release(self, pick: int) -> None:
        self._step()
        lease = self.leases.pop(pick % len(self.leases))
        resource = lease.resource
        lease.release()
        self.world.work()
        self.model.put(resource)

    @precondition(lambda self: self.leases)
    @rule(pick=PICK)
    def discard(self, pick: int) -> None:
        self._step()
        lease = self.leases.pop(pick % len(self.leases))
        resource = lease.resource
        lease.discard()
        self.model.discard(resource)

    @precondition(lambda self: not self.leases)
    @rule(key=KEYS)
    def flush(self, key: str) -> None:
        self._step()
        self.model.flush(key)
        self.pool.flush(key)

    @rule(key=KEYS, n=st.integers(0, 4))
    def warm(self, key: str, n: int) -> None:
        """What is closed for it was idle, and no more of the others than it needs slots."""
        self._step()
        model, before = self.model, len(self.maker.closings)
        goal = min(n, model.per_key, model.total)
        if goal > min(model.idle_per_key, model.idle_total):
            with pytest.raises(ValueError, match="may be idle"):
                self.pool.warm(key, n)
            return
        made, opened = self.maker.made, model.open_of(key)
        elsewhere = sum(one.key != key for one in model.leased)
        if opened < goal and elsewhere + goal > model.total:
            with pytest.raises(PoolTimeout):
                self.pool.warm(key, n, timeout=PATIENCE)
        else:
            assert self.pool.warm(key, n, timeout=PATIENCE) >= goal
        self.world.work()
        assert opened < goal or self.maker.made == made
        model.warmed(self.maker.all[made:], self.maker.closings[before:])

    @rule(more=st.none() | st.integers(0, 3))
    def resize(self, more: int | None) -> None:
        """Never below what is leased, which would say nothing of which of them are closed."""
        self._step()
        limits = (self.model.per_key, self.model.idle_total, self.model.idle_per_key, 1)
        least = max(len(self.model.leased), *(one for one in limits if one != INFINITY))
        total = None if more is None else int(least) + more
        self.pool.resize(total)
        assert self.pool.options["max_total"] == total
        self.maker.total = INFINITY if total is None else total
        self.world.work()
        self.model.resize(self.maker.total)

    @rule(seconds=st.sampled_from([1.0, 5.0, 21.0]))
    def wait(self, seconds: float) -> None:
        self._step(seconds)

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "pool"):
            return
        model, manager = self.model, _core.manager(self.pool, "test")
        self.world.work()
        assert set(self.maker.closings) == set(model.closed)
        known = {one.key for one in (*model.idle, *model.leased)}
        assert set(manager.cores) == known  # nothing is kept of other keys
        stats = self.pool.stats()
        assert consistent(stats) and not self.maker.faults, self.maker.faults
        assert (stats.idle, stats.leased) == (len(model.idle), len(model.leased))
        for key in known:
            assert stats.keys[key].open == model.open_of(key)
            assert stats.keys[key].idle == len(model.idle_of(key))
        assert manager.arbiter.opened == stats.open
        assert not manager.arbiter.queued()

    def teardown(self) -> None:
        if not hasattr(self, "pool"):
            return
        try:
            for lease in self.leases:
                lease.release()
            self.world.work()
            assert self.pool.close(timeout=0)
        finally:
            self.world.close()
        assert self.maker.made == self.maker.closed and not self.maker.faults


TestKeyed = KeyedMachine.TestCase
TestKeyed.settings = settings(
    max_examples=examples(50),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
