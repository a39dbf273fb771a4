"""An event loop whose task factory makes no tasks of what a pool wants to run there."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from fastpool import FastPool, KeyedPool
from support.helpers import PATIENCE, told, wait_for_scheduler
from support.loops import KINDS, eventually, run_in

kinds = pytest.mark.parametrize("kind", KINDS)


class Refused(Exception):
    pass


class Refusing:
    """While it is installed no pool gets a task of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.refused = 0

    def __call__(self, loop: Any, coro: Any, **options: Any) -> Any:
        if type(coro).__name__ == "HookTask":
            self.refused += 1
            raise Refused("no tasks here")
        return asyncio.Task(coro, loop=loop, **options)

    def __enter__(self) -> Refusing:
        self.loop.set_task_factory(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.set_task_factory(None)


class Thing:
    async def aclose(self) -> None:
        pass


async def create(key: object = None) -> Thing:
    return Thing()


def fast(**options: Any) -> Any:
    return FastPool(2, factory=create, name="calls", **options), ()


def keyed(**options: Any) -> Any:
    return KeyedPool(create, max_total=2, name="calls", **options), ("key",)


@kinds
@pytest.mark.parametrize("make", [fast, keyed])
def test_a_creation_that_gets_no_task_has_failed(kind: str, make: Any) -> None:
    """The one who waits gets the very exception, at the first try; afterwards all is there."""

    async def main() -> None:
        pool, key = make()
        with Refusing() as refusing:
            for tries in (1, 2):
                with pytest.raises(Refused) as caught:
                    await pool.aacquire(*key, timeout=PATIENCE)
                assert "raised by the task factory" in told(caught.value)
                await eventually(lambda n=tries: pool.stats().create_failures == n)
                assert refusing.refused == tries
        leases = [await pool.aacquire(*key, timeout=PATIENCE) for _ in range(2)]
        for lease in leases:
            await lease.__aexit__(None, None, None)
        assert await pool.aclose(PATIENCE)

    run_in(kind, main())


@pytest.mark.parametrize("make", [fast, keyed])
def test_those_in_the_background_come_after_a_pause(make: Any) -> None:
    """As after any failure that nobody is told of: each pause is longer than the one before."""

    async def main() -> None:
        pool, key = make(on_create_error="wait")
        with Refusing() as refusing:
            waiter = asyncio.ensure_future(pool.aacquire(*key, timeout=PATIENCE))
            await eventually(lambda: refusing.refused)
            for _ in range(50):  # as many more tries, if each followed at once
                await asyncio.to_thread(wait_for_scheduler)
                await asyncio.sleep(0)
            assert refusing.refused < 25
        await (await waiter).__aexit__(None, None, None)
        assert await pool.aclose(PATIENCE)

    run_in("asyncio", main())


@pytest.mark.parametrize("make", [fast, keyed])
def test_a_close_that_gets_no_task_ends(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Without its hook, as on a loop that is closed, and one line says so."""
    caplog.set_level(logging.WARNING)

    async def main() -> None:
        pool, key = make()
        await (await pool.aacquire(*key)).__aexit__(None, None, None)
        with Refusing() as refusing:
            pool.flush()
            await eventually(lambda: pool.stats().open == 0)
            assert refusing.refused == 1
            await eventually(lambda: "made no task" in caplog.text)
        await (await pool.aacquire(*key)).__aexit__(None, None, None)
        assert await pool.aclose(PATIENCE)

    run_in("asyncio", main())
    assert caplog.text.count("made no task") == 1
