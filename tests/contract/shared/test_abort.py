"""SharedPool: when abort is called for what does not drain, for which resource, and where."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from fastpool import _core
from support.helpers import PATIENCE, ThreadRunner, eventually


def manager_of(pool: Any) -> Any:
    return _core.manager(pool, "this test")


@pytest.fixture
def aborted() -> list[Any]:
    return []


@pytest.fixture
def draining(shared: Any, aborted: list[Any], clock: Any) -> Any:
    """A pool that calls abort after 30 s of its clock, and its maker."""
    return shared(
        (0, 2), slots=2, drain_timeout=30.0, abort=aborted.append, clock=clock, name="drains"
    )


class TestWhen:
    def test_it_is_called_as_soon_as_the_time_is_over(
        self, draining: Any, aborted: list[Any], clock: Any
    ) -> None:
        pool, _ = draining
        lease = pool.acquire()
        pool.drain(lease.resource)
        clock.advance(0)
        clock.advance(29)
        assert not aborted
        clock.advance(1)
        eventually(lambda: aborted == [lease.resource])
        lease.release()

    def test_what_is_in_service_may_be_used_for_long(
        self, draining: Any, aborted: list[Any], clock: Any
    ) -> None:
        """The time is that since it takes no more leases."""
        pool, _ = draining
        lease = pool.acquire()
        for _ in range(3):
            clock.advance(31)
        pool.drain(lease.resource)
        clock.advance(0)
        clock.advance(29)
        assert not aborted
        clock.advance(1)
        eventually(lambda: aborted == [lease.resource])
        lease.release()

    def test_one_that_is_being_closed_is_not_aborted(
        self, draining: Any, aborted: list[Any], clock: Any, runner: ThreadRunner
    ) -> None:
        """Its last lease has come back: nobody uses it, however long its close takes."""
        pool, maker = draining
        maker.close_gate.clear()
        lease = pool.acquire()
        pool.drain(lease.resource)
        ending = runner.start(lease.release)
        eventually(lambda: pool.stats().closing == 1)
        clock.advance(0)
        clock.advance(31)
        clock.advance(31)
        assert not aborted
        maker.close_gate.set()
        ending.result()

    def test_each_use_of_a_slot_has_its_own_time(
        self, draining: Any, aborted: list[Any], clock: Any
    ) -> None:
        """What is opened where another one was drained has all of drain_timeout."""
        pool, maker = draining
        first = pool.acquire()
        index = manager_of(pool).core.find(first.resource)
        pool.drain(first.resource)
        clock.advance(0)
        clock.advance(20)
        first.release()
        second = pool.acquire()
        assert maker.made == 2 and manager_of(pool).core.find(second.resource) == index
        pool.drain(second.resource)
        clock.advance(9)  # looked at from here on
        clock.advance(29)
        assert not aborted
        clock.advance(1)
        eventually(lambda: aborted == [second.resource])
        second.release()

    def test_the_scheduler_comes_for_the_first_of_several(
        self, draining: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It sleeps until the earliest time of all, and then until the next."""
        pool, _ = draining
        visits: list[float] = []

        def come_by(now: float, next_at: float) -> None:
            visits.append(next_at - now)

        monkeypatch.setattr(manager_of(pool).maintenance, "_schedule_visit", come_by)
        pool.resize((2, 2))
        pool.warm(2)
        leases = [pool.acquire(), pool.acquire()]
        pool.drain(leases[0].resource)
        clock.advance(0)
        clock.advance(10)
        pool.drain(leases[1].resource)
        clock.advance(0)
        assert visits[-3:] == [30.0, 20.0, 20.0]
        clock.advance(20)
        assert visits[-1] == 10.0
        for lease in leases:
            lease.release()


class TestWhere:
    def test_it_is_called_on_a_thread_of_the_pool(self, shared: Any, clock: Any) -> None:
        """Not where the pools are looked after: it may take long."""
        where: list[str] = []
        pool, _ = shared(
            (0, 2),
            drain_timeout=30.0,
            abort=lambda resource: where.append(threading.current_thread().name),
            clock=clock,
            name="drains",
        )
        lease = pool.acquire()
        pool.drain(lease.resource)
        clock.advance(0)
        clock.advance(30)
        eventually(lambda: where == ["fastpool-drains-close"])
        lease.release()

    @pytest.mark.parametrize("how", ["drain", "discard", "flush", "replace", "resize", "lifetime"])
    def test_it_comes_in_real_time_however_a_resource_is_drained(
        self, shared: Any, how: str
    ) -> None:
        """The scheduler comes back for it by itself."""
        called = threading.Event()
        ages = {"max_lifetime": 0.02} if how == "lifetime" else {}
        pool, _ = shared(
            (0, 2),
            shrink_after=None,
            drain_timeout=0.01,
            abort=lambda resource: called.set(),
            **ages,
        )
        lease, other = pool.acquire(), pool.acquire()
        if how == "drain":
            pool.drain(lease.resource)
        elif how == "discard":
            other.discard()
        elif how == "flush":
            pool.flush()
        elif how == "replace":
            pool.replace(lease.resource)
        elif how == "resize":
            pool.warm(2)
            pool.avoid(lease.resource)
            with pool.lease(), pool.lease(), pool.lease():
                pool.resize((0, 1))
        assert called.wait(PATIENCE)
        lease.release()
        if how != "discard":
            other.release()
