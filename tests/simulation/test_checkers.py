"""The judges of ``stress/test_shuffled.py`` are judged: each finds what it is there for.

A pool of thirty lines, right at first and then wrong in one way at a time, is run in the same
worlds as fastpool; good histories are spoilt by one event; and fastpool itself is broken once.
"""

from __future__ import annotations

import asyncio
import gc
import random
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import pytest

from fastpool import FastPool, PoolTimeout, _core
from fastpool._aio import loop, slow_paths
from simulation.history import Event, faults
from simulation.plans import Plan
from simulation.scheduler import Schedule, Stuck
from simulation.world import World
from support.helpers import PATIENCE, Resource, ThreadRunner, wait_for_scheduler

pytestmark = pytest.mark.once  # judges the judges

E = Event


# ---- A pool that is right, and pools that are not ----------------------------------------------


class Right:
    """For the tasks of one loop."""

    def __init__(self, world: World) -> None:
        self.factory, self.note, self.cap = world.factory, world.history.note, world.plan.cap
        self.idle: list[Resource] = []
        self.queue: deque[asyncio.Future[Resource]] = deque()
        self.open = 0
        self.closed = False

    def look(self) -> tuple[int, int, int]:
        return len(self.queue), len(self.idle), min(self.cap - self.open, len(self.queue))

    def free(self) -> Resource | None:
        if self.idle:
            return self.idle.pop()
        if self.open >= self.cap:
            return None
        self.open += 1
        return self.factory()  # type: ignore[no-any-return]

    def dispatch(self) -> None:
        while self.queue and (resource := self.free()) is not None:
            future = self.next_in_queue()
            if future.cancelled():
                self.idle.append(resource)
            else:
                future.set_result(resource)

    def next_in_queue(self) -> asyncio.Future[Resource]:
        return self.queue.popleft()

    async def aget(self, timeout: float) -> Resource:
        if not self.queue and (found := self.free()) is not None:
            return found
        task: Any = asyncio.current_task()
        who = task.get_name()
        future: asyncio.Future[Resource] = asyncio.get_running_loop().create_future()
        self.queue.append(future)
        self.note("join", who, -1, "end", len(self.queue), "getters")
        why = "abandoned"
        try:
            async with asyncio.timeout(timeout):
                resource = await future
            why = "fresh"
            return resource
        except TimeoutError:
            self.gone(future)
            raise PoolTimeout("right", "wait", timeout, {}) from None
        except asyncio.CancelledError:
            self.gone(future)
            raise
        finally:
            self.note("leave", who, -1, why, len(self.queue), "getters")

    def gone(self, future: asyncio.Future[Resource]) -> None:
        if future in self.queue:
            self.queue.remove(future)
        elif not future.cancelled():
            self.put(future.result())

    def put(self, resource: Resource) -> None:
        self.idle.append(resource)
        self.dispatch()

    def discard(self, resource: Resource) -> None:
        resource.close()
        self.open -= 1
        self.dispatch()

    def flush(self) -> None:
        pass

    async def aacquire(self, timeout: float) -> Any:
        return _Lease(self, await self.aget(timeout))

    async def aclose(self, timeout: float) -> bool:
        self.closed = True
        while self.idle:
            self.discard(self.idle.pop())
        return self.open == 0


class _Lease:
    def __init__(self, pool: Right, resource: Resource) -> None:
        self.pool, self.resource = pool, resource

    def release(self) -> None:
        self.pool.put(self.resource)


class LendsTwice(Right):
    def free(self) -> Resource | None:
        return self.idle[-1] if len(self.idle) > 1 else super().free()


class ServesTheLast(Right):
    def next_in_queue(self) -> asyncio.Future[Resource]:
        return self.queue.pop()


class LosesGrants(Right):
    """What was granted to one who was cancelled at that moment."""

    def gone(self, future: asyncio.Future[Resource]) -> None:
        if future in self.queue:
            self.queue.remove(future)


class OversleepsReturns(Right):
    """Those who wait do not hear of what comes back, but of what is closed."""

    def put(self, resource: Resource) -> None:
        self.idle.append(resource)


class ForgetsSlots(Right):
    """Those who wait do not hear of what is closed."""

    def discard(self, resource: Resource) -> None:
        resource.close()
        self.open -= 1


class OpensTooMany(Right):
    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.cap += 1


class KeepsOneOpen(Right):
    async def aclose(self, timeout: float) -> bool:
        self.open -= 1
        del self.idle[:1]
        return await super().aclose(timeout)


class LendsTheClosed(Right):
    def discard(self, resource: Resource) -> None:
        resource.close()
        if not self.closed:
            self.put(resource)


class ClosesWhileHeld(Right):
    async def aget(self, timeout: float) -> Resource:
        resource = await super().aget(timeout)
        asyncio.get_running_loop().call_later(0.001, resource.close)
        return resource


def _world(seed: int, pool: Callable[[World], Any]) -> World:
    plan = Plan.by_chance(seed, checked=False, resets=False, failing=0, closes=False, slow=0)
    plan.cap, plan.tasks, plan.forms = 2, 5, ("get",)
    return World(seed, plan, pool)


def _wrong(world: World) -> list[str]:
    try:
        world.play()
    except Exception as error:  # and what the history says of it
        return [f"{type(error).__name__}: {error}", *world.verdict()]
    return world.verdict()


def test_a_right_pool_passes() -> None:
    """The control: none of the worlds in which the others fail finds fault with it."""
    for seed in range(100):
        world = _world(seed, Right)
        assert not _wrong(world), (seed, _wrong(_world(seed, Right)), str(world.history))


@pytest.mark.parametrize(
    "pool, says",
    [
        (LendsTwice, "given to two"),
        (ServesTheLast, "served before its turn"),
        (LosesGrants, "never closed"),
        (OversleepsReturns, "wait beside 1 idle"),
        (ForgetsSlots, "there is free capacity to open"),
        (OpensTooMany, "exceed the cap"),
        (KeepsOneOpen, "never closed"),
        (LendsTheClosed, "given after its close"),
        (ClosesWhileHeld, "closed while"),
    ],
)
def test_a_wrong_pool_is_found_out(pool: Any, says: str) -> None:
    """Within few seeds, and for what it did."""
    found: list[str] = []
    for seed in range(60):
        found += _wrong(_world(seed, pool))
        if any(says in text for text in found):
            return
    raise AssertionError(f"it was not found out; but {found}")


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_fastpool_without_a_stone_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait that is cancelled keeps what it was granted: some world loses a resource by that."""
    from simulation import history

    real = history.watched

    def broken(told: history.History) -> Any:
        core = real(told)

        class Wait(core.Wait):
            def throw(self, *error: Any) -> Any:
                kept.append(self)
                raise asyncio.CancelledError

        core.Wait = Wait
        return core

    kept: list[Any] = []
    monkeypatch.setattr("simulation.world.watched", broken)
    found: list[str] = []
    for seed in range(200):
        found = _wrong(World(seed, Plan(cap=1, cancels=0.6, short=0, slow=0, failing=0)))
        for wait in kept:
            wait.abandon()
        kept.clear()
        if found:
            del wait
            break
    gc.collect()  # the pool, whose warning is meant for this test
    assert found, "200 worlds did not notice"


# ---- Histories ---------------------------------------------------------------------------------

GOOD = [
    E("dial"), E("make", "", 0), E("give", "a", 0),
    E("join", "b", -1, ("end", 1, "getters")), E("join", "c", -1, ("end", 2, "getters")),
    E("quiet", "", -1, (2, 0, 0)),
    E("back", "a", 0), E("leave", "b", -1, ("fresh", 1, "getters")), E("give", "b", 0),
    E("join", "d", -1, ("front", 2, "getters")),
    E("back", "b", 0), E("leave", "d", -1, ("fresh", 1, "getters")), E("give", "d", 0),
    E("back", "d", 0), E("close", "", 0), E("closed", "", 0), E("dial"),
    E("fail"),
    E("leave", "c", -1, ("error", 0, "getters")), E("quiet", "", -1, (0, 1, 1)),
]  # fmt: skip


def test_a_good_history_has_no_fault() -> None:
    assert faults(GOOD, cap=1, fair=True) == []


@pytest.mark.parametrize(
    "at, event, says",
    [
        (1, None, "never made"),
        (2, E("give", "a", 7), "never made"),
        (3, E("give", "b", 0), "given to two"),
        (4, E("join", "b", -1, ("end", 2, "getters")), "stands in the queue twice"),
        (5, E("quiet", "", -1, (2, 1, 0)), "2 wait beside 1 idle"),
        (5, E("quiet", "", -1, (2, 0, 1)), "there is free capacity"),
        (6, None, "given to two"),
        (6, E("back", "b", 0), "but a holds it"),
        (7, E("leave", "c", -1, ("fresh", 1, "getters")), "served before its turn: ['b']"),
        (7, E("leave", "x", -1, ("fresh", 1, "getters")), "did not stand"),
        (7, E("leave", "b", -1, ("fresh", 2, "getters")), "2 wait still, of 1"),
        (9, E("join", "d", -1, ("end", 2, "getters")), "served before its turn: ['c']"),
        (9, E("join", "d", -1, ("front", 3, "getters")), "3 wait, and 2 have joined"),
        (12, E("close", "", 0), "closed twice"),
        (13, E("close", "", 0), "closed while d holds it"),
        (14, None, "but never begun"),
        (14, E("give", "x", 0), "still held"),
        (15, None, "never closed"),
        (16, E("make", "", 0), "made twice"),
        (17, E("dial"), "exceed the cap"),
        (17, None, "1 never made"),
        (18, None, "still in the queue"),
    ],
)
def test_a_spoilt_history_has_one(at: int, event: Event | None, says: str) -> None:
    """One event left out or put in place of another."""
    spoilt = [*GOOD[:at], *([] if event is None else [event]), *GOOD[at + 1 :]]
    found = faults(spoilt, cap=1, fair=True)
    assert any(says in text for text in found), found


def test_a_history_of_fastpool_may_not_lose_an_event() -> None:
    """Each that says who has what, left out of a real history, leaves a fault behind."""
    world = World(3, Plan(tasks=4, failing=0, closes=False))
    events = world.play()
    assert not world.verdict()
    told = [n for n, event in enumerate(events) if event.kind in ("give", "back", "close", "make")]
    assert len(told) > 20
    for n in told:
        left = events[:n] + events[n + 1 :]
        assert faults(left, cap=world.plan.cap, fair=True), f"without {n}, {events[n]}"


# ---- The schedule ------------------------------------------------------------------------------


def test_who_waits_for_ever_is_told_so() -> None:
    """A task that nobody will wake does not hang the test: the error names the actors."""

    async def forever() -> None:
        await asyncio.get_running_loop().create_future()

    class Waits(Right):
        async def aclose(self, timeout: float) -> bool:
            await forever()
            return True

    with pytest.raises(Stuck, match=r"(?s)nobody can go on.*main: "):
        _world(1, Waits).play()


def test_two_actors_that_wait_for_each_other_are_told_so() -> None:
    """A lock that is never given back."""
    with pytest.raises(Stuck, match=r"(?s)main: .*, in grab.*second: .*, in grab"):
        with Schedule(1) as schedule:
            one, two = (cast("Any", _core.Lock()) for _ in range(2))

            def grab(first: Any, second: Any) -> None:
                first.acquire()
                schedule.pause(lambda: one.holder and two.holder)
                second.acquire()

            schedule.spawn(grab, two, one, name="second")
            grab(one, two)


def test_what_it_puts_in_is_taken_out_again() -> None:
    """After a world, fastpool has its own threads and its own time once more."""
    from fastpool._runtime import scheduler, threads

    before = [vars(module).copy() for module in (threads, scheduler, loop, slow_paths)]
    World(1, Plan()).play()
    after = [vars(module) for module in (threads, scheduler, loop, slow_paths)]
    for was, now in zip(before, after):
        assert {name for name in was if was[name] is not now[name]} <= {"_schedulers"}
    assert slow_paths._core is _core
    with FastPool(1, factory=object) as pool, pool.lease() as resource:
        assert resource is not None


def test_a_thread_from_outside_has_the_real_scheduler(runner: ThreadRunner) -> None:
    """What a pool of another test says late does not start one on the actors' inbox."""
    from fastpool._runtime import scheduler

    wait_for_scheduler()  # the real one is there
    told = threading.Event()
    with Schedule(1) as schedule:
        before = threading.active_count()
        runner.start(scheduler.call_soon, told.set).result()
        assert told.wait(PATIENCE) and threading.active_count() <= before
        seen: list[float] = []
        scheduler.call_soon(lambda: seen.append(schedule.now))
        schedule.until(lambda: seen)  # the actors have one of their own


def test_the_seed_is_all_that_chance_knows() -> None:
    """Nothing of the process's own chance comes in, nor what an earlier pool left in its memory."""

    def played(noise: int) -> Any:
        random.seed(noise)
        gc.collect()  # the memory of the last world's pool is the next one's
        return World(11, Plan(loops=2, threads=1, checked=True)).play()

    first = played(1)
    assert all(played(noise) == first for noise in range(2, 6))
