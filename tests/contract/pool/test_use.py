"""FastPool with a factory or with items: get, put and discard of resources."""

from __future__ import annotations

import weakref
from typing import Any

import pytest

from fastpool import PoolClosed, PoolTimeout
from support.callers import FastPool
from support.helpers import (
    GIL,
    Maker,
    Resource,
    ThreadRunner,
    consistent,
    eventually,
    settled,
    states,
    works,
)

pytestmark = pytest.mark.usefixtures("caller_kind")


class TestGet:
    def test_the_first_get_makes_a_resource(self, accounted: Any) -> None:
        """A new pool is empty; get has the factory make one and lends it."""
        pool, maker = accounted(2)
        assert maker.made == 0
        resource = pool.get()
        assert resource is maker.all[0] and states(pool) == {"leased": 1}
        pool.put(resource)
        assert states(pool) == {"idle": 1}

    @pytest.mark.parametrize("fairness", ["fair", "throughput"])
    def test_one_borrower_opens_one_resource(self, accounted: Any, fairness: str) -> None:
        """A get that finds nothing has one made, not as many as there is room for."""
        for _ in range(20):
            pool, maker = accounted(4, fairness=fairness)
            for made in (1, 2, 3):
                resource = pool.get()
                eventually(lambda pool=pool: "creating" not in states(pool))
                pool.discard(resource)
                assert maker.made == made

    def test_an_idle_resource_is_lent_before_another_is_made(self, accounted: Any) -> None:
        """As long as one is idle nothing new is opened."""
        pool, maker = accounted(5)
        for _ in range(20):
            pool.put(pool.get())
        assert maker.made == 1

    def test_more_are_made_while_none_is_idle_and_there_is_capacity(self, accounted: Any) -> None:
        """Borrowers at the same time get different resources, up to maxsize."""
        pool, maker = accounted(3)
        resources = [pool.get() for _ in range(3)]
        assert len(set(map(id, resources))) == 3 == maker.made
        for resource in resources:
            pool.put(resource)

    def test_the_cap_is_hard(self, accounted: Any) -> None:
        """With maxsize resources out the next get times out and nothing is made."""
        pool, maker = accounted(2)
        resources = [pool.get(), pool.get()]
        with pytest.raises(PoolTimeout) as caught:
            pool.get(timeout=0.02)
        assert caught.value.phase == "wait"
        assert maker.made == 2
        for resource in resources:
            pool.put(resource)
        works(pool, 2)

    def test_a_waiting_get_receives_what_another_thread_returns(
        self, accounted: Any, runner: ThreadRunner
    ) -> None:
        """put hands the resource to the thread that waits."""
        pool, _ = accounted(1)
        resource = pool.get()
        waiter = runner.start(pool.get)
        eventually(lambda: pool.stats().waiting == 1)
        pool.put(resource)
        assert waiter.result() is resource
        pool.put(resource)

    def test_waiters_are_served_in_the_order_of_their_arrival(
        self, accounted: Any, runner: ThreadRunner
    ) -> None:
        """The default of a resource pool is fair: first come, first served."""
        pool, _ = accounted(1)
        resource = pool.get()
        served: list[int] = []

        def wait(number: int) -> None:
            got = pool.get()
            served.append(number)
            pool.put(got)

        for number in range(5):
            runner.start(wait, number)
            eventually(lambda n=number: pool.stats().waiting == n + 1)
        pool.put(resource)
        runner.finish()
        assert served == [0, 1, 2, 3, 4]

    def test_lifo_lends_what_was_returned_last(self, accounted: Any) -> None:
        """The default order keeps few resources warm and lets the others age."""
        pool, _ = accounted(3)
        a, b, c = (pool.get() for _ in range(3))
        for resource in (b, c, a):
            pool.put(resource)
        assert pool.get() is a
        pool.put(a)

    @pytest.mark.skipif(not GIL, reason="free-threaded: a thread first gets what it returned last")
    def test_fifo_lends_what_was_returned_first(self, accounted: Any) -> None:
        """order="fifo" uses all resources in turn."""
        pool, _ = accounted(3, order="fifo")
        resources = [pool.get() for _ in range(3)]
        for resource in resources:
            pool.put(resource)
        assert [pool.get() for _ in range(3)] == resources
        for resource in resources:
            pool.put(resource)

    def test_get_nowait_never_waits(self, accounted: Any) -> None:
        """On an empty pool it raises at once, and starts a creation for the next caller."""
        pool, maker = accounted(1)
        maker.gate.clear()
        for take in (pool.get_nowait, lambda: pool.get(timeout=0), lambda: pool.get(block=False)):
            with pytest.raises(PoolTimeout):
                take()
        maker.gate.set()
        eventually(lambda: states(pool) == {"idle": 1})
        assert maker.made == 1
        pool.put(pool.get_nowait())

    def test_zero_maxsize_has_no_cap(self, accounted: Any) -> None:
        """maxsize=0 opens as many as there are borrowers."""
        pool, maker = accounted(0)
        resources = [pool.get() for _ in range(50)]
        assert maker.made == 50 and pool.maxsize == 0
        for resource in resources:
            pool.put(resource)


class TestPut:
    def test_resources_are_told_apart_by_identity(self) -> None:
        """Resources that are equal, or cannot be hashed or compared, are no problem."""

        class Odd:
            __hash__ = None  # type: ignore[assignment]

            def __eq__(self, other: object) -> bool:
                raise RuntimeError("compared")

        for factory in (list, dict, Odd):
            pool: Any = FastPool(2, factory=factory)
            a, b = pool.get(), pool.get()
            pool.put(b)
            pool.put(a)
            assert states(pool) == {"idle": 2}
            assert pool.get() is a
            pool.put(a)
            pool.close()

    def test_a_closed_pool_closes_what_comes_back(self, accounted: Any) -> None:
        """put after close is right: the resource is closed, not kept and not lost."""
        pool, maker = accounted(1)
        resource = pool.get()
        assert pool.close(timeout=0) is False
        assert not resource.closed
        pool.put(resource)
        eventually(lambda: maker.closed == 1 and states(pool) == {})


class TestDiscard:
    def test_discard_closes_and_frees_the_slot(self, accounted: Any) -> None:
        """A discarded resource is closed by its own close() and is replaced on demand."""
        pool, maker = accounted(1)
        first = pool.get()
        pool.discard(first)
        eventually(lambda: first.closed)
        second = pool.get()
        assert second is not first and maker.made == 2
        pool.put(second)

    def test_discard_lets_a_waiter_have_a_new_one(
        self, accounted: Any, runner: ThreadRunner
    ) -> None:
        """The slot that a discard frees goes to the first in the queue."""
        pool, maker = accounted(1)
        first = pool.get()
        waiter = runner.start(pool.get)
        eventually(lambda: pool.stats().waiting == 1)
        pool.discard(first)
        second = waiter.result()
        assert second is not first and maker.made == 2
        pool.put(second)

    @pytest.mark.threads_only("a close hook that hangs in a discard by a task stops the loop")
    def test_a_slot_is_taken_until_the_resource_is_really_closed(
        self, accounted: Any, runner: ThreadRunner
    ) -> None:
        """The cap counts what is being closed, so a server never sees more than maxsize."""
        pool, maker = accounted(1)
        maker.close_gate.clear()
        closing = runner.start(pool.discard, pool.get())
        eventually(lambda: states(pool) == {"closing": 1})
        with pytest.raises(PoolTimeout):
            pool.get(timeout=0.02)
        assert maker.made == 1
        maker.close_gate.set()
        closing.result()
        pool.put(pool.get())

    def test_a_close_hook_is_used_in_place_of_the_resource_own(self, accounted: Any) -> None:
        """The `close` option says how to close; the resource's own close() is not called then."""
        seen: list[Resource] = []

        def close(resource: Resource) -> None:
            seen.append(resource)
            resource.close()

        pool, maker = accounted(1, close=close)
        resource = pool.get()
        pool.discard(resource)
        eventually(lambda: maker.closed == 1)
        assert seen == [resource]

    def test_a_close_that_raises_frees_the_slot_all_the_same(self) -> None:
        """Whatever close() raises, the resource counts as closed and its slot is free."""

        class Bad:
            def close(self) -> None:
                raise RuntimeError("cannot close")

        pool: Any = FastPool(1, factory=Bad, name="bad-closers")
        pool.discard(pool.get())
        pool.put(pool.get())
        assert states(pool) == {"idle": 1}
        assert pool.close() is True

    def test_resources_without_close_are_dropped(self) -> None:
        """A resource that has no close() needs none."""
        pool: Any = FastPool(1, factory=object)
        pool.discard(pool.get())
        pool.put(pool.get())
        assert pool.close() is True


class TestItems:
    def test_a_fixed_set_circulates(self, runner: ThreadRunner) -> None:
        """items= are the resources: all are lent, none is made, all come back."""
        items = [object() for _ in range(3)]
        pool: Any = FastPool(items=items)
        assert states(pool) == {"idle": 3}
        taken = [pool.get() for _ in range(3)]
        assert sorted(map(id, taken)) == sorted(map(id, items))
        with pytest.raises(PoolTimeout):
            pool.get(timeout=0.01)
        waiter = runner.start(pool.get)
        eventually(lambda: pool.stats().waiting == 1)
        pool.put(taken[1])
        assert waiter.result() is taken[1]
        for item in taken:
            pool.put(item)
        assert pool.close() is True

    def test_a_discarded_item_is_not_replaced(self) -> None:
        """There is no factory: the set becomes smaller."""
        maker = Maker()
        items = [maker(), maker()]
        pool: Any = FastPool(items=items)
        pool.discard(pool.get())
        left = pool.get()
        with pytest.raises(PoolTimeout):
            pool.get(timeout=0.01)
        eventually(lambda: maker.closed == 1 and pool.stats().open == 1)
        pool.put(left)
        pool.close()
        assert maker.closed == 2


@pytest.mark.threads_only("a lease or a call of a task keeps the last result for a moment")
def test_discarded_item_is_kept_alive_by_nothing(collect: Any) -> None:
    """Neither the pool nor its options remember what they were given."""

    class Item:
        pass

    items = [Item(), Item()]
    gone = [weakref.ref(item) for item in items]
    pool: Any = FastPool(items=items)
    del items
    for _ in gone:
        pool.discard(pool.get())
    eventually(lambda: [collect(), all(item() is None for item in gone)][1])
    pool.close()


def test_the_pool_serves_many_threads(
    accounted: Any, runner: ThreadRunner, fast_switching: None
) -> None:
    """Eight threads share three resources; each resource has one holder at a time."""
    pool, maker = accounted(3)

    def work(index: int) -> None:
        for _ in range(300):
            resource = pool.get()
            assert resource.holder is None
            resource.holder = index
            assert consistent(pool.stats())
            assert resource.holder == index
            resource.holder = None
            pool.put(resource)

    for task in runner.together(8, work):
        task.result(30)
    settled(pool)  # a try that nobody wants any more may not have begun
    assert maker.made <= 3 and states(pool) == {"idle": maker.made}


def test_leaving_the_with_block_closes_the_pool(accounted: Any) -> None:
    """`with pool:` closes it, and everything that was idle."""
    pool, maker = accounted(2)
    with pool as same:
        assert same is pool
        pool.put(pool.get())
    assert maker.closed == 1
    with pytest.raises(PoolClosed):
        pool.get()
