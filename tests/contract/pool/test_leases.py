"""Leases: holds that end by themselves, once, and know what they held."""

from __future__ import annotations

import gc
import time
import warnings
from typing import Any

import pytest

from fastpool import Lease, PoolDeadlock, PoolError, PoolTimeout
from support.callers import FastPool
from support.helpers import Maker, ThreadRunner, eventually, states, works

pytestmark = pytest.mark.usefixtures("caller_kind")


class TestBlocks:
    def test_a_block_holds_one_resource(self, accounted: Any) -> None:
        """Entering takes a resource, the end gives it back."""
        pool, maker = accounted(2)
        with pool.lease() as resource:
            assert resource is maker.all[0]
            assert states(pool) == {"leased": 1}
        assert states(pool) == {"idle": 1}

    def test_lease_itself_takes_nothing(self, accounted: Any) -> None:
        """Only entering counts; a lease that is dropped before says nothing and costs nothing."""
        pool, maker = accounted(1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            lease = pool.lease()
            assert isinstance(lease, Lease) and pool.stats().leased == 0
            del lease
        assert maker.made == 0

    def test_a_lease_has_its_own_timeout(self, accounted: Any) -> None:
        """lease(timeout=...) overrides the pool's for this block."""
        pool, _ = accounted(1)
        held = pool.acquire()
        with pytest.raises(PoolTimeout), pool.lease(timeout=0.01):
            pytest.fail("entered")
        held.release()

    def test_a_block_left_by_a_matching_exception_closes(self, accounted: Any) -> None:
        """OSError, EOFError, what is no Exception: the resource may be broken; test_broken.py."""
        for error in (ConnectionResetError, EOFError, KeyboardInterrupt, SystemExit):
            pool, maker = accounted(1)
            with pytest.raises(error), pool.lease() as resource:
                raise error
            assert resource.closed and states(pool) == {}, error
            works(pool, 1)
            assert maker.made == 2

    def test_a_block_left_by_another_exception_returns(self, accounted: Any) -> None:
        """A ValueError in the caller's code says nothing about the resource."""
        pool, maker = accounted(1)
        with pytest.raises(ValueError), pool.lease():
            raise ValueError
        assert states(pool) == {"idle": 1} and maker.closed == 0

    def test_a_pool_error_never_counts_against_the_resource(self, accounted: Any) -> None:
        """A PoolTimeout of any pool is an OSError by class, yet it is no fault of the resource."""
        pool, maker = accounted(1)
        other, _ = accounted(1)
        held = other.acquire()
        with pytest.raises(PoolTimeout), pool.lease():
            other.get(timeout=0.01)
        assert states(pool) == {"idle": 1} and maker.closed == 0
        held.release()

    def test_discarding_inside_the_block_closes_once(self, accounted: Any) -> None:
        """After lease.discard() or pool.discard(r) the end of the block does nothing more."""
        pool, maker = accounted(1)
        lease = pool.lease()
        with lease as resource:
            lease.discard()
            eventually(lambda: resource.closed)  # a task's is closed on a worker
        with pool.lease() as resource:
            pool.discard(resource)
            eventually(lambda: resource.closed)
        with pytest.raises(OSError), pool.lease() as resource:
            pool.discard(resource)
            raise OSError
        eventually(lambda: maker.closed == 3 and states(pool) == {})

    def test_the_end_of_a_block_leaves_the_next_borrower_alone(
        self, accounted: Any, runner: ThreadRunner
    ) -> None:
        """A resource discarded in the block and replaced meanwhile belongs to somebody else."""
        pool, _ = accounted(1)
        with pool.lease() as resource:
            pool.discard(resource)
            other = runner.start(pool.acquire).result()
        assert states(pool) == {"leased": 1}
        other.release()

    def test_what_a_block_returns_or_breaks_is_the_same(self, accounted: Any) -> None:
        """return, break and continue leave the block like its end."""
        pool, _ = accounted(1)

        def returns() -> int:
            with pool.lease() as resource:
                return resource.number

        assert returns() == 0
        for _ in range(2):
            with pool.lease():
                continue
        assert states(pool) == {"idle": 1}


class TestAcquire:
    def test_acquire_takes_at_once(self, accounted: Any) -> None:
        """acquire() returns a lease that holds its resource until release()."""
        pool, maker = accounted(1)
        lease = pool.acquire()
        assert isinstance(lease, Lease) and lease.resource is maker.all[0]
        assert states(pool) == {"leased": 1}
        lease.release()
        assert states(pool) == {"idle": 1}

    def test_a_lease_can_be_discarded(self, accounted: Any) -> None:
        """discard() closes the resource in place of giving it back."""
        pool, maker = accounted(1)
        lease = pool.acquire()
        resource = lease.resource
        lease.discard()
        eventually(lambda: resource.closed and states(pool) == {})  # a task's: on a worker
        assert maker.closed == 1

    def test_any_thread_may_release(self, accounted: Any, runner: ThreadRunner) -> None:
        """A lease can be handed to another thread, which gives it back."""
        pool, _ = accounted(1)
        lease = pool.acquire()
        runner.start(lease.release).result()
        works(pool, 1)

    @pytest.mark.parametrize("act", ["release", "discard", "resource"])
    def test_use_after_release_names_the_act(self, accounted: Any, act: str) -> None:
        """What was tried on a lease that is over stands in the error."""
        for end in ("release", "discard"):
            pool, _ = accounted(1)
            lease = pool.acquire()
            getattr(lease, end)()
            with pytest.raises(PoolError, match=act):
                value = getattr(lease, act)
                value()
            works(pool, 1)

    @pytest.mark.parametrize("act", ["release", "discard", "resource"])
    def test_use_before_entering_names_the_act(self, accounted: Any, act: str) -> None:
        """A lease that was never entered holds nothing that could be used."""
        pool, _ = accounted(1)
        lease = pool.lease()
        with pytest.raises(PoolError, match=act):
            value = getattr(lease, act)
            value()

    def test_a_late_release_does_not_touch_the_next_borrower(self, accounted: Any) -> None:
        """put cannot tell a late return from the new borrower's; a lease can and refuses."""
        pool, _ = accounted(1)
        stale = pool.acquire()
        pool.put(stale.resource)
        fresh = pool.acquire()
        assert fresh.resource is not None
        with pytest.raises(PoolError):
            stale.release()
        with pytest.raises(PoolError):
            stale.discard()
        assert states(pool) == {"leased": 1}
        fresh.release()
        works(pool, 1)

    @pytest.mark.threads_only("there is no call in it")
    def test_leases_are_made_by_pools_only(self) -> None:
        """Lease() is no way to a resource."""
        with pytest.raises(TypeError):
            Lease()

    @pytest.mark.parametrize("end", ["release", "discard"])
    def test_a_release_inside_the_block_ends_the_hold_once(self, accounted: Any, end: str) -> None:
        """Ending a lease early inside its block is allowed; the end of the block adds nothing."""
        pool, maker = accounted(1)
        lease = pool.lease()
        with lease:
            getattr(lease, end)()
            assert pool.stats().leased == 0
        eventually(lambda: maker.closed == (end == "discard"))
        works(pool, 1)


class TestCollected:
    def test_a_forgotten_lease_closes_its_resource_and_warns_once(self, accounted: Any) -> None:
        """The resource may be in any state, so it is closed; a ResourceWarning names the pool."""
        pool, maker = accounted(1, name="forgetful")
        lease = pool.acquire()
        with pytest.warns(ResourceWarning, match="forgetful") as record:
            del lease
            gc.collect()
            eventually(lambda: maker.closed == 1)
        assert len(record) == 1
        eventually(lambda: states(pool) == {})
        works(pool, 1)

    @pytest.mark.threads_only(
        "a task is named by its own stack: see contract/asyncio/test_hooks.py"
    )
    def test_the_warning_says_where_the_lease_was_taken(self, accounted: Any) -> None:
        """With tracking on (leak_after) the place of the acquire stands in the warning."""
        pool, maker = accounted(1, leak_after=100)
        lease = pool.acquire()
        with pytest.warns(ResourceWarning, match="test_leases.py"):
            del lease
            gc.collect()
            eventually(lambda: maker.closed == 1)

    def test_a_forgotten_lease_frees_capacity_for_a_waiter(
        self, accounted: Any, runner: ThreadRunner
    ) -> None:
        """The place of a lost lease is free again at once."""
        pool, maker = accounted(1)
        lease = pool.acquire()
        waiter = runner.start(pool.get)
        eventually(lambda: pool.stats().waiting == 1)
        with pytest.warns(ResourceWarning):
            del lease
            gc.collect()
            pool.put(waiter.result())
        assert maker.made == 2 and maker.closed == 1

    def test_a_lease_in_a_cycle_is_lost_as_well(self, accounted: Any) -> None:
        """A lease that only the garbage collector can find counts as forgotten."""
        pool, maker = accounted(1)
        cycle: list[Any] = [pool.acquire()]
        cycle.append(cycle)
        with pytest.warns(ResourceWarning):
            del cycle
            # Without a GIL what another thread has made may take two collections: at the first its
            # count of references falls to 0, at the second its thread, which sleeps, is told.
            eventually(lambda: [gc.collect(), maker.closed == 1][1])

    def test_a_lease_outlives_its_pool(self) -> None:
        """A pool may be collected while a lease is out; the release then closes the resource."""
        maker = Maker()
        pool: Any = FastPool(1, factory=maker)
        lease = pool.acquire()
        resource = lease.resource
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            del pool
            for _ in range(5):  # whatever still runs for the pool ends: nothing else may hold it
                gc.collect()
                time.sleep(0.01)
        assert not resource.closed and lease.resource is resource
        lease.release()
        eventually(lambda: resource.closed)
        assert maker.made == maker.closed == 1


class TestDeadlock:
    def test_waiting_for_oneself_is_an_error_at_once(self, accounted: Any) -> None:
        """Inside blocks over all resources a further one would wait for ever: PoolDeadlock."""
        pool, _ = accounted(2, timeout=None)
        with pool.lease(), pool.lease():
            for take in (pool.get, pool.acquire, pool.lease().__enter__):
                with pytest.raises(PoolDeadlock):
                    take()
        works(pool, 2)

    def test_a_try_that_does_not_wait_is_no_deadlock(self, accounted: Any) -> None:
        """With timeout=0 nothing would wait, so it is an ordinary timeout."""
        pool, _ = accounted(1)
        with pool.lease(), pytest.raises(PoolTimeout):
            pool.get(timeout=0)

    def test_what_get_and_acquire_took_does_not_count(
        self, accounted: Any, runner: ThreadRunner
    ) -> None:
        """Another thread may give it back, so waiting makes sense."""
        pool, _ = accounted(2)
        lease = pool.acquire()
        with pool.lease():
            with pytest.raises(PoolTimeout):
                pool.get(timeout=0.02)
            main = runner.start(self._release_when_waited_for, pool, lease)
            pool.put(pool.get())
            main.result()

    @staticmethod
    def _release_when_waited_for(pool: Any, lease: Any) -> None:
        eventually(lambda: pool.stats().waiting == 1)
        lease.release()

    def test_another_thread_in_the_game_is_no_deadlock(
        self, accounted: Any, runner: ThreadRunner
    ) -> None:
        """As long as one resource is held elsewhere it may come back, so the thread waits."""
        pool, _ = accounted(2)
        lease = runner.start(pool.acquire).result()
        with pool.lease(), pytest.raises(PoolTimeout):
            pool.get(timeout=0.02)
        lease.release()

    def test_blocks_over_another_pool_do_not_count(self, accounted: Any) -> None:
        """Each pool looks at its own resources only."""
        pool, _ = accounted(1)
        other, _ = accounted(1)
        with other.lease(), pool.lease():
            with pytest.raises(PoolDeadlock):
                pool.get()
        with other.lease():
            pool.put(pool.get())

    def test_what_was_discarded_does_not_count(self, accounted: Any, runner: ThreadRunner) -> None:
        """The place of a resource discarded inside the block belongs to its next borrower."""
        pool, _ = accounted(1)
        with pool.lease() as resource:
            pool.discard(resource)
            other = runner.start(pool.get).result()
            with pytest.raises(PoolTimeout):
                pool.get(timeout=0.02)
            pool.put(other)
        works(pool, 1)

    @pytest.mark.parametrize(
        "hook",
        [{}, {"reset": lambda resource: None}, {"max_idle": 1}],
        ids=["plain", "reset", "max_idle"],
    )
    @pytest.mark.parametrize("error", [None, ValueError, OSError], ids=str)
    def test_what_was_handed_on_does_not_count(
        self, accounted: Any, runner: ThreadRunner, hook: Any, error: Any
    ) -> None:
        """However a block was left, its resource is the waiter's, even before the waiter runs."""
        pool, _ = accounted(1, **hook)

        def wait() -> Any:
            eventually(lambda: pool.stats().leased == 1)
            return pool.get()

        for _ in range(10):
            try:
                with pool.lease():
                    waiter = runner.start(wait)
                    eventually(lambda: pool.stats().waiting == 1)
                    if error is not None:
                        raise error
            except (ValueError, OSError):
                pass
            with pytest.raises(PoolTimeout):
                pool.get(timeout=0.005)
            pool.put(waiter.result())

    def test_a_thread_that_left_its_blocks_may_wait_again(
        self, accounted: Any, runner: ThreadRunner
    ) -> None:
        """The guard looks at blocks that are open now, not at those of the past."""
        pool, _ = accounted(1)
        with pool.lease():
            pass
        held = runner.start(pool.acquire).result()
        with pytest.raises(PoolTimeout):
            pool.get(timeout=0.02)
        held.release()
