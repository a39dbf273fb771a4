"""A shared pool where things happen at a bad moment: late, twice, or two at once."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from fastpool import FastPool, PoolError, PoolTimeout, SharedPool, _core
from support.helpers import PATIENCE, Maker, ThreadRunner, eventually, wait_for_scheduler

pytestmark = pytest.mark.filterwarnings("error")


def manager_of(pool: Any) -> Any:
    return _core.manager(pool, "this test")


def live(pool: Any) -> int:
    stats = pool.stats()
    return int(stats.idle + stats.leased - stats.draining)


class TestReplacing:
    def test_one_that_comes_too_late_takes_its_place_all_the_same(self, shared: Any) -> None:
        """Past create_timeout a creation counts as failed, but what it makes at last is as good:
        the old resource is not drained for nothing."""
        pool, maker = shared((0, 1), slots=5, create_timeout=0.01)
        old = maker()  # not by the pool: on a busy machine that would be too late as well
        assert pool.add(old)
        maker.gate.clear()
        pool.replace()
        eventually(lambda: pool.stats().overdue)
        with pool.lease(timeout=0) as still:
            assert still is old
        maker.gate.set()
        eventually(lambda: old.closed)
        eventually(lambda: not maker.running and pool.stats().idle == 1)
        eventually(lambda: pool.stats().closed == {"flushed": 1})

    def test_one_that_is_flushed_before_it_is_lent_replaces_nothing(self, shared: Any) -> None:
        """What was to be replaced stays in service until another one is really there."""
        pool, maker = shared(1, slots=5)
        with pool.lease() as old:
            pass
        maker.gate.clear()
        pool.replace()
        eventually(lambda: maker.running)
        manager = manager_of(pool)
        (coming,) = [slot[0] for slot in manager.core.slots() if slot[1] == "creating"]
        manager.drain(coming, "flushed")
        manager.drain_at = []
        drained = manager.drain

        def drain(index: int, why: str, later: bool = False) -> None:
            manager.drain_at.append(live(pool))  # how many there are, this one included
            drained(index, why, later)

        manager.drain = drain
        maker.gate.set()
        eventually(lambda: old.closed)
        eventually(lambda: maker.made == 3 and pool.stats().idle == 1)
        assert manager.drain_at == [2]

    def test_what_drains_is_not_replaced_a_second_time(self, shared: Any) -> None:
        """Its slot is free already: another one beside that would be beyond the cap."""
        pool, _ = shared(2, slots=1)
        pool.warm(2)
        leases = [pool.acquire(), pool.acquire()]
        old = leases[0].resource
        pool.drain(old)
        pool.replace(old)
        eventually(lambda: live(pool) == 2)
        wait_for_scheduler()
        assert pool.stats().creating == 0 and live(pool) == 2
        leases.append(pool.acquire(timeout=PATIENCE))
        with pytest.raises(PoolTimeout):  # that was the last slot, and there is no room
            pool.acquire(timeout=0.02)
        assert live(pool) == 2
        for lease in leases:
            lease.release()

    def test_nor_is_what_is_being_closed(self, shared: Any, runner: ThreadRunner) -> None:
        """The scheduler, or a caller of replace(), has decided on it a moment before."""
        pool, maker = shared(1, slots=1)
        lease = pool.acquire()
        old = lease.resource
        maker.close_gate.clear()
        runner.start(lease.discard)
        eventually(lambda: pool.stats().closing == 1)
        pool.replace(old)
        assert manager_of(pool).renewing == {}
        maker.close_gate.set()
        runner.finish()


class TestCap:
    def test_shrinking_while_more_are_being_made(self, shared: Any, runner: ThreadRunner) -> None:
        """What is being made is surplus too; those who wait for it share what there is."""
        pool, maker = shared((0, 4), slots=1, shrink_after=None)
        maker.gate.clear()
        tasks = [runner.start(pool.acquire, PATIENCE) for _ in range(4)]
        eventually(lambda: maker.running == 4)
        pool.resize((0, 1))
        maker.gate.set()
        for _ in range(4):
            eventually(lambda: any(not task.running for task in tasks))
            done = next(task for task in tasks if not task.running)
            assert live(pool) <= 1
            done.result().release()
            tasks.remove(done)
        eventually(lambda: pool.stats().open == 1)
        assert pool.stats().closed["surplus"] == 3

    def test_a_refusal_counts_the_capacity_that_a_draining_one_leaves(self, shared: Any) -> None:
        """max_waiting=0: nobody waits in the queue, but one for whom a resource is opened does
        not."""
        pool, _ = shared(1, slots=2, max_waiting=0)
        manager = manager_of(pool)
        refill, manager.creator.refill = manager.creator.refill, lambda *more: None
        long = pool.acquire(timeout=PATIENCE) if pool.stats().idle else None
        if long is None:
            eventually(lambda: pool.stats().idle)
            long = pool.acquire()
        pool.drain(long.resource)
        outcome: list[Any] = []

        def take() -> None:
            try:
                outcome.append(pool.acquire(timeout=PATIENCE))
            except PoolError as error:
                outcome.append(error)

        taker = threading.Thread(target=take)
        taker.start()
        eventually(lambda: pool.stats().waiting or outcome)
        assert not outcome, outcome
        manager.creator.refill = refill
        refill()
        taker.join(PATIENCE)
        outcome[0].release()
        long.release()

    def test_nobody_is_refused_because_of_a_check(
        self, shared: Any, runner: ThreadRunner, clock: Any
    ) -> None:
        """The slots of a resource that is being looked at are as good as free."""
        gate, seen = threading.Event(), threading.Event()

        def check(resource: Any) -> None:
            seen.set()
            gate.wait(PATIENCE)

        pool, _ = shared(1, slots=5, max_waiting=0, check=check, check_after=1.0, clock=clock)
        pool.warm(1)
        clock.advance(2)
        tasks = [runner.start(pool.acquire, PATIENCE)]
        assert seen.wait(PATIENCE)
        tasks += [runner.start(pool.acquire, PATIENCE) for _ in range(4)]
        eventually(lambda: pool.stats().waiting == 4 or not all(t.running for t in tasks))
        gate.set()
        for task in tasks:
            task.result().release()

    @pytest.mark.parametrize("fairness", ["fair", "throughput"])
    def test_the_last_use_of_a_resource_frees_capacity(
        self, shared: Any, runner: ThreadRunner, clock: Any, fairness: str
    ) -> None:
        """Who waits in the queue when it is given to another does not wait for that one's end; nor
        for the scheduler, which does not come by here."""
        pool, maker = shared((0, 1), slots=2, max_uses=3, fairness=fairness, clock=clock)
        leases = [pool.acquire(), pool.acquire()]
        tasks = [runner.start(pool.acquire, PATIENCE).parked() for _ in range(2)]
        leases[0].release()  # the first in the queue gets the third use and keeps it
        leases += [task.result() for task in tasks]
        assert maker.made == 2
        for lease in leases[1:]:
            lease.release()

    @pytest.mark.parametrize("kind", ["shared", "exclusive"])
    def test_warming_counts_what_is_under_way(self, kind: str) -> None:
        """The least number is being opened already: as many as are asked for are opened in all."""
        maker = Maker()
        maker.gate.clear()
        pool: Any = (
            SharedPool(maker, items=(1, 8), max_creating=8)
            if kind == "shared"
            else FastPool(8, factory=maker, min_idle=1, max_creating=8)
        )
        eventually(lambda: maker.running == 1)
        opener = threading.Thread(target=lambda: (maker.running, maker.gate.set()))
        done: list[int] = []
        warming = threading.Thread(target=lambda: done.append(pool.warm(3, timeout=PATIENCE)))
        warming.start()
        eventually(lambda: maker.running == 3)
        opener.start()
        opener.join()
        warming.join()
        assert done == [3] and maker.made == 3
        pool.close()

    def test_warming_does_not_count_what_drains(self, shared: Any) -> None:
        pool, _ = shared((0, 2), slots=5)
        held = pool.acquire()
        pool.drain(held.resource)
        pool.warm(2)
        assert live(pool) == 2
        held.release()


class TestMaintenance:
    @pytest.mark.parametrize("why", ["idle", "surplus", "lifetime"])
    def test_it_runs_no_hooks(self, shared: Any, clock: Any, why: str) -> None:
        """A close that takes long is none of the other pools' business."""
        where: list[str] = []

        def close(resource: Any) -> None:
            where.append(threading.current_thread().name)
            resource.close()

        options: dict[str, Any] = {
            "idle": {"idle_timeout": 10.0, "shrink_after": None},
            "surplus": {"shrink_after": 10.0},
            "lifetime": {"max_lifetime": 10.0, "items": 2},
        }[why]
        pool, maker = shared(
            options.pop("items", (0, 2)), slots=1, close=close, clock=clock, name="p", **options
        )
        pool.warm(2)
        clock.advance(1)
        clock.advance(20)
        eventually(lambda: pool.stats().closed.keys() == {why})
        assert set(where) == {"fastpool-p-close"}

    def test_a_lease_after_a_check_counts_for_the_peak(self, shared: Any, clock: Any) -> None:
        """Both resources are used at once in every period, so neither is closed."""
        pool, maker = shared(
            (0, 2), slots=1, check=lambda resource: None, check_after=0, shrink_after=60.0,
            clock=clock,
        )  # fmt: skip
        for _ in range(4):
            for lease in [pool.acquire(), pool.acquire()]:
                lease.release()
            clock.advance(61)
        assert maker.closed == 0


class TestWhoHoldsWhat:
    def test_a_put_does_not_end_somebody_elses_lease(self, shared: Any) -> None:
        """leak_after: what was taken by get() and what by a lease are told apart."""
        pool, _ = shared(1, slots=5, leak_after=1000.0)
        lease = pool.acquire()
        pool.put(pool.get())
        assert len(pool.leases()) == 1
        lease.release()
        assert pool.leases() == []

    async def _loosened(self, pool: Any) -> None:
        lease = await pool.aacquire()
        pool.put(await pool.aget())
        assert len(pool.leases()) == 1
        lease.release()
        assert pool.leases() == []

    def test_nor_for_tasks(self, shared: Any) -> None:
        import asyncio

        pool, _ = shared(1, slots=5, leak_after=1000.0)
        asyncio.run(self._loosened(pool))

    @pytest.mark.parametrize("kind", ["shared", "exclusive"])
    def test_the_list_while_resources_go(self, kind: str) -> None:
        """Between the look at the slots and that at the resource another may have closed it."""
        pool: Any = (
            SharedPool(object, items=(0, 2), slots=1)
            if kind == "shared"
            else FastPool(2, factory=object)
        )
        manager = manager_of(pool)
        lease = pool.acquire()
        slots = manager.core.slots()
        lease.discard()
        eventually(lambda: pool.stats().open == 0)
        assert manager.core.item(slots[0][0]) is None

        class Before:
            """The core as it was."""

            def __getattr__(self, name: str) -> Any:
                return getattr(manager.core, name)

            def slots(self) -> Any:
                return slots

        manager.tracking.core = Before()
        assert pool.leases() == []
        pool.close()


class TestLeases:
    @pytest.mark.parametrize("kind", ["shared", "exclusive"])
    def test_two_threads_wait_with_one_lease(self, runner: ThreadRunner, kind: str) -> None:
        """A mistake of the caller's: one of them has it, the other is told, and no slot is lost."""
        pool: Any = (
            SharedPool(object, items=1, slots=1)
            if kind == "shared"
            else FastPool(1, factory=object)
        )
        held = pool.acquire()
        lease = pool.lease(PATIENCE)
        entered = threading.Event()
        leave = threading.Event()

        def use() -> bool:
            try:
                with lease:
                    entered.set()
                    leave.wait(PATIENCE)
            except PoolError as error:
                assert "entered before" in str(error)
                return False
            return True

        tasks = [runner.start(use).parked(), runner.start(use).parked()]
        other = runner.start(pool.acquire, PATIENCE).parked()
        held.release()
        assert entered.wait(PATIENCE)
        leave.set()
        assert sorted(task.result() for task in tasks) == [False, True]
        other.result().release()
        assert pool.stats().leased == 0 and pool.stats().waiting == 0
        pool.close()

    def test_a_penalty_is_not_lost_to_an_earlier_ones_end(self, shared: Any, clock: Any) -> None:
        """The latest end of all counts, whatever the order they were given in."""
        pool, _ = shared(2, slots=50, clock=clock)
        pool.warm(2)
        core = manager_of(pool).core
        core.penalize(0, 20.0)
        core.penalize(1, 5.0)
        clock.advance(10)
        first = core.item(0)
        leases = [pool.acquire() for _ in range(3)]
        assert first not in [lease.resource for lease in leases]
        for lease in leases:
            lease.release()
