"""`units="slots"` with an async factory: the loops of a pool share the permits for its leases."""

from __future__ import annotations

import random
from typing import Any

import pytest

from fastpool import PoolOverloaded, PoolTimeout
from fastpool.shared._loop_permits import shares_of
from support.async_factories import Hang, accounted_shared, threads
from support.budgets import ScriptedBudget
from support.helpers import PATIENCE, eventually, wait_for_scheduler
from support.loops import KINDS

kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def budget() -> ScriptedBudget:
    return ScriptedBudget()


def made(budget: ScriptedBudget, items: Any = (0, 4), **options: Any) -> Any:
    options = {"slots": 4, "timeout": PATIENCE, "budget": budget, "units": "slots"} | options
    return accounted_shared(items, **options)


@kinds
def test_one_loop_has_all_permits(kind: str, budget: ScriptedBudget) -> None:
    with made(budget) as (pool, maker), threads(kind, 1) as [one]:
        callers = [one.start(pool.aacquire()) for _ in range(3)]
        assert budget.member.asked.wait(PATIENCE)
        eventually(lambda: budget.member.wants(3))
        wait_for_scheduler()
        assert maker.made == 0
        budget.member.allow(2)
        eventually(lambda: pool.stats().leases == 2)
        wait_for_scheduler()
        assert budget.member.has_open(2) and pool.stats().waiting == 1
        budget.member.allow(3)
        for caller in callers:
            one.call(caller.result(PATIENCE).release)
        eventually(lambda: budget.member.has_open(0))


@kinds
def test_least_resources_are_open_without_a_permit(kind: str, budget: ScriptedBudget) -> None:
    """As soon as a loop has come, and on that one."""
    with made(budget, (2, 4)) as (pool, _), threads(kind, 1) as [one]:
        with pytest.raises(PoolTimeout):
            one.run(pool.aacquire(timeout=0.01))
        eventually(lambda: pool.stats().idle == 2)
        assert budget.member.share.look() == (0, 0)


@kinds
def test_sum_of_all_loops_stays_within_the_allowance(kind: str, budget: ScriptedBudget) -> None:
    """Three want four each; five are allowed, then twelve; each lease that ends serves the next."""
    with made(budget) as (pool, _), threads(kind, 3) as loops:
        callers = []
        for loop in loops * 4:
            budget.member.share.look()
            budget.member.asked.clear()
            callers.append((loop, loop.start(pool.aacquire())))
            assert budget.member.asked.wait(PATIENCE)
        eventually(lambda: budget.member.wants(12))
        budget.member.allow(5)
        for left in range(12, 0, -1):
            eventually(lambda left=left: pool.stats().leases == min(5, left))  # type: ignore[misc]
            wait_for_scheduler()
            assert budget.member.has_open(min(5, left))
            loop, caller = next(each for each in callers if each[1].done())
            callers.remove((loop, caller))
            loop.call(caller.result().release)


@kinds
def test_what_one_loop_has_no_use_for_is_another_ones(kind: str, budget: ScriptedBudget) -> None:
    with made(budget) as (pool, _), threads(kind, 2) as (one, other):
        budget.member.allow(4)
        one.call(one.run(pool.aacquire()).release)
        leases = [other.run(pool.aacquire()) for _ in range(4)]
        with pytest.raises(PoolTimeout) as refused:
            one.run(pool.aacquire(timeout=0.05))
        assert refused.value.phase == "budget"
        for lease in leases:
            other.call(lease.release)
        leases = [one.run(pool.aacquire()) for _ in range(4)]
        for lease in leases:
            one.call(lease.release)


@kinds
def test_last_lease_of_what_drains_has_a_permit_for_another_loop(
    kind: str, budget: ScriptedBudget
) -> None:
    """Though its resource takes long to close."""
    with made(budget) as (pool, maker), threads(kind, 2) as (one, other):
        budget.member.allow(1)
        lease = one.run(pool.aacquire())
        one.call(pool.drain, lease.resource)
        wait = other.start(pool.aacquire())
        eventually(lambda: pool.stats().waiting == 1)
        wait_for_scheduler()
        hang = Hang()
        maker.script["close"].append(hang)
        one.call(lease.release)
        other.call(wait.result(PATIENCE).release)
        assert hang.begun.wait(PATIENCE)
        hang.let_go()


@kinds
def test_permit_is_the_next_ones_where_a_check_hangs(kind: str, budget: ScriptedBudget) -> None:
    """Its borrower has given up; the check may go on for as long as it likes."""
    with (
        made(budget, (2, 2), check_after=0, hook_timeout=60) as (pool, maker),
        threads(kind, 1) as [one],
    ):
        budget.member.allow(2)
        for lease in [one.run(pool.aacquire()) for _ in range(2)]:
            one.call(lease.release)
        eventually(lambda: pool.stats().idle == 2)
        for _ in range(2):
            one.call(one.run(pool.aacquire()).release)
        budget.member.allow(1)
        hang = Hang(stubborn=True)
        maker.script["check"].append(hang)
        first = one.start(pool.aacquire(timeout=0.2))
        assert hang.begun.wait(PATIENCE)
        second = one.start(pool.aacquire())
        with pytest.raises(PoolTimeout) as refused:
            first.result(PATIENCE)
        assert refused.value.phase == "check"
        one.call(second.result(PATIENCE).release)
        hang.let_go()
        eventually(lambda: pool.stats().idle == 2)


@kinds
def test_loops_take_turns_with_one_permit(kind: str, budget: ScriptedBudget) -> None:
    """Whoever of all loops has waited longest is next."""
    with made(budget) as (pool, _), threads(kind, 2) as loops:
        budget.member.allow(1)
        waits = []
        for number in range(6):
            waits.append((loops[number % 2], loops[number % 2].start(pool.aacquire())))
            eventually(lambda n=number: pool.stats().waiting == n)  # type: ignore[misc]
            eventually(lambda: pool.stats().leases == 1)
            wait_for_scheduler()
        for loop, wait in waits:
            lease = wait.result(PATIENCE)
            wait_for_scheduler()
            loop.call(lease.release)


@kinds
def test_smaller_allowance_takes_nothing_from_any_loop(kind: str, budget: ScriptedBudget) -> None:
    with made(budget) as (pool, _), threads(kind, 2) as loops:
        budget.member.allow(4)
        leases = [(loop, loop.run(pool.aacquire())) for _ in range(2) for loop in loops]
        assert budget.member.allow(1) == 4
        waits = [loop.start(pool.aacquire()) for loop in loops]
        eventually(lambda: pool.stats().waiting == 2)
        for left in 3, 2, 1:
            budget.member.asked.clear()
            loop, lease = leases.pop()
            loop.call(lease.release)
            assert budget.member.asked.wait(PATIENCE)
            wait_for_scheduler()
            assert budget.member.has_open(left) and pool.stats().waiting == 2
        loop, lease = leases.pop()
        loop.call(lease.release)
        eventually(lambda: any(wait.done() for wait in waits))
        wait_for_scheduler()
        assert not all(wait.done() for wait in waits)
        left = list(zip(loops, waits, strict=True))
        left.sort(key=lambda each: not each[1].done())
        for loop, wait in left:
            loop.call(wait.result(PATIENCE).release)


@kinds
def test_permits_of_a_closed_loop_are_free(kind: str, budget: ScriptedBudget) -> None:
    with made(budget) as (pool, _), threads(kind, 1) as [one]:
        budget.member.allow(1)
        with threads(kind, 1) as [other]:
            lease = other.run(pool.aacquire())
            wait = one.start(pool.aacquire())
            eventually(lambda: pool.stats().waiting == 1)
        eventually(lambda: pool.stats().leases == 1 and wait.done())
        one.call(wait.result().release)
        del lease


@kinds
def test_callers_of_all_loops_are_bounded_together(kind: str, budget: ScriptedBudget) -> None:
    with made(budget, max_waiting=1) as (pool, _), threads(kind, 2) as loops:
        budget.member.allow(1)
        lease = loops[0].run(pool.aacquire())
        wait = loops[1].start(pool.aacquire())
        eventually(lambda: pool.stats().waiting == 1)
        with pytest.raises(PoolOverloaded):
            loops[0].run(pool.aacquire())
        loops[0].call(lease.release)
        loops[1].call(wait.result(PATIENCE).release)


@pytest.mark.parametrize(
    ("allowance", "wants", "shares"),
    [
        (0, [1, 2], [0, 0]),
        (1, [2, 2], [1, 0]),
        (5, [2, 2, 2], [2, 2, 1]),
        (10, [1, 20, 20], [1, 5, 4]),
        (10, [0, 0], [5, 5]),
        (10, [2, 3, 0], [4, 5, 1]),
        (3, [0, 3], [0, 3]),
        (7, [], []),
    ],
)
def test_shares(allowance: int, wants: list[int], shares: list[int]) -> None:
    assert shares_of(allowance, wants) == shares


def test_shares_are_all_there_is_and_no_more() -> None:
    """And nobody lacks more than one while another has more than its own and what nobody wants."""
    dice = random.Random(1)
    for _ in range(1000):
        wants = [dice.randrange(8) for _ in range(dice.randint(1, 6))]
        allowance = dice.randrange(30)
        shares = shares_of(allowance, wants)
        assert sum(shares) == allowance
        for share, want in zip(shares, wants, strict=True):
            if share < want:
                assert max(min(s, w) for s, w in zip(shares, wants, strict=True)) <= share + 1
                assert all(s <= w for s, w in zip(shares, wants, strict=True))
