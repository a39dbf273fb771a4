"""`SharedPool(..., budget=budget, units="slots")`: a permit for each lease, for threads and tasks.

The budget does what the test says, so each step is one step.
"""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from fastpool import PoolOverloaded, PoolTimeout, SharedPool
from fastpool.fleet import LocalBudget
from support.budgets import ScriptedBudget
from support.helpers import PATIENCE, ThreadRunner, eventually, wait_for_scheduler

pytestmark = pytest.mark.usefixtures("caller_kind")


@pytest.fixture
def budget() -> ScriptedBudget:
    return ScriptedBudget()


class Made:
    """A pool of the fixture ``shared`` with a budget."""

    def __init__(self, shared: Any, budget: ScriptedBudget) -> None:
        self.shared, self.budget = shared, budget

    def __call__(self, items: Any = (0, 4), slots: int = 2, **options: Any) -> tuple[Any, Any]:
        options = {"timeout": PATIENCE, "budget": self.budget, "units": "slots"} | options
        pool, maker = self.shared(items, slots, **options)
        return pool, maker


@pytest.fixture
def make(shared: Any, budget: ScriptedBudget) -> Made:
    return Made(shared, budget)


FAIRNESS = pytest.mark.parametrize("fairness", ["fair", "throughput"])


def release(leases: list[Any]) -> None:
    for lease in leases:
        lease.release()


# ---- How many leases ---------------------------------------------------------------------------


@FAIRNESS
def test_nothing_is_lent_or_opened_without_a_permit(
    make: Made, budget: ScriptedBudget, runner: ThreadRunner, fairness: str
) -> None:
    """A caller waits, the budget is asked, and the caller is served as soon as that allows."""
    pool, maker = make(fairness=fairness)
    caller = runner.start(pool.acquire)
    caller.parked()
    assert budget.member.asked.wait(PATIENCE)
    wait_for_scheduler()
    assert maker.made == 0
    budget.grants(1)
    caller.result().release()


@FAIRNESS
def test_as_many_leases_as_are_allowed_whatever_is_open(
    make: Made, budget: ScriptedBudget, runner: ThreadRunner, fairness: str
) -> None:
    """Of eight slots three are lent; each return serves one who waits."""
    pool, _ = make(fairness=fairness)
    callers = [runner.start(pool.acquire) for _ in range(7)]
    eventually(lambda: budget.member.wants(7))
    budget.member.allow(3)
    left = list(callers)
    while left:
        most = min(3, len(left))
        eventually(lambda most=most: pool.stats().leases == most)  # type: ignore[misc]
        wait_for_scheduler()
        assert budget.member.has_open(most)
        done = [caller for caller in left if not caller.running]
        left = [caller for caller in left if caller not in done]
        release([caller.result() for caller in done])
    assert budget.member.has_open(0)


def test_permit_is_free_with_the_lease(make: Made, budget: ScriptedBudget) -> None:
    """By each way to end one: also ``get`` and ``put``, discards, and errors."""
    pool, _ = make()
    budget.member.allow(1)
    pool.acquire().release()
    pool.put(pool.get())
    pool.acquire().discard()
    with pool.lease():
        pass
    with pytest.raises(OSError), pool.lease():
        raise OSError
    pool.acquire().release()
    eventually(lambda: budget.member.has_open(0))


def test_leases_that_are_counted_one_by_one_take_permits_too(
    make: Made, budget: ScriptedBudget
) -> None:
    pool, _ = make(leak_after=100)
    budget.member.allow(1)
    lease = pool.acquire()
    with pytest.raises(PoolTimeout):
        pool.acquire(timeout=0.01)
    lease.release()
    pool.acquire().release()


def test_suspended_pool_gives_no_lease(make: Made, budget: ScriptedBudget) -> None:
    """Though a permit and a slot are free."""
    pool, _ = make()
    budget.member.allow(2)
    pool.acquire().release()
    pool.suspend()
    with pytest.raises(PoolTimeout):
        pool.acquire(timeout=0.01)
    pool.resume()
    pool.acquire().release()


def test_number_of_resources_is_no_matter_of_permits(make: Made, budget: ScriptedBudget) -> None:
    """They are opened as their slots are full, up to the most of ``items``."""
    pool, maker = make((0, 2), slots=2)
    budget.member.allow(60)
    leases = [pool.acquire() for _ in range(3)]
    assert maker.made == 2
    leases.append(pool.acquire())
    with pytest.raises(PoolTimeout) as caught:
        pool.acquire(timeout=0.01)
    assert caught.value.phase == "wait"
    release(leases)


def test_no_resource_is_opened_for_callers_without_a_permit(
    make: Made, budget: ScriptedBudget, runner: ThreadRunner
) -> None:
    pool, maker = make((0, 4), slots=1)
    budget.member.allow(1)
    callers = [runner.start(pool.acquire) for _ in range(4)]
    eventually(lambda: budget.member.wants(4) and pool.stats().leases == 1)
    wait_for_scheduler()
    assert maker.made == 1
    left = list(callers)
    while left:
        eventually(lambda: any(not caller.running for caller in left))
        done = next(caller for caller in left if not caller.running)
        left.remove(done)
        done.result().release()
    assert maker.made == 1


def test_least_resources_are_open_without_a_permit(make: Made, budget: ScriptedBudget) -> None:
    """The server does not count them, and the first leases need not wait for them."""
    pool, _ = make((2, 4))
    eventually(lambda: pool.stats().idle == 2)
    assert budget.member.share.look() == (0, 0)


# ---- What the budget hears ---------------------------------------------------------------------


def test_wish_is_leases_and_callers_at_most_all_slots(
    make: Made, budget: ScriptedBudget, runner: ThreadRunner
) -> None:
    pool, _ = make((0, 2), slots=2)
    budget.member.allow(1)
    first = pool.acquire()
    callers = [runner.start(pool.acquire) for _ in range(2)]
    eventually(lambda: budget.member.wants(3))
    callers += [runner.start(pool.acquire) for _ in range(3)]
    eventually(lambda: pool.stats().waiting == 5)
    assert budget.member.wants(4)
    budget.member.allow(4)
    first.release()
    left = list(callers)
    while left:
        eventually(lambda: any(not caller.running for caller in left))
        done = next(caller for caller in left if not caller.running)
        left.remove(done)
        done.result().release()


def test_leases_of_what_drains_are_beside_the_cap(make: Made, budget: ScriptedBudget) -> None:
    """As without a budget: what takes its place may be lent as well."""
    pool, _ = make((0, 1), slots=2)
    budget.member.allow(4)
    leases = [pool.acquire() for _ in range(2)]
    pool.flush()
    leases += [pool.acquire() for _ in range(2)]
    assert budget.member.wants(4)
    with pytest.raises(PoolTimeout) as caught:
        pool.acquire(timeout=0.01)
    assert caught.value.phase == "wait"
    release(leases)


def test_budget_is_asked_once_until_it_has_looked(
    make: Made, budget: ScriptedBudget, runner: ThreadRunner
) -> None:
    pool, _ = make()
    callers = [runner.start(pool.acquire)]
    assert budget.member.asked.wait(PATIENCE)
    wait_for_scheduler()
    budget.member.asked.clear()
    callers.append(runner.start(pool.acquire))
    callers[-1].parked()
    wait_for_scheduler()
    assert not budget.member.asked.is_set()
    assert budget.member.wants(2)
    callers.append(runner.start(pool.acquire))
    assert budget.member.asked.wait(PATIENCE)
    budget.grants(3)
    release([caller.result() for caller in callers])
    budget.member.asked.clear()
    for _ in range(5):
        pool.acquire().release()
    wait_for_scheduler()
    assert not budget.member.asked.is_set()  # what is free is taken without a word


@pytest.mark.parametrize("allowed", [2, 3])
def test_budget_is_not_asked_for_what_the_pool_itself_has_no_slot_for(
    make: Made, budget: ScriptedBudget, runner: ThreadRunner, allowed: int
) -> None:
    """Until a resource drains: then another may be opened in its place."""
    pool, _ = make((0, 1), slots=2)
    budget.member.allow(allowed)
    leases = [pool.acquire() for _ in range(2)]
    budget.member.share.look()
    budget.member.asked.clear()
    caller = runner.start(pool.acquire)
    caller.parked()
    wait_for_scheduler()
    assert not budget.member.asked.is_set()
    leases.pop().release()
    leases.append(caller.result())
    pool.drain(leases[0].resource)
    leases += [pool.acquire() for _ in range(2, allowed)]
    wait_for_scheduler()
    budget.member.asked.clear()
    caller = runner.start(pool.acquire)
    assert budget.member.asked.wait(PATIENCE)
    budget.grants(allowed + 1)
    leases.append(caller.result())
    release(leases)


def test_caller_who_waits_for_the_last_permit_with_others_is_heard(
    make: Made, budget: ScriptedBudget, runner: ThreadRunner
) -> None:
    """Two wait for the resource that is being made, and there is one permit."""
    pool, maker = make()
    budget.member.allow(1)
    maker.gate.clear()
    first = runner.start(pool.acquire)
    eventually(lambda: pool.stats().creating == 1)
    budget.member.asked.clear()
    second = runner.start(pool.acquire)
    assert budget.member.asked.wait(PATIENCE)
    assert budget.member.wants(2)
    maker.gate.set()
    eventually(lambda: not first.running or not second.running)
    budget.member.allow(2)
    release([first.result(), second.result()])


def test_wish_ends_with_the_wait(make: Made, budget: ScriptedBudget) -> None:
    pool, _ = make()
    with pytest.raises(PoolTimeout):
        pool.acquire(timeout=0.01)
    eventually(lambda: budget.member.wants(0))


def test_a_try_has_a_permit_asked_for(make: Made, budget: ScriptedBudget) -> None:
    """Who does not wait finds it the next time, or the time after that, once a resource is open;
    nothing is wished for any more then."""
    pool, maker = make()
    with pytest.raises(PoolTimeout) as caught:
        pool.acquire(timeout=0)
    assert caught.value.phase == "budget" and maker.made == 0
    assert budget.member.asked.wait(PATIENCE)
    budget.grants(1)
    with pytest.raises(PoolTimeout) as caught:
        pool.acquire(timeout=0)
    assert caught.value.phase == "create"
    eventually(lambda: pool.stats().idle == 1)
    assert budget.member.wants(0)
    pool.acquire(timeout=0).release()


# ---- A changed allowance -----------------------------------------------------------------------


@FAIRNESS
def test_smaller_allowance_takes_nothing_and_returns_above_it_serve_nobody(
    make: Made, budget: ScriptedBudget, runner: ThreadRunner, fairness: str
) -> None:
    pool, maker = make(fairness=fairness)
    budget.member.allow(3)
    leases = [pool.acquire() for _ in range(3)]
    assert budget.member.allow(1) == 3
    caller = runner.start(pool.acquire)
    caller.parked()
    for left in 2, 1:
        budget.member.asked.clear()
        leases.pop().release()
        assert budget.member.asked.wait(PATIENCE)  # for a permit that others may want
        wait_for_scheduler()
        assert caller.running and budget.member.has_open(left)
    leases.pop().release()
    caller.result().release()
    assert maker.closed == 0


def test_returns_after_a_recall_ask_nobody(make: Made, budget: ScriptedBudget) -> None:
    pool, _ = make()
    budget.member.allow(2)
    leases = [pool.acquire() for _ in range(2)]
    budget.member.allow(1)
    release(leases)
    assert budget.member.share.look() == (0, 0)
    budget.member.asked.clear()
    pool.acquire().release()
    wait_for_scheduler()
    assert not budget.member.asked.is_set()


@FAIRNESS
def test_larger_allowance_serves_who_waits_at_once(
    make: Made, budget: ScriptedBudget, runner: ThreadRunner, fairness: str
) -> None:
    """In the call that allows it, where a slot is free; and where none is, one more is opened."""
    pool, maker = make((0, 2), slots=2, fairness=fairness)
    budget.member.allow(1)
    leases = [pool.acquire()]
    callers = [runner.start(pool.acquire) for _ in range(3)]
    eventually(lambda: pool.stats().waiting == 3)
    budget.member.allow(2)
    eventually(lambda: pool.stats().leases == 2)
    assert maker.made == 1
    budget.member.allow(4)
    leases += [caller.result() for caller in callers]
    assert maker.made == 2
    release(leases)


def test_as_many_leases_as_before_where_the_budget_is_silent(
    make: Made, budget: ScriptedBudget
) -> None:
    """``close=False``: a budget that hears nothing of its engine stops nobody, and what it had
    given counts as if all of it were lent."""
    pool, _ = make()
    budget.member.allow(2)
    pool.acquire().release()
    assert budget.member.allow(0, close=False) == 2
    leases = [pool.acquire() for _ in range(2)]
    with pytest.raises(PoolTimeout) as caught:
        pool.acquire(timeout=0.01)
    assert caught.value.phase == "budget"
    release(leases)
    assert budget.member.has_open(2) and budget.member.allow(1, close=False) == 2
    assert budget.member.allow(1) == 0 and budget.member.has_open(0)
    pool.acquire().release()


@FAIRNESS
def test_permit_of_a_resource_that_is_avoided_is_used_for_another_one(
    make: Made, budget: ScriptedBudget, runner: ThreadRunner, fairness: str
) -> None:
    """Its slot does not serve who waits, so one more is opened."""
    pool, maker = make((0, 2), slots=2, fairness=fairness)
    budget.member.allow(1)
    lease = pool.acquire()
    pool.avoid(lease.resource)
    caller = runner.start(pool.acquire)
    caller.parked()
    wait_for_scheduler()
    assert maker.made == 1
    lease.release()
    caller.result().release()
    assert maker.made == 2


@FAIRNESS
def test_last_lease_of_what_drains_has_a_permit_for_the_next(
    make: Made, budget: ScriptedBudget, runner: ThreadRunner, fairness: str
) -> None:
    """At once, on another resource, though its own takes long to close."""
    pool, maker = make((0, 2), slots=4, fairness=fairness)
    budget.member.allow(2)
    old = pool.acquire()
    pool.drain(old.resource)
    lease = pool.acquire()
    caller = runner.start(pool.acquire)
    caller.parked()
    maker.close_gate.clear()
    end = runner.start(old.release)
    lease2 = caller.result()
    assert lease2.resource is lease.resource
    maker.close_gate.set()
    end.result()
    release([lease, lease2])


def test_budget_hears_of_the_last_lease_of_what_drains(
    make: Made, budget: ScriptedBudget, runner: ThreadRunner
) -> None:
    """At once, though it takes long to close."""
    pool, maker = make((0, 2), slots=4)
    budget.member.allow(1)
    lease = pool.acquire()
    pool.drain(lease.resource)
    budget.member.allow(0)
    budget.member.asked.clear()
    maker.close_gate.clear()
    end = runner.start(lease.release)
    assert budget.member.asked.wait(PATIENCE)
    assert budget.member.has_open(0) and pool.stats().open == 1
    maker.close_gate.set()
    end.result()


# ---- Resources that are looked at first --------------------------------------------------------


class Check:
    """A check hook that says when it begins, and ends when it is told to."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.answers: list[bool] = []  # of the next ones; True after that

    def __call__(self, resource: object) -> bool:
        answer = not self.answers or self.answers.pop()
        self.begun.set()
        self.go_on.wait(2 * PATIENCE)
        return answer


@pytest.fixture
def check(make: Made, budget: ScriptedBudget) -> Check:
    return Check()


def warmed(make: Made, budget: ScriptedBudget, check: Check, **options: Any) -> tuple[Any, Any]:
    """Two resources that are to be checked, and one permit."""
    pool, maker = make((2, 2), check=check, check_after=0, **options)
    budget.member.allow(2)
    eventually(lambda: pool.stats().idle == 2)
    check.go_on.set()
    release([pool.acquire() for _ in range(2)])
    check.go_on.clear()
    check.begun.clear()
    budget.member.allow(1)
    return pool, maker


@pytest.mark.parametrize("good", [True, False])
def test_borrower_who_waits_for_a_check_has_its_permit(
    make: Made, budget: ScriptedBudget, check: Check, runner: ThreadRunner, good: bool
) -> None:
    """Nobody else has a lease meanwhile, though another resource is idle.  After a bad one it is
    served by another, though that one takes long to close."""
    pool, maker = warmed(make, budget, check)
    check.answers.append(good)
    first = runner.start(pool.acquire)
    assert check.begun.wait(PATIENCE)
    assert budget.member.has_open(1)
    with pytest.raises(PoolTimeout) as caught:
        pool.acquire(timeout=0.01)
    assert caught.value.phase == "budget"
    maker.close_gate.clear()
    check.go_on.set()
    lease = first.result()
    assert pool.stats().closing == (not good)
    maker.close_gate.set()
    lease.release()
    pool.acquire().release()
    eventually(lambda: budget.member.has_open(0))


def test_permit_is_the_next_ones_where_a_check_hangs(
    make: Made, budget: ScriptedBudget, check: Check, runner: ThreadRunner
) -> None:
    """Its borrower has given up; the check may go on for as long as it likes."""
    pool, _ = warmed(make, budget, check, hook_timeout=60)
    first = runner.start(lambda: pool.acquire(timeout=0.2))
    assert check.begun.wait(PATIENCE)
    check.begun.clear()
    second = runner.start(pool.acquire)
    second.parked()
    with pytest.raises(PoolTimeout) as caught:
        first.result()
    assert caught.value.phase == "check"
    assert check.begun.wait(PATIENCE)  # of the other resource, for the second one
    check.go_on.set()
    second.result().release()
    eventually(lambda: budget.member.has_open(0))


def test_check_for_nobody_takes_no_permit(
    make: Made, budget: ScriptedBudget, check: Check, runner: ThreadRunner
) -> None:
    pool, _ = warmed(make, budget, check)
    checks = runner.start(pool.check_idle)
    assert check.begun.wait(PATIENCE)
    assert budget.member.has_open(0)
    check.go_on.set()
    checks.result()


# ---- Refusals ----------------------------------------------------------------------------------


def test_timeout_says_who_has_the_permits(make: Made, budget: ScriptedBudget) -> None:
    """Though slots are free."""
    pool, _ = make(name="partner")
    budget.member.allow(1)
    lease = pool.acquire()
    with pytest.raises(PoolTimeout) as caught:
        pool.acquire(timeout=0.01)
    assert caught.value.phase == "budget"
    assert "budget 'by hand': 60 of 60 permits in force, 9 members" in str(caught.value)
    assert caught.value.budget.allowance == 1
    lease.release()


def test_queue_is_bounded_where_resources_are_not(
    make: Made, budget: ScriptedBudget, runner: ThreadRunner
) -> None:
    """``max_waiting``: one more than may wait for a permit is refused at once."""
    pool, _ = make((0, None), max_waiting=1)
    budget.member.allow(1)
    lease = pool.acquire()
    caller = runner.start(pool.acquire)
    caller.parked()
    with pytest.raises(PoolOverloaded):
        pool.acquire()
    lease.release()
    caller.result().release()


@pytest.mark.parametrize("most", [1, 4])
def test_queue_is_bounded_by_permits_and_not_by_slots_to_come(
    make: Made, budget: ScriptedBudget, runner: ThreadRunner, most: int
) -> None:
    """Of four slots that are being made one will be lent, so one caller may wait for that."""
    pool, maker = make((0, most), slots=4, max_waiting=0)
    budget.member.allow(1)
    maker.gate.clear()
    caller = runner.start(pool.acquire)
    eventually(lambda: pool.stats().waiting == 1)
    with pytest.raises(PoolOverloaded):
        pool.acquire()
    maker.gate.set()
    caller.result().release()


# ---- The end -----------------------------------------------------------------------------------


def test_closed_pool_gives_up_its_permits_with_its_leases(
    make: Made, budget: ScriptedBudget
) -> None:
    pool, _ = make()
    budget.member.allow(3)
    leases = [pool.acquire() for _ in range(3)]
    pool.close(timeout=0)
    for left in 3, 2, 1:
        assert budget.member.share.look() == (left, 0)
        budget.member.asked.clear()
        leases.pop().release()
        assert budget.member.asked.wait(PATIENCE)
    eventually(lambda: budget.member.share.look() is None)


@pytest.mark.threads_only("the pool itself has to go")
def test_collected_pool_gives_up_its_permits_with_its_leases(budget: ScriptedBudget) -> None:
    pool = SharedPool(object, budget=budget, units="slots", warn_unclosed=False)
    budget.member.allow(2)
    lease = pool.acquire()
    del pool
    gc.collect()
    assert budget.member.share.look() == (1, 0)
    budget.member.asked.clear()
    lease.release()
    assert budget.member.asked.wait(PATIENCE)
    eventually(lambda: budget.member.share.look() is None)


@pytest.mark.threads_only("a child has no loop")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # 3.12+: fork with threads
def test_forked_child_has_no_permit(tmp_path: Path) -> None:
    """It asks for its own, and its parent's leases are not counted there."""
    path = str(tmp_path / "partner.budget")
    with SharedPool(
        object, budget=LocalBudget(path, limit=2), units="slots", timeout=PATIENCE
    ) as pool:
        leases = [pool.acquire()]
        child = os.fork()
        if child == 0:
            code = 1
            try:
                budget = pool.stats().budget
                if budget is not None and budget.allowance == 0:
                    with pool.lease():
                        code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        assert status == 0
        leases.append(pool.acquire())
        release(leases)


# ---- What is given -----------------------------------------------------------------------------


@pytest.mark.threads_only("nobody waits")
@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"units": "slots"}, TypeError, "units='slots' has .* there is no budget: give budget="),
        ({"units": "leases", "budget": ScriptedBudget()}, ValueError, "not 'leases'"),
        ({"units": 2, "budget": ScriptedBudget()}, TypeError, '"resources", .* not 2'),
    ],
)
def test_wrong_units_are_refused(
    options: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        SharedPool(object, **options)


@pytest.mark.threads_only("nobody waits")
def test_units_are_among_the_options(budget: ScriptedBudget) -> None:
    """And what is read makes a pool like it."""
    for units in None, "resources", "slots":
        options: dict[str, Any] = {} if units is None else {"budget": budget, "units": units}
        with SharedPool(object, items=(0, 1), **options) as pool:
            assert pool.options.get("units") == (units or "resources")
            with SharedPool(**pool.options) as copy:
                assert copy.options.get("units") == pool.options.get("units")


@pytest.mark.threads_only("nobody waits")
def test_units_stay_as_they_are(budget: ScriptedBudget) -> None:
    with SharedPool(object, items=(0, 1), budget=budget) as pool:
        with pytest.raises(TypeError, match="units"):
            pool.configure(units="slots")
