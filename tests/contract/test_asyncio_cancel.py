"""A task that is struck at any of its suspensions leaves nothing behind.

The task under test is cancelled at its k-th suspension, for k = 0, 1, 2, ... until it gets through:
before what it waits for has come, or just after and before it runs.  Its loop is stopped for longer
than its time-out there, or closed for good.  After each: nothing is lent, nobody waits, and the
pool serves the next one.
"""

from __future__ import annotations

import asyncio
import gc
import queue
import threading
import time
import types
import warnings
from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import Any, ClassVar

import pytest

from fastpool import FastPool, PoolClosed, PoolTimeout, _aio
from loops import KINDS, lined_up, new_loop, run_in
from loops import eventually as aeventually
from support import PATIENCE, Crew, Maker, Resource, eventually, works

kinds = pytest.mark.parametrize("kind", KINDS)
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SPAN = 0.02  # the time-out that is made to pass


# ---- The driver --------------------------------------------------------------------------------


@types.coroutine
def _observed(
    coroutine: Coroutine[Any, Any, Any], suspended: Callable[[Any], None]
) -> Generator[Any, Any, Any]:
    """Runs it and calls ``suspended(what it waits for)`` before each of its suspensions."""
    thrown: BaseException | None = None
    while True:
        try:
            awaited = coroutine.send(None) if thrown is None else coroutine.throw(thrown)
        except StopIteration as end:
            return end.value
        suspended(awaited)
        thrown = None
        try:
            yield awaited
        except BaseException as error:
            thrown = error


class Strike:
    """Counts suspensions and acts at number ``at``."""

    def __init__(self, at: int, act: Callable[[Any], None]) -> None:
        self.at, self.act, self.seen, self.hit = at, act, 0, False

    def __call__(self, awaited: Any) -> None:
        if self.seen == self.at:
            self.hit = True
            self.act(awaited)
        self.seen += 1


def _before(task: Callable[[], asyncio.Task[Any]], awaited: Any) -> None:
    """Cancelled while what it waits for has not come."""
    asyncio.get_running_loop().call_soon(lambda: task().cancel())


def _after(task: Callable[[], asyncio.Task[Any]], awaited: Any) -> None:
    """Cancelled when it has come, and the task has not run yet."""
    if asyncio.isfuture(awaited):
        awaited.add_done_callback(lambda _: task().cancel())
    else:
        asyncio.get_running_loop().call_soon(lambda: task().cancel())


# ---- What the task does ------------------------------------------------------------------------


class Scene:
    """A pool, what the task under test does with it, and what others do meanwhile."""

    options: ClassVar[dict[str, Any]] = {}
    size = 1
    keeps = True  # the pool is open and works afterwards
    fails: tuple[type[BaseException], ...] = ()

    def __init__(self) -> None:
        self.maker = Maker(self.size)
        self.pool: Any = FastPool(self.size, factory=self.maker, **self.options)
        self.before()

    def before(self) -> None:
        """In the test's thread."""

    async def act(self, timeout: float) -> None:
        """The task under test."""
        raise NotImplementedError

    def help(self) -> None:
        """By another task, as soon as the one under test waits in line, or is over."""

    def check(self, kind: str) -> None:
        """Nothing is lost: what is lent comes back, nobody is in line, the next one is served."""
        pool, maker = self.pool, self.maker
        eventually(lambda: pool.stats().waiting == 0)
        eventually(lambda: pool.stats().leased == pool.stats().checking == 0)
        eventually(lambda: pool.stats().creating == pool.stats().closing == 0)
        maker.script.clear()
        if self.keeps:
            works(pool, self.size)
            run_in(kind, self._one_more())
        pool.close(timeout=0)
        eventually(lambda: maker.made == maker.closed)
        assert pool.stats().open == 0 and not maker.faults, maker.faults

    async def _one_more(self) -> None:
        async with self.pool.lease(timeout=PATIENCE) as resource:
            assert not resource.closed


class Hit(Scene):
    """An idle resource."""

    def before(self) -> None:
        self.pool.warm(1)

    async def act(self, timeout: float) -> None:
        async with self.pool.lease(timeout=timeout):
            await asyncio.sleep(0)


class Create(Scene):
    """A resource that is made for the task."""

    async def act(self, timeout: float) -> None:
        async with self.pool.lease(timeout=timeout):
            await asyncio.sleep(0)


class FailedCreate(Scene):
    """A factory that raises for the task."""

    fails = (LookupError,)

    def before(self) -> None:
        self.maker.script.append(LookupError("no server"))

    async def act(self, timeout: float) -> None:
        async with self.pool.lease(timeout=timeout):
            raise AssertionError("it failed")


class InLine(Scene):
    """A resource that somebody else gives back."""

    def before(self) -> None:
        self.held: Any = self.pool.acquire()

    async def act(self, timeout: float) -> None:
        async with self.pool.lease(timeout=timeout):
            await asyncio.sleep(0)

    def help(self) -> None:
        held, self.held = self.held, None
        if held is not None:
            held.release()


class InLineThroughput(InLine):
    """The same, where waiters are notified and look for themselves."""

    options: ClassVar[dict[str, Any]] = {"fairness": "throughput"}


class InLineDiscarded(InLine):
    """A place that becomes free in the line: the resource there was discarded."""

    def help(self) -> None:
        held, self.held = self.held, None
        if held is not None:
            held.discard()


class InLineGet(InLine):
    """``aget`` and ``put``."""

    async def act(self, timeout: float) -> None:
        resource = await self.pool.aget(timeout)
        try:
            await asyncio.sleep(0)
        finally:
            self.pool.put(resource)


class InLineAcquire(InLine):
    """``aacquire`` and ``release``."""

    async def act(self, timeout: float) -> None:
        lease = await self.pool.aacquire(timeout)
        try:
            await asyncio.sleep(0)
        finally:
            lease.release()


class Check(Scene):
    """A check at borrow."""

    options: ClassVar[dict[str, Any]] = {"check": lambda resource: None, "check_after": 0}

    def before(self) -> None:
        self.pool.put(self.pool.get())  # a new one is not checked

    async def act(self, timeout: float) -> None:
        async with self.pool.lease(timeout=timeout):
            await asyncio.sleep(0)


def _unhealthy(resource: Resource) -> None:
    if resource.number == 0:
        raise OSError


class FailedCheck(Check):
    """A check that fails; the next resource is made."""

    options: ClassVar[dict[str, Any]] = {"check": _unhealthy, "check_after": 0}


class CheckInLine(InLine):
    """A check of what came back while the task stood in line."""

    options: ClassVar[dict[str, Any]] = {"check": lambda resource: None, "check_after": 0}


class Reset(Hit):
    """A reset at the end of the block, in a nested one."""

    options: ClassVar[dict[str, Any]] = {"reset": lambda resource: time.sleep(0.001)}


class FailedReset(Hit):
    """A reset that fails: the resource is closed."""

    @staticmethod
    def _fail(resource: Resource) -> None:
        raise OSError

    options: ClassVar[dict[str, Any]] = {"reset": _fail}


class Spoilt(Hit):
    """A block that ends with an exception that discards."""

    fails = (ConnectionError,)

    async def act(self, timeout: float) -> None:
        async with self.pool.lease(timeout=timeout):
            await asyncio.sleep(0)
            raise ConnectionError


class Nested(Scene):
    """Two at once."""

    size = 2

    async def act(self, timeout: float) -> None:
        async with self.pool.lease(timeout=timeout), self.pool.lease(timeout=timeout):
            await asyncio.sleep(0)


class Warm(Scene):
    """``awarm``."""

    size = 2

    async def act(self, timeout: float) -> None:
        await self.pool.awarm(2, timeout)


class Close(InLine):
    """``aclose``, with a borrower to wait for."""

    keeps = False

    async def act(self, timeout: float) -> None:
        await self.pool.aclose(timeout)


class CloseBlock(Hit):
    """``async with pool``."""

    keeps = False

    async def act(self, timeout: float) -> None:
        async with self.pool:
            async with self.pool.lease(timeout=timeout):
                await asyncio.sleep(0)


class Queue(Scene):
    """Queue use: every item is in the queue, or with exactly one who got it."""

    def __init__(self) -> None:
        self.pool = FastPool(1, order="fifo", **self.options)
        self.put: list[int] = []
        self.got: list[int] = []
        self.before()

    def check(self, kind: str) -> None:
        eventually(lambda: lined_up(self.pool) == 0)
        left = [self.pool.get_nowait() for _ in range(self.pool.qsize())]
        assert sorted(left + self.got) == sorted(self.put)
        self.pool.put("next", timeout=1)
        assert self.pool.get(timeout=1) == "next"
        self.pool.close()


class QueueGet(Queue):
    """An item that is put while the task stands in line."""

    async def act(self, timeout: float) -> None:
        self.got.append(await self.pool.aget(timeout))

    def help(self) -> None:
        if not self.put:
            self.put.append(1)
            self.pool.put_nowait(1)


class QueueGetFair(QueueGet):
    options: ClassVar[dict[str, Any]] = {"fairness": "fair"}


class QueuePut(Queue):
    """Room that comes while the task stands in line.  Struck after the item went in, it is in."""

    def before(self) -> None:
        self.pool.put(1)
        self.put.append(1)
        self.freed = False

    async def act(self, timeout: float) -> None:
        await self.pool.aput(2, timeout)

    def help(self) -> None:
        if not self.freed:
            self.freed = True
            self.got.append(self.pool.get_nowait())

    def check(self, kind: str) -> None:
        if 2 in self.pool.queue:
            self.put.append(2)
        super().check(kind)


POOLS = [
    Hit, Create, FailedCreate, InLine, InLineThroughput, InLineDiscarded, InLineGet, InLineAcquire,
    Check, FailedCheck, CheckInLine, Reset, FailedReset, Spoilt, Nested, Warm, Close, CloseBlock,
]  # fmt: skip
SCENES = [*POOLS, QueueGet, QueueGetFair, QueuePut]
scenes = pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)


async def _play(stage: Scene, strike: Strike, timeout: float) -> BaseException | None:
    """The task under test and its helper; what the task raised."""
    task: asyncio.Task[Any]
    strike_act = strike.act
    strike.act = lambda awaited: strike_act((lambda: task, awaited))
    task = asyncio.create_task(_wrapped(stage.act(timeout), strike))
    await asyncio.sleep(0)
    while not task.done() and not _is_waiting(stage):
        await asyncio.sleep(0.0005)
    stage.help()
    await asyncio.wait([task], timeout=PATIENCE)
    assert task.done(), "it hangs"
    return None if task.cancelled() else task.exception()


async def _wrapped(coroutine: Coroutine[Any, Any, Any], strike: Strike) -> Any:
    return await _observed(coroutine, strike)


def _is_waiting(stage: Scene) -> bool:
    if isinstance(stage, Queue):
        return True  # its first step, which has been made, brings it into the line
    if isinstance(stage, Close):
        return bool(stage.pool.closed)
    return bool(stage.pool.stats().waiting) and isinstance(stage, InLine)


# ---- The strikes -------------------------------------------------------------------------------


def _every_suspension(play: Callable[[int], bool], at_most: int = 60) -> int:
    """Plays it with k = 0, 1, 2, ... until that is more than it has; how many it has."""
    for k in range(at_most):
        if not play(k):
            return k
    raise AssertionError("it never gets through")


@kinds
@scenes
@pytest.mark.parametrize("when", [_before, _after], ids=["before", "after"])
def test_cancelled_at_every_suspension(kind: str, scene: type[Scene], when: Any) -> None:
    """Cancelled before or after what it waits for: nothing is lost, nothing is kept."""

    def play(k: int) -> bool:
        stage = scene()
        strike = Strike(k, lambda told: when(*told))
        error = run_in(kind, _play(stage, strike, 5.0), 2 * PATIENCE)
        stage.help()  # if it was struck before anybody helped
        assert error is None or isinstance(error, stage.fails), repr(error)
        stage.check(kind)
        return strike.hit

    assert _every_suspension(play) >= 1


@kinds
@scenes
@pytest.mark.parametrize("helped", ["before", "after"])
def test_out_of_time_at_every_suspension(kind: str, scene: type[Scene], helped: str) -> None:
    """Its time passes while the loop stands still, and what it waits for comes before or after."""

    def play(k: int) -> bool:
        stage = scene()

        def act(told: Any) -> None:
            if helped == "before" and k:
                stage.help()
            time.sleep(1.5 * SPAN)

        strike = Strike(k, act)
        error = run_in(kind, _play(stage, strike, SPAN), 2 * PATIENCE)
        stage.help()
        over = (PoolTimeout, queue.Empty, queue.Full)
        assert error is None or isinstance(error, (*over, *stage.fails)), repr(error)
        stage.check(kind)
        return strike.hit

    _every_suspension(play)


@kinds
@scenes
@pytest.mark.parametrize("keep", [False, True], ids=["collected", "kept"])
def test_its_loop_is_closed_at_every_suspension(kind: str, scene: type[Scene], keep: bool) -> None:
    """The loop ends for ever there; the task is collected at once, or after others were served."""

    def play(k: int) -> bool:
        stage = scene()
        loop = new_loop(kind)
        loop.set_exception_handler(lambda loop, context: None)  # "destroyed but pending"
        strike = Strike(k, lambda awaited, loop=loop: loop.stop())
        task = loop.create_task(_wrapped(stage.act(PATIENCE), strike))

        def end(task: Any, loop: Any = loop) -> None:
            task.cancelled() or task.exception()
            loop.stop()

        task.add_done_callback(end)
        _help_when_it_waits(stage, strike, task, loop)
        loop.run_forever()
        loop.close()
        if keep:
            stage.help()
            if isinstance(stage, InLine) and stage.keeps and strike.hit and not task.done():
                _somebody_is_served(stage)
        hit = strike.hit
        del task, loop, strike, end
        gc.collect()
        stage.help()
        stage.check(kind)
        return hit

    _every_suspension(play)


def _help_when_it_waits(stage: Scene, strike: Strike, task: Any, loop: Any) -> None:
    def look() -> None:
        if _is_waiting(stage):
            stage.help()
        elif not task.done() and not strike.hit:
            loop.call_later(0.0005, look)

    loop.call_soon(look)


def _somebody_is_served(stage: Scene) -> None:
    """The task waits for ever, in line or with a grant: a thread is served nevertheless.  If it
    holds a resource in its block, that comes back when the task is collected."""
    if stage.pool.stats().waiting or not _holds(stage):
        resource = stage.pool.get(timeout=PATIENCE)
        stage.pool.put(resource)


def _holds(stage: Scene) -> bool:
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline:
        if stage.pool.stats().leased == 0:
            return False
        time.sleep(0.005)
    return True


# ---- Loops that end ----------------------------------------------------------------------------


class Ended:
    """A loop with pending tasks that stays as it is: stopped, then closed."""

    def __init__(self, kind: str) -> None:
        self.loop = new_loop(kind)
        self.loop.set_exception_handler(lambda loop, context: None)
        self.tasks: list[Any] = []

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.tasks.append(self.loop.create_task(coroutine))

    def run_until(self, condition: Callable[[], Any]) -> None:
        self.loop.run_until_complete(aeventually(condition))

    def close(self) -> None:
        self.loop.close()

    def forget(self) -> None:
        self.tasks.clear()
        del self.loop
        gc.collect()


@pytest.fixture(params=KINDS)
def ended(request: pytest.FixtureRequest) -> Iterator[Ended]:
    loop = Ended(request.param)
    yield loop
    if not loop.loop.is_closed():
        loop.loop.close()
    loop.forget()


async def _hold(pool: Any, held: list[Any]) -> None:
    async with pool.lease(timeout=None) as resource:
        held.append(resource)
        await asyncio.Event().wait()


@pytest.mark.parametrize("fairness", ["fair", "throughput"])
class TestClosedLoops:
    def test_waiters_of_a_closed_loop_are_passed_over(
        self, ended: Ended, fairness: str, accounted: Any, crew: Crew
    ) -> None:
        """A thread behind them gets what comes back after the loop was closed, soon."""
        pool, _ = accounted(1, fairness=fairness)
        first = pool.acquire()
        for _ in range(3):
            ended.start(_hold(pool, []))
        ended.run_until(lambda: pool.stats().waiting == 3)
        thread = crew.start(pool.get, True, PATIENCE).parked()
        ended.close()
        first.release()
        start = time.monotonic()
        pool.put(thread.result())
        assert time.monotonic() - start < 1.0
        works(pool, 1)
        assert pool.stats().waiting == 0

    def test_grants_of_a_closed_loop_are_passed_on(
        self, ended: Ended, fairness: str, accounted: Any, crew: Crew
    ) -> None:
        """Granted while the loop stood still, which is then closed: the thread behind gets it."""
        pool, _ = accounted(2, fairness=fairness)
        first, second = pool.acquire(), pool.acquire()
        for _ in range(2):
            ended.start(_hold(pool, []))
        ended.run_until(lambda: pool.stats().waiting == 2)
        threads = [crew.start(pool.get, True, PATIENCE).parked() for _ in range(2)]
        first.release()
        second.release()
        ended.close()
        start = time.monotonic()
        for thread in threads:
            pool.put(thread.result())
        assert time.monotonic() - start < 1.0
        works(pool, 2)

    def test_leases_of_a_closed_loop_come_back_with_their_tasks(
        self, ended: Ended, fairness: str, accounted: Any, crew: Crew
    ) -> None:
        """The tasks are collected: their blocks end, and the thread that waits is served."""
        pool, _ = accounted(2, fairness=fairness)
        held: list[Any] = []
        for _ in range(2):
            ended.start(_hold(pool, held))
        ended.run_until(lambda: len(held) == 2)
        thread = crew.start(pool.get, True, PATIENCE).parked()
        ended.close()
        ended.loop = asyncio.SelectorEventLoop()  # let go of the other
        ended.tasks.clear()
        gc.collect()
        pool.put(thread.result())
        works(pool, 2)

    def test_items_granted_to_a_closed_loop_stay_in_the_queue(
        self, ended: Ended, fairness: str, crew: Crew
    ) -> None:
        """Queue use: the item goes to the thread behind; a putter's item leaves with its task."""
        q: Any = FastPool(1, order="fifo", fairness=fairness)
        ended.start(q.aget())
        ended.run_until(lambda: lined_up(q) == 1)
        thread = crew.start(q.get).parked()
        q.put("item")
        ended.close()
        assert thread.result() == "item"
        assert q.empty()

    def test_putters_of_a_closed_loop_are_passed_over(
        self, ended: Ended, fairness: str, crew: Crew
    ) -> None:
        """Their items do not come into the queue once the loop is known to be closed."""
        q: Any = FastPool(1, order="fifo", fairness=fairness)
        q.put(0)
        ended.start(q.aput("never"))
        ended.loop.run_until_complete(asyncio.sleep(0.001))  # one step brings it into the line
        ended.close()
        eventually(lambda: not any(its.loop is ended.loop for its in list(_aio._loops)))
        assert q.get() == 0 and q.empty()
        q.put(1)
        assert q.get() == 1

    def test_a_pool_is_closed_beside_a_closed_loop(
        self, ended: Ended, fairness: str, accounted: Any
    ) -> None:
        """close() waits for nobody who cannot come any more."""
        pool, maker = accounted(1, fairness=fairness)
        first = pool.acquire()
        ended.start(_hold(pool, []))
        ended.run_until(lambda: pool.stats().waiting == 1)
        first.release()  # granted
        ended.close()
        assert pool.close(timeout=PATIENCE) is True
        assert maker.made == maker.closed == 1

    def test_a_second_loop_takes_over(self, ended: Ended, fairness: str, accounted: Any) -> None:
        """A new loop often follows one that was closed: it need not wait for the housekeeper."""
        pool, _ = accounted(1, fairness=fairness)
        first = pool.acquire()
        ended.start(_hold(pool, []))
        ended.run_until(lambda: pool.stats().waiting == 1)
        ended.close()

        async def main() -> None:
            async with pool.lease(timeout=PATIENCE):
                pass

        threading.Timer(0.05, first.release).start()
        run_in("asyncio", main())
        works(pool, 1)


@kinds
def test_loops_that_close_with_waiters_again_and_again(kind: str, accounted: Any) -> None:
    """Collected here and found by the housekeeper at the same time: each wait ends once."""
    pool, _ = accounted(1)
    for _ in range(30):
        first = pool.acquire(timeout=PATIENCE)
        loop = new_loop(kind)
        loop.set_exception_handler(lambda loop, context: None)
        tasks = [loop.create_task(pool.aget()) for _ in range(5)]
        loop.run_until_complete(aeventually(lambda: pool.stats().waiting == 5))
        first.release()
        loop.close()
        del tasks, loop
        gc.collect()
        works(pool, 1)
        eventually(lambda: pool.stats().waiting == 0)


@kinds
def test_a_wait_that_ends_at_its_deadline(kind: str, accounted: Any) -> None:
    """A time-out at about the moment of the hand-off: the resource is with one, or back."""
    pool, maker = accounted(1)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        served = 0
        for round in range(150):
            lease = await pool.aacquire()
            span = 0.002 + 0.00001 * (round % 10)
            loop.call_later(span, lease.release)
            try:
                pool.put(await pool.aget(span))
                served += 1
            except PoolTimeout as error:
                assert error.phase == "wait" and error.waited >= span
            await aeventually(lambda: pool.stats().leased == 0)
        assert pool.stats().waiting == 0

    run_in(kind, main(), 3 * PATIENCE)
    assert maker.made == 1


@kinds
def test_cancelled_and_closed_at_once(kind: str, accounted: Any) -> None:
    """The pool is closed in the step in which its waiter is cancelled."""
    pool, maker = accounted(1)
    first = pool.acquire()

    async def main() -> None:
        for strike in (lambda task: task.cancel(), lambda task: None):
            task = asyncio.ensure_future(pool.aget())
            await aeventually(lambda: pool.stats().waiting == 1 or pool.closed)
            pool.shutdown()
            strike(task)
            with pytest.raises((asyncio.CancelledError, PoolClosed)):
                await task

    run_in(kind, main())
    assert pool.stats().waiting == 0
    first.release()
    assert maker.made == maker.closed == 1


def test_the_driver_strikes_where_it_says() -> None:
    """The driver itself: it sees every suspension, and its cancel arrives at the right one."""
    seen: list[int] = []

    async def act() -> None:
        for step in range(3):
            seen.append(step)
            await asyncio.sleep(0)

    async def main(k: int) -> bool:
        strike = Strike(k, lambda told: _before(*told))
        holder: list[asyncio.Task[Any]] = []
        inner = strike.act
        strike.act = lambda awaited: inner((lambda: holder[0], awaited))
        holder.append(asyncio.create_task(_wrapped(act(), strike)))
        await asyncio.wait(holder)
        return holder[0].cancelled()

    for k, (steps, cancelled) in enumerate([(1, True), (2, True), (3, True), (3, False)]):
        seen.clear()
        assert asyncio.run(main(k)) is cancelled and len(seen) == steps
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.mark.parametrize("ends", ["before", "after"])
def test_a_check_for_a_closed_loop_is_nobodys_grant(
    ended: Ended, accounted: Any, ends: str
) -> None:
    """It ends before or after the loop is closed; the task is kept, and others get the resource."""
    entered, leave = threading.Event(), threading.Event()

    def check(resource: Any) -> None:
        entered.set()
        assert leave.wait(PATIENCE)

    pool, _ = accounted(1, check=check, check_after=0)
    pool.put(pool.get())  # a new one is not checked
    ended.start(pool.aget())
    ended.run_until(entered.is_set)
    if ends == "before":
        leave.set()
        eventually(lambda: pool.stats().leased == 1)
    ended.close()
    leave.set()
    pool.put(pool.get(timeout=2))
    works(pool, 1)
