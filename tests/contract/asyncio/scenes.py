"""What a task does when it is struck, what others do meanwhile, and what must hold afterwards."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any, ClassVar

from fastpool import FastPool
from support.helpers import PATIENCE, Maker, Resource, eventually, works
from support.loops import queued_up, run_in


class Scene:
    """A pool, what the task under test does with it, and what others do meanwhile."""

    options: ClassVar[dict[str, Any]] = {}
    size = 1
    keeps = True  # the pool is open and works afterwards
    fails: tuple[type[BaseException], ...] = ()
    held = False  # the task under test is in its block

    def __init__(self) -> None:
        self.maker = Maker(self.size)
        self.pool: Any = FastPool(self.size, factory=self.maker, **self.options)
        self.before()

    def before(self) -> None:
        """In the test's thread."""

    async def act(self, timeout: float) -> None:
        """The task under test."""
        raise NotImplementedError

    async def hold(self) -> None:
        """What it does in its block."""
        self.held = True
        await asyncio.sleep(0)
        self.held = False

    def waits(self) -> bool:
        """Whether it is time to help."""
        return False

    def help(self) -> None:
        """By another task, as soon as the one under test waits in the queue, or is over."""

    def _all_is_back(self) -> bool:
        # without the GIL one pass may spare what another thread has in hand at that moment
        gc.collect()
        stats = self.pool.stats()
        return bool(stats.leased == stats.checking == 0)

    def check(self, kind: str) -> None:
        """Nothing is lost: what is lent comes back, nobody is in the queue, the next one is
        served."""
        pool, maker = self.pool, self.maker
        eventually(lambda: pool.stats().waiting == 0)
        eventually(self._all_is_back)
        eventually(lambda: pool.stats().creating == pool.stats().closing == 0)
        maker.script.clear()
        if self.keeps:
            works(pool, self.size)
            run_in(kind, self._one_more())
        pool.close(timeout=0)
        eventually(lambda: maker.made == maker.closed and pool.stats().open == 0)
        assert not maker.faults, maker.faults

    async def _one_more(self) -> None:
        async with self.pool.lease(timeout=PATIENCE) as resource:
            assert not resource.closed


class Hit(Scene):
    """An idle resource."""

    def before(self) -> None:
        self.pool.warm(1)

    async def act(self, timeout: float) -> None:
        async with self.pool.lease(timeout=timeout):
            await self.hold()


class Create(Scene):
    """A resource that is made for the task."""

    async def act(self, timeout: float) -> None:
        async with self.pool.lease(timeout=timeout):
            await self.hold()


class FailedCreate(Scene):
    """A factory that raises for the task, once that waits for it."""

    fails = (LookupError,)

    def before(self) -> None:
        self.maker.script.append(LookupError("no server"))
        self.maker.gate.clear()

    def waits(self) -> bool:
        return bool(self.maker.running)

    def help(self) -> None:
        self.maker.gate.set()

    async def act(self, timeout: float) -> None:
        async with self.pool.lease(timeout=timeout):
            raise AssertionError("it failed")


class Waiting(Scene):
    """A resource that somebody else gives back."""

    def before(self) -> None:
        self.lent: Any = self.pool.acquire()

    async def act(self, timeout: float) -> None:
        async with self.pool.lease(timeout=timeout):
            await self.hold()

    def waits(self) -> bool:
        return bool(self.pool.stats().waiting)

    def help(self) -> None:
        lent, self.lent = self.lent, None
        if lent is not None:
            lent.release()


class WaitingThroughput(Waiting):
    """The same, where waiters are notified and look for themselves."""

    options: ClassVar[dict[str, Any]] = {"fairness": "throughput"}


class WaitingDiscarded(Waiting):
    """A slot that becomes free in the queue: the resource there was discarded."""

    def help(self) -> None:
        lent, self.lent = self.lent, None
        if lent is not None:
            lent.discard()


class WaitingGet(Waiting):
    """``aget`` and ``put``."""

    async def act(self, timeout: float) -> None:
        resource = await self.pool.aget(timeout)
        try:
            await self.hold()
        finally:
            self.pool.put(resource)


class WaitingAcquire(Waiting):
    """``aacquire`` and ``release``."""

    async def act(self, timeout: float) -> None:
        lease = await self.pool.aacquire(timeout)
        try:
            await self.hold()
        finally:
            lease.release()


class Check(Scene):
    """A check at borrow."""

    options: ClassVar[dict[str, Any]] = {"check": lambda resource: None, "check_after": 0}

    def before(self) -> None:
        self.pool.put(self.pool.get())  # a new one is not checked

    async def act(self, timeout: float) -> None:
        async with self.pool.lease(timeout=timeout):
            await self.hold()


def _unhealthy(resource: Resource) -> None:
    if resource.number == 0:
        raise OSError


class FailedCheck(Check):
    """A check that fails; the next resource is made."""

    options: ClassVar[dict[str, Any]] = {"check": _unhealthy, "check_after": 0}


class CheckWaiting(Waiting):
    """A check of what came back while the task stood in the queue."""

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
            await self.hold()
            raise ConnectionError


class Nested(Scene):
    """Two at once."""

    size = 2

    async def act(self, timeout: float) -> None:
        async with self.pool.lease(timeout=timeout), self.pool.lease(timeout=timeout):
            await self.hold()


class Warm(Scene):
    """``awarm``."""

    size = 2

    async def act(self, timeout: float) -> None:
        await self.pool.awarm(2, timeout)


class Close(Waiting):
    """``aclose``, with a borrower to wait for."""

    keeps = False

    async def act(self, timeout: float) -> None:
        await self.pool.aclose(timeout)

    def waits(self) -> bool:
        return bool(self.pool.closed)


class CloseBlock(Hit):
    """``async with pool``."""

    keeps = False

    async def act(self, timeout: float) -> None:
        async with self.pool:
            async with self.pool.lease(timeout=timeout):
                await self.hold()


class Queue(Scene):
    """Queue use: every item is in the queue, or with exactly one who got it."""

    def __init__(self) -> None:
        self.pool = FastPool(1, order="fifo", **self.options)
        self.put: list[int] = []
        self.got: list[int] = []
        self.before()

    def waits(self) -> bool:
        return True  # its first step, which has been made, brings it into the queue

    def check(self, kind: str) -> None:
        eventually(lambda: queued_up(self.pool) == 0)
        left = [self.pool.get_nowait() for _ in range(self.pool.qsize())]
        assert sorted(left + self.got) == sorted(self.put)
        self.pool.put("next", timeout=1)
        assert self.pool.get(timeout=1) == "next"
        self.pool.close()


class QueueGet(Queue):
    """An item that is put while the task stands in the queue."""

    async def act(self, timeout: float) -> None:
        self.got.append(await self.pool.aget(timeout))

    def help(self) -> None:
        if not self.put:
            self.put.append(1)
            self.pool.put_nowait(1)


class QueueGetFair(QueueGet):
    options: ClassVar[dict[str, Any]] = {"fairness": "fair"}


class QueuePut(Queue):
    """Room that comes while the task stands in the queue.  Struck after the item went in, it is
    in."""

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
    Hit, Create, FailedCreate, Waiting, WaitingThroughput, WaitingDiscarded, WaitingGet,
    WaitingAcquire, Check, FailedCheck, CheckWaiting, Reset, FailedReset,
    Spoilt, Nested, Warm, Close, CloseBlock,
]  # fmt: skip
SCENES = [*POOLS, QueueGet, QueueGetFair, QueuePut]
