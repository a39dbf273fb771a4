"""A plain reset hook is called by the core, and what does not go its plain way is the manager's."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

from fastpool import FastPool, _core
from support.helpers import PATIENCE, Maker, ThreadRunner, eventually, states, works


def manager(pool: Any) -> Any:
    return _core.manager(pool, "a test")


@pytest.fixture
def no_manager(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """From here on the manager of a pool is not to be asked when something comes back."""

    def forbid(pool: Any) -> None:
        def give_back(*args: object) -> None:
            raise AssertionError("the manager was asked")

        monkeypatch.setattr(manager(pool), "give_back", give_back)

    return forbid


@pytest.mark.parametrize("how", ["block", "put", "release"])
def test_the_manager_is_not_asked(how: str, no_manager: Any) -> None:
    seen: list[Any] = []
    pool: Any = FastPool(2, factory=Maker(), reset=seen.append)
    no_manager(pool)
    if how == "block":
        with pool.lease() as resource:
            pass
    elif how == "put":
        resource = pool.get()
        pool.put(resource)
    else:
        lease = pool.acquire()
        resource = lease.resource
        lease.release()
    assert seen == [resource] and states(pool) == {"idle": 1}
    pool.close()


def test_it_is_asked_about_whatever_else_there_is() -> None:
    for options in ({"leak_after": 100}, {"max_uses": 5}):
        pool: Any = FastPool(2, factory=Maker(), reset=bool, **options)
        assert manager(pool).quick_reset is None
        works(pool, 2)
        pool.close()
    pool = FastPool(2, factory=Maker(), reset=bool)
    pool.configure(max_uses=1)
    assert manager(pool).quick_reset is None
    pool.acquire().release()
    assert pool.stats().closed == {"uses": 1}
    pool.close()


def test_a_hook_that_raises_closes_its_resource(caplog: pytest.LogCaptureFixture) -> None:
    maker = Maker()

    def reset(resource: Any) -> None:
        raise ConnectionResetError

    pool: Any = FastPool(2, factory=maker, reset=reset)
    with caplog.at_level(logging.WARNING, "fastpool"):
        pool.acquire().release()
    assert "reset failed; the resource is closed" in caplog.text
    assert maker.closed == 1 and pool.stats().closed == {"reset": 1}
    pool.close()


def test_what_is_no_exception_is_the_callers_and_closes_it_too() -> None:
    maker = Maker()

    def reset(resource: Any) -> None:
        raise KeyboardInterrupt

    pool: Any = FastPool(2, factory=maker, reset=reset)
    lease = pool.acquire()
    with pytest.raises(KeyboardInterrupt):
        lease.release()
    eventually(lambda: maker.closed == 1 and states(pool) == {})
    pool.close()


def test_it_sees_a_copy_of_the_callers_context() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="unset")
    seen: list[str] = []

    def reset(resource: Any) -> None:
        seen.append(variable.get())
        variable.set("the hook's")

    with FastPool(1, factory=Maker(), reset=reset) as pool:
        variable.set("the caller's")
        for _ in range(2):
            pool.acquire().release()
    assert seen == ["the caller's"] * 2 and variable.get() == "the caller's"


def test_no_more_are_kept_than_may_be_idle() -> None:
    maker = Maker()
    pool: Any = FastPool(3, factory=maker, reset=bool, max_idle=1)
    leases = [pool.acquire() for _ in range(3)]
    for lease in leases:
        lease.release()
    assert states(pool) == {"idle": 1} and pool.stats().closed == {"surplus": 2}
    pool.configure(max_idle=2)
    leases = [pool.acquire() for _ in range(3)]
    for lease in leases:
        lease.release()
    assert states(pool) == {"idle": 2}
    pool.close()


def test_what_was_retired_meanwhile_is_closed() -> None:
    maker = Maker()
    pool: Any = FastPool(1, factory=maker, reset=lambda resource: pool.flush())
    pool.acquire().release()
    assert maker.closed == 1 and pool.stats().closed == {"flushed": 1}
    pool.close()


def test_a_pool_that_is_closed_meanwhile() -> None:
    maker = Maker()
    pool: Any = FastPool(1, factory=maker, reset=lambda resource: pool.close(timeout=0))
    pool.acquire().release()
    assert maker.closed == 1 and states(pool) == {}


def test_who_waits_gets_it(runner: ThreadRunner) -> None:
    seen: list[Any] = []
    pool: Any = FastPool(1, factory=Maker(), reset=seen.append)
    lease = pool.acquire()
    waiters = [runner.start(lambda: pool.acquire(PATIENCE).release()) for _ in range(2)]
    eventually(lambda: pool.stats().waiting == 2)
    lease.release()
    for waiter in waiters:
        waiter.result()
    assert len(seen) == 3
    pool.close()


def test_one_that_hangs_is_overdue(runner: ThreadRunner) -> None:
    gate = threading.Event()

    def reset(resource: Any) -> None:
        assert gate.wait(3 * PATIENCE)

    pool: Any = FastPool(1, factory=Maker(), reset=reset, hook_timeout=0.01)
    task = runner.start(lambda: pool.acquire().release())
    eventually(lambda: pool.stats().overdue == 1)
    assert states(pool) == {"checking": 1}
    gate.set()
    task.result()
    assert pool.stats().overdue == 0 and states(pool) == {"idle": 1}
    pool.close()


def test_on_an_event_loop_it_runs_on_a_worker() -> None:
    threads: list[int] = []
    pool: Any = FastPool(
        1, factory=Maker(), reset=lambda resource: threads.append(threading.get_ident())
    )

    async def main() -> None:
        (await pool.aacquire()).release()
        lease = await pool.aacquire()  # the same resource, which has been reset
        assert len(threads) == 1 and threads[0] != threading.get_ident()
        await lease.__aexit__(None, None, None)

    asyncio.run(main())
    pool.close()


def test_the_measure_of_a_use_is_untouched() -> None:
    """The word that says since when a hook runs says in a lease since when it is measured."""
    pool: Any = FastPool(1, factory=Maker(), reset=bool)
    for _ in range(300):
        pool.acquire().release()
    use = pool.stats().use_time
    assert use.count == 3 and 0 <= use.longest < PATIENCE
    pool.close()
