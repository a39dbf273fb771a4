"""stats(): a snapshot in which every resource is counted once, and counters never go back."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest

from fastpool import PoolTimeout
from support import Crew, consistent, eventually, states

pytestmark = pytest.mark.usefixtures("face")


class TestStats:
    def test_a_snapshot_cannot_be_changed(self, accounted: Any) -> None:
        """It is what was, and stays as it was."""
        pool, _ = accounted(1)
        stats = pool.stats()
        with pytest.raises((AttributeError, TypeError)):
            stats.idle = 5
        pool.put(pool.get())
        assert stats.idle == 0 and pool.stats().idle == 1

    def test_each_state_is_counted(self, accounted: Any, crew: Crew) -> None:
        """One resource in each state, each counted once, and their sum is `open`."""
        gate = threading.Event()
        pool, maker = accounted(5, check=lambda resource: gate.wait(30), check_after=0)
        a, b, c = (pool.get() for _ in range(3))
        pool.put(a)  # idle, then checking
        checking = crew.start(pool.get)
        eventually(lambda: pool.stats().checking == 1)
        maker.gate.clear()
        creating = crew.start(pool.get)
        eventually(lambda: pool.stats().creating == 1)
        maker.close_gate.clear()
        closing = crew.start(pool.discard, b)
        eventually(lambda: pool.stats().closing == 1)
        assert states(pool) == {"checking": 1, "creating": 1, "closing": 1, "leased": 1}
        stats = pool.stats()
        assert consistent(stats) and stats.open == 4 and stats.maxsize == 5
        maker.gate.set()
        maker.close_gate.set()
        gate.set()
        closing.result()
        for resource in (checking.result(), creating.result(), c):
            pool.put(resource)

    def test_counters_count(self, accounted: Any) -> None:
        """created, closed by reason and timeouts tell the history of the pool."""
        pool, maker = accounted(2)
        a, b = pool.get(), pool.get()
        for _ in range(3):
            with pytest.raises(PoolTimeout):
                pool.get(timeout=0)
        pool.discard(a)
        pool.put(b)
        pool.flush()
        eventually(lambda: sum(pool.stats().closed.values()) == 2)
        stats = pool.stats()
        assert stats.created == 2 and stats.timeouts == 3
        assert maker.closed == 2 and len(stats.closed) >= 2
        assert stats.waiting == 0 and stats.overdue == 0

    def test_snapshots_hold_the_identity_under_load(
        self, accounted: Any, crew: Crew, fast_switching: None
    ) -> None:
        """In every snapshot the states sum up to open <= maxsize, and no counter goes back."""
        pool, maker = accounted(3, max_idle=2)
        stop = threading.Event()

        def work(index: int) -> None:
            for number in itertools.count():
                if stop.is_set():
                    return
                with pool.lease() as resource:
                    if number % 5 == 0:
                        pool.discard(resource)

        tasks = crew.together(4, work)
        last = pool.stats()
        try:
            for _ in range(500):
                stats = pool.stats()
                assert consistent(stats), stats
                assert stats.created >= last.created
                assert sum(stats.closed.values()) >= sum(last.closed.values())
                last = stats
        finally:
            stop.set()
        for task in tasks:
            task.result(20)

    def test_uses_are_counted_once(self, accounted: Any, crew: Crew) -> None:
        """Also while a new resource is being made in the place of one that was used."""
        pool, maker = accounted(1)
        for _ in range(5):
            pool.put(pool.get())
        pool.flush()
        maker.gate.clear()
        getter = crew.start(pool.get)
        eventually(lambda: pool.stats().creating == 1)
        assert pool.stats().uses == 5
        maker.gate.set()
        pool.put(getter.result())
        assert pool.stats().uses == 6
