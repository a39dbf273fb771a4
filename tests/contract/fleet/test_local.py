"""LocalBudget in one process: several pools, several budgets of one file, limits, errors."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fastpool import FastPool, KeyedPool, PoolTimeout, SharedPool
from fastpool.fleet import Budget, LocalBudget, _permit_file
from fastpool.fleet._permit_file import PermitFile
from support.helpers import PATIENCE, ThreadRunner, eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="open file description locks")


class Resource:
    def __init__(self, key: object = None) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "orders.budget")


def permits(path: str) -> int:
    """How many are taken, as the kernel says."""
    file = PermitFile(path, None, create=False)
    try:
        return file.limit - len(file.take(file.limit, file.limit, 0))
    finally:
        file.close()


def pool(budget: LocalBudget, maxsize: int = 10, **options: Any) -> FastPool[Resource]:
    return FastPool(maxsize, factory=Resource, budget=budget, timeout=PATIENCE, **options)


def test_it_is_a_budget(path: str) -> None:
    assert isinstance(LocalBudget(path, 3), Budget)


def test_pools_share_one_limit(path: str, runner: ThreadRunner) -> None:
    """Of one object, or of several with the same file: five in all, not five each."""
    one, other = LocalBudget(path, limit=5), LocalBudget(path)
    with pool(one) as a, pool(other) as b:
        leases = [a.acquire() for _ in range(3)] + [b.acquire() for _ in range(2)]
        assert permits(path) == 5
        with pytest.raises(PoolTimeout) as caught:
            b.acquire(timeout=0.05)
        assert caught.value.phase == "budget"
        for lease in leases:
            lease.release()


def test_idle_permits_move_to_who_needs_them(path: str) -> None:
    """Its idle resources are closed; what it uses it keeps."""
    budget = LocalBudget(path, limit=6)
    with pool(budget) as rich, pool(budget) as poor:
        leases = [rich.acquire() for _ in range(6)]
        for lease in leases[1:]:
            lease.release()
        wanted = [poor.acquire() for _ in range(5)]
        assert rich.stats().leased == 1
        assert rich.stats().closed["surplus"] == 5
        for lease in [leases[0], *wanted]:
            lease.release()


def test_lent_permits_move_when_they_come_back(path: str, runner: ThreadRunner) -> None:
    """Who has more than its share gives up what is returned, and not before."""
    budget = LocalBudget(path, limit=4)
    with pool(budget) as rich, pool(budget) as poor:
        leases = [rich.acquire() for _ in range(4)]
        callers = [runner.start(poor.acquire) for _ in range(2)]
        eventually(lambda: rich.stats().budget.allowance == 2)
        assert rich.stats().leased == 4
        for lease in leases:
            lease.release()
        for caller in callers:
            caller.result().release()


def test_whatever_comes_back_first_serves_others(path: str, runner: ThreadRunner) -> None:
    """Not only the one lent resource that was chosen when permits were recalled."""
    budget = LocalBudget(path, limit=3)
    with pool(budget) as rich, pool(budget) as poor:
        leases = [rich.acquire() for _ in range(3)]
        caller = runner.start(poor.acquire)
        eventually(lambda: rich.stats().budget.allowance == 2)
        leases.pop().release()  # not the oldest
        caller.result().release()
        assert rich.stats().leased == 2
        for lease in leases:
            lease.release()


def test_shares_come_to_the_same_for_all_who_want_more(path: str, runner: ThreadRunner) -> None:
    """Max-min: 3, 3 and 3 of 9, though one had all of them first."""
    budgets = [LocalBudget(path, limit=9) for _ in range(3)]
    pools = [pool(budget) for budget in budgets]
    stop: list[bool] = []

    def use(one: FastPool[Resource]) -> None:
        while not stop:
            with one.lease():
                eventually(lambda: True)

    first = [runner.start(use, pools[0]) for _ in range(9)]
    others = [runner.start(use, one) for one in pools[1:] for _ in range(9)]
    try:
        eventually(lambda: [one.stats().budget.allowance for one in pools] == [3, 3, 3])
    finally:
        stop.append(True)
        for task in [*first, *others]:
            task.result()
        for one in pools:
            one.close()


def test_every_kind_of_pool_has_its_part(path: str) -> None:
    budget = LocalBudget(path, limit=6)
    with (
        pool(budget) as plain,
        SharedPool(Resource, slots=1, items=(0, 4), budget=budget) as shared,
        KeyedPool(Resource, budget=budget) as keyed,
    ):
        leases: list[Any] = []
        for _ in range(2):
            leases += [plain.acquire(), shared.acquire(), keyed.acquire("one")]
        assert permits(path) == 6
        assert [one.stats().budget.allowance for one in (plain, shared, keyed)] == [2, 2, 2]
        for lease in leases:
            lease.release()


def test_closed_pool_gives_up_its_permits(path: str) -> None:
    budget = LocalBudget(path, limit=3)
    one = pool(budget)
    lease = one.acquire()
    one.close(timeout=0)
    assert permits(path) == 1
    lease.release()
    eventually(lambda: permits(path) == 0)
    with pool(budget) as next_one:  # the thread of the budget has ended, and starts again
        next_one.acquire().release()


def test_permits_without_resources_are_given_up_after_a_while(path: str) -> None:
    """Resources that are closed for their age leave none behind."""
    budget = LocalBudget(path, limit=3)
    with pool(budget, idle_timeout=0.01) as one:
        one.acquire().release()
        eventually(lambda: one.stats().open == 0 and permits(path) == 0)
        one.acquire().release()


def test_error_of_the_file_costs_no_permit(
    path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and what it left locked for nobody is given up at the next look."""
    budget = LocalBudget(path, limit=2)
    real, failures = PermitFile.take, [OSError("no locks available")]

    def take(self: PermitFile, n: int, limit: int, start: int) -> list[int]:
        found = real(self, n, limit, start)
        if self is budget._file and found and failures:
            raise failures.pop()
        return found

    monkeypatch.setattr(PermitFile, "take", take)
    with caplog.at_level(logging.WARNING, "fastpool"), pool(budget) as one:
        leases = [one.acquire() for _ in range(2)]
        assert "it is tried again" in caplog.text
        assert permits(path) == 2
        for lease in leases:
            lease.release()
    eventually(lambda: permits(path) == 0)


def test_budget_that_is_collected_leaves_nothing_open(path: str) -> None:
    """Nor does it warn, in whatever order a cycle is taken apart with its pool in it."""
    for _ in range(3):
        cycle: list[Any] = [LocalBudget(path, limit=3)]
        cycle += [pool(cycle[0], warn_unclosed=False), cycle]
        cycle[1].acquire().release()
        del cycle
    gc.collect()
    eventually(lambda: gc.collect() is None or path not in opened())
    assert permits(path) == 0


def opened() -> list[str]:
    """The files that this process has open."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return found


# ---- the limit ----------------------------------------------------------------------------------


def test_larger_limit_serves_who_waits(path: str, runner: ThreadRunner) -> None:
    budget = LocalBudget(path, limit=1)
    with pool(budget) as one:
        lease = one.acquire()
        caller = runner.start(one.acquire)
        caller.parked()
        LocalBudget(path).limit = 2
        caller.result().release()
        lease.release()
        assert budget.limit == 2


def test_smaller_limit_takes_nothing_that_is_lent(path: str) -> None:
    budget = LocalBudget(path, limit=4)
    with pool(budget) as one:
        leases = [one.acquire() for _ in range(4)]
        budget.limit = 2
        eventually(lambda: one.stats().budget.allowance == 2)
        assert one.stats().leased == 4
        for lease in leases:
            lease.release()
        eventually(lambda: permits(path) <= 2 and one.stats().open == 2)


def test_file_keeps_the_limit_and_a_warning_tells_of_another(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    LocalBudget(path, limit=4)
    with caplog.at_level(logging.WARNING, "fastpool"):
        assert LocalBudget(path, limit=9).limit == 4
    assert "the limit is 4, as it was first set, and not 9" in caplog.text


# ---- misuse -------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0, -1, 2**24 + 1])
def test_limit_out_of_range_is_refused(path: str, limit: int) -> None:
    with pytest.raises(ValueError, match=f"limit must be 1 to 16777216, not {limit}"):
        LocalBudget(path, limit)
    with pytest.raises(TypeError, match="limit must be an int"):
        LocalBudget(path, "60")  # type: ignore[arg-type]


def test_relative_path_is_refused() -> None:
    with pytest.raises(ValueError, match="must be absolute"):
        LocalBudget("orders.budget", 60)


def test_limit_is_needed_once(path: str) -> None:
    with pytest.raises(ValueError, match="says no limit yet"):
        LocalBudget(path)


def test_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("something else, and long enough to be read")
    with pytest.raises(ValueError, match="is no file of permits"):
        LocalBudget(other, 60)
    assert other.read_text().startswith("something else")


def test_replaced_file_is_reported(
    path: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Who has it open goes on; who comes later would have another limit."""
    budget = LocalBudget(path, limit=2)
    with caplog.at_level(logging.WARNING, "fastpool"), pool(budget) as one:
        one.acquire().release()
        os.unlink(path)
        eventually(lambda: "was removed or replaced" in caplog.text)
        one.acquire().release()


def test_stopped_process_that_sets_it_up_is_not_waited_for(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    LocalBudget(path, limit=2)
    other = PermitFile(path, None)
    other._lock_header()
    monkeypatch.setattr(_permit_file, "PATIENCE", 0.01)
    try:
        with pytest.raises(TimeoutError, match="another process has been setting it up"):
            LocalBudget(path)
    finally:
        other.close()


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(_permit_file, "fcntl", None)
    yield


@pytest.mark.usefixtures("no_locks")
def test_other_systems_are_told_so(path: str) -> None:
    with pytest.raises(NotImplementedError, match=r"Linux 3\.15 or newer"):
        LocalBudget(path, 60)
