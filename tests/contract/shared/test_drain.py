"""SharedPool: resources taken in ready-made, and those that are to drain within a time."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from fastpool import PoolTimeout, SharedPool
from support.helpers import Maker, eventually

pytestmark = pytest.mark.usefixtures("caller_kind")


class TestAdd:
    def test_what_was_made_elsewhere_is_one_of_its_own(self, shared: Any) -> None:
        """It is lent, counted and closed like the others; the factory is not asked."""
        pool, maker = shared((0, 2), slots=2)
        resource = maker()
        assert pool.add(resource) is True
        with pool.lease() as lent:
            assert lent is resource
        assert maker.made == 1 and pool.stats().open == pool.stats().created == 1
        pool.resize((1, 2))
        pool.drain(resource)
        eventually(lambda: maker.closed == 1)

    def test_without_capacity_it_stays_the_callers(self, shared: Any) -> None:
        pool, maker = shared((0, 1), slots=2)
        one, other = maker(), maker()
        assert pool.add(one) is True
        assert pool.add(other) is False
        with pytest.raises(ValueError, match="did not make"):
            pool.put(other)
        other.close()

    def test_twice_is_an_error(self, shared: Any) -> None:
        pool, maker = shared((0, 3), slots=2)
        one = maker()
        pool.add(one)
        with pytest.raises(ValueError, match="holds it already"):
            pool.add(one)
        assert pool.stats().open == 1

    def test_it_serves_those_who_wait(self, shared: Any, runner: Any) -> None:
        pool, maker = shared((0, 2), slots=1)
        spare = maker()
        held = pool.acquire()
        pool.suspend()  # so that the factory is not asked
        waiting = runner.start(pool.acquire, 10)
        eventually(lambda: pool.stats().waiting == 1)
        assert pool.add(spare)
        pool.resume()
        lease = waiting.result()
        assert lease.resource is spare and maker.made == 2
        lease.release()
        held.release()


class TestDrainTimeout:
    def test_what_is_still_used_after_it_is_aborted_once(self, shared: Any, clock: Any) -> None:
        """The hook ends the use; closed it is with its last lease."""
        aborted: list[Any] = []
        done = threading.Event()

        def abort(resource: Any) -> None:
            aborted.append(resource)
            done.set()

        pool, maker = shared((0, 2), slots=2, drain_timeout=30.0, abort=abort, clock=clock)
        lease = pool.acquire()
        resource = lease.resource
        pool.drain(resource)
        clock.advance(1)
        clock.advance(28)
        assert not aborted
        clock.advance(3)
        assert done.wait(10) and aborted == [resource] and maker.closed == 0
        clock.advance(100)
        lease.release()
        eventually(lambda: maker.closed == 1)
        assert aborted == [resource]

    def test_what_ends_in_time_is_not(self, shared: Any, clock: Any) -> None:
        aborted: list[Any] = []
        pool, maker = shared((0, 2), slots=2, drain_timeout=30.0, abort=aborted.append, clock=clock)
        lease = pool.acquire()
        pool.drain(lease.resource)
        clock.advance(1)
        lease.release()
        eventually(lambda: maker.closed == 1)
        kept = pool.acquire()  # in the same place, perhaps
        clock.advance(100)
        kept.release()
        assert not aborted

    def test_a_hook_that_raises_hurts_nobody(self, shared: Any, clock: Any) -> None:
        called = threading.Event()

        def abort(resource: Any) -> None:
            called.set()
            raise OSError("no")

        pool, maker = shared((0, 2), slots=2, drain_timeout=1.0, abort=abort, clock=clock)
        lease = pool.acquire()
        pool.drain(lease.resource)
        clock.advance(1)
        clock.advance(2)
        assert called.wait(10)
        lease.release()
        eventually(lambda: maker.closed == 1)

    def test_the_two_options_go_together(self) -> None:
        for wrong in ({"drain_timeout": 1.0}, {"abort": print}):
            with pytest.raises(TypeError, match="go together"):
                SharedPool(Maker, **wrong)
        with pytest.raises(TypeError, match="abort must be a callable"):
            SharedPool(Maker, drain_timeout=1.0, abort=5)
        with pytest.raises(ValueError, match="drain_timeout"):
            SharedPool(Maker, drain_timeout=-1, abort=print)


class TestAvoid:
    def test_no_leases_of_it_until_it_is_lent_again(self, shared: Any) -> None:
        pool, maker = shared((0, 2), slots=4)
        one, other = maker(), maker()
        pool.add(one)
        pool.add(other)
        with pool.lease() as held:
            pool.avoid(held)
            rest = other if held is one else one
            leases = [pool.acquire(timeout=10) for _ in range(4)]
            assert {id(lease.resource) for lease in leases} == {id(rest)}
            with pytest.raises(PoolTimeout):
                pool.get(timeout=0)
            pool.penalize(held)  # does not make it eligible again
            with pytest.raises(PoolTimeout):
                pool.get(timeout=0)
            pool.avoid(held, False)
            pool.put(pool.get(timeout=0))
            for lease in leases:
                lease.release()
        assert pool.stats().leases == 0 and maker.closed == 0

    def test_those_who_wait_are_served_when_it_is_lent_again(
        self, shared: Any, runner: Any
    ) -> None:
        pool, maker = shared((0, 1), slots=4)
        one = maker()
        pool.add(one)
        pool.avoid(one)
        waiting = runner.start(pool.acquire, 10)
        eventually(lambda: pool.stats().waiting == 1)
        pool.avoid(one, False)
        waiting.result().release()

    def test_another_is_opened_in_its_stead(self, shared: Any) -> None:
        pool, maker = shared((0, 2), slots=4)
        one = maker()
        pool.add(one)
        pool.avoid(one)
        lease = pool.acquire(timeout=10)
        assert lease.resource is not one and pool.stats().open == 2
        pool.drain(one)  # and it can be closed
        eventually(lambda: maker.closed == 1)
        lease.release()

    def test_the_next_in_its_place_is_not_avoided(self, shared: Any) -> None:
        pool, maker = shared((0, 1), slots=4)
        one = maker()
        pool.add(one)
        pool.avoid(one)
        pool.drain(one)
        eventually(lambda: maker.closed == 1)
        pool.acquire(timeout=10).release()
        with pytest.raises(ValueError, match="avoid"):
            pool.avoid(one)
