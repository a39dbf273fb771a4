"""Pools that nobody closes: the garbage collector finds them, and what they own."""

from __future__ import annotations

import asyncio
import gc
import warnings
import weakref
from typing import Any

import pytest

from fastpool import FastPool, _core
from fastpool.pool._manager import Manager
from fastpool.pool._per_loop import PerLoopManager
from support.helpers import Maker, eventually


class TestCollected:
    def test_an_unclosed_pool_warns_and_its_idle_resources_are_closed(self, collect: Any) -> None:
        """A pool that nobody can reach any more is closed behind its user, with a warning."""
        maker = Maker()
        pool: Any = FastPool(2, factory=maker, name="forgotten")
        pool.put(pool.get())
        with pytest.warns(ResourceWarning, match="forgotten"):
            del pool
            collect()
            eventually(lambda: maker.closed == 1)
        assert maker.made == 1

    def test_nothing_is_left_of_a_collected_pool_after_its_last_lease(self, collect: Any) -> None:
        """What kept it going for that lease goes with it."""
        maker = Maker()
        pool: Any = FastPool(2, factory=maker, name="forgotten")
        pool.put(pool.get())
        lease = pool.acquire()
        manager = weakref.ref(_core.manager(pool, "test"))
        with pytest.warns(ResourceWarning, match="forgotten"):
            del pool
            collect()
        assert manager() is not None
        lease.release()
        eventually(lambda: [collect(), manager() is None][1])
        assert maker.made == maker.closed == 1

    def test_a_closed_pool_is_collected_silently(self, collect: Any) -> None:
        """close() is all that is asked for."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pool: Any = FastPool(2, factory=object)
            pool.put(pool.get())
            pool.close()
            gone = weakref.ref(pool)
            del pool
            collect()
        assert gone() is None

    @pytest.mark.parametrize("how", ["nothing open", "closed with a lease out"])
    def test_a_pool_that_owes_nothing_is_collected_silently(self, collect: Any, how: str) -> None:
        """Nothing was made that should have been closed, or the rest is the borrower's."""
        maker = Maker()
        lease: Any = None
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pool: Any = FastPool(2, factory=maker)
            if how != "nothing open":
                lease = pool.acquire()
                assert pool.close(timeout=0) is False
            del pool
            collect()
            if lease is not None:
                lease.release()
        eventually(lambda: maker.made == maker.closed)

    def test_a_queue_is_collected_silently(self, collect: Any) -> None:
        """A FastPool in queue use owns nothing that must be closed."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            q: Any = FastPool()
            q.put(1)
            del q
            collect()

    @pytest.mark.parametrize("background", [{}, {"min_idle": 1}, {"leak_after": 60}], ids=str)
    def test_background_work_does_not_keep_a_pool_alive(
        self, background: dict[str, Any], collect: Any
    ) -> None:
        """Neither the scheduler nor the workers hold the pool."""
        maker = Maker()
        pool: Any = FastPool(2, factory=maker, **background)
        pool.put(pool.get())
        gone = weakref.ref(pool)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            del pool
            eventually(lambda: [gc.collect(), gone() is None][1])
        eventually(lambda: maker.made == maker.closed)

    def test_a_pool_in_a_cycle_with_its_resources_is_collected(self, collect: Any) -> None:
        """A resource, a factory or a hook that refers to its pool is no leak."""

        class Owner:
            def __init__(self) -> None:
                self.pool: Any = FastPool(2, factory=self.make, close=self.note)

            def make(self) -> Any:
                resource = type("Resource", (), {})()
                resource.owner = self
                return resource

            def note(self, resource: Any) -> None: ...

        owner = Owner()
        owner.pool.put(owner.pool.get())
        owner.pool.close()
        gone = weakref.ref(owner)
        del owner
        eventually(lambda: [gc.collect(), gone() is None][1])


CHECKED: dict[str, Any] = {"check": lambda resource: None, "check_after": 0}


class Referring:
    """A resource that may refer to its pool."""

    pool: Any = None


def nothing_left(name: str) -> bool:
    """Whether neither a pool of this name is there, nor its manager, nor a resource that refers to
    it.  Weak references would not tell: the collector clears them, and a finaliser may still keep
    what they led to."""
    kinds = (FastPool, Manager, PerLoopManager, Referring)
    found = [each for each in gc.get_objects() if issubclass(type(each), kinds)]
    pools = [each.pool if type(each) is Referring else each for each in found]
    return all(pool is None or pool.name != name for pool in pools)


class TestTakenByGet:
    """What was taken by ``get`` can come back only to a pool that is there."""

    @pytest.mark.parametrize("options", [{}, CHECKED], ids=["plain", "checked"])
    @pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
    def test_resource_that_refers_to_its_pool_goes_with_it(
        self, options: dict[str, Any], closed: bool, collect: Any
    ) -> None:
        """Neither keeps the other alive, nor the manager."""
        pool: Any = FastPool(2, factory=Referring, name="of get", **options)
        pool.put(pool.get())
        resource: Any = pool.get()
        resource.pool = pool
        assert not nothing_left("of get")
        if closed:
            pool.close(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            del resource, pool
            eventually(lambda: [collect(), nothing_left("of get")][1])

    @pytest.mark.parametrize("awaits", [False, True], ids=["factory", "async factory"])
    def test_resource_that_a_task_took_goes_with_its_pool(self, awaits: bool, collect: Any) -> None:
        """By ``aget``, of either kind of factory."""

        async def create() -> Referring:
            return Referring()

        async def main() -> None:
            factory = create if awaits else Referring
            pool: Any = FastPool(2, factory=factory, name="of aget")
            for _ in range(2):
                (await pool.aget()).pool = pool

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            asyncio.run(main())
            eventually(lambda: [collect(), nothing_left("of aget")][1])

    def test_its_borrower_keeps_it(self, collect: Any) -> None:
        """It is neither closed nor lost; a lease beside it closes its resource as ever."""
        maker = Maker()
        pool: Any = FastPool(2, factory=maker, warn_unclosed=False)
        resource, lease = pool.get(), pool.acquire()
        manager = weakref.ref(_core.manager(pool, "test"))
        del pool
        collect()
        assert manager() is not None and manager().core.open == 1
        lease.release()
        eventually(lambda: [collect(), manager() is None][1])
        assert maker.closings == [maker.all[1]] and not resource.closed
