"""stats(): a snapshot in which every resource is counted once, and counters never go back."""

from __future__ import annotations

import itertools
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from fastpool import PoolClosed, PoolOverloaded, PoolTimeout
from fastpool.pool import _creation
from fastpool.stats import Histogram
from support.helpers import Maker, ThreadRunner, consistent, eventually, states

pytestmark = pytest.mark.usefixtures("caller_kind")


class TestStats:
    def test_a_snapshot_cannot_be_changed(self, accounted: Any) -> None:
        """It is what was, and stays as it was."""
        pool, _ = accounted(1)
        stats = pool.stats()
        with pytest.raises((AttributeError, TypeError)):
            stats.idle = 5
        pool.put(pool.get())
        assert stats.idle == 0 and pool.stats().idle == 1

    def test_each_state_is_counted(self, accounted: Any, runner: ThreadRunner, clock: Any) -> None:
        """One resource in each state, each counted once, and their sum is `open`."""
        gate = threading.Event()
        pool, maker = accounted(
            5,
            check=lambda resource: gate.wait(30),
            check_after=0,
            clock=clock,
            hook_timeout=None,
            timeout=None,
        )
        a, b, c = (pool.get() for _ in range(3))
        pool.put(a)  # idle, then checking
        checking = runner.start(pool.get)
        eventually(lambda: pool.stats().checking == 1)
        maker.gate.clear()
        creating = runner.start(pool.get)
        eventually(lambda: pool.stats().creating == 1)
        maker.close_gate.clear()
        closing = runner.start(pool.discard, b)
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
        self, accounted: Any, runner: ThreadRunner, fast_switching: None
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

        tasks = runner.together(4, work)
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

    def test_uses_are_counted_once(self, accounted: Any, runner: ThreadRunner) -> None:
        """Also while a new resource is being made in the place of one that was used."""
        pool, maker = accounted(1)
        for _ in range(5):
            pool.put(pool.get())
        pool.flush()
        maker.gate.clear()
        getter = runner.start(pool.get)
        eventually(lambda: pool.stats().creating == 1)
        assert pool.stats().uses == 5
        maker.gate.set()
        pool.put(getter.result())
        assert pool.stats().uses == 6

    def test_closings_are_added_up(self, accounted: Any) -> None:
        """Over all reasons, and over all resources of each."""
        pool, _ = accounted(2)
        for _ in range(3):
            pool.discard(pool.get())
        pool.put(pool.get())
        pool.flush()
        eventually(lambda: pool.stats().closed == {"discarded": 3, "flushed": 1})
        assert pool.stats().closed_total == 4

    def test_refusals_are_counted_by_kind(self, accounted: Any) -> None:
        """A timeout is no overload, a closed pool neither."""
        pool, _ = accounted(1, max_waiting=0)
        resource = pool.get()
        for _ in range(2):
            with pytest.raises(PoolOverloaded):
                pool.get()
        with pytest.raises(PoolTimeout):
            pool.get(timeout=0)
        pool.close(timeout=0)
        with pytest.raises(PoolClosed):
            pool.get()
        stats = pool.stats()
        assert (stats.overloads, stats.timeouts) == (2, 1)
        pool.put(resource)

    def test_failures_of_the_factory_are_counted(self, accounted: Any) -> None:
        """All of them, also those before a success; they are no creations."""
        pool, maker = accounted(1)
        for _ in range(3):
            maker.script.append(OSError())
            with pytest.raises(OSError):
                pool.get()
        pool.put(pool.get())
        stats = pool.stats()
        assert (stats.create_failures, stats.created, stats.create_time.count) == (3, 1, 1)
        assert (stats.closed, stats.closed_total) == ({}, 0)

    def test_creation_under_way_is_not_created_yet(
        self, accounted: Any, runner: ThreadRunner
    ) -> None:
        """It is counted once, when it is there."""
        pool, maker = accounted(1)
        maker.gate.clear()
        getter = runner.start(pool.get)
        eventually(lambda: maker.running == 1)
        stats = pool.stats()
        assert (stats.created, stats.creating, stats.create_time.count) == (0, 1, 0)
        maker.gate.set()
        pool.put(getter.result())
        stats = pool.stats()
        assert (stats.created, stats.creating, stats.create_time.count) == (1, 0, 1)

    def test_only_waits_are_in_the_wait_time(self, accounted: Any, runner: ThreadRunner) -> None:
        """An idle resource was not waited for; the return that came was, from the first moment."""
        pool, _ = accounted(1)
        pool.put(pool.get())
        before = pool.stats().wait_time
        resource = pool.get()
        assert pool.stats().wait_time == before
        waiter = runner.start(pool.get)
        eventually(lambda: pool.stats().waiting == 1)
        pool.put(resource)
        pool.put(waiter.result())
        after = pool.stats().wait_time
        assert after.count == before.count + 1 and after.total > before.total
        assert sum(after.counts) == after.count

    def test_uses_are_timed_where_they_are_tracked(self, accounted: Any, clock: Any) -> None:
        """With ``leak_after`` every lease counts, for as long as it lasted."""
        pool, _ = accounted(1, leak_after=1000, clock=clock)
        for seconds in (3, 5):
            with pool.lease():
                clock.advance(seconds)
        use_time = pool.stats().use_time
        assert use_time.count == 2
        assert use_time.total == pytest.approx(8) and use_time.longest == pytest.approx(5)
        assert use_time.mean == pytest.approx(4)

    def test_creations_are_timed(self, accounted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Their sum, the longest, and the histogram by powers of two of a microsecond."""
        now = [1000.0]
        times = SimpleNamespace(monotonic=lambda: now[0])
        maker = Maker()

        def factory() -> Any:
            now[0] += durations.pop()
            return maker()

        durations = [0.001, 0.25, 3.0]
        pool, _ = accounted(3, maker, factory=factory, create_timeout=None, max_creating=1)
        monkeypatch.setattr(_creation, "time", times)
        for resource in [pool.get() for _ in range(3)]:
            pool.put(resource)
        create_time = pool.stats().create_time
        assert create_time.count == 3
        assert create_time.total == pytest.approx(3.251)
        assert create_time.longest == pytest.approx(3.0)
        filled = {bucket: n for bucket, n in enumerate(create_time.counts) if n}
        assert filled == {10: 1, 18: 1, 22: 1}  # 2 ** 10 us is more than 1 ms, 2 ** 9 is less


class TestHistogram:
    TIMES = Histogram(10, 0.2, 0.1, tuple({3: 5, 10: 4, 17: 1}.get(i, 0) for i in range(32)))
    NONE = Histogram(0, 0.0, 0.0, (0,) * 32)

    @pytest.mark.threads_only("there is no call in it")
    def test_mean_is_that_of_all(self) -> None:
        """And 0 of none."""
        assert self.TIMES.mean == pytest.approx(0.02) and self.NONE.mean == 0

    @pytest.mark.threads_only("there is no call in it")
    @pytest.mark.parametrize(
        ("q", "bound"),
        [(0, 8e-6), (0.5, 8e-6), (0.51, 1024e-6), (0.9, 1024e-6), (0.91, 0.1), (1, 0.1)],
    )
    def test_quantile_bounds_its_share(self, q: float, bound: float) -> None:
        """By the end of the range in which it lies, or the longest of all, if that is less."""
        assert self.TIMES.quantile(q) == pytest.approx(bound)
        assert self.NONE.quantile(q) == 0

    @pytest.mark.threads_only("there is no call in it")
    @pytest.mark.parametrize("q", [-0.1, 1.1, float("nan")])
    def test_quantile_of_no_share_is_refused(self, q: float) -> None:
        with pytest.raises(ValueError, match="between 0 and 1"):
            self.TIMES.quantile(q)
