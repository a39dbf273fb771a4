"""Tries: how many creations are under way, for whom, and what becomes of slots and permits."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from fastpool import PoolClosed, PoolTimeout
from fastpool._runtime import threads
from fastpool.pool import _acquiring, _health_checks
from support.helpers import (
    PATIENCE,
    Maker,
    ThreadRunner,
    eventually,
    states,
    wait_for_scheduler,
    works,
)


class Turns(Maker):
    """Each call of the factory hangs until its turn is let go, unless all are."""

    def __init__(self) -> None:
        super().__init__()
        self.turns: list[threading.Event] = []
        self.free = False

    def __call__(self) -> Any:
        turn = threading.Event()
        self.turns.append(turn)
        assert self.free or turn.wait(3 * PATIENCE)
        return super().__call__()

    def let_go(self) -> None:
        self.free = True
        for turn in list(self.turns):
            turn.set()


@pytest.fixture
def turns(accounted: Any) -> Any:
    """Let go when the test is over, before the accounts are closed."""
    maker = Turns()
    yield maker
    maker.let_go()


def take(pool: Any) -> None:
    pool.put(pool.get())


def test_one_caller_has_one_try_however_often_the_pool_looks(
    accounted: Any, runner: ThreadRunner
) -> None:
    """The creation under way is his: another slot is not taken for him."""
    pool, maker = accounted(4)
    maker.gate.clear()
    getter = runner.start(take, pool)
    eventually(lambda: maker.running == 1)
    for _ in range(3):
        pool.resume()
        wait_for_scheduler()
    assert states(pool) == {"creating": 1}
    maker.gate.set()
    getter.result()
    assert maker.calls == 1


def test_tries_without_a_permit_take_no_slot(accounted: Any, runner: ThreadRunner) -> None:
    """Who waits for one of ``max_creating`` is in the queue, and nothing is open for him yet."""
    pool, maker = accounted(8, max_creating=2)
    maker.gate.clear()
    getters = [runner.start(pool.get) for _ in range(5)]
    eventually(lambda: pool.stats().waiting == 5 and maker.running == 2)
    wait_for_scheduler()
    assert states(pool) == {"creating": 2}
    maker.gate.set()
    for resource in [getter.result() for getter in getters]:
        pool.put(resource)
    assert maker.made == 5 and maker.peak == 2


def test_try_that_nobody_wants_gives_its_permit_and_slot_back(
    accounted: Any, runner: ThreadRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is skipped on its worker; the next one begins as if it had never been."""
    pool, maker = accounted(1)
    held: list[Any] = []
    submit = threads.ThreadGroup.submit

    def hold_up(workers: Any, call: Any, *args: Any) -> None:
        if workers.name.endswith("-create"):
            held.append((workers, call, args))
        else:
            submit(workers, call, *args)

    monkeypatch.setattr(threads.ThreadGroup, "submit", hold_up)
    for timeout in (0.02, 0.2, 2, 20):  # until the try is begun within that time
        with pytest.raises(PoolTimeout):
            runner.start(pool.get, True, timeout).result()
        if held:
            break
    monkeypatch.undo()
    for workers, call, args in held:
        submit(workers, call, *args)
    eventually(lambda: states(pool) == {})
    assert maker.calls == 0
    works(pool, 1)


def test_try_is_skipped_when_the_pool_is_closed(
    accounted: Any, runner: ThreadRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The factory is not called any more, neither for who waits nor for what was wished for."""
    pool, maker = accounted(2, min_idle=1)
    eventually(lambda: states(pool) == {"idle": 1})
    held: list[Any] = []
    submit = threads.ThreadGroup.submit
    monkeypatch.setattr(
        threads.ThreadGroup, "submit", lambda workers, *job: held.append((workers, *job))
    )
    resource = pool.get()  # from here on one is missing
    getter = runner.start(pool.get)
    eventually(lambda: held and pool.stats().waiting == 1)
    pool.resume()  # the pool looks for what is missing
    wait_for_scheduler()
    assert pool.close(timeout=0) is False
    with pytest.raises(PoolClosed):
        getter.result()
    monkeypatch.undo()
    for job in held:
        submit(*job)
    eventually(lambda: states(pool) == {"leased": 1})
    pool.put(resource)
    assert maker.calls == 1 and pool.close() is True


def test_refused_try_of_a_full_pool_leaves_no_wish(accounted: Any, clock: Any) -> None:
    """``timeout=0`` asks for a creation where there is free capacity, and not for later."""
    pool, maker = accounted(1, clock=clock)
    lease = pool.acquire()
    with pytest.raises(PoolTimeout):
        pool.get(timeout=0)
    wait_for_scheduler()
    lease.discard()
    wait_for_scheduler()
    clock.advance(0)
    assert maker.made == 1 and states(pool) == {}


def test_refused_try_of_a_suspended_pool_leaves_no_wish(accounted: Any, clock: Any) -> None:
    """Nothing is opened when it goes on, but for those who ask then."""
    pool, maker = accounted(1, clock=clock)
    pool.suspend()
    with pytest.raises(PoolTimeout):
        pool.get(timeout=0)
    wait_for_scheduler()
    pool.resume()
    wait_for_scheduler()
    clock.advance(0)
    assert maker.calls == 0 and states(pool) == {}


def test_borrower_who_waited_in_vain_leaves_no_wish(
    accounted: Any, runner: ThreadRunner, clock: Any
) -> None:
    """Only one who does not wait has a resource made for later."""
    pool, maker = accounted(3, max_creating=1, clock=clock)
    maker.gate.clear()
    getter = runner.start(take, pool)
    eventually(lambda: maker.running == 1)
    with pytest.raises(PoolTimeout):
        pool.get(timeout=0.02)
    wait_for_scheduler()
    maker.gate.set()
    getter.result()
    wait_for_scheduler()
    clock.advance(0)
    assert maker.calls == 1


def test_min_idle_is_made_once_however_often_the_pool_looks(accounted: Any, clock: Any) -> None:
    """What is missing is wished for, not what was missing each time."""
    maker = Maker()
    maker.gate.clear()
    pool, _ = accounted(10, maker, min_idle=2, max_creating=1, clock=clock)
    eventually(lambda: maker.running == 1)
    for _ in range(4):
        pool.resume()
        clock.advance(0, settle=0)
        wait_for_scheduler()
    maker.gate.set()
    eventually(lambda: states(pool) == {"idle": 2})
    for _ in range(2):
        wait_for_scheduler()
        clock.advance(0)
    assert maker.calls == 2


def test_min_idle_is_what_is_idle(accounted: Any, clock: Any) -> None:
    """What is leased does not count."""
    pool, maker = accounted(5, min_idle=2, clock=clock)
    eventually(lambda: states(pool) == {"idle": 2})
    taken = [pool.get(), pool.get()]
    clock.advance(1)
    eventually(lambda: states(pool) == {"idle": 2, "leased": 2})
    for resource in taken:
        pool.put(resource)
    clock.advance(1)
    assert maker.made == 4 and states(pool) == {"idle": 4}


def test_time_of_a_failed_check_is_the_borrowers(
    accounted: Any, monkeypatch: pytest.MonkeyPatch, clock: Any
) -> None:
    """One timeout for all of it: what the check has used up is not there for the creation."""
    now = [time.monotonic()]
    times = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr(_acquiring, "time", times)
    monkeypatch.setattr(_health_checks, "time", times)

    def check(resource: Any) -> bool:
        now[0] += 999.98
        return False

    pool, maker = accounted(
        1, check=check, check_after=0, clock=clock, hook_timeout=None, timeout=1000
    )
    pool.put(pool.get())
    maker.gate.clear()
    with pytest.raises(PoolTimeout) as caught:
        pool.get()
    assert 999 < caught.value.waited < 1000.1
    maker.gate.set()


def test_time_of_a_failed_check_is_not_there_for_the_next(
    accounted: Any, monkeypatch: pytest.MonkeyPatch, clock: Any
) -> None:
    """Nor is it when another idle resource is tried: the second check has what is left."""
    now = [time.monotonic()]
    times = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr(_acquiring, "time", times)
    monkeypatch.setattr(_health_checks, "time", times)
    seen: list[Any] = []
    gate = threading.Event()

    def check(resource: Any) -> bool:
        seen.append(resource)
        if len(seen) > 1:
            return gate.wait(3 * PATIENCE)
        now[0] += 999.98
        return False

    pool, _ = accounted(2, check=check, check_after=0, clock=clock, hook_timeout=None, timeout=1000)
    for resource in [pool.get(), pool.get()]:
        pool.put(resource)
    with pytest.raises(PoolTimeout) as caught:
        pool.get()
    assert caught.value.phase == "check"
    eventually(lambda: len(seen) == 2)
    gate.set()


def test_check_of_a_try_that_does_not_wait_has_its_time(accounted: Any, clock: Any) -> None:
    """``timeout=0`` is for waiting: a due check is run, and may take as long as any."""
    seen: list[Any] = []

    def check(resource: Any) -> None:
        time.sleep(0.02)
        seen.append(resource)

    pool, _ = accounted(1, check=check, check_after=0, clock=clock)
    pool.put(pool.get())
    pool.put(pool.get(timeout=0))
    pool.put(pool.get_nowait())
    assert len(seen) == 2


def test_borrower_of_a_bad_resource_keeps_his_position(
    accounted: Any, runner: ThreadRunner, clock: Any
) -> None:
    """He was first, and is the first to have the one that takes its place."""
    begun, gate = threading.Event(), threading.Event()

    def check(resource: Any) -> bool:
        begun.set()
        assert gate.wait(3 * PATIENCE)
        return resource.number > 0

    pool, _ = accounted(1, check=check, check_after=0, clock=clock, hook_timeout=None)
    pool.put(pool.get())
    served: list[str] = []

    def get(name: str) -> None:
        resource = pool.get()
        served.append(name)
        pool.put(resource)

    runner.start(get, "first")
    assert begun.wait(PATIENCE)
    runner.start(get, "second")
    eventually(lambda: pool.stats().waiting == 1)
    gate.set()
    runner.finish()
    assert served == ["first", "second"]


def test_suspended_pool_creates_nothing(accounted: Any, runner: ThreadRunner, clock: Any) -> None:
    """Neither for who waits, nor for ``min_idle``, nor for ``warm``."""
    pool, maker = accounted(3, min_idle=1, clock=clock)
    eventually(lambda: states(pool) == {"idle": 1})
    pool.suspend()
    pool.flush()
    eventually(lambda: states(pool) == {})
    getter = runner.start(take, pool)
    eventually(lambda: pool.stats().waiting == 1)
    with pytest.raises(PoolTimeout):
        pool.warm(2, timeout=0.01)
    wait_for_scheduler()
    clock.advance(2)
    assert maker.calls == 1 and states(pool) == {}
    pool.resume()
    getter.result()
    eventually(lambda: pool.stats().idle >= 1)


def test_hung_creation_holds_up_no_other(
    accounted: Any, runner: ThreadRunner, turns: Turns
) -> None:
    """Past its deadline its permit is the next one's, and it comes back when it returns."""
    pool, _ = accounted(4, turns, max_creating=1, create_timeout=0.05, timeout=None)
    getters = [runner.start(pool.get) for _ in range(2)]
    eventually(lambda: len(turns.turns) == 2)  # one after the other
    stats = pool.stats()
    assert stats.overdue >= 1 and stats.timeouts == stats.overdue
    turns.let_go()
    served = []
    for getter in getters:
        try:
            served.append(getter.result())
        except PoolTimeout as error:
            assert error.phase == "create" and error.waited >= 0.049
    eventually(lambda: pool.stats().overdue == 0 and pool.stats().creating == 0)
    for resource in served:
        pool.put(resource)
    assert pool.stats().timeouts >= 2 - len(served)
