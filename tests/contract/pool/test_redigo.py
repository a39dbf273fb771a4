"""redigo's Pool, field by field, as options of FastPool; and its traps, which are none here.

The words in the tests' names are redigo's: MaxIdle, MaxActive, Wait, IdleTimeout, MaxConnLifetime,
TestOnBorrow, Dial, Close, Stats.  What is told of a server is in integration/test_redigo.py.
"""

from __future__ import annotations

import threading
from typing import Any

import pytest

from fastpool import PoolClosed, PoolError, PoolOverloaded, PoolTimeout, _core
from support.callers import FastPool
from support.helpers import PATIENCE, Maker, ThreadRunner, eventually, states, works

pytestmark = pytest.mark.usefixtures("caller_kind")


class TestMaxIdle:
    """max_idle"""

    def test_zero_keeps_none(self, accounted: Any) -> None:
        """Not "no limit": that is None here."""
        pool, maker = accounted(3, max_idle=0)
        pool.put(pool.get())
        eventually(lambda: maker.closed == 1 and states(pool) == {})

    def test_the_surplus_is_closed_on_return(self, accounted: Any) -> None:
        pool, maker = accounted(5, max_idle=2)
        held = [pool.get() for _ in range(5)]
        for resource in held:
            pool.put(resource)
        eventually(lambda: maker.closed == 3 and states(pool) == {"idle": 2})

    def test_below_the_need_it_is_no_churn(self, accounted: Any, runner: ThreadRunner) -> None:
        """redigo closes and dials anew although somebody waits for just this connection."""
        pool, maker = accounted(1, max_idle=0)
        held = pool.get()
        waiter = runner.start(pool.get)
        eventually(lambda: pool.stats().waiting == 1)
        pool.put(held)
        assert waiter.result() is held and maker.made == 1
        pool.put(held)

    @pytest.mark.threads_only("the caller is held up where a thread can be")
    def test_one_on_its_way_finds_what_was_made_for_it(
        self, accounted: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A factory may be faster than its caller: nobody waits yet, and it is no surplus."""
        pool, maker = accounted(1, max_idle=0)
        manager = _core.manager(getattr(pool, "_real", pool), "test")
        announce_waiter = manager.announce_waiter

        def slowly(*args: Any) -> None:
            announce_waiter(*args)
            eventually(lambda: states(pool) == {"idle": 1})
            manager.maintain()

        monkeypatch.setattr(manager, "announce_waiter", slowly)
        resource = pool.get()
        assert maker.made == 1 and maker.closed == 0
        pool.put(resource)
        eventually(lambda: maker.closed == 1)


class TestMaxActive:
    """maxsize"""

    def test_counts_idle_and_in_use(self, accounted: Any) -> None:
        pool, maker = accounted(3)
        one, other = pool.get(), pool.get()
        pool.put(one)
        assert pool.stats().open == 2
        three = [other, *(pool.get() for _ in range(2))]
        assert len({*three}) == 3 and maker.made == 3
        with pytest.raises(PoolTimeout):
            pool.get(timeout=0)
        for resource in three:
            pool.put(resource)

    def test_zero_is_no_limit(self, accounted: Any) -> None:
        pool, maker = accounted(0)
        held = [pool.get() for _ in range(30)]
        assert maker.made == 30
        for resource in held:
            pool.put(resource)

    @pytest.mark.threads_only("resize is called where the test is")
    def test_may_be_changed_later(self, accounted: Any) -> None:
        """With Wait redigo makes its tokens once, and later edits are ignored."""
        pool, maker = accounted(1)
        maker.cap = 3
        held = [pool.get()]
        pool.resize(3)
        held += [pool.get(timeout=0.5), pool.get(timeout=0.5)]
        with pytest.raises(PoolTimeout):
            pool.get(timeout=0)
        for resource in held:
            pool.put(resource)


class TestWait:
    """timeout, max_waiting"""

    def test_false_is_an_error_at_once(self, accounted: Any) -> None:
        """ErrPoolExhausted"""
        pool, _ = accounted(2, max_waiting=0)
        held = [pool.get(), pool.get()]
        with pytest.raises(PoolOverloaded, match="max_waiting"):
            pool.get()
        pool.put(held.pop())
        assert pool.get(timeout=0) is not None

    def test_false_still_dials(self, accounted: Any) -> None:
        """Who gets a new connection waits for its dial and for nobody."""
        pool, maker = accounted(2, max_waiting=0)
        pool.put(pool.get())
        one, other = pool.get(), pool.get()
        assert one is not other and maker.made == 2

    def test_true_is_first_come_first_served(self, accounted: Any, runner: ThreadRunner) -> None:
        pool, _ = accounted(1)
        held = pool.get()
        served: list[int] = []

        def wait(number: int) -> None:
            resource = pool.get()
            served.append(number)
            pool.put(resource)

        tasks = []
        for number in range(5):
            tasks.append(runner.start(wait, number))
            eventually(lambda: pool.stats().waiting == number + 1)  # noqa: B023
        pool.put(held)
        for task in tasks:
            task.result()
        assert served == [0, 1, 2, 3, 4]

    def test_getcontext_ends_with_its_deadline(self, accounted: Any) -> None:
        """Of waiting, and of dialling."""
        pool, maker = accounted(1)
        held = pool.get()
        with pytest.raises(PoolTimeout) as caught:
            pool.get(timeout=0.02)
        assert caught.value.phase == "wait"
        pool.discard(held)
        eventually(lambda: states(pool) == {})
        maker.gate.clear()
        with pytest.raises(PoolTimeout) as caught:
            pool.get(timeout=0.02)
        assert caught.value.phase == "create"
        maker.gate.set()

    def test_a_deadline_that_is_over_takes_no_slot_with_it(self, accounted: Any) -> None:
        """A token that is granted as the context ends has to come back."""
        pool, _ = accounted(2)
        held = [pool.get(), pool.get()]
        for _ in range(20):
            with pytest.raises(PoolTimeout):
                pool.get(timeout=0.001)
        for resource in held:
            pool.put(resource)
        works(pool, 2)


class TestIdleTimeout:
    """idle_timeout"""

    def test_is_looked_after_without_a_get(self, accounted: Any, clock: Any) -> None:
        """redigo prunes in Get alone: a pool that nobody asks keeps its connections for ever."""
        pool, maker = accounted(3, idle_timeout=60, clock=clock)
        held = [pool.get() for _ in range(3)]
        for resource in held:
            pool.put(resource)
        clock.advance(59)
        assert maker.closed == 0
        clock.advance(2)
        eventually(lambda: maker.closed == 3)
        eventually(lambda: pool.stats().closed == {"idle": 3})

    def test_a_stale_one_is_never_lent(self, accounted: Any, clock: Any) -> None:
        pool, maker = accounted(2, idle_timeout=60, clock=clock)
        old = pool.get()
        pool.put(old)
        clock.advance(61)
        assert pool.get() is not old

    def test_zero_is_off(self, accounted: Any, clock: Any) -> None:
        """None here; 600 s is the default."""
        pool, _ = accounted(1, idle_timeout=None, max_lifetime=None, clock=clock)
        one = pool.get()
        pool.put(one)
        clock.advance(1e6)
        assert pool.get() is one


class TestMaxConnLifetime:
    """max_lifetime"""

    def test_ends_an_idle_one(self, accounted: Any, clock: Any) -> None:
        """Without a Get, and not all at the same moment: up to 10 % earlier."""
        pool, maker = accounted(1, max_lifetime=100, idle_timeout=None, clock=clock)
        pool.put(pool.get())
        clock.advance(89)
        assert maker.closed == 0
        clock.advance(12)
        eventually(lambda: maker.closed == 1)

    def test_never_ends_one_in_use(self, accounted: Any, clock: Any) -> None:
        pool, maker = accounted(1, max_lifetime=100, clock=clock)
        held = pool.get()
        clock.advance(1000)
        assert not held.closed
        pool.put(held)
        eventually(lambda: held.closed)

    def test_is_looked_at_before_testonborrow(self, accounted: Any, clock: Any) -> None:
        """redigo tests first, and closes what it has just found well."""
        tested: list[Any] = []
        pool, maker = accounted(
            1, max_lifetime=100, check=tested.append, check_after=0, idle_timeout=None, clock=clock
        )
        old = pool.get()
        pool.put(old)
        clock.advance(101)
        assert pool.get() is not old
        assert tested == []


class TestTestOnBorrow:
    """check, check_after"""

    def test_only_idle_ones_are_tested(self, accounted: Any, clock: Any) -> None:
        tested: list[Any] = []
        pool, _ = accounted(1, check=tested.append, check_after=0, clock=clock)
        one = pool.get()
        assert tested == []  # it was dialled just now
        pool.put(one)
        pool.put(pool.get())
        assert tested == [one]

    def test_an_error_closes_it_and_the_next_is_tried(self, accounted: Any) -> None:
        def ping(resource: Any) -> None:
            if not resource.healthy:
                raise ConnectionResetError

        pool, maker = accounted(3, check=ping, check_after=0)
        held = [pool.get() for _ in range(3)]
        held[1].healthy = held[2].healthy = False
        for resource in held:
            pool.put(resource)
        assert pool.get() is held[0]
        eventually(lambda: held[1].closed or held[2].closed)
        held[0].healthy = False
        pool.put(held[0])
        eventually(lambda: pool.stats().checking == 0)
        fresh = pool.get()
        assert fresh not in held and maker.made == 4

    def test_lastused_is_check_after(self, accounted: Any, clock: Any) -> None:
        """`if time.Since(t) < time.Minute { return nil }` is an option."""
        tested: list[Any] = []
        pool, _ = accounted(1, check=tested.append, check_after=60, clock=clock)
        pool.put(pool.get())
        clock.advance(59)
        pool.put(pool.get())
        assert tested == []
        clock.advance(61)
        pool.put(pool.get())
        assert len(tested) == 1

    def test_a_slow_one_keeps_nobody_else(
        self, accounted: Any, runner: ThreadRunner, clock: Any
    ) -> None:
        """It runs outside any lock."""
        testing, go_on = threading.Event(), threading.Event()

        def ping(resource: Any) -> None:
            testing.set()
            go_on.wait(PATIENCE)

        pool, _ = accounted(2, check=ping, check_after=0, clock=clock)
        pool.put(pool.get())
        slow = runner.start(pool.get)
        eventually(testing.is_set)
        pool.put(pool.get(timeout=10))  # a fresh one
        go_on.set()
        pool.put(slow.result())

    def test_a_panic_in_it_leaks_no_slot(self, accounted: Any, clock: Any) -> None:
        """In redigo MaxActive is one less from then on."""

        def panic(resource: Any) -> None:
            raise SystemExit("in the check")

        pool, maker = accounted(1, check=panic, check_after=0, clock=clock)
        for _ in range(20):
            pool.put(pool.get(timeout=10))  # the idle one fails its check, and a new one is made
        eventually(lambda: states(pool) == {"idle": 1})
        assert maker.closed == maker.made - 1 == 19


class TestDial:
    """factory"""

    def test_neither_dial_nor_dialcontext_is_told_at_once(self) -> None:
        """redigo tells whoever calls Get.  Without a factory a FastPool is a queue."""
        with pytest.raises(TypeError, match="means nothing without a factory"):
            FastPool(3, max_idle=2)
        with pytest.raises(TypeError, match="factory must be callable"):
            FastPool(3, factory="127.0.0.1:6379")

    @pytest.mark.parametrize("panic", [RuntimeError, SystemExit, KeyboardInterrupt, GeneratorExit])
    def test_a_panic_in_it_leaks_no_slot(
        self, accounted: Any, caller_kind: Any, panic: type[BaseException]
    ) -> None:
        """In redigo a panic skips the line that counts down, and MaxActive is one less for good."""
        if caller_kind.name != "threads" and not issubclass(panic, Exception):
            pytest.skip("an event loop ends with what is no Exception")
        pool, maker = accounted(2)
        maker.broken = panic
        for _ in range(10):
            with pytest.raises(panic):
                pool.get(timeout=10)
        maker.broken = None
        eventually(lambda: states(pool) == {})
        works(pool, 2)

    def test_an_error_is_raised_by_get(self, accounted: Any) -> None:
        """redigo's Get never fails: it returns a connection all of whose methods do."""
        pool, maker = accounted(2)
        failure = ConnectionRefusedError("no server")
        maker.script.append(failure)
        with pytest.raises(ConnectionRefusedError) as caught:
            with pool.lease():
                raise AssertionError("not reached")
        assert caught.value is failure

    def test_one_that_fails_does_not_fail_the_others(
        self, accounted: Any, runner: ThreadRunner
    ) -> None:
        pool, maker = accounted(4)
        maker.gate.clear()
        maker.script.append(OSError("this one"))
        tasks = [runner.start(pool.get) for _ in range(4)]
        eventually(lambda: maker.running == 4)
        maker.gate.set()
        outcomes = []
        for task in tasks:
            try:
                outcomes.append(task.result())
            except OSError:
                outcomes.append(None)
        # One whose try fails may have got another's connection by then: there is one more try.
        assert outcomes.count(None) == 5 - maker.calls
        for resource in filter(None, outcomes):
            pool.put(resource)


class TestConnClose:
    """put, or the end of a lease"""

    def test_undoes_what_is_left_over(self, accounted: Any) -> None:
        """MULTI, WATCH, SUBSCRIBE: reset."""
        undone: list[Any] = []
        pool, _ = accounted(1, reset=undone.append)
        with pool.lease() as connection:
            assert undone == []
        eventually(lambda: undone == [connection])

    def test_a_state_that_cannot_be_undone_closes(self, accounted: Any) -> None:
        def undo(resource: Any) -> None:
            raise OSError("still subscribed")

        pool, maker = accounted(1, reset=undo)
        with pool.lease():
            pass
        eventually(lambda: maker.closed == 1)
        eventually(lambda: pool.stats().closed == {"reset": 1})

    def test_err_closes(self, accounted: Any) -> None:
        """`Err() != nil`: the exception that left the block; or say so."""
        pool, maker = accounted(1)
        with pytest.raises(ConnectionResetError):
            with pool.lease():
                raise ConnectionResetError
        eventually(lambda: maker.closed == 1)
        with pool.lease() as connection:
            pool.discard(connection)
        eventually(lambda: maker.closed == 2)

    def test_an_answer_that_is_an_error_does_not(self, accounted: Any) -> None:
        """-WRONGTYPE says nothing about the connection."""
        pool, maker = accounted(1)
        with pytest.raises(ValueError, match="WRONGTYPE"):
            with pool.lease():
                raise ValueError("WRONGTYPE")
        assert maker.closed == 0
        works(pool, 1)

    def test_twice_gives_it_back_once(self, accounted: Any) -> None:
        """A second Close does nothing in redigo; here it is an error, and does nothing."""
        pool, _ = accounted(2)
        lease = pool.acquire()
        lease.release()
        with pytest.raises(PoolError, match="released"):
            lease.release()
        one = pool.get()
        pool.put(one)
        with pytest.raises(ValueError, match="not lent out at this moment"):
            pool.put(one)
        works(pool, 2)

    def test_twice_does_not_take_it_from_the_next_one(self, accounted: Any) -> None:
        """A lease knows that it is over; what it held is somebody else's by now."""
        pool, _ = accounted(1)
        first = pool.acquire()
        first.release()
        second = pool.acquire()
        with pytest.raises(PoolError):
            first.release()
        with pytest.raises(PoolTimeout):
            pool.get(timeout=0)
        second.release()


@pytest.mark.threads_only("close is called where the test is")
class TestPoolClose:
    """close"""

    def test_is_idempotent(self, accounted: Any) -> None:
        pool, maker = accounted(2)
        pool.put(pool.get())
        assert pool.close() is True and pool.close() is True
        assert maker.closed == 1

    def test_closes_what_is_in_use_when_it_comes_back(self, accounted: Any) -> None:
        pool, _ = accounted(2)
        idle, held = pool.get(), pool.get()
        pool.put(idle)
        assert pool.close(timeout=0) is False
        assert idle.closed and not held.closed
        pool.put(held)
        assert held.closed

    def test_wakes_those_who_wait(self, accounted: Any, runner: ThreadRunner) -> None:
        pool, _ = accounted(1)
        held = pool.get()
        waiters = [runner.start(pool.get).parked() for _ in range(3)]
        pool.close(timeout=0)
        for waiter in waiters:
            with pytest.raises(PoolClosed):
                waiter.result()
        pool.put(held)

    def test_get_after_it_is_an_error(self, accounted: Any) -> None:
        pool, _ = accounted(1)
        pool.close()
        with pytest.raises(PoolClosed):
            pool.get()


class TestStats:
    """stats"""

    def test_counts_what_redigo_counts(self, accounted: Any, runner: ThreadRunner) -> None:
        """ActiveCount (idle included), IdleCount, WaitCount, WaitDuration: of one moment, exact."""
        pool, _ = accounted(2)
        one, other = pool.get(), pool.get()
        waiter = runner.start(pool.get)
        eventually(lambda: pool.stats().waiting == 1)
        pool.put(one)
        waiter.result()
        pool.put(other)
        stats = pool.stats()
        assert (stats.open, stats.idle, stats.leased) == (2, 1, 1)
        assert stats.wait_time.count >= 1 and stats.wait_time.total > 0
        pool.put(one)


@pytest.mark.threads_only("what is under way is a worker's")
def test_a_slot_is_free_when_its_connection_is_really_closed() -> None:
    """MaxActive holds on the server's side too: a connection that is being closed counts."""
    maker = Maker(cap=1)
    pool = FastPool(1, factory=maker, max_waiting=0)
    runner = ThreadRunner()
    held = pool.get()
    maker.close_gate.clear()
    closing = runner.start(pool.discard, held)
    eventually(lambda: states(pool) == {"closing": 1})
    with pytest.raises(PoolOverloaded):
        pool.get()
    maker.close_gate.set()
    closing.result()
    works(pool, 1)
    pool.close()
    assert not maker.faults and maker.open == 0
