"""Blocks that one thread enters and another leaves, as generators of web frameworks do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import pytest

from fastpool import FastPool, KeyedPool, PoolDeadlock, WorkerPool
from fastpool.pool import _own_blocks
from support.helpers import PATIENCE, ThreadRunner, eventually

pytestmark = pytest.mark.timeout(6 * PATIENCE)


class Resource:
    pass


class Wrapper:
    """What a library hands out in place of the resource."""

    def __init__(self, resource: Any) -> None:
        self.resource = resource


def one_pool() -> tuple[Any, Callable[[], Any]]:
    pool: Any = FastPool(1, factory=Resource, timeout=2 * PATIENCE)
    return pool, pool.lease


def one_key() -> tuple[Any, Callable[[], Any]]:
    pool: Any = KeyedPool(lambda key: Resource(), max_per_key=1, timeout=2 * PATIENCE)
    return pool, lambda: pool.lease("a")


def two_keys() -> tuple[Any, Callable[[], Any]]:
    pool: Any = KeyedPool(lambda key: Resource(), max_total=1, timeout=2 * PATIENCE)
    keys = iter("abcdefgh")
    return pool, lambda: pool.lease(next(keys))


pools = pytest.mark.parametrize("make", [one_pool, one_key, two_keys])


@contextmanager
def block(lease: Callable[[], Any], wrap: Callable[[Any], Any] = lambda it: it) -> Iterator[Any]:
    """A plain generator around a lease."""
    with lease() as resource:
        yield wrap(resource)


@pools
class TestMoved:
    def test_caller_waits_where_an_executor_has_entered_the_block(self, make: Any) -> None:
        """The thread of the executor has entered it for somebody else, who leaves it elsewhere."""
        pool, lease = make()
        with pool, ThreadPoolExecutor(1) as threads:
            first = block(lease)
            second = block(lease)
            threads.submit(first.__enter__).result(PATIENCE)
            waiting = threads.submit(second.__enter__)
            eventually(lambda: waiting.done() or pool.stats().waiting == 1)
            assert not waiting.done(), waiting.exception()
            first.__exit__(None, None, None)
            assert isinstance(waiting.result(PATIENCE), Resource)
            second.__exit__(None, None, None)

    @pytest.mark.parametrize("ended", ["before it looks", "while it looks"])
    def test_caller_does_not_wait_for_a_block_that_ends_meanwhile(
        self, make: Any, runner: ThreadRunner, monkeypatch: pytest.MonkeyPatch, ended: str
    ) -> None:
        """Another thread ends it when the core has found that the caller holds all there is."""
        pool, lease = make()
        first, look = block(lease), _own_blocks._frames_of_function

        def end(frame: Any) -> Any:
            frames = look(frame) if ended == "while it looks" else None
            monkeypatch.undo()
            runner.start(first.__exit__, None, None, None).result()
            return frames if ended == "while it looks" else look(frame)

        def both() -> None:
            first.__enter__()
            monkeypatch.setattr(_own_blocks, "_frames_of_function", end)
            with lease():
                pass

        with pool, ThreadPoolExecutor(1) as threads:
            threads.submit(both).result(2 * PATIENCE)

    def test_caller_waits_in_a_worker_pool(self, make: Any) -> None:
        """As in an executor of the standard library."""
        pool, lease = make()
        with pool, WorkerPool(1, 4) as threads:
            first, second = block(lease), block(lease)
            threads.submit(first.__enter__).result(PATIENCE)
            waiting = threads.submit(second.__enter__)
            eventually(lambda: waiting.done() or pool.stats().waiting == 1)
            assert not waiting.done(), waiting.exception()
            first.__exit__(None, None, None)
            waiting.result(PATIENCE)
            second.__exit__(None, None, None)

    def test_tasks_enter_and_leave_on_threads(self, make: Any) -> None:
        """Every request is served, though the same few threads enter and leave all of them."""
        pool, lease = make()

        async def request() -> None:
            dependency = block(lease)
            await asyncio.to_thread(dependency.__enter__)
            await asyncio.to_thread(dependency.__exit__, None, None, None)

        async def main() -> None:
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(4))
            await asyncio.gather(*(request() for _ in range(3)))

        with pool:
            asyncio.run(main())

    @pytest.mark.parametrize("wrap", [lambda it: it, Wrapper], ids=["resource", "wrapper"])
    def test_nested_blocks_of_one_function_are_a_deadlock(self, make: Any, wrap: Any) -> None:
        """The function that the executor runs is inside the first block while it waits."""
        pool, lease = make()

        def nested() -> None:
            with block(lease, wrap) as outer:
                assert outer is not None
                with pytest.raises(PoolDeadlock):
                    with lease():
                        pass

        with pool, ThreadPoolExecutor(1) as threads:
            threads.submit(nested).result(PATIENCE)

    def test_nested_blocks_of_a_thread_are_a_deadlock(
        self, make: Any, runner: ThreadRunner
    ) -> None:
        """Whether or not it has a name for what it borrowed."""
        pool, lease = make()

        def nested() -> None:
            with lease(), pytest.raises(PoolDeadlock):
                with lease():
                    pass

        with pool:
            runner.start(nested).result()

    def test_close_waits_for_what_another_thread_gives_back(self, make: Any) -> None:
        """Though the thread that closes has entered the block for somebody else."""
        pool, lease = make()
        with ThreadPoolExecutor(1) as threads:
            first: AbstractContextManager[Any] = block(lease)
            threads.submit(first.__enter__).result(PATIENCE)
            closing = threads.submit(pool.close, 2 * PATIENCE)
            eventually(lambda: pool.closed)
            first.__exit__(None, None, None)
            assert closing.result(PATIENCE)


@pytest.mark.parametrize("kind", ["one pool", "keys"])
def test_close_in_a_block_waits_for_others_alone(kind: str, runner: ThreadRunner) -> None:
    """Its own block cannot end meanwhile, whoever else holds something."""
    pool: Any = FastPool(2, factory=Resource)
    mine = theirs = pool.lease
    if kind == "keys":
        pool = KeyedPool(lambda key: Resource())
        mine, theirs = partial(pool.lease, "a"), partial(pool.lease, "b")
    there, done = threading.Event(), threading.Event()

    def hold() -> None:
        with theirs():
            there.set()
            assert done.wait(PATIENCE)

    def close() -> bool:
        with mine():
            return bool(pool.close(None))

    runner.start(hold)
    assert there.wait(PATIENCE)
    closing = runner.start(close)
    eventually(lambda: pool.closed)
    assert closing.running
    done.set()
    assert closing.result() is False
