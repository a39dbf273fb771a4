"""What a test moves with ManualClock comes by itself when its time is there: every option that is a
length of time, on every kind of pool, by the real clock."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import pytest

from support.async_factories import accounted as accounted_async
from support.async_factories import threads, use
from support.helpers import PATIENCE, Maker, ThreadRunner, eventually, wait_for_scheduler

SHORT = 0.05
"""Seconds.  Without a deadline of its own, nothing here is due within a minute."""

KINDS = ["fast", "shared", "keyed"]


@pytest.fixture(params=KINDS)
def made(request: pytest.FixtureRequest) -> Any:
    """``made(**options)``: a pool of each kind for one or two resources, its maker, and what its
    calls begin with."""
    kind = request.param

    def make(**options: Any) -> tuple[Any, Any, tuple[str, ...]]:
        fixture = request.getfixturevalue({"fast": "accounted"}.get(kind, kind))
        if kind == "fast":
            return *fixture(2, **options), ()
        if kind == "shared":
            return *fixture((0, 2), slots=1, shrink_after=None, **options), ()
        return *fixture(2, 2, **options), ("key",)

    return make


def closed_for(pool: Any, why: str) -> Any:
    """A SharedPool opens another for one that is too old, which soon is too old itself."""
    return lambda: set(pool.stats().closed) == {why}


@pytest.mark.parametrize("why, option", [("idle", "idle_timeout"), ("lifetime", "max_lifetime")])
def test_what_is_idle_ends(made: Any, why: str, option: str) -> None:
    """Again and again: with nothing open there is no deadline, and the next resource has one."""
    for _ in range(2):
        pool, _, key = made(**{option: SHORT})
        with pool.lease(*key):
            pass
        eventually(closed_for(pool, why))


def test_what_was_lent_when_its_time_came_ends_after_it(made: Any) -> None:
    pool, _, key = made(idle_timeout=SHORT)
    with pool.lease(*key):
        time.sleep(3 * SHORT)
        assert pool.stats().closed == {}
    eventually(closed_for(pool, "idle"))


def test_keepalive(made: Any) -> None:
    seen: list[Any] = []
    pool, _, key = made(keepalive=SHORT, check=lambda resource: not seen.append(resource))
    with pool.lease(*key):
        pass
    eventually(lambda: len(seen) >= 2)


def test_leak_after(made: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Of what was made for it, and of what had been idle when the scheduler last came by."""
    pool, _, key = made(leak_after=SHORT)
    with caplog.at_level(logging.WARNING, logger="fastpool"):
        for reports in (1, 2):
            with pool.lease(*key):
                eventually(lambda n=reports: len(caplog.records) == n)
            wait_for_scheduler()


def test_keepalive_goes_from_one_to_the_next(accounted: Any) -> None:
    """All that are due are checked one after the other: not one in every interval, which would
    take longer than there is patience."""
    seen: set[Any] = set()
    pool, _ = accounted(60, keepalive=0.3, check=seen.add)
    assert pool.warm(60) == 60
    eventually(lambda: len(seen) == 60)


def test_keepalive_goes_on_when_a_check_hangs(accounted: Any) -> None:
    """From its deadline on."""
    seen: list[Any] = []
    warm, gate = threading.Event(), threading.Event()

    def check(resource: Any) -> None:
        if not warm.is_set():
            return  # the first is due while the second is being made
        seen.append(resource)
        if len(seen) == 1:
            assert gate.wait(3 * PATIENCE)

    pool, _ = accounted(2, keepalive=SHORT, check=check, hook_timeout=3 * SHORT)
    assert pool.warm(2) == 2
    warm.set()
    eventually(lambda: len(set(seen)) == 2)
    gate.set()


def test_drain_timeout(shared: Any) -> None:
    aborted: list[Any] = []
    pool, _ = shared((0, 2), slots=1, drain_timeout=SHORT, abort=aborted.append)
    with pool.lease() as resource:
        pool.drain(resource)
        eventually(lambda: aborted == [resource])


def test_shrink_after(shared: Any) -> None:
    pool, _ = shared((1, 2), slots=1, shrink_after=SHORT)
    leases = [pool.acquire() for _ in range(2)]
    for lease in leases:
        lease.release()
    eventually(closed_for(pool, "surplus"))


def test_max_idle(accounted: Any, runner: ThreadRunner) -> None:
    """What was made for one who was served otherwise is returned by nobody, and surplus."""
    pool, maker = accounted(2, max_idle=1)
    resource = pool.get()
    maker.gate.clear()
    waiter = runner.start(lambda: pool.put(pool.get()))
    eventually(lambda: maker.running == 1)
    pool.put(resource)
    waiter.result()
    maker.gate.set()
    eventually(closed_for(pool, "surplus"))


def test_min_idle(accounted: Any) -> None:
    pool, _ = accounted(2, min_idle=1)
    eventually(lambda: pool.stats().idle == 1)
    pool.discard(pool.get())
    eventually(lambda: pool.stats().idle == 1)
    with pool.lease():  # what is taken is noticed when the scheduler comes by
        eventually(lambda: pool.stats().idle == 1)


def test_a_loop_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    """Pools of coroutines: what is due is a task of the loop."""
    with (
        caplog.at_level(logging.WARNING, logger="fastpool"),
        accounted_async(2, idle_timeout=SHORT, leak_after=SHORT) as (pool, _),
        threads("asyncio", 1) as (one,),
    ):
        one.run(use(pool))
        eventually(closed_for(pool, "idle"))
        lease = one.run(pool.aacquire())
        eventually(lambda: len(caplog.records) == 1)
        one.call(lease.release)
        eventually(lambda: pool.stats().closed == {"idle": 2})


def test_thousands_are_opened_in_passing() -> None:
    """The scheduler looks at all there are now and then, not once for each that is opened: a
    minute of its time for as many as this."""
    from fastpool import FastPool

    most = 8000
    with FastPool(most, factory=Maker(most)) as pool:
        assert pool.warm(most, timeout=None) == most
        wait_for_scheduler()
