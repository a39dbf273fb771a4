"""What a pool does with the allowance of its budget: every kind of pool, threads and tasks.

The budget does what the test says, so each step is one step.
"""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import fastpool
from fastpool import FastPool, KeyedPool, PoolDeadlock, PoolTimeout, SharedPool
from fastpool.fleet._member import Member
from fastpool.keyed import _capacity
from fastpool.pool import _loop_capacity
from support.budgets import ScriptedBudget
from support.helpers import PATIENCE, ThreadRunner, eventually, wait_for_scheduler


class Resource:
    """One that is counted; closed once."""

    open = 0
    most = 0
    lock = threading.Lock()

    def __init__(self, key: object = None) -> None:
        with self.lock:
            Resource.open += 1
            Resource.most = max(Resource.most, Resource.open)
        self.closed = False

    def close(self) -> None:
        assert not self.closed
        self.closed = True
        with self.lock:
            Resource.open -= 1


@pytest.fixture(autouse=True)
def counted() -> Iterator[None]:
    Resource.open = Resource.most = 0
    yield
    eventually(lambda: Resource.open == 0)


class Kind:
    """A kind of pool, with the calls that all of them have."""

    def __init__(self, make: Callable[..., Any], args: tuple[Any, ...] = ()) -> None:
        self.make, self.args = make, args

    def pool(self, budget: ScriptedBudget, **options: Any) -> Any:
        return self.make(budget=budget, timeout=PATIENCE, **options)

    def take(self, pool: Any, timeout: float | None = PATIENCE) -> Any:
        return pool.acquire(*self.args, timeout=timeout)


KINDS = {
    "pool": Kind(lambda **o: FastPool(5, factory=Resource, **o)),
    "pool-caller": Kind(lambda **o: FastPool(5, factory=Resource, create_in="caller", **o)),
    "pool-throughput": Kind(lambda **o: FastPool(5, factory=Resource, fairness="throughput", **o)),
    "shared": Kind(lambda **o: SharedPool(Resource, items=(0, 5), slots=1, **o)),
    "keyed": Kind(lambda **o: KeyedPool(Resource, max_total=5, **o), ("one",)),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


def test_nothing_is_opened_without_a_permit(kind: Kind, runner: ThreadRunner) -> None:
    """A caller waits, its wish is reported, and it is served as soon as the budget allows."""
    budget = ScriptedBudget()
    with kind.pool(budget) as pool:
        caller = runner.start(kind.take, pool)
        caller.parked()
        wait_for_scheduler()
        assert Resource.open == 0
        budget.grants(1)
        caller.result().release()


def test_pool_opens_as_many_as_are_allowed(kind: Kind, runner: ThreadRunner) -> None:
    """Four callers with two permits: two resources, and what comes back is lent on."""
    budget = ScriptedBudget()
    with kind.pool(budget) as pool:
        callers = [runner.start(kind.take, pool) for _ in range(4)]
        eventually(lambda: budget.member.wants(4))
        budget.member.allow(2)
        eventually(lambda: pool.stats().leased == 2)
        assert Resource.most == 2
        left = list(callers)
        while left:
            done = [caller for caller in left if not caller.running]
            left = [caller for caller in left if caller not in done]
            for caller in done:
                caller.result().release()
        assert Resource.most == 2


def test_wish_never_passes_the_cap_of_the_pool(kind: Kind, runner: ThreadRunner) -> None:
    budget = ScriptedBudget()
    with kind.pool(budget) as pool:
        callers = [runner.start(kind.take, pool) for _ in range(7)]
        eventually(lambda: budget.member.wants(5))
        budget.member.allow(60)
        eventually(lambda: Resource.open == 5)
        for _ in callers:
            eventually(lambda: any(not each.running and not each.seen for each in callers))
            next(each for each in callers if not each.running and not each.seen).result().release()
        assert Resource.most == 5


def test_each_further_wish_is_heard(kind: Kind, runner: ThreadRunner) -> None:
    """One after the other: the budget hears of the second caller although it has looked."""
    budget = ScriptedBudget()
    with kind.pool(budget) as pool:
        leases = []
        for n in (1, 2, 3):
            budget.member.asked.clear()
            caller = runner.start(kind.take, pool)
            assert budget.member.asked.wait(PATIENCE)
            budget.grants(n)
            leases.append(caller.result())
        assert pool.stats().leased == 3
        for lease in leases:
            lease.release()


def test_smaller_allowance_closes_idle_ones_at_once(kind: Kind) -> None:
    budget = ScriptedBudget()
    with kind.pool(budget) as pool:
        budget.member.allow(4)
        leases = [kind.take(pool) for _ in range(4)]
        for lease in leases:
            lease.release()
        eventually(lambda: pool.stats().idle == 4)
        budget.member.allow(1)
        eventually(lambda: Resource.open == 1 and budget.member.has_open(1))
        assert pool.stats().closed_total == 3


def test_smaller_allowance_takes_nothing_that_is_lent(kind: Kind) -> None:
    """It is closed when it comes back, and counts until then."""
    budget = ScriptedBudget()
    with kind.pool(budget) as pool:
        budget.member.allow(3)
        leases = [kind.take(pool) for _ in range(3)]
        assert budget.member.allow(1) == 3
        wait_for_scheduler()
        assert not any(lease.resource.closed for lease in leases)
        for lease in leases:
            lease.release()
        eventually(lambda: budget.member.has_open(1))
        kind.take(pool).release()
        assert Resource.open == 1


def test_what_is_kept_is_lent_on_and_not_replaced(kind: Kind) -> None:
    """``close=False``: nothing is closed, idle or lent, and nothing opened for what goes."""
    budget = ScriptedBudget()
    with kind.pool(budget) as pool:
        budget.member.allow(3)
        leases = [kind.take(pool) for _ in range(3)]
        leases.pop().release()
        eventually(lambda: pool.stats().idle == 1)
        assert budget.member.allow(0, close=False) == 3
        wait_for_scheduler()
        for lease in leases:
            lease.release()
        for _ in range(3):
            kind.take(pool).release()
        wait_for_scheduler()
        assert pool.stats().closed_total == 0 and budget.member.has_open(3)
        for left in 2, 1, 0:
            lease = kind.take(pool)
            lease.discard()
            eventually(lambda left=left: budget.member.has_open(left))  # type: ignore[misc]
        with pytest.raises(PoolTimeout) as caught:
            kind.take(pool, timeout=0.01)
        assert caught.value.phase == "budget" and Resource.most == 3
        budget.member.allow(1)
        kind.take(pool).release()


def test_what_is_kept_goes_once_that_is_over(kind: Kind) -> None:
    budget = ScriptedBudget()
    with kind.pool(budget) as pool:
        budget.member.allow(3)
        for lease in [kind.take(pool) for _ in range(3)]:
            lease.release()
        budget.member.allow(1, close=False)
        wait_for_scheduler()
        assert budget.member.has_open(3)
        budget.member.allow(1)
        eventually(lambda: Resource.open == 1 and budget.member.has_open(1))


def test_pool_is_told_when_what_is_kept_is_to_go() -> None:
    """Though the number is the same."""
    told: list[tuple[int, bool]] = []

    class Told:
        def allow(self, n: int, close: bool = True) -> int:
            told.append((n, close))
            return 3

        def look(self) -> tuple[int, int]:
            return 3, 3

    member = Member(Told())  # type: ignore[arg-type]
    member.held = 3
    for close in False, False, True:
        member.allow(1, close)
    assert told == [(1, False), (1, True)]
    assert member.look() and told[2:] == [(1, True)]  # it is asked again what has come back
    member.allow(1, close=False)
    assert member.look() and told[3:] == [(1, False)]


def test_budget_hears_when_a_permit_is_free(kind: Kind) -> None:
    budget = ScriptedBudget()
    with kind.pool(budget) as pool:
        budget.member.allow(1)
        lease = kind.take(pool)
        budget.member.allow(0)
        budget.member.asked.clear()
        lease.release()
        assert budget.member.asked.wait(PATIENCE)
        eventually(lambda: budget.member.has_open(0))


def test_wish_ends_with_the_wait(kind: Kind) -> None:
    """Whoever gives up wants nothing any more."""
    budget = ScriptedBudget()
    with kind.pool(budget) as pool:
        with pytest.raises(PoolTimeout):
            kind.take(pool, timeout=0.01)
        eventually(lambda: budget.member.wants(0))


def test_timeout_says_who_has_the_permits(kind: Kind) -> None:
    budget = ScriptedBudget()
    with kind.pool(budget, name="orders") as pool:
        with pytest.raises(PoolTimeout) as caught:
            kind.take(pool, timeout=0.01)
        error = caught.value
        assert error.phase == "budget"
        assert "budget 'by hand': 60 of 60 permits in force, 9 members" in str(error)
        copy = pickle.loads(pickle.dumps(error))
        assert copy.phase == "budget" and str(copy) == str(error)


def test_full_pool_times_out_as_ever(kind: Kind) -> None:
    budget = ScriptedBudget()
    with kind.pool(budget) as pool:
        budget.member.allow(60)
        leases = [kind.take(pool) for _ in range(5)]
        with pytest.raises(PoolTimeout) as caught:
            kind.take(pool, timeout=0.01)
        assert caught.value.phase == "wait"
        for lease in leases:
            lease.release()


def test_stats_tell_of_the_budget(kind: Kind) -> None:
    with kind.pool(ScriptedBudget()) as pool:
        stats = pool.stats().budget
        assert (stats.name, stats.limit, stats.allowance) == ("by hand", 60, 0)
    assert FastPool(1, factory=Resource).stats().budget is None


def test_closed_pool_gives_up_its_share(kind: Kind) -> None:
    """Not before the last resource is closed."""
    budget = ScriptedBudget()
    pool = kind.pool(budget)
    budget.member.allow(2)
    lease = kind.take(pool)
    pool.close(timeout=0)
    assert budget.member.share.look() == (1, 0)
    budget.member.asked.clear()
    lease.release()
    assert budget.member.asked.wait(PATIENCE)
    eventually(lambda: budget.member.share.look() is None)


def test_collected_pool_gives_up_its_share(kind: Kind) -> None:
    budget = ScriptedBudget()
    pool = kind.pool(budget, warn_unclosed=False)
    budget.member.allow(2)
    kind.take(pool).release()
    budget.member.asked.clear()
    del pool
    assert budget.member.asked.wait(PATIENCE)
    eventually(lambda: budget.member.share.look() is None)


def test_a_get_that_does_not_wait_has_one_opened(runner: ThreadRunner) -> None:
    """As without a budget: the next one finds it."""
    budget = ScriptedBudget()
    with FastPool(5, factory=Resource, budget=budget) as pool:
        with pytest.raises(PoolTimeout):
            pool.get_nowait()
        budget.grants(1)
        eventually(lambda: pool.stats().idle == 1)
        pool.put(pool.get_nowait())


def test_caller_that_holds_its_whole_allowance_waits() -> None:
    """It may be raised: only who holds the whole cap would wait for itself."""
    budget = ScriptedBudget()
    with FastPool(2, factory=Resource, budget=budget) as pool:
        budget.member.allow(1)
        with pool.lease():
            with pytest.raises(PoolTimeout) as caught:
                with pool.lease(timeout=0.01):
                    pass
            assert caught.value.phase == "budget"
            budget.member.allow(2)
            with pool.lease():
                with pytest.raises(PoolDeadlock):
                    with pool.lease():
                        pass


def test_what_is_to_be_kept_is_wanted() -> None:
    budget = ScriptedBudget()
    with FastPool(5, factory=Resource, min_size=2, budget=budget) as pool:
        budget.grants(2)
        eventually(lambda: pool.stats().idle == 2)
        assert budget.member.wants(2)


def test_least_of_a_shared_pool_is_wanted() -> None:
    budget = ScriptedBudget()
    with SharedPool(Resource, items=(2, 4), slots=3, budget=budget) as pool:
        budget.grants(2)
        eventually(lambda: pool.stats().open == 2)


def test_resource_that_drains_has_its_permit_still() -> None:
    """What takes its place is opened under a permit of its own, or when it is closed."""
    budget = ScriptedBudget()
    with SharedPool(Resource, items=(0, 1), slots=2, budget=budget) as pool:
        budget.member.allow(1)
        old = pool.acquire()
        pool.flush()
        with pytest.raises(PoolTimeout):
            pool.acquire(timeout=0.01)
        assert Resource.open == 1
        old.release()
        eventually(lambda: Resource.open == 0)
        pool.acquire().release()
        assert Resource.most == 1


def test_idle_resource_of_one_key_is_closed_for_another() -> None:
    budget = ScriptedBudget()
    with KeyedPool(Resource, max_total=5, budget=budget) as pool:
        budget.member.allow(1)
        with pool.lease("one"):
            pass
        with pool.lease("other"):
            pass
        assert Resource.most == 1


def test_nothing_that_is_kept_is_closed_for_another_key() -> None:
    """It would be closed in vain: nothing may be opened in its place."""
    budget = ScriptedBudget()
    with KeyedPool(Resource, max_total=5, budget=budget) as pool:
        budget.member.allow(2)
        lent = pool.acquire("one")
        pool.acquire("one").release()
        budget.member.allow(0, close=False)
        with pytest.raises(PoolTimeout) as caught:
            pool.acquire("other", timeout=0.01)
        assert caught.value.phase == "budget"
        lent.release()
        wait_for_scheduler()
        assert pool.stats().closed_total == 0 and budget.member.has_open(2)


def test_what_comes_back_is_kept_while_another_key_waits(
    runner: ThreadRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_capacity, "SPARE_AFTER", 0.0)  # as if that one had waited for long
    budget = ScriptedBudget()
    with KeyedPool(Resource, max_total=5, budget=budget) as pool:
        budget.member.allow(2)
        leases = [pool.acquire("one") for _ in range(2)]
        budget.member.allow(0, close=False)
        other = runner.start(lambda: pool.acquire("other", timeout=PATIENCE))
        other.parked()
        own = runner.start(lambda: pool.acquire("one", timeout=PATIENCE))
        own.parked()
        wait_for_scheduler()
        leases.pop().release()
        leases.append(own.result())
        assert pool.stats().closed_total == 0 and budget.member.has_open(2)
        budget.member.allow(3)
        leases.append(other.result())
        for lease in leases:
            lease.release()


def test_what_comes_back_is_kept_while_another_loop_waits(
    runner: ThreadRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_loop_capacity, "SPARE_AFTER", 0.0)

    async def create() -> Resource:
        return Resource()

    budget = ScriptedBudget()
    pool: Any = FastPool(5, factory=create, budget=budget, timeout=PATIENCE)
    waited, looked = threading.Event(), threading.Event()

    async def keep() -> None:
        async with pool.lease():
            budget.member.allow(0, close=False)
            await asyncio.to_thread(waited.wait, PATIENCE)
        await asyncio.to_thread(looked.wait, PATIENCE)

    async def use() -> None:
        async with pool.lease():
            pass

    budget.member.allow(1)
    keeps = runner.start(lambda: asyncio.run(keep()))
    eventually(lambda: pool.stats().leased == 1 and budget.member.allowance == 0)
    waits = runner.start(lambda: asyncio.run(use()))
    eventually(lambda: pool.stats().waiting == 1)
    wait_for_scheduler()
    waited.set()
    eventually(lambda: pool.stats().leased == 0)
    eventually(lambda: not pool.stats().checking)
    wait_for_scheduler()
    assert pool.stats().closed_total == 0 and pool.stats().idle == 1
    budget.member.allow(2)
    waits.result()
    looked.set()
    keeps.result()
    pool.close()


def test_nothing_that_is_kept_is_closed_for_another_loop(runner: ThreadRunner) -> None:
    async def create() -> Resource:
        return Resource()

    budget = ScriptedBudget()
    pool: Any = FastPool(5, factory=create, budget=budget)
    tried = threading.Event()

    async def keep() -> None:
        budget.member.allow(1)
        async with pool.lease(timeout=PATIENCE):
            pass
        budget.member.allow(0, close=False)
        await asyncio.to_thread(tried.wait, PATIENCE)
        async with pool.lease(timeout=PATIENCE):
            pass

    async def attempt() -> None:
        with pytest.raises(PoolTimeout) as caught:
            await pool.aacquire(timeout=0.05)
        assert caught.value.phase == "budget"

    other = runner.start(lambda: asyncio.run(keep()))
    eventually(lambda: pool.stats().idle == 1)
    asyncio.run(attempt())
    wait_for_scheduler()
    assert pool.stats().closed_total == 0
    tried.set()
    other.result()
    pool.close()


@pytest.mark.parametrize("loops", [1, 2])
def test_pool_of_event_loops_opens_what_is_allowed(loops: int, runner: ThreadRunner) -> None:
    """An async factory, on one loop or two: the sum stays under the allowance."""

    async def create() -> Resource:
        return Resource()

    budget = ScriptedBudget()
    pool: Any = FastPool(5, factory=create, budget=budget, timeout=PATIENCE)
    go_on = threading.Event()

    async def use() -> None:
        async with pool.lease():
            await asyncio.to_thread(go_on.wait, PATIENCE)

    async def on_loop() -> None:
        await asyncio.gather(*(use() for _ in range(3)))

    tasks = [runner.start(lambda: asyncio.run(on_loop())) for _ in range(loops)]
    eventually(lambda: budget.member.wants(min(5, 3 * loops)))
    assert Resource.open == 0
    budget.member.allow(2)
    eventually(lambda: pool.stats().leased == 2)
    wait_for_scheduler()
    assert Resource.most == 2
    budget.member.allow(5)
    eventually(lambda: pool.stats().leased == min(5, 3 * loops))
    budget.member.allow(1)
    go_on.set()
    for task in tasks:
        task.result()
    pool.close()
    eventually(lambda: budget.member.share.look() is None)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"factory": Resource, "budget": 5}, "budget must be a budget of fastpool.fleet"),
        ({"factory": Resource, "budget": "file"}, "budget must be a budget of fastpool.fleet"),
        ({"items": [1], "budget": ScriptedBudget()}, "budget needs a factory"),
        ({"budget": ScriptedBudget()}, "budget means nothing without a factory"),
    ],
)
def test_what_is_no_budget_is_refused(options: dict[str, Any], match: str) -> None:
    with pytest.raises(TypeError, match=match):
        fastpool.FastPool(**options)
