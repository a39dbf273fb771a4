"""What is optional costs nothing that is necessary.

Notes on exceptions, log lines and the names of objects run users' code.  Whatever that raises,
slots are freed, callers are told, and workers go on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from fastpool import FastPool, KeyedPool, ObjectCache, SharedPool
from support.helpers import PATIENCE, Maker, eventually


@dataclass(frozen=True)
class Frozen(Exception):
    """Refuses attributes, and so notes."""

    text: str = "no server"


class Noted(Exception):
    """Has something else where the notes would be."""

    __notes__ = "none"  # type: ignore[assignment]


class Overloaded(Exception):
    """Its notes are its own affair."""

    def add_note(self, note: str) -> None:
        raise RuntimeError("no notes, please")


FAILURES = [Frozen, Noted, Overloaded]
POOLS: dict[str, Callable[[Maker], Any]] = {
    "pool": lambda maker: FastPool(1, factory=maker),
    "shared": lambda maker: SharedPool(maker, items=(0, 1), slots=1),
    "keyed": lambda maker: KeyedPool(lambda key: maker(), max_total=1),
    "async": lambda maker: FastPool(1, factory=_awaited(maker)),
}


def _awaited(maker: Maker) -> Callable[[], Any]:
    async def create() -> Any:
        return maker()

    return create


def _lease(pool: Any, timeout: float = PATIENCE) -> Any:
    return pool.lease("key", timeout) if isinstance(pool, KeyedPool) else pool.lease(timeout)


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("kind", POOLS)
def test_a_failure_that_takes_no_notes_frees_its_slot(kind: str, failure: Any) -> None:
    """Its borrower is told of it, and the next one is served."""
    maker = Maker(1)
    pool = POOLS[kind](maker)

    async def borrow() -> None:
        async with _lease(pool):
            pass

    async def main() -> None:
        maker.script.append(failure())
        with pytest.raises(failure):
            await borrow()
        await borrow()

    asyncio.run(main())
    assert pool.stats().waiting == 0
    pool.close()
    eventually(lambda: maker.made == maker.closed == 1)


def test_one_exception_raised_again_and_again_has_one_note() -> None:
    error = LookupError("the same")

    def create() -> Any:
        raise error

    pool: Any = FastPool(1, factory=create)
    for _ in range(5):
        with pytest.raises(LookupError):
            pool.get()
    assert len(error.__notes__) == 1
    pool.close()


class Raising(logging.Handler):
    """A handler with a mistake; what it was told is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.told.append(record.getMessage())
        raise ZeroDivisionError("in a handler")


@pytest.fixture
def raising() -> Iterator[Raising]:
    handler, log = Raising(), logging.getLogger("fastpool")
    log.addHandler(handler)
    yield handler
    log.removeHandler(handler)


@pytest.mark.parametrize("by_a_worker", [False, True], ids=["caller", "worker"])
@pytest.mark.parametrize("kind", POOLS)
def test_a_log_handler_that_raises_costs_no_slot(
    kind: str, by_a_worker: bool, raising: Raising
) -> None:
    """It hears of a close hook that failed, whoever has called that."""
    maker = Maker(1)

    class Unclosable:
        def close(self) -> None:
            raise OSError("it is gone already")

    maker.script.extend([Unclosable(), Unclosable()])
    pool = POOLS[kind](maker)

    async def main() -> None:
        for _ in range(2):
            async with _lease(pool):
                pass
            if by_a_worker:
                pool.flush()
            else:
                await asyncio.to_thread(pool.flush)
            for _ in range(1000):
                if not pool.stats().open:
                    break
                await asyncio.sleep(0.01)
            assert not pool.stats().open
        async with _lease(pool) as resource:
            assert resource.number == 0

    asyncio.run(main())
    eventually(lambda: len(raising.told) == 2)
    pool.close()
    eventually(lambda: maker.made == maker.closed == 1)


def test_a_log_handler_that_raises_leaves_the_worker_alive(raising: Raising) -> None:
    """Of a pool that may have one: the next creation is done by it."""

    class Awful(BaseException):
        pass

    maker = Maker()
    pool: Any = FastPool(1, factory=maker, max_creating=1, close=lambda resource: _raise(Awful))
    for _ in range(3):
        pool.put(pool.get())
        eventually(lambda: pool.stats().idle == 1)
        (manager,) = [_manager_of(pool)]
        core = manager.core
        assert core.claim(0)
        manager.closing.later(0, "idle")
        eventually(lambda: not pool.stats().open)
    pool.close()
    eventually(lambda: len(raising.told) >= 3)


def _raise(kind: type[BaseException]) -> None:
    raise kind


def _manager_of(pool: Any) -> Any:
    from fastpool import _core

    return _core.manager(pool, "this test")


def test_a_log_handler_that_raises_does_not_stop_a_cache(raising: Raising) -> None:
    def reset(item: object) -> None:
        raise OSError("unfit")

    cache: Any = ObjectCache(list, reset=reset)
    cache.put([])
    assert raising.told


class Nameless:
    def __repr__(self) -> str:
        raise ZeroDivisionError("no name")


def test_a_repr_that_raises_hides_no_error() -> None:
    """What is wrong is told, with the type for a name."""
    pool: Any = FastPool(2, factory=Nameless)
    with pytest.raises(ValueError, match="Nameless, whose repr raised ZeroDivisionError"):
        pool.put(Nameless())
    one = Nameless()
    same: Any = FastPool(2, factory=lambda: one)
    with same.lease():
        with pytest.raises(ValueError, match="already holds: <Nameless, whose repr raised"):
            same.get()
    pool.close()
    same.close()


def test_a_log_handler_may_borrow_when_it_hears_of_a_leak() -> None:
    """For which the scheduler is needed: the report is no work of its own."""
    pool: Any = FastPool(2, factory=object, leak_after=0.01)
    taken: list[Any] = []

    class Borrowing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if not taken:  # what the handler holds is a leak soon as well
                taken.append(pool.acquire(timeout=PATIENCE))

    handler, log = Borrowing(), logging.getLogger("fastpool")
    log.addHandler(handler)
    try:
        held, begun = pool.acquire(), time.monotonic()
        eventually(lambda: taken, within=3 * PATIENCE)
        assert time.monotonic() - begun < PATIENCE, "it was served by its timeout alone"
    finally:
        log.removeHandler(handler)
    for lease in (held, *taken):
        lease.release()
    pool.close()
