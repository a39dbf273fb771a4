"""The threads of a pool: how many there are, in which order they work, and when they end."""

from __future__ import annotations

import threading
import time
import weakref
from typing import Any

import pytest

from fastpool._runtime import scheduler, threads
from support.helpers import PATIENCE, Maker, ThreadRunner, eventually, states, wait_for_scheduler


def threads_of(name: str) -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith(f"fastpool-{name}-")]


class Checks:
    """A check hook: who is inside, and who has been; each hangs until ``opened``."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.begun: list[Any] = []
        self.inside: list[Any] = []
        self.peak = 0
        self._lock = threading.Lock()

    def __call__(self, resource: Any) -> None:
        with self._lock:
            self.begun.append(resource)
            self.inside.append(resource)
            self.peak = max(self.peak, len(self.inside))
        assert self.opened.wait(3 * PATIENCE)
        with self._lock:
            self.inside.remove(resource)


@pytest.fixture
def checks(accounted: Any) -> Any:
    checks = Checks()
    yield checks
    checks.opened.set()


def filled(pool: Any, n: int) -> list[Any]:
    taken = [pool.get() for _ in range(n)]
    for resource in taken:
        pool.put(resource)
    return taken


def test_idle_thread_is_counted_on_once(accounted: Any, runner: ThreadRunner) -> None:
    """Two creations at a time have two threads, though one of them is there already."""
    pool, maker = accounted(3, max_creating=2)
    pool.discard(pool.get())
    eventually(lambda: not maker.running)
    for _ in range(2):
        maker.gate.clear()
        getters = [runner.start(pool.get) for _ in range(2)]
        eventually(lambda: maker.running == 2)
        maker.gate.set()
        for getter in getters:
            pool.discard(getter.result())


def test_checks_run_as_many_at_a_time_as_creations_may(
    accounted: Any, runner: ThreadRunner, checks: Checks, clock: Any
) -> None:
    """The others are in the queue for a thread, and their resources away already."""
    pool, _ = accounted(
        5, check=checks, check_after=0, clock=clock, max_creating=2, hook_timeout=None
    )
    filled(pool, 5)
    getters = [runner.start(pool.get) for _ in range(5)]
    eventually(lambda: len(checks.inside) == 2 and states(pool) == {"checking": 5})
    wait_for_scheduler()
    checks.opened.set()
    for resource in [getter.result() for getter in getters]:
        pool.put(resource)
    assert checks.peak == 2


def test_checks_are_made_in_the_order_of_their_borrowers(
    accounted: Any, runner: ThreadRunner, checks: Checks, clock: Any
) -> None:
    """Nobody's is put off by those who come later."""
    pool, _ = accounted(
        4, check=checks, check_after=0, clock=clock, max_creating=1, hook_timeout=None
    )
    filled(pool, 4)
    got: list[tuple[int, Any]] = []

    def get(number: int) -> None:
        resource = pool.get()
        got.append((number, resource))

    for number in range(4):
        task = runner.start(get, number)
        eventually(lambda n=number: pool.stats().checking == n + 1)
        task.parked()  # it has asked for its check, and waits for the answer
        wait_for_scheduler()
    checks.opened.set()
    runner.finish()
    by_number = [resource for _, resource in sorted(got, key=lambda pair: pair[0])]
    assert checks.begun == by_number
    for resource in by_number:
        pool.put(resource)


def test_thread_that_stood_in_for_a_stuck_one_goes_when_that_is_back(
    accounted: Any,
    runner: ThreadRunner,
    checks: Checks,
    monkeypatch: pytest.MonkeyPatch,
    clock: Any,
) -> None:
    """Then no more checks run at a time than before."""
    monkeypatch.setattr(threads, "LINGER", 1e6)
    pool, _ = accounted(
        4, check=checks, check_after=0, clock=clock, max_creating=1, hook_timeout=0.02
    )
    filled(pool, 4)
    for _ in range(2):
        with pytest.raises(Exception, match="check"):
            pool.get()
    eventually(lambda: len(checks.inside) == 2 and pool.stats().overdue == 2)
    checks.opened.set()
    eventually(lambda: states(pool) == {"idle": 4} and pool.stats().overdue == 0)
    eventually(lambda: len([t for t in threads_of(pool.name) if "check" in t.name]) == 1)


def test_threads_are_named_after_their_pool_and_work(accounted: Any, clock: Any) -> None:
    """And none of them keeps the process from ending."""
    names: list[str] = []

    def note(*args: Any) -> None:
        names.append(threading.current_thread().name)

    maker = Maker()
    pool, _ = accounted(
        1, maker, factory=lambda: [note(), maker()][1], check=note, keepalive=60, name="shop",
        close=lambda resource: [note(), resource.close()], idle_timeout=100, clock=clock,
    )  # fmt: skip
    pool.put(pool.get())
    clock.advance(61)
    clock.advance(61)
    eventually(lambda: states(pool) == {})
    assert names == [f"fastpool-shop-{work}" for work in ("create", "check", "close")]
    assert all(thread.daemon for thread in threads_of("shop"))


def test_idle_threads_end_after_a_while(accounted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And are started anew when there is work."""
    assert 0 < threads.LINGER <= 10
    monkeypatch.setattr(threads, "LINGER", 0.01)
    pool, maker = accounted(1)
    for made in (1, 2, 3):
        pool.discard(pool.get())
        assert maker.made == made
        eventually(lambda: threads_of(pool.name) == [])


@pytest.mark.parametrize("late", [False, True])
def test_threads_end_with_their_pool(
    accounted: Any, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """Idle ones at once, even if something was leased when it was closed."""
    monkeypatch.setattr(threads, "LINGER", 1e6)
    pool, _ = accounted(3)
    taken = [pool.get() for _ in range(3)]
    assert len(threads_of(pool.name)) >= 1
    if late:
        assert pool.close(timeout=0) is False
    for resource in taken:
        pool.put(resource)
    assert pool.close() is True
    eventually(lambda: threads_of(pool.name) == [])


def test_threads_end_with_a_pool_that_has_nothing_open(
    accounted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no last resource then whose end could tell them."""
    monkeypatch.setattr(threads, "LINGER", 1e6)
    pool, _ = accounted(1)
    pool.discard(pool.get())
    wait_for_scheduler()
    assert pool.stats().open == 0 and len(threads_of(pool.name)) == 1
    assert pool.close() is True
    eventually(lambda: threads_of(pool.name) == [])


def test_thread_at_work_ends_when_it_is_done(
    accounted: Any, runner: ThreadRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was busy when its pool was closed."""
    monkeypatch.setattr(threads, "LINGER", 1e6)
    pool, maker = accounted(1)
    maker.gate.clear()
    getter = runner.start(pool.get)
    getter.seen = True
    eventually(lambda: maker.running == 1)
    pool.close(timeout=0)
    maker.gate.set()
    eventually(lambda: threads_of(pool.name) == [])
    assert pool.close() is True


def test_busy_thread_does_what_it_was_given_before_it_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It finds out that it was told to end when it is done."""
    monkeypatch.setattr(threads, "LINGER", 1e6)
    workers = threads.ThreadGroup("fastpool-busy-work", 1)
    begun, go_on = threading.Event(), threading.Event()
    done: list[int] = []
    workers.submit(lambda: [begun.set(), go_on.wait(PATIENCE), done.append(1)])
    workers.submit(done.append, 2)
    assert begun.wait(PATIENCE)
    workers.stop()
    assert not workers.wait_idle(0)
    go_on.set()
    assert workers.wait_idle(PATIENCE) and done == [1, 2]
    eventually(lambda: threads_of("busy") == [])


def test_idle_thread_keeps_nothing_alive(collect: Any) -> None:
    """Neither what it worked for last."""
    from fastpool import FastPool

    class Resource:
        pass

    pool: Any = FastPool(1, factory=Resource, check=lambda resource: None, check_after=0)
    pool.put(pool.get())
    resource = pool.get()
    gone = weakref.ref(resource)
    pool.discard(resource)
    del resource
    eventually(lambda: [collect(), gone() is None][1])
    pool.close()


def test_collected_pool_is_closed_by_a_thread_for_such_pools(collect: Any) -> None:
    """A close hook may take long: it is not the scheduler's to wait for it."""
    from fastpool import FastPool

    names: list[str] = []
    pool: Any = FastPool(
        2, factory=object, close=lambda _: names.append(threading.current_thread().name), name="x"
    )
    for resource in [pool.get(), pool.get()]:
        pool.put(resource)
    del resource
    with pytest.warns(ResourceWarning, match="unclosed fastpool 'x' with 2 open"):
        del pool
        collect()
    eventually(lambda: names == ["fastpool-close"] * 2)


class TestScheduler:
    def test_it_goes_on_after_a_fault(self, caplog: pytest.LogCaptureFixture) -> None:
        """All pools of the process live by it."""
        error = KeyboardInterrupt("a fault")

        def fail() -> None:
            raise error

        scheduler.call_soon(fail)
        wait_for_scheduler()
        (record,) = [r for r in caplog.records if r.exc_info and r.exc_info[1] is error]
        assert record.name == "fastpool" and record.levelname == "ERROR"

    def test_it_keeps_deadlines_in_their_order(self) -> None:
        """However they were told to it; none before its time."""
        seen: list[int] = []
        early: list[int] = []
        done = threading.Event()
        now = time.monotonic()
        times = [0.06, 0.02, 0.05, 0.03, 0.04]

        def note(number: int) -> None:
            seen.append(number)
            if time.monotonic() < now + times[number]:
                early.append(number)
            if len(seen) == len(times):
                done.set()

        for number, after in enumerate(times):
            scheduler.call_at(now + after, note, number)
        assert done.wait(PATIENCE)
        assert [times[number] for number in seen] == sorted(times) and early == []

    def test_its_deadlines_keep_nobody_alive(self, collect: Any) -> None:
        """A pool that waits for one can be collected."""

        class Owner:
            def due(self) -> None:
                raise AssertionError

        owner = Owner()
        gone = weakref.ref(owner)
        scheduler.call_at(time.monotonic() + 1000, owner.due)
        wait_for_scheduler()
        del owner
        eventually(lambda: [collect(), gone() is None][1])
