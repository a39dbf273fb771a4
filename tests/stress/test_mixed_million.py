"""One pool, threads and the tasks of three loops, random operations: nothing lost, nobody stuck.

What an actor does is drawn before it does it, so that its operations are those of its seed whatever
comes of them; only the schedule differs.  FASTPOOL_STRESS_OPS says how many operations in all,
FASTPOOL_STRESS_SEED repeats them; both are printed, with what became of them (``pytest -rP``).
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import threading
import time
import zlib
from collections import Counter
from typing import Any, NamedTuple

import pytest

from fastpool import PoolOverloaded, PoolTimeout
from support.helpers import (
    QUICK,
    STRESS_OPS,
    Flaky,
    Maker,
    Resource,
    ThreadRunner,
    ailing,
    eventually,
    stress_ops,
    unresettable,
    works,
)
from support.loops import KINDS, new_loop, run_in

OPS = stress_ops(6000)
SEED = int(os.environ.get("FASTPOOL_STRESS_SEED", random.randrange(2**32)))
LOOPS, TASKS, THREADS = 3, 4, 4
CAP = 4
LONG = 60.0  # nobody waits as long as that, unless something was lost
LIMIT = 2 * LONG + OPS // 500

pytestmark = [pytest.mark.stress, pytest.mark.timeout(LIMIT + 60)]


# ---- What is done ------------------------------------------------------------------------------


class Operation(NamedTuple):
    form: str  # lease, get or acquire
    timeout: float
    steps: int  # for which it is held
    end: str  # back, discard or raise
    cancel: float | None  # after so many seconds, or steps if negative; tasks only


def drawn(dice: random.Random) -> Operation:
    """The next one; always with as many throws of the dice."""
    chances = [dice.random() for _ in range(6)]
    form = ("lease", "lease", "get", "acquire")[int(4 * chances[0])]
    timeout = 0.0 if chances[1] < 0.1 else 0.01 * chances[1] if chances[1] < 0.3 else LONG
    end = "discard" if chances[2] < 0.03 else "raise" if chances[2] < 0.06 else "back"
    cancel = None
    if chances[3] < 0.1:
        cancel = 0.002 * chances[4]
    elif chances[3] < 0.25:
        cancel = -1.0 - int(4 * chances[4])
    return Operation(form, timeout, int(3 * chances[5]), end, cancel)


class Spoilt(Exception):
    """Raised in a block; it closes the resource."""


class Actor:
    """Who makes the operations of one seed, and what becomes of them."""

    def __init__(self, pool: Any, who: str, operations: int) -> None:
        self.pool, self.who, self.operations = pool, who, operations
        self.dice = random.Random(f"{SEED} {who}")
        self.done = 0
        self.digest = 0
        self.ends: Counter[str] = Counter()

    def next(self) -> Operation:
        operation = drawn(self.dice)
        self.digest = zlib.crc32(repr(operation).encode(), self.digest)
        self.done += 1
        return operation

    def begin(self, resource: Resource) -> None:
        assert not resource.closed, f"{resource} was lent after its close"
        assert resource.holder is None, f"{resource} is held by {resource.holder} and {self.who}"
        resource.holder = self.who

    def end(self, resource: Resource) -> None:
        assert resource.holder == self.who, f"{resource} was taken over by {resource.holder}"
        resource.holder = None

    def note(self, error: BaseException | None, operation: Operation) -> None:
        """What an operation came to."""
        if isinstance(error, PoolTimeout) and operation.timeout == LONG:
            raise AssertionError(f"{self.who} was stuck: {operation}") from error
        if error is None:
            self.ends["served"] += 1
        elif isinstance(error, (PoolTimeout, PoolOverloaded, Flaky.Failure, Spoilt)):
            self.ends[type(error).__name__] += 1
        elif isinstance(error, asyncio.CancelledError):
            self.ends["cancelled"] += 1
        else:
            raise error

    # ---- in a task

    async def hold(self, resource: Resource, operation: Operation) -> None:
        self.begin(resource)
        try:
            for _ in range(operation.steps):
                await asyncio.sleep(0)
        finally:
            self.end(resource)

    async def operate(self, operation: Operation) -> None:
        pool, (form, timeout, _, end, _) = self.pool, operation
        if form == "lease":
            async with pool.lease(timeout=timeout) as resource:
                await self.hold(resource, operation)
                if end == "discard":
                    pool.discard(resource)
                elif end == "raise":
                    raise Spoilt
        elif form == "get":
            resource = await pool.aget(timeout)
            try:
                await self.hold(resource, operation)
            finally:
                pool.discard(resource) if end == "discard" else pool.put(resource)
        else:
            lease = await pool.aacquire(timeout)
            try:
                await self.hold(lease.resource, operation)
            finally:
                lease.discard() if end == "discard" else lease.release()

    async def run_task(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(self.operations):
            operation = self.next()
            error: BaseException | None = None
            if operation.cancel is None:
                try:
                    await self.operate(operation)
                except Exception as failure:
                    error = failure
            else:
                task = loop.create_task(self.operate(operation))
                if operation.cancel >= 0:
                    timer = loop.call_later(operation.cancel, task.cancel)
                    await asyncio.wait([task])
                    timer.cancel()
                else:
                    for _ in range(-int(operation.cancel) - 1):
                        await asyncio.sleep(0)
                    task.cancel()
                    await asyncio.wait([task])
                error = asyncio.CancelledError() if task.cancelled() else task.exception()
            self.note(error, operation)

    # ---- in a thread

    def operate_in_thread(self, operation: Operation) -> None:
        pool, (form, timeout, _, end, _) = self.pool, operation
        if form == "lease":
            with pool.lease(timeout=timeout) as resource:
                self.begin(resource)
                self.end(resource)
                if end == "discard":
                    pool.discard(resource)
                elif end == "raise":
                    raise Spoilt
        elif form == "get":
            resource = pool.get(timeout=timeout)
            self.begin(resource)
            self.end(resource)
            pool.discard(resource) if end == "discard" else pool.put(resource)
        else:
            lease = pool.acquire(timeout)
            self.begin(lease.resource)
            self.end(lease.resource)
            lease.discard() if end == "discard" else lease.release()

    def run_thread(self) -> None:
        for _ in range(self.operations):
            operation = self.next()
            error: BaseException | None = None
            try:
                self.operate_in_thread(operation)
            except Exception as failure:
                error = failure
            self.note(error, operation)


# ---- What it is done to ------------------------------------------------------------------------


class Slow(Flaky):
    """One call in ten fails, one in five takes its time, until the end."""

    over = False

    def __call__(self) -> Any:
        if self.over:
            return Maker.__call__(self)
        if self.calls % 5 == 3:
            time.sleep(0.001)
        return super().__call__()


class AsyncHooks:
    """The same, as coroutine functions."""

    def __init__(self, maker: Slow) -> None:
        self.maker = maker

    async def create(self) -> Any:
        await asyncio.sleep(0.001 if self.maker.calls % 5 == 3 else 0)
        return Maker.__call__(self.maker) if self.maker.over else Flaky.__call__(self.maker)

    async def close(self, resource: Resource) -> None:
        await asyncio.sleep(0)
        resource.close()

    async def check(self, resource: Resource) -> None:
        await asyncio.sleep(0)
        ailing(resource)

    async def reset(self, resource: Resource) -> None:
        await asyncio.sleep(0)
        unresettable(resource)


@pytest.mark.parametrize("factory", ["plain", "async"])
@pytest.mark.parametrize("fairness", ["fair", "throughput"])
@pytest.mark.parametrize("kind", KINDS)
def test_random_operations_of_threads_and_loops(
    kind: str,
    fairness: str,
    factory: str,
    accounted: Any,
    runner: ThreadRunner,
    fast_switching: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Cancels, timeouts, discards, exceptions, failing and slow factories, checks and resets: one
    holder at a time, never more than the cap, no wait of a minute, all that was made is closed."""
    new_loop(kind).close()  # skips
    caplog.set_level(logging.CRITICAL, "fastpool")  # each failing reset is a line
    maker = Slow(cap=CAP)
    hooks: dict[str, Any] = {"check": ailing, "reset": unresettable}
    if factory == "async":
        hooks = {"factory": AsyncHooks(maker)}
    pool, _ = accounted(
        maker=maker,
        maxsize=CAP,
        fairness=fairness,
        max_uses=200,
        max_waiting=14,
        check_after=0.001,
        discard_on=Spoilt,
        **hooks,
    )
    threads = 0 if factory == "async" else THREADS
    names = [f"loop {n}, task {m}" for n in range(LOOPS) for m in range(TASKS)]
    names += [f"thread {n}" for n in range(threads)]
    shares = [OPS // len(names) + (n < OPS % len(names)) for n in range(len(names))]
    actors = [Actor(pool, who, share) for who, share in zip(names, shares)]
    print(f"FASTPOOL_STRESS_OPS={STRESS_OPS or OPS} FASTPOOL_STRESS_SEED={SEED}")

    at_work = set(range(LOOPS))
    over = threading.Event()

    async def tasks(loop: int) -> None:
        mine = actors[loop * TASKS : (loop + 1) * TASKS]
        try:
            async with asyncio.TaskGroup() as group:
                for actor in mine:
                    group.create_task(actor.run_task())
        except BaseException:
            over.set()
            raise
        at_work.discard(loop)
        while factory == "async" and not over.is_set():  # async resources belong to their loop
            await asyncio.sleep(0.01)
            if loop == 0 and not at_work:
                try:
                    await _finish_on_loop(pool, maker)
                finally:
                    over.set()

    def part(index: int) -> None:
        if index < LOOPS:
            run_in(kind, tasks(index), LIMIT)
        else:
            actors[LOOPS * TASKS + index - LOOPS].run_thread()

    start = time.perf_counter()
    for task in runner.together(LOOPS + threads, part):
        task.result(LIMIT)
    took = time.perf_counter() - start

    stats = pool.stats()
    if factory == "plain":
        eventually(lambda: pool.stats().waiting == 0)
        eventually(lambda: pool.stats().leased == pool.stats().checking == 0)
        maker.over = True
        works(pool, CAP)  # all slots are there
        stats = pool.stats()
        assert pool.close(timeout=10) is True
    ends = sum((actor.ends for actor in actors), Counter())
    assert ends.total() == sum(actor.done for actor in actors) == OPS
    assert ends["served"] > 0
    if min(shares) >= 100:  # of a few dozen with short timeouts all may fail by chance
        assert min(actor.ends["served"] for actor in actors) > 0, "somebody was never served"
    for end in ("PoolTimeout", "Failure", "Spoilt", "cancelled") * (not QUICK):
        assert ends[end] > OPS / 10000, f"hardly anything ended with {end}: {ends}"
    for actor in actors:
        assert actor.digest == _digest(actor.who, actor.operations), f"{actor.who} did others"
    eventually(lambda: maker.made == maker.closed and pool.stats().open == 0)
    assert not maker.faults, maker.faults
    counts = ", ".join(f"{n} {end}" for end, n in sorted(ends.items()))
    print(
        f"{OPS} operations of {LOOPS * TASKS} tasks on {LOOPS} loops and {threads} threads, "
        f"{kind}, {fairness}:\n{took:.1f} s, {OPS / took:,.0f} a second; {counts};\n"
        f"{maker.made} made, {maker.closed} closed, at most {CAP} open, "
        f"{stats.timeouts} timeouts counted by the pool"
    )


def _digest(who: str, operations: int) -> int:
    """Of what an actor of that name has to do, from its seed alone."""
    dice, digest = random.Random(f"{SEED} {who}"), 0
    for _ in range(operations):
        digest = zlib.crc32(repr(drawn(dice)).encode(), digest)
    return digest


async def _finish_on_loop(pool: Any, maker: Slow) -> None:
    """As many as the cap allows at once, whichever loop had them; then it is closed."""
    maker.over = True
    leases = [await pool.aacquire(LONG) for _ in range(CAP)]
    assert len({id(lease.resource) for lease in leases}) == CAP
    for lease in leases:
        lease.release()
    assert await pool.aclose(10) is True


def test_the_same_seed_draws_the_same_operations() -> None:
    """Per actor, and others for another actor."""
    assert _digest("loop 0, task 0", 500) == _digest("loop 0, task 0", 500)
    assert _digest("loop 0, task 0", 500) != _digest("loop 0, task 1", 500)


class _Idle:
    """A pool that hands out one resource to everybody."""

    def __init__(self) -> None:
        self.resource = Resource(Maker(), 0)

    async def aget(self, timeout: float) -> Resource:
        return self.resource

    aacquire = aget

    def put(self, resource: Resource) -> None:
        pass

    discard = put


def test_a_pool_that_lends_twice_is_found_out() -> None:
    """The check of holders, on a pool that has none."""

    async def main() -> None:
        pool = _Idle()
        operation = Operation("get", 1.0, 2, "back", None)
        await asyncio.gather(*(Actor(pool, who, 1).operate(operation) for who in "ab"))

    with pytest.raises(AssertionError, match="is held by a and b"):
        asyncio.run(main())


def test_a_long_wait_is_found_out() -> None:
    """A timeout that only a lost wake-up can bring is no end like the others."""
    actor = Actor(None, "a", 1)
    late = PoolTimeout("pool", "wait", LONG, {})
    actor.note(late, Operation("get", 0.01, 0, "back", None))
    with pytest.raises(AssertionError, match="stuck"):
        actor.note(late, Operation("get", LONG, 0, "back", None))
