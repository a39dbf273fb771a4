"""From the first resource to the last: close, suspend, flush, resize, warm."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any

import pytest

from fastpool import PoolClosed, PoolTimeout, _core
from fastpool.pool._manager import Manager
from support.callers import FastPool
from support.helpers import PATIENCE, ThreadRunner, consistent, eventually, states, works

pytestmark = pytest.mark.usefixtures("caller_kind")


class TestClose:
    def test_close_closes_what_is_idle_and_says_so(self, accounted: Any) -> None:
        """With nothing lent out close returns True, and everything is closed by then."""
        pool, maker = accounted(3)
        taken = [pool.get() for _ in range(3)]
        for resource in taken:
            pool.put(resource)
        assert pool.close() is True
        assert maker.closed == 3 and states(pool) == {}
        assert pool.closed and pool.is_shutdown

    def test_close_may_be_called_again_and_from_any_thread(
        self, accounted: Any, runner: ThreadRunner
    ) -> None:
        """Idempotent: each call says whether all is closed."""
        pool, maker = accounted(1)
        lease = pool.acquire()
        assert pool.close(timeout=0) is False
        assert runner.start(pool.close, 0).result() is False
        lease.release()
        assert [pool.close(), runner.start(pool.close).result()] == [True, True]
        assert maker.closed == 1

    def test_close_wakes_every_waiter(self, accounted: Any, runner: ThreadRunner) -> None:
        """Who waits leaves with PoolClosed at once; nobody stays behind."""
        pool, _ = accounted(1)
        lease = pool.acquire()
        waiters = [runner.start(pool.get) for _ in range(4)]
        eventually(lambda: pool.stats().waiting == 4)
        pool.close(timeout=0)
        for waiter in waiters:
            with pytest.raises(PoolClosed):
                waiter.result()
        lease.release()

    def test_close_waits_for_the_borrowers(self, accounted: Any, runner: ThreadRunner) -> None:
        """Borrowers have until the timeout to give back; then close returns True."""
        pool, maker = accounted(1)
        lease = pool.acquire()
        closer = runner.start(pool.close, 30)
        eventually(lambda: pool.closed)
        assert closer.running and not lease.resource.closed, "never closed in use"
        lease.release()
        assert closer.result() is True and maker.closed == 1

    def test_close_closes_what_is_idle_before_it_waits(
        self, accounted: Any, runner: ThreadRunner
    ) -> None:
        """Nobody else is to have it; and whoever closes the pool too is told when all is closed."""
        pool, maker = accounted(2)
        lease, idle = pool.acquire(), pool.get()
        pool.put(idle)
        closers = [runner.start(pool.close, 30) for _ in range(2)]
        eventually(lambda: idle.closed)
        assert all(closer.running for closer in closers)
        lease.release()
        assert [closer.result() for closer in closers] == [True, True]

    def test_close_gives_up_after_its_timeout(self, accounted: Any, runner: ThreadRunner) -> None:
        """Then it returns False; what is still lent is closed when it comes back."""
        pool, maker = accounted(1)
        lease = runner.start(pool.acquire).result()
        start = time.monotonic()
        assert pool.close(timeout=0.02) is False
        assert time.monotonic() - start >= 0.019
        assert maker.closed == 0 and states(pool) == {"leased": 1}
        resource = lease.resource
        lease.release()
        eventually(lambda: resource.closed and states(pool) == {})

    def test_close_does_not_wait_for_the_caller_himself(self, accounted: Any) -> None:
        """A thread that closes inside its own block would wait for itself for ever."""
        pool, maker = accounted(1)
        with pool.lease() as resource:
            start = time.monotonic()
            assert pool.close(timeout=3 * PATIENCE) is False
            assert time.monotonic() - start < PATIENCE
            assert not resource.closed
        eventually(lambda: resource.closed)

    def test_close_ends_the_wait_for_a_creation(self, accounted: Any, runner: ThreadRunner) -> None:
        """The borrower is told at once; the resource that comes late is closed."""
        pool, maker = accounted(1)
        maker.gate.clear()
        waiter = runner.start(pool.get)
        eventually(lambda: maker.running == 1)
        assert pool.close(timeout=0) is False
        with pytest.raises(PoolClosed):
            waiter.result()
        maker.gate.set()
        eventually(lambda: maker.made == maker.closed == 1)
        eventually(lambda: states(pool) == {})
        assert pool.close() is True

    @pytest.mark.parametrize(("error", "timeout"), [(None, 5.0), (ValueError, 0)])
    def test_leaving_a_with_block_by_an_exception_does_not_wait(
        self, accounted: Any, runner: ThreadRunner, monkeypatch: Any, error: Any, timeout: float
    ) -> None:
        """When an exception is passing, borrowers elsewhere do not hold it up; else they have the
        time that close() gives them."""
        pool, _ = accounted(1)
        lease = runner.start(pool.acquire).result()
        given: list[Any] = []
        close = Manager.close

        def at_once(manager: Manager, timeout: Any, *me: Any) -> bool:
            given.append(timeout)
            return close(manager, 0, *me)

        with monkeypatch.context() as patched:
            patched.setattr(Manager, "close", at_once)
            with suppress(ValueError), pool:
                if error:
                    raise error
        assert given == [timeout]
        assert pool.closed
        lease.release()

    def test_a_close_hook_may_use_the_pool(self) -> None:
        """User code runs under no lock: a hook that looks at its pool does not deadlock."""
        seen: list[Any] = []
        pool: Any = FastPool(1, factory=object, close=lambda resource: seen.append(pool.stats()))
        pool.put(pool.get())
        assert pool.close() is True
        assert len(seen) == 1 and consistent(seen[0])


class TestPauses:
    def test_a_suspended_pool_lends_nothing(self, accounted: Any) -> None:
        """Gets wait until resume or their timeout, although a resource is idle."""
        pool, _ = accounted(2)
        pool.put(pool.get())
        pool.suspend()
        for take in (pool.get_nowait, lambda: pool.get(timeout=0.01)):
            with pytest.raises(PoolTimeout):
                take()
        assert states(pool) == {"idle": 1}
        pool.resume()
        works(pool, 2)

    def test_resume_serves_who_has_waited(self, accounted: Any, runner: ThreadRunner) -> None:
        """All whom the pool can serve go on at once."""
        pool, _ = accounted(2)
        pool.suspend()
        waiters = [runner.start(pool.get) for _ in range(2)]
        eventually(lambda: pool.stats().waiting == 2)
        pool.resume()
        for waiter in waiters:
            pool.put(waiter.result())

    @pytest.mark.threads_only("the scheduler is held up, whoever asks")
    def test_no_creation_is_started_once_it_is_suspended(
        self, accounted: Any, runner: ThreadRunner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One that is being started is started first: suspend() waits so long."""
        pool, maker = accounted(1)
        manager = _core.manager(getattr(pool, "_real", pool), "test")
        goal, at_it, go_on = manager.creator.goal, threading.Event(), threading.Event()

        def slowly(background_demand: int) -> Any:
            at_it.set()
            go_on.wait(PATIENCE)
            return goal(background_demand)

        monkeypatch.setattr(manager.creator, "goal", slowly)
        caller = runner.start(pool.acquire)
        assert at_it.wait(PATIENCE)
        suspending = runner.start(pool.suspend).parked()
        go_on.set()
        suspending.result()
        eventually(lambda: maker.made == 1)
        pool.resume()
        caller.result().release()

    def test_returns_work_while_suspended(self, accounted: Any, runner: ThreadRunner) -> None:
        """What comes back becomes idle and is not handed to a waiter before resume."""
        pool, _ = accounted(1)
        resource = pool.get()
        pool.suspend()
        waiter = runner.start(pool.get)
        eventually(lambda: pool.stats().waiting == 1)
        pool.put(resource)
        assert states(pool) == {"idle": 1} and waiter.running
        pool.resume()
        assert waiter.result() is resource
        pool.put(resource)

    def test_suspend_and_resume_may_be_repeated(self, accounted: Any) -> None:
        """Twice suspended is suspended; one resume ends it."""
        pool, _ = accounted(1)
        pool.suspend()
        pool.suspend()
        pool.resume()
        works(pool, 1)
        pool.resume()
        works(pool, 1)

    def test_a_suspended_pool_can_be_closed(self, accounted: Any, runner: ThreadRunner) -> None:
        """close wakes those who wait for resume."""
        pool, _ = accounted(1)
        pool.suspend()
        waiter = runner.start(pool.get)
        eventually(lambda: pool.stats().waiting == 1)
        assert pool.close() is True
        with pytest.raises(PoolClosed):
            waiter.result()


class TestFlush:
    def test_flush_retires_every_open_resource(self, accounted: Any) -> None:
        """Idle ones are closed now, leased ones when they come back; new ones are not touched."""
        pool, maker = accounted(3)
        leased, idle = pool.get(), pool.get()
        pool.put(idle)
        pool.flush()
        eventually(lambda: idle.closed and states(pool) == {"leased": 1})
        assert not leased.closed
        fresh = pool.get()
        pool.put(fresh)
        pool.put(leased)
        eventually(lambda: leased.closed and states(pool) == {"idle": 1})
        assert not fresh.closed

    def test_flush_leaves_alone_what_was_made_after_it(
        self, accounted: Any, runner: ThreadRunner, clock: Any
    ) -> None:
        """A resource is flushed once: what takes its place is as good as any."""
        pool, maker = accounted(2, clock=clock)
        taken = [pool.get(), pool.get()]
        pool.flush()
        for resource in taken:
            pool.put(resource)
        eventually(lambda: maker.closed == 2)
        works(pool, 2)
        works(pool, 2)
        clock.advance(1)
        assert maker.made == 4 and maker.closed == 2

    def test_flush_of_an_empty_pool_does_nothing(self, accounted: Any) -> None:
        """What is made after flush is not what flush was about."""
        pool, maker = accounted(1)
        pool.flush()
        works(pool, 1)
        assert maker.made == 1 and maker.closed == 0


class TestResize:
    def test_growing_serves_waiters_at_once(self, accounted: Any, runner: ThreadRunner) -> None:
        """New slots go to those who wait."""
        pool, maker = accounted(1)
        maker.cap = 3
        first = pool.get()
        waiters = [runner.start(pool.get) for _ in range(2)]
        eventually(lambda: pool.stats().waiting == 2)
        pool.resize(3)
        assert pool.maxsize == 3
        for resource in [first, *(waiter.result() for waiter in waiters)]:
            pool.put(resource)
        works(pool, 3)

    def test_shrinking_closes_surplus_idle_resources(self, accounted: Any) -> None:
        """As many idle ones are closed as are too many."""
        pool, maker = accounted(4)
        taken = [pool.get() for _ in range(4)]
        for resource in taken:
            pool.put(resource)
        pool.resize(2)
        eventually(lambda: maker.closed == 2 and states(pool) == {"idle": 2} and pool.maxsize == 2)
        maker.cap = 2
        works(pool, 2)

    def test_shrinking_closes_what_was_idle_longest(self, accounted: Any, clock: Any) -> None:
        """What was used last is the most likely to be used next."""
        pool, maker = accounted(3, clock=clock)
        first, second, third = taken = [pool.get() for _ in range(3)]
        assert taken == maker.all
        for resource in (second, third, first):
            pool.put(resource)
            clock.advance(1)
        assert pool.resize(1) in (None, 1)
        assert maker.closings == [second, third]
        maker.cap = 1
        works(pool, 1)

    def test_shrinking_counts_what_is_being_closed_already(
        self, accounted: Any, runner: ThreadRunner, clock: Any
    ) -> None:
        """Its slot will be free without any more closing."""
        pool, maker = accounted(3, clock=clock, idle_timeout=100)
        taken = [pool.get() for _ in range(3)]
        maker.close_gate.clear()
        pool.put(taken[0])
        clock.advance(101, settle=0)
        eventually(lambda: states(pool) == {"closing": 1, "leased": 2})
        pool.put(taken[1])
        pool.put(taken[2])
        pool.resize(2)
        assert states(pool) == {"closing": 1, "idle": 2}
        maker.close_gate.set()
        eventually(lambda: states(pool) == {"idle": 2})

    def test_shrinking_closes_surplus_leased_resources_on_return(self, accounted: Any) -> None:
        """What is in use is never closed; the pool gets down to its size as they come back."""
        pool, maker = accounted(3)
        taken = [pool.get() for _ in range(3)]
        pool.resize(1)
        assert maker.closed == 0
        with pytest.raises(PoolTimeout):
            pool.get(timeout=0.01)
        for resource in taken:
            pool.put(resource)
        eventually(lambda: maker.closed == 2 and states(pool) == {"idle": 1})
        maker.cap = 1
        works(pool, 1)

    def test_shrinking_twice_retires_no_more_than_once(self, accounted: Any) -> None:
        """What the first resize has marked counts for the second."""
        pool, maker = accounted(4)
        held = [pool.get() for _ in range(4)]
        pool.resize(3)
        pool.resize(2)
        for resource in held:
            pool.put(resource)
        eventually(lambda: maker.closed == 2 and pool.stats().open == 2)

    def test_what_flush_has_marked_keeps_no_idle_one_above_the_cap(self, accounted: Any) -> None:
        """Resources that are to be closed on return are open until then, and count."""
        pool, maker = accounted(4)
        held = [pool.get() for _ in range(3)]
        pool.flush()
        pool.put(pool.get())
        pool.resize(1)
        eventually(lambda: maker.closed == 1 and pool.stats().idle == 0)
        for resource in held:
            pool.put(resource)
        eventually(lambda: maker.closed == 4)
        works(pool, 1)

    def test_assigning_maxsize_is_resizing(self, accounted: Any) -> None:
        """The attribute of the standard queue is the pool's cap."""
        pool, maker = accounted(1)
        maker.cap = 2
        pool.maxsize = 2
        works(pool, 2)

    def test_resizing_to_zero_lifts_the_cap(self, accounted: Any) -> None:
        """0 is no cap, as at construction."""
        pool, maker = accounted(1)
        maker.cap = float("inf")
        pool.resize(0)
        works(pool, 5)


class TestWarm:
    def test_warm_opens_resources_ahead_of_demand(self, accounted: Any) -> None:
        """After warm(n) n resources are open and ready; a second call adds nothing."""
        pool, maker = accounted(4)
        pool.warm(3)
        eventually(lambda: states(pool) == {"idle": 3})
        pool.warm(3)
        assert maker.made == 3
        works(pool, 4)

    def test_warm_does_not_exceed_the_cap(self, accounted: Any) -> None:
        """maxsize is the most that can be warmed."""
        pool, maker = accounted(2)
        try:
            pool.warm(10)
        except ValueError as error:
            assert "2" in str(error)
        assert maker.made <= 2
