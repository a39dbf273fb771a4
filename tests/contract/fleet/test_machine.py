"""LocalBudget with a parent: what the file says of the machine, and who may write it.

With processes and Redis: `integration/fleet/test_machine_processes.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastpool import FastPool, PoolTimeout
from fastpool.fleet import LocalBudget, RedisBudget, _machine
from fastpool.fleet._machine import NEVER, Leadership, MachineFile, MachineShare, Term
from fastpool.fleet._permit_file import PermitFile
from support.helpers import eventually

pytest.importorskip("redis")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="open file description locks")


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "orders.budget")


@pytest.fixture
def files(path: str) -> Iterator[Any]:
    """Opens the file, as another process would."""
    opened: list[MachineFile] = []

    def another() -> MachineFile:
        opened.append(MachineFile(path))
        return opened[-1]

    yield another
    for file in opened:
        file.close()


class Local:
    """What a share wakes."""

    def wake(self) -> None:
        pass


LOCAL: Any = Local()


def lead(files: Any) -> tuple[MachineShare, Term]:
    file = files()
    term = file.begin_term()
    assert term is not None
    return MachineShare(file, term, LOCAL), term


def parent() -> RedisBudget:
    return RedisBudget("redis://127.0.0.1:1", "orders", 60)


def test_lowered_limit_is_counted_with_what_is_locked_beyond_it(files: Any) -> None:
    """All below it may be locked as well, at any moment, before what is beyond is given up."""
    share, _ = lead(files)
    share.allow(6)
    user = files()
    user.take(6, 6, 0)
    user._unlock((1 << 30) + (1 << 20))  # the first: the others are 1 to 5
    user.permits.remove(0)
    assert share.allow(2) == 2 + 4
    user.give(4)
    assert share.in_use == 1


def test_limit_rises_only_as_far_as_goes_with_what_is_beyond(files: Any) -> None:
    """Two are locked beyond a limit of two. With four held it stays, until they are given up."""
    share, _ = lead(files)
    share.allow(6)
    user = files()
    assert sorted(user.take(2, 6, 4)) == [4, 5]
    share.allow(2)
    share.allow(4)
    assert share.file.limit == 2
    user.give(1)
    share.look()
    assert share.file.limit == 3
    user.give(1)
    share.look()
    assert share.file.limit == 4


def test_nothing_is_kept_that_was_locked_while_the_limit_fell(files: Any) -> None:
    """Who has read the limit before it fell locks beyond it, and lets go."""
    share, _ = lead(files)
    share.allow(6)
    user = files()
    before = user.limit
    assert share.allow(2) == 0
    assert user.take(6, before, 2) == [0, 1]
    assert share.file.count_locked(0) == 2


def test_there_is_one_leader_and_its_end_is_seen_at_once(files: Any) -> None:
    share, term = lead(files)
    heir = files()
    assert heir.is_led() and heir.begin_term() is None
    share.file.close()  # as the kernel does when its process is killed
    next_term = heir.begin_term()
    assert next_term is not None
    assert (next_term.member, next_term.number) == (term.member, term.number + 1)


def test_leader_that_was_replaced_writes_nothing_any_more(
    files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was stopped, with a reply in its hands that gives it six."""
    share, _ = lead(files)
    share.allow(2)
    monkeypatch.setattr(_machine, "STOPPED", 0.0)
    heir, _ = lead(files)
    share.allow(6)
    share.renewed(1e9, 6)
    assert share.ended and share.look() is None
    assert (heir.file.limit, heir.file.term().until) == (2, NEVER)


def test_next_leader_gives_out_no_more_than_the_file_says(
    files: Any, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four are locked beyond the limit: to be given up, or the engine has given them to others.
    Before it has asked, the next leader does not know."""
    monkeypatch.setattr(Leadership, "ask", lambda lead: None)  # no thread
    share, _ = lead(files)
    share.allow(6)
    share.renewed(1e12, 6)
    files().take(6, 6, 0)
    assert share.allow(2) == 6
    share.file.close()
    heir = Leadership.begin(parent(), path, LOCAL)
    assert heir is not None and heir.members[0].look()
    heir._divide()
    assert heir.machine.file.limit == 2 and heir.claim.permits == 6
    heir.machine.file.close()


def test_leader_that_was_replaced_asks_for_nothing(
    files: Any, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it gives up is not given up in the file, on which the next one counts."""
    monkeypatch.setattr(Leadership, "ask", lambda lead: None)
    old = Leadership.begin(parent(), path, LOCAL)
    assert old is not None and old._is_due(1e12)
    monkeypatch.setattr(_machine, "STOPPED", 0.0)
    lead(files)
    old.machine.allow(3)
    assert not old._is_due(1e12)
    old.machine.file.close()


def test_machine_that_was_booted_again_has_nothing(
    files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its locks are gone, and its clock has begun anew: it is another member."""
    share, term = lead(files)
    share.allow(6)
    share.renewed(1e9, 6)
    monkeypatch.setattr(_machine, "boot_id", lambda: b"x" * 36)
    after = files().term()
    assert share.file.limit == 0
    assert after.until == NEVER and after.member != term.member and after.number > term.number


def test_last_one_gives_up_all_unless_somebody_has_a_permit(files: Any) -> None:
    share, _ = lead(files)
    share.allow(6)
    user = files()
    user.take(1, 6, 0)
    assert not share.give_up() and share.file.limit == 6
    user.give(1)
    assert share.give_up() and share.file.limit == 0


def test_locks_are_counted_wherever_they_are(path: str) -> None:
    PermitFile(path, 60).close()
    counting, one, other = (PermitFile(path, None) for _ in range(3))
    try:
        one.take(10, 60, 5)
        other.take(3, 60, 30)
        one.take(2, 60, 58)
        assert [counting.count_locked(n) for n in (0, 10, 31, 59, 60)] == [15, 10, 4, 1, 0]
    finally:
        for file in (counting, one, other):
            file.close()


# ---- misuse -------------------------------------------------------------------------------------


def test_limit_and_parent_exclude_each_other(path: str) -> None:
    with pytest.raises(ValueError, match="limit= or parent="):
        LocalBudget(path, 60, parent=parent())
    with pytest.raises(TypeError, match="parent must be a RedisBudget"):
        LocalBudget(path, parent="redis://cache")  # type: ignore[arg-type]


def test_files_of_the_two_kinds_are_not_mixed(tmp_path: Path) -> None:
    own, machine = str(tmp_path / "own"), str(tmp_path / "machine")
    LocalBudget(own, 60)
    LocalBudget(machine, parent=parent())
    with pytest.raises(ValueError, match="has a limit of its own"):
        LocalBudget(own, parent=parent())
    with pytest.raises(ValueError, match="parent=RedisBudget"):
        LocalBudget(machine)


def test_limit_is_set_at_the_parent(path: str) -> None:
    budget = LocalBudget(path, parent=parent())
    assert budget.limit == 0
    with pytest.raises(ValueError, match="follows its parent"):
        budget.limit = 7


def test_member_is_the_name_of_the_machine(tmp_path: Path) -> None:
    path = str(tmp_path / "orders.budget")
    one, other = (LocalBudget(path, parent=parent()) for _ in range(2))
    assert one.member == other.member
    with pytest.raises(ValueError, match="only with a parent"):
        _ = LocalBudget(str(tmp_path / "own"), 60).member


def test_machine_whose_lease_has_ended_keeps_what_is_locked(files: Any) -> None:
    """The limit falls with it, and nobody locks another one in its place."""
    share, _ = lead(files)
    share.allow(6)
    worker = files()
    worker.take(5, 6, 0)
    assert share.allow(0, close=False) == 5 == worker.limit
    worker.give(2)
    assert share.look() == (3, 0) and worker.limit == 3
    assert share.allow(4) == 3 and worker.limit == 4


def test_renewed_lease_leaves_no_permit_free_that_others_may_have(files: Any) -> None:
    """Three are locked with numbers that have got beyond the limit, and three is what the engine
    has given: none below it may be locked besides."""
    share, _ = lead(files)
    share.allow(6)
    worker = files()
    assert worker.take(3, 6, 3) == [3, 4, 5]
    share.allow(0, close=False)
    assert share.file.limit == 3
    share.renewed(1e12, 3)
    assert worker.limit == 0 and share.in_use == 3
    worker.give(1)
    assert share.allow(3) == 3 and worker.limit == 1


def test_all_below_the_limit_counts_as_locked_while_it_falls(
    files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A permit that is given up just then may be locked once more, until the limit is written."""
    share, _ = lead(files)
    share.allow(6)
    worker = files()
    worker.take(5, 6, 0)
    count = share.file.count_locked

    def then_given(start: int) -> int:
        n = count(start)
        worker.give(2)
        return n

    monkeypatch.setattr(share.file, "count_locked", then_given)
    assert share.allow(0, close=False) == 5 == worker.limit


def test_pool_of_such_a_machine_opens_nothing_in_the_place_of_what_goes(path: str) -> None:
    closed: list[object] = []
    budget = LocalBudget(path, parent=parent())
    file = MachineFile(path)
    term = file.begin_term()  # we lead, and the engine is ours to play
    assert term is not None and file.change(term.number, 3, 2e9)
    with FastPool(5, factory=object, close=closed.append, timeout=30, budget=budget) as pool:
        leases = [pool.acquire() for _ in range(3)]
        assert file.change(term.number, until=NEVER)
        eventually(lambda: pool.stats().budget.allowance == 0)
        leases.pop().discard()
        with pytest.raises(PoolTimeout):
            pool.acquire(timeout=0.05)
        leases.pop().release()
        pool.acquire().release()
        assert len(closed) == 1 and pool.stats().open == 2
        assert file.change(term.number, until=2e9)
        leases += [pool.acquire() for _ in range(2)]
        for lease in leases:
            lease.release()
    file.close()
