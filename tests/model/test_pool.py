"""Random operations on a resource pool, step by step beside a dict (tests/model/oracle.py).

One thread and a manual clock. Calls that would wait are not made, so each answer is determined
but for two things, which the model leaves open: which idle resource is lent, and which of the
surplus resources a smaller cap closes.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fastpool import FastPool, PoolClosed, PoolTimeout
from fastpool.testing import ManualClock
from model.oracle import DictPool
from support.helpers import Maker, consistent, eventually, examples

SETTINGS = settings(
    max_examples=examples(60),
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
SMALL = st.integers(1, 4)
PICK = st.integers(0, 10)
CHECK_AFTER = 10.5  # no sum of the steps of the clock, so that nothing is due exactly now


class Broken(Exception):
    """Matches discard_on."""


class PoolMachine(RuleBasedStateMachine):
    """get, put, leases, discards, failures, flush, resize, time, suspend and close."""

    @initialize(
        maxsize=SMALL,
        order=st.sampled_from(["lifo", "fifo"]),
        fairness=st.sampled_from(["fair", "throughput"]),
        max_idle=st.none() | SMALL,
        idle_timeout=st.none() | st.just(100.5),
        max_uses=st.none() | SMALL,
    )
    def begin(self, maxsize: int, max_idle: int | None, **options: Any) -> None:
        self.clock = ManualClock()
        self.maker = Maker()
        self.pool: Any = FastPool(
            maxsize,
            factory=self.maker,
            max_idle=max_idle,
            max_lifetime=None,
            discard_on=Broken,
            check=self._check,
            check_after=CHECK_AFTER,
            clock=self.clock,
            **options,
        )
        self.model = DictPool(
            maxsize, max_idle, options["idle_timeout"], options["max_uses"], now=0.0
        )
        self.leases: dict[int, Any] = {}  # the leases among what is lent, by resource
        self.suspended = False

    def teardown(self) -> None:
        if hasattr(self, "pool"):
            for entry in self.model.leased():
                self._return(entry.resource)
            assert self.pool.close() is True
            assert self.maker.made == self.maker.closed
            assert not self.maker.faults

    @staticmethod
    def _check(resource: Any) -> None:
        if not resource.healthy:
            raise OSError("bad")

    # -- taking --

    def _sick(self) -> list[Any]:
        """Idle entries that their check will close, were they looked at now."""
        return [e for e in self.model.idle() if self._due(e) and not e.resource.healthy]

    def _due(self, entry: Any) -> bool:
        return entry.suspect or self.model.now - entry.since > CHECK_AFTER

    def _take(self, take: Any) -> Any:
        """Take by any face and compare; the resource, the lease, or None."""
        model = self.model
        sick = self._sick()
        try:
            if model.is_closed:
                with pytest.raises(PoolClosed):
                    take(10)
                return None
            if self.suspended and model.capacity():
                return None  # a try would start a creation for later
            fit = len(model.idle()) > len(sick)  # the others are closed before there is an answer
            if self.suspended or not (fit or model.capacity(without=len(sick))):
                with pytest.raises(PoolTimeout):
                    take(0)
                return None
            return take(10)  # there is something to be had
        finally:
            self._settle()
            for entry in sick:  # those that were looked at are closed by now, the others are not
                if entry.resource.closed:
                    model.drop(entry)

    def _settle(self) -> None:
        """Wait until what is closed by a worker is closed."""
        eventually(lambda: not self.pool.stats().checking and not self.pool.stats().closing)

    def _took(self, resource: Any) -> None:
        entry = self.model.entries.get(id(resource))
        if entry is not None and not resource.healthy:
            assert not entry.suspect and self.model.now - entry.since < CHECK_AFTER
        self.model.took(resource)

    @rule()
    def get(self) -> None:
        resource = self._take(lambda timeout: self.pool.get(timeout=timeout))
        if resource is not None:
            self._took(resource)

    @rule()
    def acquire(self) -> None:
        lease = self._take(lambda timeout: self.pool.acquire(timeout))
        if lease is not None:
            self._took(lease.resource)
            self.leases[id(lease.resource)] = lease

    @rule(fail=st.sampled_from([None, Broken, ValueError]))
    def block(self, fail: type[Exception] | None) -> None:
        seen: list[Any] = []

        def enter(timeout: float | None) -> Any:
            with self.pool.lease(timeout) as resource:
                seen.append(resource)
                if fail is not None:
                    raise fail
            return resource

        try:
            self._take(enter)
        except (Broken, ValueError):
            pass
        for resource in seen:
            self._took(resource)
            if fail is Broken:
                self.model.drop(self.model.entries[id(resource)])
            else:
                self.model.gave(resource, resource.closed, suspect=fail is not None)

    @precondition(lambda self: not self.model.is_closed and not self.suspended)
    @rule()
    def fail_to_make(self) -> None:
        if self.model.idle() or not self.model.capacity():
            return
        self.maker.broken = ConnectionError
        with pytest.raises(ConnectionError):
            self.pool.get()
        self.maker.broken = None

    # -- giving back --

    def _return(self, resource: Any) -> None:
        lease = self.leases.pop(id(resource), None)
        if lease is None:
            self.pool.put(resource)
        else:
            lease.release()
        self._settle()
        self.model.gave(resource, resource.closed)

    @rule(pick=PICK)
    def give_back(self, pick: int) -> None:
        leased = self.model.leased()
        if leased:
            self._return(leased[pick % len(leased)].resource)

    @rule(pick=PICK)
    def discard(self, pick: int) -> None:
        leased = self.model.leased()
        if leased:
            entry = leased[pick % len(leased)]
            lease = self.leases.pop(id(entry.resource), None)
            self.pool.discard(entry.resource) if lease is None else lease.discard()
            self.model.drop(entry)

    @rule(pick=PICK)
    def give_back_what_is_idle(self, pick: int) -> None:
        idle = self.model.idle()
        if idle:
            with pytest.raises(ValueError):
                self.pool.put(idle[pick % len(idle)].resource)

    @rule(pick=PICK)
    def give_back_what_is_closed(self, pick: int) -> None:
        if self.model.closed:
            with pytest.raises(ValueError):
                self.pool.put(self.model.closed[pick % len(self.model.closed)])

    # -- the pool itself --

    @rule(pick=PICK)
    def sicken(self, pick: int) -> None:
        entries = list(self.model.entries.values())
        if entries:
            entries[pick % len(entries)].resource.healthy = False

    @rule(seconds=st.sampled_from([1.0, 11.0, 60.0, 101.0]))
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.model.advance(seconds)

    @rule()
    def flush(self) -> None:
        self.pool.flush()
        self.model.flush()

    @precondition(lambda self: not self.model.is_closed)
    @rule(maxsize=SMALL)
    def resize(self, maxsize: int) -> None:
        self.pool.resize(maxsize)
        self._settle()
        self.model.resize(maxsize, lambda entry: entry.resource.closed)

    @rule()
    def suspend_or_resume(self) -> None:
        self.suspended = not self.suspended
        self.pool.suspend() if self.suspended else self.pool.resume()

    @rule(sure=st.integers(0, 9))
    def close(self, sure: int) -> None:
        if sure == 0:
            self.model.close()
            assert self.pool.close(timeout=0) is (not self.model.entries)

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "pool"):
            return
        model, pool = self.model, self.pool
        expected = (len(model.idle()), len(model.leased()), len(model.entries))
        eventually(lambda: self._sizes() == expected, within=1)
        stats = pool.stats()
        assert consistent(stats) or stats.open > stats.maxsize > 0
        assert stats.waiting == 0 and stats.overdue == 0
        assert model.leased() or stats.open <= stats.maxsize
        assert self.maker.open == len(model.entries)
        assert {id(r) for r in self.maker.all if not r.closed} == set(model.entries)
        assert pool.maxsize == model.maxsize and pool.closed == model.is_closed

    def _sizes(self) -> tuple[int, int, int]:
        stats = self.pool.stats()
        return stats.idle, stats.leased, stats.open


TestPool = PoolMachine.TestCase
TestPool.settings = SETTINGS
