"""The buffered-channel pool of Go, as in fatih/pool and silenceper/pool, by two options.

`FastPool(0, factory=..., max_idle=n)`: as many open as are wanted, so many kept.  Each test is
named after what the original does, or after a trap of it that is none here.
"""

from __future__ import annotations

from typing import Any

import pytest

from fastpool import PoolClosed, PoolOverloaded
from support.helpers import GIL, Maker, ThreadRunner, eventually, states

pytestmark = pytest.mark.usefixtures("caller_kind")


@pytest.fixture
def channel(accounted: Any) -> Any:
    """`pool, maker = channel(n)`: n idle at most, open without a bound."""

    def make(most_idle: int, **options: Any) -> tuple[Any, Maker]:
        pool, maker = accounted(0, max_idle=most_idle, **options)
        return pool, maker

    return make


class TestGet:
    def test_an_idle_one_or_else_the_factory(self, channel: Any) -> None:
        """A non-blocking receive; the factory if the channel is empty."""
        pool, maker = channel(2)
        one = pool.get()
        pool.put(one)
        assert pool.get() is one
        assert pool.get() is not one
        assert maker.made == 2

    def test_never_waits_for_another_borrower(self, channel: Any) -> None:
        """Idle is bounded, open is not: fifty at once, and nobody gives one back."""
        pool, maker = channel(2)
        held = {pool.get(timeout=10) for _ in range(50)}
        assert len(held) == 50 and maker.made == 50
        assert states(pool) == {"leased": 50}

    def test_a_slow_dial_stalls_nobody(self, channel: Any, runner: ThreadRunner) -> None:
        """silenceper calls the factory under the lock of the pool."""
        pool, maker = channel(2)
        kept = [pool.get(), pool.get()]
        maker.gate.clear()
        dialling = runner.start(pool.get)
        eventually(lambda: maker.running == 1)
        for resource in kept:  # one goes to the waiter, the other is kept
            pool.put(resource)
        assert dialling.result() in kept
        another = pool.get(timeout=10)
        assert another in kept
        pool.put(another)
        maker.gate.set()

    def test_dials_go_on_beside_each_other(self, channel: Any, runner: ThreadRunner) -> None:
        """As many at once as there are callers: nothing is limited that is not asked for."""
        pool, maker = channel(2)
        maker.gate.clear()
        tasks = [runner.start(pool.get) for _ in range(8)]
        eventually(lambda: maker.running == 8)
        maker.gate.set()
        assert len({task.result() for task in tasks}) == 8

    def test_a_failing_factory_is_raised_and_nothing_stays_open(self, channel: Any) -> None:
        """The number of open connections does not creep up with each failure."""
        pool, maker = channel(2)
        maker.broken = ConnectionRefusedError
        for _ in range(20):
            with pytest.raises(ConnectionRefusedError):
                pool.get()
        eventually(lambda: states(pool) == {})
        maker.broken = None
        assert pool.get() in maker.all

    def test_fifo_is_to_be_had(self, channel: Any) -> None:
        """The order of a channel; the default lets a pool shrink after a burst."""
        if not GIL:
            pytest.skip("free-threaded: order is a preference in pool use")
        for order, step in (("fifo", 1), ("lifo", -1)):
            pool, _ = channel(3, order=order)
            three = [pool.get() for _ in range(3)]
            for resource in three:
                pool.put(resource)
            again = [pool.get() for _ in range(3)]
            assert again == three[::step]
            for resource in again:
                pool.put(resource)

    def test_silenceper_maxcap_is_an_error_at_once(self, accounted: Any) -> None:
        """MaxCap bounds what is open: maxsize. Nobody waits there: max_waiting."""
        pool, _ = accounted(2, max_idle=1, max_waiting=0)
        held = [pool.get(), pool.get()]
        with pytest.raises(PoolOverloaded):
            pool.get()
        for resource in held:
            pool.put(resource)


class TestPut:
    def test_into_a_full_channel_closes_the_connection(self, channel: Any) -> None:
        pool, maker = channel(2)
        held = [pool.get() for _ in range(5)]
        for resource in held:
            pool.put(resource)
        eventually(lambda: states(pool) == {"idle": 2})
        assert held[0] in maker.all and not held[0].closed and not held[1].closed
        assert all(resource.closed for resource in held[2:])
        assert pool.stats().closed == {"surplus": 3}

    def test_no_more_are_kept_when_many_return_at_once(
        self, channel: Any, runner: ThreadRunner, fast_switching: None
    ) -> None:
        """A channel has so many slots, whoever sends at the same moment."""
        for _ in range(5):
            pool, _ = channel(2)
            held = [pool.get() for _ in range(8)]
            tasks = runner.together(8, lambda i: pool.put(held[i]))  # noqa: B023
            for task in tasks:
                task.result()
            assert pool.stats().idle <= 2
            eventually(lambda: states(pool) == {"idle": 2})  # noqa: B023

    def test_nil_is_rejected(self, channel: Any) -> None:
        pool, _ = channel(2)
        with pytest.raises(ValueError, match="did not make"):
            pool.put(None)

    def test_a_connection_is_not_put_twice(self, channel: Any) -> None:
        """In Go the channel has it twice then, and lends it to two."""
        pool, _ = channel(2)
        one, other = pool.get(), pool.get()
        pool.put(one)
        with pytest.raises(ValueError, match="not lent out at this moment"):
            pool.put(one)
        assert pool.get() is one
        assert pool.get() not in (one, other)

    def test_one_of_another_pool_is_rejected(self, channel: Any) -> None:
        """In Go it is kept and lent."""
        pool, _ = channel(2)
        other, _ = channel(2)
        stranger = other.get()
        with pytest.raises(ValueError, match="did not make"):
            pool.put(stranger)
        other.put(stranger)

    def test_what_is_made_for_nobody_is_surplus_too(
        self, channel: Any, runner: ThreadRunner
    ) -> None:
        """Three who waited for a dial took what came back: of what is dialled, one is kept."""
        pool, maker = channel(1)
        held = [pool.get() for _ in range(3)]
        maker.gate.clear()
        waiting = [runner.start(pool.get) for _ in held]
        eventually(lambda: maker.running == 3)
        for resource in held:
            pool.put(resource)
        assert {task.result() for task in waiting} == set(held)
        maker.gate.set()
        eventually(lambda: maker.made == 6 and states(pool) == {"idle": 1, "leased": 3})

    def test_fatih_close_returns_and_markunusable_closes(self, channel: Any) -> None:
        """There a wrapped connection; here a lease."""
        pool, maker = channel(2)
        with pool.lease() as first:
            pass
        assert states(pool) == {"idle": 1}
        with pool.lease() as again:
            assert again is first
            pool.discard(again)
        eventually(lambda: first.closed and states(pool) == {})

    def test_what_broke_in_use_is_not_put_back(self, channel: Any) -> None:
        """What MarkUnusable has to be remembered for."""
        pool, maker = channel(2)
        with pytest.raises(ConnectionResetError):
            with pool.lease():
                raise ConnectionResetError
        eventually(lambda: states(pool) == {})
        with pytest.raises(LookupError):
            with pool.lease():
                raise LookupError("says nothing about the connection")
        assert states(pool) == {"idle": 1}


class TestLife:
    @pytest.mark.threads_only("warm and close are called where the test is")
    def test_new_fills_the_channel_or_fails(self, channel: Any) -> None:
        """The initial fill; an error of the factory is the constructor's there, warm()'s here."""
        pool, maker = channel(4)
        assert pool.warm(3) == 3
        assert states(pool) == {"idle": 3}
        failure = ConnectionRefusedError("no server")
        other, maker = channel(4)
        maker.script.append(failure)
        with pytest.raises(ConnectionRefusedError) as caught:
            other.warm(1)
        assert caught.value is failure

    @pytest.mark.threads_only("close is called where the test is")
    def test_close_drains_and_later_calls_fail(self, channel: Any) -> None:
        """Get: ErrClosed.  Put closes the connection.  A second Close does nothing."""
        pool, maker = channel(2)
        held = [pool.get() for _ in range(3)]
        pool.put(held[0])
        assert pool.close(timeout=0) is False
        assert held[0].closed and not held[1].closed
        with pytest.raises(PoolClosed):
            pool.get()
        pool.put(held[1])
        assert held[1].closed
        pool.put(held[2])
        assert pool.close() is True

    def test_what_is_idle_for_long_is_closed(self, channel: Any, clock: Any) -> None:
        """silenceper looks at IdleTimeout when somebody gets; fatih never."""
        pool, maker = channel(4, idle_timeout=60, clock=clock)
        held = [pool.get() for _ in range(3)]
        for resource in held:
            pool.put(resource)
        clock.advance(61)
        eventually(lambda: maker.closed == 3)

    def test_the_number_of_idle_ones_is_bounded_again_after_a_burst(self, channel: Any) -> None:
        """Many more open than are kept, and back, several times."""
        pool, maker = channel(3)
        for _ in range(3):
            held = [pool.get() for _ in range(10)]
            assert pool.stats().open == 10
            for resource in held:
                pool.put(resource)
            eventually(lambda: states(pool) == {"idle": 3})
            for _ in range(20):  # no more are open now than may be idle: the quick way
                pool.put(pool.get())
            assert states(pool) == {"idle": 3}
