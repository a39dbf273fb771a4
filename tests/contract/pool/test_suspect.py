"""A resource that was kept though an exception left its block is checked at its next loan."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fastpool import PoolTimeout
from fastpool.testing import ManualClock
from support.async_factories import AsyncMaker
from support.helpers import eventually


class Checks:
    """A check hook that counts, and says what it is told to."""

    def __init__(self, *, good: bool = True) -> None:
        self.good = good
        self.seen: list[object] = []

    def __call__(self, resource: object) -> bool:
        self.seen.append(resource)
        return self.good


def leave(pool: Any, error: BaseException, *key: str) -> object:
    """Leaves a block with it; what was lent."""
    with pytest.raises(type(error)):
        with pool.lease(*key) as resource:
            raise error
    return resource


class Kinds:
    """A pool of each kind, with a check that is never due by age."""

    def __init__(self, request: pytest.FixtureRequest, kind: str) -> None:
        self.make = request.getfixturevalue(kind)
        self.key = ("key",) if kind == "keyed" else ()

    def pool(self, check: Any, **options: Any) -> Any:
        options = {"check_after": None, "clock": ManualClock(), **options}
        return self.make(1, check=check, **options)[0]


@pytest.fixture(params=["accounted", "keyed", "shared"])
def kinds(request: pytest.FixtureRequest) -> Kinds:
    return Kinds(request, request.param)


@pytest.mark.parametrize("check_after", [None, 3600])
def test_it_is_checked_once_at_the_next_loan(kinds: Kinds, check_after: float | None) -> None:
    check = Checks()
    pool = kinds.pool(check, check_after=check_after)
    for _ in range(3):
        with pool.lease(*kinds.key):
            pass
    assert check.seen == []

    resource = leave(pool, ValueError(), *kinds.key)
    for _ in range(3):
        with pool.lease(*kinds.key) as again:
            assert again is resource
        assert check.seen == [resource], "once, and not again"
    assert pool.stats().created == 1


def test_one_that_fails_is_replaced_before_anybody_has_it(kinds: Kinds) -> None:
    check = Checks()
    pool = kinds.pool(check)
    resource = leave(pool, ValueError(), *kinds.key)
    check.good = False
    with pool.lease(*kinds.key) as other:
        assert other is not resource
    eventually(lambda: pool.stats().closed == {"check": 1})


OF_A_POOL = PoolTimeout("p", "wait", 0, {})


@pytest.mark.parametrize("error", [OF_A_POOL, ExceptionGroup("", [OF_A_POOL])])
def test_an_error_of_a_pool_makes_nothing_suspect(kinds: Kinds, error: Exception) -> None:
    check = Checks()
    pool = kinds.pool(check)
    leave(pool, error, *kinds.key)
    with pool.lease(*kinds.key):
        pass
    assert check.seen == []


def test_what_is_caught_inside_carries_no_evidence(kinds: Kinds) -> None:
    check = Checks()
    pool = kinds.pool(check)
    with pool.lease(*kinds.key):
        try:
            raise ConnectionResetError
        except ConnectionResetError:
            pass
    lease = pool.acquire(*kinds.key)
    lease.release()
    with pool.lease(*kinds.key):
        pass
    assert check.seen == [] and pool.stats().closed_total == 0


def test_without_a_check_it_is_simply_lent(kinds: Kinds) -> None:
    pool = kinds.pool(None)
    resource = leave(pool, ValueError(), *kinds.key)
    with pool.lease(*kinds.key) as again:
        assert again is resource


def test_put_carries_no_evidence(accounted: Any) -> None:
    check = Checks()
    pool, _ = accounted(1, check=check, check_after=None, clock=ManualClock())
    try:
        resource = pool.get()
        raise ConnectionResetError
    except ConnectionResetError:
        pool.put(resource)
    assert pool.get() is resource and check.seen == []
    pool.put(resource)


def test_get_has_a_suspect_one_checked_too(accounted: Any) -> None:
    check = Checks()
    pool, _ = accounted(1, check=check, check_after=None, clock=ManualClock())
    resource = leave(pool, ValueError())
    assert pool.get_nowait() is resource and check.seen == [resource]
    pool.put(resource)
    assert pool.get() is resource and check.seen == [resource]
    pool.put(resource)


def test_fixed_items_are_checked(accounted: Any) -> None:
    """They have no age, and nothing else would ask for the time."""
    check = Checks()
    pool, _ = accounted(None, factory=None, items=[object()], check=check, check_after=None)
    resource = leave(pool, ValueError())
    with pool.lease():
        pass
    assert check.seen == [resource]


@pytest.mark.parametrize("options", [{"reset": id}, {"leak_after": 60}, {"max_uses": 9}])
def test_with_what_else_looks_at_every_return(accounted: Any, options: Any) -> None:
    check = Checks()
    pool, _ = accounted(1, check=check, check_after=None, clock=ManualClock(), **options)
    resource = leave(pool, ValueError())
    for _ in range(3):
        with pool.lease():
            pass
    assert check.seen == [resource]


def test_who_waits_for_it_has_it_checked(accounted: Any, runner: Any) -> None:
    check = Checks()
    pool, _ = accounted(1, check=check, check_after=None)

    def wait() -> object:
        with pool.lease(timeout=20) as resource:
            return resource

    with pytest.raises(ValueError):
        with pool.lease() as resource:
            task = runner.start(wait)
            eventually(lambda: pool.stats().waiting == 1)
            raise ValueError
    assert task.result() is resource and check.seen == [resource]


def test_one_given_up_before_its_check_stays_suspect(accounted: Any, runner: Any) -> None:
    """keepalive may be the one that does it."""
    check = Checks()
    clock = ManualClock()
    pool, _ = accounted(1, check=check, check_after=None, keepalive=10, clock=clock)
    resource = leave(pool, ValueError())
    clock.advance(11)
    assert check.seen == [resource]
    with pool.lease():
        pass
    assert check.seen == [resource], "it has been found well since"


def test_a_shared_one_is_checked_as_soon_as_nobody_uses_it(shared: Any) -> None:
    """Others that come and go meanwhile do not make it good again."""
    check = Checks()
    pool, _ = shared(1, slots=3, check=check, check_after=None, clock=ManualClock())
    with pool.lease() as other:
        assert leave(pool, ValueError()) is other
        with pool.lease():
            pass
    assert check.seen == []
    for _ in range(3):
        with pool.lease() as again:
            assert again is other
    assert check.seen == [other]


# ---- Tasks ---------------------------------------------------------------------------------------


async def aleave(pool: Any, error: BaseException, *key: str) -> object:
    with pytest.raises(type(error)):
        async with pool.lease(*key) as resource:
            raise error
    return resource


def test_tasks_have_it_checked(kinds: Kinds) -> None:
    check = Checks()
    pool = kinds.pool(check)

    async def main() -> None:
        resource = await aleave(pool, ValueError(), *kinds.key)
        for _ in range(3):
            async with pool.lease(*kinds.key) as again:
                assert again is resource
            assert check.seen == [resource]

    asyncio.run(main())


@pytest.mark.parametrize("awaited", [True, False])
def test_pools_of_coroutines_have_it_checked(awaited: bool) -> None:
    from fastpool import FastPool

    seen: list[object] = []

    async def acheck(resource: object) -> bool:
        seen.append(resource)
        return len(seen) < 2

    def check(resource: object) -> bool:
        seen.append(resource)
        return len(seen) < 2

    async def main() -> None:
        hook = acheck if awaited else check
        async with FastPool(1, factory=AsyncMaker(), check=hook, check_after=None) as pool:
            resource = await aleave(pool, ValueError())
            for _ in range(3):
                async with pool.lease() as again:
                    assert again is resource
            assert seen == [resource]

            await aleave(pool, ValueError())
            async with pool.lease() as other:
                assert other is not resource
            await aleave(pool, ExceptionGroup("", [ConnectionResetError()]))
            closed = pool.stats().closed
            assert closed == {"check": 1, "error": 1}

    asyncio.run(main())
