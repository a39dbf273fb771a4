"""Context variables: a hook sees those of the caller it is called for, a creation the pool's."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

import pytest

from fastpool import FastPool, KeyedPool, SharedPool, TaskPool, WorkerPool
from fastpool.testing import ManualClock
from support import loops
from support.helpers import PATIENCE, ThreadRunner, eventually

request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="nobody")

HOOKS = ("check", "reset", "close")


class Told:
    """What the hooks have seen, and what they leave behind for whoever comes next."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def hook(self, name: str) -> Any:
        seen = request.get()
        request.set(f"{name} of {seen}")
        self.seen.append((name, seen))
        return object() if name == "create" else None

    def by(self, name: str) -> list[str]:
        return [seen for hook, seen in self.seen if hook == name]


def _made(kind: str, told: Told, **options: Any) -> Any:
    """A pool of this kind whose hooks tell what they see, made in a context of its own."""

    def act(name: str) -> Callable[..., Any]:
        return lambda *args: told.hook(name)

    async def create() -> Any:
        return told.hook("create")

    hooks = {name: act(name) for name in HOOKS}
    if kind == "shared":
        del hooks["reset"]

    def make() -> Any:
        request.set("maker")
        if kind == "keyed":
            return KeyedPool(act("create"), max_per_key=1, check_after=0, **hooks, **options)
        if kind == "shared":
            given = {"items": (0, 1), "check_after": 0.0, **hooks, **options}
            return SharedPool(act("create"), **given)
        factory = create if kind == "async" else act("create")
        return FastPool(1, factory=factory, check_after=0, **hooks, **options)

    return contextvars.copy_context().run(make)


def _lease(kind: str, pool: Any) -> Any:
    return pool.lease("key") if kind == "keyed" else pool.lease()


def _as(name: str, call: Callable[[], Any]) -> Any:
    """The call in a context of which `name` is the request; what the request is afterwards."""

    def run() -> str:
        request.set(name)
        call()
        return request.get()

    return contextvars.copy_context().run(run)


def _turns(kind: str, pool: Any, name: str, discard: bool = False) -> Callable[[], None]:
    def turn() -> None:
        lease = _lease(kind, pool)
        with lease:
            if discard:
                lease.discard()

    return turn


async def _aturn(kind: str, pool: Any, discard: bool = False) -> None:
    lease = _lease(kind, pool)
    async with lease as resource:
        if discard:
            if kind == "async":
                pool.discard(resource)
            else:
                lease.discard()


def _expected(kind: str, told: Told) -> None:
    """After a turn of one and a turn of two, who throws the resource away."""
    eventually(lambda: told.by("close"))
    assert told.by("create") == ["maker"]
    assert told.by("check")[-1] == "two" and set(told.by("check")) <= {"one", "two"}
    if kind != "shared":
        assert told.by("reset") == ["one"]
    assert told.by("close") == ["two"]


@pytest.mark.parametrize("kind", ["plain", "keyed", "shared"])
def test_hooks_see_the_thread_for_which_they_are_called(kind: str) -> None:
    """In its own thread and on workers, and what they change there is their own."""
    told = Told()
    with _made(kind, told) as pool:
        assert _as("one", _turns(kind, pool, "one")) == "one"
        assert _as("two", _turns(kind, pool, "two", discard=True)) == "two"
        _expected(kind, told)


@pytest.mark.parametrize("kind", ["plain", "keyed", "shared", "async"])
def test_hooks_see_the_task_for_which_they_are_called(kind: str) -> None:
    """Whether they are awaited or run on a worker, off the event loop."""
    told = Told()

    async def main() -> None:
        async def caller(name: str, discard: bool) -> None:
            request.set(name)
            await _aturn(kind, pool, discard)
            assert request.get() == name

        await asyncio.create_task(caller("one", False))
        await asyncio.create_task(caller("two", True))
        await loops.eventually(lambda: told.by("close"))

    pool = _made(kind, told)
    asyncio.run(main())
    _expected(kind, told)
    pool.close()


@pytest.mark.parametrize("kind", ["plain", "keyed", "shared", "async"])
def test_nobody_sees_the_first_borrower_for_ever(kind: str) -> None:
    """A context that a borrower came with is gone when the borrower is, however long the pool and
    its threads live."""

    class Big:
        """Something of a request."""

    big: contextvars.ContextVar[Big] = contextvars.ContextVar("big")
    kept: list[weakref.ref[Big]] = []
    told = Told()
    pool = _made(kind, told)

    def borrow() -> None:
        thing = Big()
        kept.append(weakref.ref(thing))
        big.set(thing)
        if kind == "async":
            asyncio.run(_aturn(kind, pool))
        else:
            _turns(kind, pool, "one")()

    contextvars.copy_context().run(borrow)

    def gone() -> bool:
        gc.collect()
        return kept[0]() is None

    eventually(gone)
    pool.close()


def test_what_nobody_asked_for_sees_the_pools_context() -> None:
    """A check to keep a resource alive, and closing one that was idle for too long."""
    told = Told()
    clock = ManualClock()
    with _made("plain", told, clock=clock, keepalive=10, idle_timeout=25, min_idle=0) as pool:
        _as("one", _turns("plain", pool, "one"))
        for _ in range(2):
            contextvars.Context().run(clock.advance, 0)
        before = len(told.by("check"))
        clock.advance(11)
        eventually(lambda: len(told.by("check")) > before)
        clock.advance(30)
        eventually(lambda: told.by("close"))
        assert "one" not in told.by("close") and "one" not in told.by("check")[before:]


def test_warming_and_refilling_is_for_nobody_in_particular() -> None:
    """Not even for who calls ``warm``: others get what it opens."""
    told = Told()
    with _made("plain", told) as pool:
        _as("one", lambda: pool.warm(1))
        _as("two", pool.flush)
        assert told.by("create") == ["maker"]
        assert told.by("close") == ["two"]


def test_a_worker_sees_who_submitted(runner: ThreadRunner) -> None:
    """Each job a copy of its own, at the moment of the call."""
    seen = []

    def job(text: str) -> str:
        found = request.get()
        request.set("spoilt")
        seen.append(found)
        return f"{text} {found}"

    with WorkerPool(1, 10) as pool:
        futures: list[Future[str]] = []
        for name in ("one", "two"):
            _as(name, lambda: futures.append(pool.submit(job, "for")))
            _as(name, lambda: futures.append(pool.try_submit(job, text="for")))
        assert [future.result(PATIENCE) for future in futures] == [
            "for one", "for one", "for two", "for two",
        ]  # fmt: skip
        mapped: list[str] = []
        _as("map", lambda: mapped.extend(pool.map(job, ["a", "b"])))
        assert mapped == ["a map", "b map"]

        async def main() -> None:
            request.set("task")
            assert await (await pool.asubmit(job, "for")) == "for task"

        asyncio.run(main())
        assert pool.submit(job, "for").result(PATIENCE) == "for nobody"


def test_a_worker_keeps_nobodys_context() -> None:
    """What a job was submitted with is gone when the job is done."""

    class Big:
        """Something of a request."""

    big: contextvars.ContextVar[Big] = contextvars.ContextVar("big")
    kept: list[weakref.ref[Big]] = []

    def submit() -> None:
        thing = Big()
        kept.append(weakref.ref(thing))
        big.set(thing)
        pool.submit(int).result(PATIENCE)

    with WorkerPool(1, 1) as pool:
        contextvars.copy_context().run(submit)
        eventually(lambda: gc.collect() >= 0 and kept[0]() is None)


def test_a_task_of_a_pool_sees_who_submitted() -> None:
    """Also one that waited for its turn, and one that a group keeps."""

    async def job() -> str:
        found = request.get()
        request.set("spoilt")
        return found

    async def submit(pool: TaskPool, name: str) -> asyncio.Task[str]:
        request.set(name)
        return await pool.submit(job)

    async def main(group: asyncio.TaskGroup | None) -> list[str]:
        async with TaskPool(1, 5, group=group) as pool:
            made: list[Coroutine[Any, Any, asyncio.Task[str]]] = [
                submit(pool, name) for name in ("one", "two", "three")
            ]
            tasks = await asyncio.gather(*made)
            return list(await asyncio.gather(*tasks))

    async def grouped() -> list[str]:
        async with asyncio.TaskGroup() as group:
            return await main(group)

    assert asyncio.run(main(None)) == ["one", "two", "three"]
    assert asyncio.run(grouped()) == ["one", "two", "three"]
