"""`CallPolicy(limit=budget)`: a permit for each call under way, for threads and tasks.

The budget does what the test says, so each step is one step; the last tests are of LocalBudget.
"""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastpool.calls import CallPolicy, DeadlineExceeded, Limit, Overloaded
from fastpool.fleet import LocalBudget
from support.budgets import ScriptedBudget
from support.helpers import PATIENCE, Task, ThreadRunner, eventually, wait_for_scheduler
from support.signal_injection import interrupt


class Calls:
    """Calls that stay inside until they are let go, made by threads or by tasks of one loop."""

    def __init__(self, runner: ThreadRunner, kind: str) -> None:
        self.runner, self.kind = runner, kind
        self.inside = self.most = self.tried = 0
        self.gate = threading.Semaphore(0)
        self.lock = threading.Lock()
        self.loop = asyncio.new_event_loop() if kind == "task" else None
        self.thread: Task | None = None
        if self.loop is not None:
            self.thread = runner.start(self.loop.run_forever)

    def enter(self) -> None:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)

    def leave(self) -> None:
        with self.lock:
            self.inside -= 1

    def start(self, policy: CallPolicy) -> Callable[[], Any]:
        """Begin one call; what is returned waits for its end."""
        if self.loop is None:

            def call() -> str:
                self.enter()
                assert self.gate.acquire(timeout=PATIENCE)
                self.leave()
                return "done"

            return self.runner.start(policy(call)).result

        async def acall() -> str:
            self.enter()
            while not self.gate.acquire(blocking=False):
                await asyncio.sleep(0.001)
            self.leave()
            return "done"

        future = asyncio.run_coroutine_threadsafe(policy(acall)(), self.loop)  # type: ignore[arg-type]
        return lambda: future.result(PATIENCE)

    def let_go(self, n: int = 1) -> None:
        for _ in range(n):
            self.gate.release()

    def close(self) -> None:
        if self.loop is not None and self.thread is not None:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.result()
            self.loop.close()


@pytest.fixture(params=["thread", "task"])
def calls(request: pytest.FixtureRequest, runner: ThreadRunner) -> Iterator[Calls]:
    calls = Calls(runner, request.param)
    yield calls
    calls.close()


@pytest.fixture
def budget() -> ScriptedBudget:
    return ScriptedBudget()


def test_no_call_begins_without_a_permit(calls: Calls, budget: ScriptedBudget) -> None:
    """It waits, the budget is asked, and it begins as soon as that allows."""
    call = calls.start(CallPolicy(limit=budget))
    assert budget.member.asked.wait(PATIENCE)
    assert budget.member.wants(1)
    wait_for_scheduler()
    assert calls.inside == 0
    budget.member.allow(1)
    calls.let_go()
    assert call() == "done"


def test_as_many_calls_at_once_as_are_allowed(calls: Calls, budget: ScriptedBudget) -> None:
    policy = CallPolicy(limit=budget)
    under_way = [calls.start(policy) for _ in range(5)]
    eventually(lambda: budget.member.wants(5))
    assert budget.member.allow(2) == 2
    eventually(lambda: calls.inside == 2)
    calls.let_go(5)
    assert [call() for call in under_way] == ["done"] * 5
    assert calls.most == 2


def test_calls_go_on_with_what_is_kept(calls: Calls, budget: ScriptedBudget) -> None:
    """``close=False``: a budget that hears nothing of its engine stops no call; all that it had
    count as used until it says otherwise."""
    policy = CallPolicy(limit=budget)
    first = [calls.start(policy) for _ in range(2)]
    budget.grants(2)
    eventually(lambda: calls.inside == 2)
    calls.let_go(2)
    assert [call() for call in first] == ["done"] * 2
    assert budget.member.allow(0, close=False) == 2
    again = [calls.start(policy) for _ in range(3)]
    eventually(lambda: calls.inside == 2)
    calls.let_go(3)
    assert [call() for call in again] == ["done"] * 3 and calls.most == 2
    assert budget.member.has_open(2) and budget.member.allow(1, close=False) == 2
    assert budget.member.allow(1) == 0 and budget.member.has_open(0)


def test_permit_that_is_taken_away_goes_when_its_call_ends(
    calls: Calls, budget: ScriptedBudget
) -> None:
    """Nothing under way is ended; who waits begins only below the new allowance."""
    policy = CallPolicy(limit=budget)
    under_way = [calls.start(policy) for _ in range(3)]
    budget.grants(3)
    eventually(lambda: calls.inside == 3)
    assert budget.member.allow(1) == 3
    waiting = calls.start(policy)
    eventually(lambda: budget.member.wants(4))
    calls.let_go(2)
    eventually(lambda: calls.inside == 1)
    wait_for_scheduler()
    assert budget.member.has_open(1)  # and not the one that waits
    calls.let_go(2)
    assert [call() for call in (*under_way, waiting)] == ["done"] * 4


def test_budget_is_asked_once_until_it_has_looked(calls: Calls, budget: ScriptedBudget) -> None:
    """And not at all by callers of whom it knows."""
    policy = CallPolicy(limit=budget)
    first = calls.start(policy)
    assert budget.member.asked.wait(PATIENCE)
    budget.member.asked.clear()
    second = calls.start(policy)
    eventually(lambda: policy.stats().limit.waiting == 2)  # type: ignore[union-attr]
    wait_for_scheduler()
    assert not budget.member.asked.is_set()
    assert budget.member.wants(2)
    third = calls.start(policy)
    assert budget.member.asked.wait(PATIENCE)
    budget.grants(3)
    budget.member.asked.clear()
    calls.let_go(3)
    assert [call() for call in (first, second, third)] == ["done"] * 3
    under_way = [calls.start(policy) for _ in range(3)]
    eventually(lambda: calls.inside == 3)
    calls.let_go(3)
    assert [call() for call in under_way] == ["done"] * 3
    wait_for_scheduler()
    assert not budget.member.asked.is_set()  # what is free is taken without a word


def test_own_size_is_a_bound_beside_the_budget(calls: Calls, budget: ScriptedBudget) -> None:
    """It caps what is wanted, and a wait for it is no fault of the budget."""
    limit = Limit(2, budget=budget)
    under_way = [calls.start(CallPolicy(limit=limit)) for _ in range(4)]
    eventually(lambda: limit.stats().waiting == 4)
    assert budget.member.wants(2)
    budget.member.allow(60)
    eventually(lambda: calls.inside == 2)
    assert limit.size == 2
    with pytest.raises(DeadlineExceeded) as caught:
        calls.start(CallPolicy(limit=limit, timeout=0.01))()
    assert caught.value.phase == "limit" and caught.value.budget is None
    calls.let_go(4)
    assert [call() for call in under_way] == ["done"] * 4
    assert calls.most == 2


def test_timeout_for_want_of_a_permit_says_who_has_them(
    calls: Calls, budget: ScriptedBudget
) -> None:
    policy = CallPolicy(limit=budget, timeout=0.01, name="partner")
    with pytest.raises(DeadlineExceeded) as caught:
        calls.start(policy)()
    error = pickle.loads(pickle.dumps(caught.value))
    assert error.phase == "budget"
    assert "60 of 60 permits in force, 9 members" in str(error)
    assert error.budget.limit == 60
    assert policy.stats().expired == 1
    eventually(lambda: budget.member.wants(0))


def test_full_queue_says_who_has_the_permits(calls: Calls, budget: ScriptedBudget) -> None:
    limit = Limit(max_waiting=1, budget=budget)
    policy = CallPolicy(limit=limit)
    waiting = calls.start(policy)
    assert budget.member.asked.wait(PATIENCE)
    assert budget.member.wants(1)  # and gives nothing
    with pytest.raises(Overloaded) as caught:
        calls.start(policy)()
    error = pickle.loads(pickle.dumps(caught.value))
    assert "60 of 60 permits in force" in str(error) and error.budget.members == 9
    assert limit.stats().overloads == 1
    budget.member.allow(1)
    calls.let_go()
    assert waiting() == "done"


def test_with_max_waiting_0_who_may_still_get_a_permit_waits_for_it(
    calls: Calls, budget: ScriptedBudget
) -> None:
    """Else the first call of a process could never be made."""
    policy = CallPolicy(limit=Limit(max_waiting=0, budget=budget))
    first = calls.start(policy)
    budget.grants(1)
    eventually(lambda: calls.inside == 1)
    second = calls.start(policy)  # the budget has given all it was asked for
    eventually(lambda: budget.member.wants(2))
    with pytest.raises(Overloaded):  # now it has not
        calls.start(policy)()
    budget.member.allow(2)
    calls.let_go(2)
    assert first() == second() == "done"


def test_caller_who_gives_up_is_wanted_for_no_more(calls: Calls, budget: ScriptedBudget) -> None:
    policy = CallPolicy(limit=budget, timeout=0.01)
    for _ in range(3):
        with pytest.raises(DeadlineExceeded):
            calls.start(policy)()
    eventually(lambda: budget.member.wants(0))
    assert budget.member.allow(0) == 0


@pytest.mark.costly
def test_interrupted_wait_for_a_permit_is_wanted_no_more() -> None:
    """A signal handler that raises at any moment leaves neither a wish nor a call under way, and
    the next caller is heard."""
    point, more = 0, True
    while more:
        point += 1
        budget = ScriptedBudget()
        policy = CallPolicy(limit=budget, timeout=0.001)

        def late(policy: CallPolicy = policy) -> None:
            with pytest.raises(DeadlineExceeded) as caught:
                policy(int)()
            assert caught.value.phase == "budget"

        more = interrupt(point, late)
        gc.collect()
        wait_for_scheduler()
        assert budget.member.share.look() == (0, 0), point
        budget.member.asked.clear()

        def heard(policy: CallPolicy = policy, budget: ScriptedBudget = budget) -> bool:
            late(policy)
            return budget.member.asked.wait(0.001)

        eventually(heard)  # on a busy machine a millisecond may be over before the wait begins
    assert point > 5


def test_policies_with_one_limit_are_one_member(calls: Calls, budget: ScriptedBudget) -> None:
    limit = Limit(budget=budget, name="partner")
    one, other = CallPolicy(limit=limit), CallPolicy(limit=limit)
    under_way = [calls.start(one), calls.start(other)]
    budget.grants(2)
    assert [member.share.name for member in budget.joined] == ["partner"]
    calls.let_go(2)
    assert [call() for call in under_way] == ["done"] * 2


def test_policy_is_a_member_by_its_name(budget: ScriptedBudget) -> None:
    policy = CallPolicy(limit=budget, name="partner")
    assert budget.member.share.name == "partner"
    stats = policy.stats().limit
    assert stats is not None and stats.size == 0
    assert stats.budget is not None and stats.budget.limit == 60


def test_limit_that_is_collected_leaves_the_budget(budget: ScriptedBudget) -> None:
    """At once, but for the permits of calls that are under way still."""
    limit = Limit(budget=budget)
    budget.member.allow(2)
    permit = limit.take_nowait()
    gone = weakref.ref(limit)
    del limit
    assert gone() is None
    assert budget.member.share.look() == (1, 0)
    assert permit is not None
    permit.release()
    assert budget.member.share.look() is None
    share = weakref.ref(budget.member.share)
    budget.joined.clear()
    gc.collect()
    assert share() is None


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Limit(), "needs a size, or a budget"),
        (lambda: Limit(5, budget=7), "budget must be a budget of fastpool.fleet or None, not 7"),
        (
            lambda: CallPolicy(limit=7),
            "limit must be a Limit, .* a budget of fastpool.fleet",
        ),
    ],
)
def test_what_is_no_budget_is_refused(make: Callable[[], object], says: str) -> None:
    with pytest.raises(TypeError, match=says):
        make()


# ---- with LocalBudget ----

linux = pytest.mark.skipif(sys.platform != "linux", reason="open file description locks")


@linux
def test_calls_and_their_queue_move_with_the_shares(calls: Calls, tmp_path: Path) -> None:
    """Two members of five permits, one with all of them: it gives up as its calls end."""
    budget = LocalBudget(str(tmp_path / "partner.budget"), limit=5)
    rich, poor = CallPolicy(limit=budget, name="rich"), CallPolicy(limit=budget, name="poor")
    first = [calls.start(rich) for _ in range(8)]
    eventually(lambda: calls.inside == 5)
    second = [calls.start(poor) for _ in range(8)]
    eventually(lambda: poor.stats().limit.budget.share == 2)  # type: ignore[union-attr]
    calls.let_go(16)
    assert [call() for call in (*first, *second)] == ["done"] * 16
    assert calls.most == 5


@linux
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # 3.12+: fork with threads
def test_forked_child_asks_for_permits_of_its_own(tmp_path: Path) -> None:
    """Those of its parent's calls are not its own, and it can make calls."""
    path = str(tmp_path / "partner.budget")
    policy = CallPolicy(limit=LocalBudget(path, limit=2), timeout=PATIENCE)

    @policy
    def in_call() -> int:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                stats = policy.stats().limit
                if stats is not None and (stats.in_use, stats.size) == (0, 0):
                    code = policy(lambda: 0)()
            finally:
                os._exit(code)
        return child

    _, status = os.waitpid(in_call(), 0)
    assert status == 0
    gc.collect()
    report = LocalBudget.report(path)
    assert report.in_force <= 1 and report.limit == 2
