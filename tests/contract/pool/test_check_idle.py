"""``check_idle``: all that is idle is checked now, and the call says how many were closed."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest

import fastpool
from fastpool import EventLoopWarning, PoolClosed
from fastpool.testing import ManualClock
from support import callers, loops
from support.callers import FastPool
from support.helpers import (
    PATIENCE,
    Maker,
    ThreadRunner,
    eventually,
    settled,
    states,
    unattended,
    works,
)

pytestmark = pytest.mark.usefixtures("caller_kind")


def healthy(resource: Any) -> bool:
    return bool(resource.healthy)


def fast(maker: Maker, **options: Any) -> Any:
    return FastPool(4, factory=maker, **options)


def shared(maker: Maker, **options: Any) -> Any:
    return callers.SharedPool(maker, items=(0, 4), slots=1, shrink_after=None, **options)


class Keys:
    """A KeyedPool of four keys with one resource each."""

    def __init__(self, maker: Maker, **options: Any) -> None:
        self.pool = callers.KeyedPool(lambda key: maker(), max_per_key=1, **options)
        self.stats, self.close = self.pool.stats, self.pool.close
        self.check_idle = self.pool.check_idle
        self.keys = iter(range(4))

    def acquire(self) -> Any:
        return self.pool.acquire(next(self.keys))


KINDS: dict[str, Callable[..., Any]] = {"fast": fast, "shared": shared, "keyed": Keys}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_idle_is_checked_and_the_rest_left_alone(kind: str) -> None:
    maker = Maker()
    seen: list[Any] = []

    def check(resource: Any) -> bool:
        seen.append(resource)
        return healthy(resource)

    pool = KINDS[kind](maker, check=check)
    leases = [pool.acquire() for _ in range(4)]
    for lease in leases[:3]:
        lease.release()
    seen.clear()
    for resource in maker.all[1:]:
        resource.healthy = False  # two of the idle ones, and the one that is leased
    assert pool.check_idle() == 2
    assert sorted(each.number for each in seen) == [0, 1, 2]
    assert states(pool) == {"idle": 1, "leased": 1}
    assert pool.stats().closed == {"check": 2}
    assert pool.check_idle() == 0
    leases[3].release()
    pool.close()
    eventually(lambda: maker.made == maker.closed)


def test_a_check_that_raises_closes_its_resource() -> None:
    maker = Maker()

    def check(resource: Any) -> None:
        raise ConnectionResetError

    pool = fast(maker, check=check, check_after=None)
    pool.warm(3)
    assert pool.check_idle() == 3 and maker.closed == 3
    pool.close()


def test_what_has_expired_is_closed_unchecked() -> None:
    clock, maker = ManualClock(), Maker()
    checked: list[Any] = []
    pool = fast(maker, check=checked.append, idle_timeout=10, clock=clock)
    pool.warm(2)
    clock.ticks.advance(11)  # nobody has looked yet
    assert pool.check_idle() == 2 and checked == []
    assert pool.stats().closed == {"idle": 2}
    pool.close()


def test_no_more_than_max_creating_are_out_of_reach() -> None:
    """A borrower finds the others idle meanwhile."""
    maker = Maker()
    gate, under_way = threading.Event(), threading.Semaphore(0)

    def check(resource: Any) -> None:
        under_way.release()
        assert gate.wait(3 * PATIENCE)

    pool = fast(maker, check=check, check_after=None, max_creating=1, hook_timeout=None)
    pool.warm(3)
    found: list[int] = []
    one = getattr(pool, "_real", pool)
    checker = threading.Thread(target=lambda: found.append(one.check_idle()), daemon=True)
    checker.start()
    assert under_way.acquire(timeout=PATIENCE)
    assert states(pool) == {"idle": 2, "checking": 1}
    resources = [pool.get(timeout=PATIENCE) for _ in range(2)]
    assert maker.made == 3
    gate.set()
    checker.join(PATIENCE)
    assert found == [0]
    for resource in resources:
        pool.put(resource)
    settled(pool)
    pool.close()


def test_one_that_waits_gets_what_was_checked(runner: ThreadRunner) -> None:
    maker = Maker()
    gate, under_way = threading.Event(), threading.Event()

    def check(resource: Any) -> None:
        under_way.set()
        assert gate.wait(3 * PATIENCE)

    pool = FastPool(1, factory=maker, check=check, check_after=None, hook_timeout=None)
    pool.warm(1)
    checker = runner.start(pool.check_idle)
    assert under_way.wait(PATIENCE)
    waiter = runner.start(pool.get)
    eventually(lambda: pool.stats().waiting == 1)
    gate.set()
    resource = waiter.result()
    assert checker.result() == 0 and resource is maker.all[0]
    pool.put(resource)
    pool.close()


def test_a_check_that_hangs_is_not_waited_for() -> None:
    maker, gate = Maker(), threading.Event()

    def check(resource: Any) -> None:
        if resource.number == 0:
            assert gate.wait(3 * PATIENCE)

    pool = fast(maker, check=check, check_after=None, max_creating=1, hook_timeout=0.02)
    pool.warm(2)
    assert pool.check_idle() == 0
    eventually(lambda: states(pool) == {"idle": 1, "checking": 1})
    gate.set()
    eventually(lambda: states(pool) == {"idle": 2})
    works(pool, 4)
    pool.close()


@pytest.mark.threads_only("of one plain call")
def test_it_wants_a_check_and_an_open_pool() -> None:
    with fastpool.FastPool(1, factory=object) as plain:
        with pytest.raises(TypeError, match=r"check_idle\(\) needs a check hook"):
            plain.check_idle()
    pool: Any = fastpool.FastPool(1, factory=object, check=bool)
    assert pool.check_idle() == 0
    pool.close()
    with pytest.raises(PoolClosed):
        pool.check_idle()
    with pytest.raises(TypeError, match="needs a resource pool"):
        fastpool.FastPool().check_idle()


@pytest.mark.threads_only("of a plain call on a loop")
def test_the_plain_call_on_a_loop_is_warned_of() -> None:
    async def main() -> None:
        with fastpool.FastPool(1, factory=object, check=bool) as pool:
            await pool.awarm(1)
            with pytest.warns(EventLoopWarning, match="acheck_idle"):
                pool.check_idle()

    asyncio.run(main())


class Connection:
    def __init__(self) -> None:
        self.healthy, self.closed = True, False

    async def close(self) -> None:
        self.closed = True


async def connect() -> Connection:
    return Connection()


async def acheck(connection: Connection) -> bool:
    await asyncio.sleep(0)
    return connection.healthy


@pytest.mark.threads_only("its pool is for tasks")
def test_of_an_async_factory_on_all_loops_that_run() -> None:
    pool: Any = fastpool.FastPool(6, factory=connect, check=acheck)
    go_on = threading.Event()
    theirs: list[Connection] = []

    async def elsewhere() -> None:
        leases = [await pool.aacquire() for _ in range(2)]
        theirs.extend(lease.resource for lease in leases)
        for lease in leases:
            lease.release()
        await loops.eventually(go_on.is_set)

    async def main() -> None:
        other = threading.Thread(target=lambda: asyncio.run(elsewhere()))
        other.start()
        leases = [await pool.aacquire() for _ in range(3)]
        mine = [lease.resource for lease in leases]
        for lease in leases[1:]:
            lease.release()
        await loops.eventually(lambda: states(pool) == {"idle": 4, "leased": 1})
        theirs[0].healthy = mine[0].healthy = mine[1].healthy = False
        assert await pool.acheck_idle() == 2
        await loops.eventually(lambda: states(pool) == {"idle": 2, "leased": 1})
        assert [one.closed for one in mine] == [False, True, False] and theirs[0].closed
        with pytest.raises(TypeError, match=r"await pool\.acheck_idle"):
            pool.check_idle()
        leases[0].release()
        go_on.set()
        await asyncio.to_thread(other.join)
        await pool.aclose()

    asyncio.run(main())


@pytest.mark.threads_only("its pool is for tasks")
def test_of_an_async_factory_whose_checks_hang() -> None:
    async def never(connection: Connection) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        pool: Any = fastpool.FastPool(
            1, factory=connect, check=never, check_after=None, hook_timeout=0.01
        )
        async with pool.lease():
            pass
        assert await pool.acheck_idle() in (0, 1)  # it waits for no longer than twice that
        await loops.eventually(lambda: pool.stats().closed == {"check": 1})
        await pool.aclose()

    asyncio.run(main())


@pytest.mark.threads_only("its pool is for tasks")
@pytest.mark.parametrize("healthy", [True, False])
def test_of_an_async_factory_ends_when_its_checks_have_ended(healthy: bool) -> None:
    """Not with the hooks: what they have said is for the scheduler to see to, which may be late."""
    held = contextlib.ExitStack()

    async def held_up(connection: Connection) -> bool:
        held.enter_context(unattended())
        return healthy

    async def main() -> None:
        pool: Any = fastpool.FastPool(1, factory=connect, check=held_up, check_after=None)
        async with pool.lease():
            pass
        await loops.eventually(lambda: states(pool) == {"idle": 1})
        check = asyncio.ensure_future(pool.acheck_idle())
        with held:
            await loops.eventually(lambda: states(pool) == {"checking": 1})
            await asyncio.wait({check}, timeout=0.05)  # a mistake has its chance
            assert not check.done()
        assert await check == (not healthy)
        assert "checking" not in states(pool)
        await pool.aclose()

    asyncio.run(main())
