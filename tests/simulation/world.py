"""A small world that runs from a seed: one pool, tasks of some loops, threads, their history.

Each actor makes a few operations, chosen by dice of its own; what they have in common is chosen by
the dice of the seed.  ``play`` runs it and returns what happened; ``verdict`` says what was wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from fastpool import FastPool, PoolClosed, _core
from fastpool._aio import slow_paths
from fastpool.testing import ManualClock
from simulation.history import Event, History, faults, watched
from simulation.loop import ShufflingLoop
from simulation.plans import ENDS, AsyncFactory, Factory, Plan, Spoilt
from simulation.scheduler import Schedule
from support.helpers import Resource


class World:
    def __init__(self, seed: object, plan: Plan, make_pool: Callable[[World], Any] | None = None):
        self.seed, self.plan = seed, plan
        self.history = History()
        self.schedule = Schedule(seed)
        self.pool: Any = None
        self.factory: Factory = (AsyncFactory if plan.asynchronous else Factory)(self)
        self.make_pool = make_pool or World._make_pool
        self.running = 0  # other loops and threads
        self.served = 0
        self.event_loops: list[ShufflingLoop] = []
        self.may_close = plan.closes  # before the end
        self.victim: Callable[[World], Coroutine[Any, Any, Any]] | None = None
        self.strike: tuple[int, str] = (-1, "late")
        self.hit = False
        self.over = False  # the pool is closed
        self.calm = False  # hooks neither fail nor linger any more

    def chance(self, dice: random.Random, share: float) -> bool:
        return dice.random() < share and not self.calm

    # ---- the pool --------------------------------------------------------------------------------

    def _make_pool(self) -> Any:
        plan, factory = self.plan, self.factory
        hooks: dict[str, Any] = {"factory": factory}
        ail: Any = factory.ail
        if isinstance(factory, AsyncFactory):
            hooks, ail = {"factory": factory.create, "close": factory.close}, factory.aail
        if plan.checked:
            hooks.update(check=ail, check_after=0)
        if plan.resets:
            hooks.update(reset=ail)
        clock = ManualClock()
        self.schedule.on_time.append(clock.ticks.advance)
        return FastPool(
            plan.cap,
            fairness="fair" if plan.fair else "throughput",
            max_waiting=plan.max_waiting,
            create_timeout=plan.create_timeout,
            discard_on=Spoilt,
            timeout=5,
            name="world",
            clock=clock,
            **hooks,
        )

    def look(self) -> tuple[int, int, int]:
        """(waiting, idle, how many more should be being made for those who wait)"""
        if not isinstance(self.pool, FastPool):
            sizes: tuple[int, int, int] = self.pool.look()
            return sizes
        cores, plan = self.cores(), self.plan
        if self.pool.closed or cores[0].suspended:
            return 0, 0, 0
        counts = [core.counts() for core in cores]
        waiting = sum(n["waiting"] for n in counts)
        under_way = sum(n["creating"] for n in counts)
        if sum(n["closing"] + n["checking"] for n in counts) + under_way == 0:
            idle = sum(n["idle"] for n in counts)  # of another loop too: its slot can be had
        else:
            idle = sum(n["idle"] for n in counts if n["waiting"])
        space = plan.cap - sum(n["open"] for n in counts)
        capacity = max(0, min(waiting, space) - under_way)
        return waiting, idle, capacity

    def cores(self) -> list[Any]:
        """One, or one for each event loop.  Looked at without a lock: nobody else runs."""
        if not self.plan.asynchronous:
            return [self.core]
        return [self.core, *self.manager.cores.values()]

    def busy(self) -> bool:
        """Whether hooks are under way."""
        if not isinstance(self.pool, FastPool):
            return False
        counts = [core.counts() for core in self.cores()]
        return any(n["creating"] or n["checking"] or n["closing"] for n in counts)

    def quiet(self) -> None:
        if all(loop.idle for loop in self.event_loops):
            self.history.note("quiet", "", -1, *self.look())

    # ---- operations ------------------------------------------------------------------------------

    def give(self, resource: Resource, who: str) -> None:
        self.history.note("give", who, resource.number)
        self.served += 1
        resource.holder = resource.holder or who

    def back(self, resource: Resource, who: str) -> None:
        self.history.note("back", who, resource.number)
        resource.holder = None

    @contextlib.contextmanager
    def held(self, resource: Resource, who: str) -> Iterator[None]:
        self.give(resource, who)
        try:
            yield
        finally:
            self.back(resource, who)

    async def operate(self, who: str, dice: random.Random, form: str = "") -> None:
        """One operation of a task, which may be cut off anywhere."""
        plan, pool = self.plan, self.pool
        timeout = dice.choice([0, 0.001, 0.005]) if dice.random() < plan.short else 5
        form = form or dice.choice(plan.forms)
        discard = dice.random() < plan.discards
        spoil = dice.random() < plan.spoils
        self.history.note("ask", who, -1, form, timeout)
        if form == "get":
            resource = await pool.aget(timeout)
            try:
                with self.held(resource, who):
                    await self.use(dice)
            finally:
                pool.discard(resource) if discard else pool.put(resource)
        elif form == "lease":
            async with pool.lease(timeout=timeout) as resource:
                with self.held(resource, who):
                    await self.use(dice)
                if discard:
                    pool.discard(resource)
                elif spoil:
                    raise Spoilt
        else:
            lease = await pool.aacquire(timeout)
            try:
                with self.held(lease.resource, who):
                    await self.use(dice)
            finally:
                lease.discard() if discard else lease.release()

    async def use(self, dice: random.Random) -> None:
        for _ in range(dice.randrange(3)):
            await asyncio.sleep(dice.choice([0, 0, 0.002]))

    def operate_in_thread(self, who: str, dice: random.Random) -> None:
        """It never waits: the core would park the thread, and nobody would have the baton."""
        form = dice.choice(["get", "lease"])
        self.history.note("ask", who, -1, form, 0)
        if form == "get":
            resource = self.pool.get(timeout=0)
            with self.held(resource, who):
                self.schedule.sleep(dice.random() * 0.003)
            discard = dice.random() < self.plan.discards
            self.pool.discard(resource) if discard else self.pool.put(resource)
        else:
            with self.pool.lease(timeout=0) as resource, self.held(resource, who):
                self.schedule.sleep(dice.random() * 0.003)

    # ---- who makes them --------------------------------------------------------------------------

    async def task(self, who: str) -> None:
        dice, loop = random.Random(f"{self.seed} {who}"), asyncio.get_running_loop()
        for number in range(self.plan.operations):
            name = f"{who}.{number}"
            task = loop.create_task(self.operate(name, dice), name=name)
            if dice.random() < self.plan.cancels:
                loop.call_later(dice.choice([0, 0, 0.001, 0.004]), task.cancel)
            if dice.random() < self.plan.flushes:
                self.pool.flush()
            await asyncio.wait([task])
            if task.cancelled():
                continue
            try:
                task.result()
            except ENDS:
                pass
            except PoolClosed:
                assert self.may_close
                return

    def thread(self, who: str) -> None:
        dice = random.Random(f"{self.seed} {who}")
        for number in range(self.plan.operations):
            self.schedule.sleep(dice.random() * 0.003)
            try:
                self.operate_in_thread(f"{who}.{number}", dice)
            except ENDS:
                pass
            except PoolClosed:
                assert self.may_close
                break
        self.running -= 1

    async def tasks(self, loop: int) -> None:
        """All that belong to one loop."""
        names = [f"{'abc'[loop]}{n}" for n in range(self.plan.tasks)]
        tasks = [asyncio.ensure_future(self.task(who)) for who in names]
        if loop == 0 and self.victim is not None:
            tasks.append(self.under_test(self.victim))
        if loop == 0 and self.plan.closes:
            await asyncio.sleep(self.schedule.dice.random() * 0.01)
            await self.pool.aclose(self.schedule.dice.choice([0, 5.0]))
        await asyncio.gather(*tasks)

    def under_test(self, work: Callable[[World], Coroutine[Any, Any, Any]]) -> asyncio.Task[Any]:
        loop: Any = asyncio.get_running_loop()

        async def guarded() -> None:
            await asyncio.wait([task])
            self.hit = loop.hit
            if not task.cancelled() and not isinstance(task.exception(), (*ENDS, PoolClosed)):
                task.result()

        task = loop.create_task(work(self), name="victim")
        loop.strike(lambda: task, *self.strike)
        return asyncio.ensure_future(guarded())

    async def main(self) -> None:
        await self.tasks(0)
        while self.running:
            await asyncio.sleep(0.01)
        self.calm, self.schedule.haste = True, 0.0
        while self.busy():
            await asyncio.sleep(0.01)
        try:
            await self.whole()
        except PoolClosed:
            assert self.may_close
        assert await self.pool.aclose(60.0) is True, "something is lent still"
        self.over = True

    async def whole(self) -> None:
        """Nothing was lost: as many as the cap are given at once, and come back."""
        leases: list[Any] = []
        try:
            for number in range(self.plan.cap):
                leases.append(await self.pool.aacquire(60.0))
                self.give(leases[-1].resource, f"last.{number}")
        finally:  # a close that its task did not await may come in between
            for number, lease in enumerate(leases):
                self.back(lease.resource, f"last.{number}")
                lease.release()

    async def side(self, loop: int) -> None:
        """What runs on another loop.  Async resources belong to it: it is there until the end."""
        try:
            await self.tasks(loop)
        finally:
            self.running -= 1
        while self.plan.asynchronous and not self.over:
            await asyncio.sleep(0.05)

    def run(self, main: Coroutine[Any, Any, Any], name: str) -> None:
        def new_loop() -> ShufflingLoop:
            self.event_loops.append(ShufflingLoop(self.schedule))
            return self.event_loops[-1]

        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(self.named(main, name))

    async def named(self, main: Coroutine[Any, Any, Any], name: str) -> None:
        """asyncio numbers its tasks through, from one run to the next."""
        task: Any = asyncio.current_task()
        task.set_name(name)
        await main

    def play(self) -> list[Event]:
        plan, schedule = self.plan, self.schedule
        with schedule:
            schedule.put_in(slow_paths, "_core", watched(self.history))
            self.pool = self.make_pool(self)
            if isinstance(self.pool, FastPool):
                self.manager = _core.manager(self.pool, "look")  # which may be gone at the end
                self.core = self.manager.core
            schedule.on_quiet.append(self.quiet)
            for number in range(1, plan.loops):
                self.running += 1
                name = f"loop {number}"
                schedule.spawn(self.run, self.side(number), name, name=name)
            for number in range(plan.threads):
                self.running += 1
                schedule.spawn(self.thread, f"t{number}", name=f"thread {number}")
            self.run(self.main(), "main")
            schedule.until(lambda: self.factory.made == self.factory.closed)
            schedule.until(lambda: not any(not loop.is_closed() for loop in self.event_loops))
        return self.history.events

    def forget(self) -> None:
        """Lets go of the pool and the loops of a run that went wrong."""
        self.pool = self.manager = self.core = None
        self.event_loops.clear()

    def verdict(self) -> list[str]:
        """What was wrong."""
        found = faults(self.history.events, cap=self.plan.cap, fair=self.plan.fair)
        return found + self.factory.faults
