"""``fastpool.pools()``: all pools of the process that are alive, and none kept alive by it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import fastpool
from fastpool import (
    FastPool,
    KeyedPool,
    SharedPool,
    TaskPool,
    WeightedSemaphore,
    WorkerPool,
    calls,
    debug,
)
from support.helpers import ThreadRunner


async def connect() -> object:
    return object()


KINDS: dict[str, Callable[[], Any]] = {
    "queue": FastPool,
    "pool": lambda: FastPool(factory=object),
    "items": lambda: FastPool(items=[[]], warn_unclosed=False),
    "async factory": lambda: FastPool(factory=connect),
    "shared": lambda: SharedPool(object, items=(0, 1)),
    "keyed": lambda: KeyedPool(lambda key: [key]),
    "semaphore": lambda: WeightedSemaphore(1),
    "workers": lambda: WorkerPool(1, 1),
    "tasks": lambda: TaskPool(1),
}


def since(before: list[Any]) -> list[Any]:
    """What is listed and was not listed before."""
    known = {id(pool) for pool in before}
    return [pool for pool in fastpool.pools() if id(pool) not in known]


def test_every_kind_is_listed_by_age() -> None:
    before = fastpool.pools()
    made = [make() for make in KINDS.values()]
    assert since(before) == made


@pytest.mark.parametrize("kind", KINDS)
def test_a_pool_is_not_kept_alive_by_the_list(kind: str, collect: Any) -> None:
    before = fastpool.pools()
    made = KINDS[kind]()
    assert since(before) == [made]
    del made
    collect()
    assert since(before) == []


def test_a_closed_pool_is_listed_while_somebody_has_it() -> None:
    pool: Any = FastPool(factory=object)
    pool.close()
    assert pool in fastpool.pools()


def test_a_pool_that_could_not_be_made_is_not_listed() -> None:
    before = fastpool.pools()
    for make in (
        lambda: FastPool(factory=object, timeout=-1),
        lambda: KeyedPool(object, max_total=0),
        lambda: SharedPool(object, slots=0),
        lambda: WeightedSemaphore(0),
        lambda: WorkerPool(0, 0),
    ):
        with pytest.raises(ValueError):
            make()
    assert since(before) == []


def test_what_is_a_part_of_something_else_is_not_listed() -> None:
    """The semaphores of a worker pool and of a limit are theirs."""
    before = fastpool.pools()
    workers, limit = WorkerPool(1, 1), calls.Limit(1)
    assert since(before) == [workers]
    del limit


def test_it_may_be_asked_while_pools_come_and_go(runner: ThreadRunner) -> None:
    stop = threading.Event()

    def churn(_: int) -> None:
        while not stop.is_set():
            WeightedSemaphore(1)

    runner.together(2, churn)
    kept: Any = WeightedSemaphore(1)
    try:
        for _ in range(300):
            assert kept in fastpool.pools()
    finally:
        stop.set()
    runner.finish()


# ---- following ---------------------------------------------------------------------------------


@pytest.fixture
def followed() -> Iterator[list[Any]]:
    """The pools made since, as they were told."""
    found: list[Any] = []
    end = debug.follow(found.append)
    yield found
    end()
    end()  # may be done twice


@pytest.mark.parametrize("kind", KINDS)
def test_a_pool_is_followed_when_it_is_ready(kind: str, followed: list[Any]) -> None:
    pool = KINDS[kind]()
    assert followed == [pool] and repr(followed[0])


def test_what_a_follower_raises_is_logged_and_the_pool_is_made(
    caplog: pytest.LogCaptureFixture, followed: list[Any]
) -> None:
    def fail(pool: Any) -> None:
        raise RuntimeError("not mine")

    end = debug.follow(fail)
    with FastPool(1, factory=object, name="made") as pool, pool.lease():
        assert followed == [pool]
    end()
    assert "made: a follower of pools raised" in caplog.text and "not mine" in caplog.text


def test_after_the_end_nothing_is_followed(followed: list[Any]) -> None:
    more: list[Any] = []
    debug.follow(more.append)()
    pool = FastPool(factory=object)
    assert followed == [pool] and more == []
