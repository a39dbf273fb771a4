"""A lease of one certain resource of a SharedPool: had at once or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fastpool import SharedPool
from fastpool._core import acquire_of
from support.helpers import ThreadRunner, eventually


class Thing:
    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        assert not self.closed
        self.closed = True


@pytest.fixture
def things() -> list[Thing]:
    return [Thing(), Thing(), Thing()]


@pytest.fixture
def pool(things: list[Thing]) -> Iterator[Any]:
    made: Any = SharedPool(Thing, items=(0, 3), slots=2, close=Thing.close)
    for thing in things:
        assert made.add(thing)
    yield made
    assert made.stats().leases == 0
    made.close(0)
    assert all(thing.closed for thing in things)


def test_it_is_of_that_resource(pool: Any, things: list[Thing]) -> None:
    """However loaded the others are; and given back as any other."""
    for thing in things:
        both = [acquire_of(pool, thing) for _ in range(2)]
        assert [lease and lease.resource for lease in both] == [thing, thing]
        assert acquire_of(pool, thing) is None  # it is full
        for lease in both:
            assert lease is not None
            lease.release()


def test_a_stranger_is_none_of_it(pool: Any) -> None:
    """As is one that is closed."""
    assert acquire_of(pool, Thing()) is None
    assert acquire_of(pool, None) is None


def test_what_is_to_be_spared_is_not_lent(pool: Any, things: list[Thing]) -> None:
    """One that failed, one that is avoided, one that is drained; again when that is over."""
    pool.penalize(things[0])
    pool.avoid(things[1])
    held = acquire_of(pool, things[2])
    pool.drain(things[2])
    assert [acquire_of(pool, thing) for thing in things] == [None, None, None]
    pool.avoid(things[1], False)
    lease = acquire_of(pool, things[1])
    assert lease is not None and held is not None
    lease.release()
    held.release()


def test_nobody_in_the_queue_is_overtaken(
    pool: Any, things: list[Thing], runner: ThreadRunner
) -> None:
    """While somebody waits there is none, even of what has room."""
    taken = [pool.acquire(0) for _ in range(6)]
    task = runner.start(lambda: pool.acquire(30).release())
    task.parked()
    assert all(acquire_of(pool, thing) is None for thing in things)
    for lease in taken:
        lease.release()
    runner.finish()


def test_a_pool_with_a_check_or_a_count_of_leases_has_none() -> None:
    """There a lease takes more than one step."""
    for option in ({"check": lambda thing: None}, {"leak_after": 60.0}):
        pool: Any = SharedPool(Thing, items=(0, 1), **option)
        thing = Thing()
        pool.add(thing)
        assert acquire_of(pool, thing) is None
        pool.close(0)


def test_a_closed_pool_has_none(things: list[Thing]) -> None:
    """Nor raises: the caller takes any then, and is told."""
    pool: Any = SharedPool(Thing, items=(0, 1))
    pool.add(things[0])
    pool.close(0)
    assert acquire_of(pool, things[0]) is None


def test_uses_are_counted() -> None:
    """The last one that a resource is good for takes it out of service."""
    pool: Any = SharedPool(Thing, items=(0, 1), max_uses=2, close=Thing.close)
    thing = Thing()
    pool.add(thing)
    for _ in range(2):
        lease = acquire_of(pool, thing)
        assert lease is not None
        lease.release()
    assert acquire_of(pool, thing) is None
    eventually(lambda: thing.closed)
    pool.close(0)


def test_resources_that_come_and_go_meanwhile(runner: ThreadRunner) -> None:
    """Nobody ever holds one that is closed, and no lease is lost or counted twice."""
    made: list[Thing] = []

    def make() -> Thing:
        made.append(thing := Thing())
        return thing  # the last one may be another thread's

    pool: Any = SharedPool(make, items=(2, 4), slots=2, close=Thing.close)
    pool.warm(2)

    def use(index: int) -> None:
        for number in range(1500):
            wanted = made[-1 - (number + index) % min(4, len(made))]
            lease = acquire_of(pool, wanted)
            if lease is None:
                continue
            assert lease.resource is wanted and not wanted.closed
            lease.release()

    def replace(_: int) -> None:
        for _ in range(60):
            lease = pool.acquire(30)
            pool.drain(lease.resource)
            lease.release()

    runner.together(3, use)
    runner.together(1, replace)
    runner.finish()
    assert pool.stats().leases == 0
    pool.close(30)
    eventually(lambda: all(thing.closed for thing in made))
