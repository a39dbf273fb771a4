"""A signal handler raises in the middle of a call of a keyed pool: no resource, no slot is lost.

See ``support/signal_injection.py`` for the moments.  What may be left is the record of a key.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastpool import KeyedPool, _core
from support.helpers import PATIENCE, eventually, wait_for_scheduler
from support.keyed_factories import KeyedMaker
from support.signal_injection import interrupt

pytestmark = pytest.mark.costly

TOTAL, PER_KEY = 3, 2


@pytest.fixture(autouse=True)
def swept() -> Iterator[None]:
    """What was left before is not collected, and interrupted, in the middle of something else."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "check": {"check": lambda resource: None, "check_after": 0},
    "few-idle": {"max_idle_total": 1, "max_idle_per_key": 1},
    "tracking": {"leak_after": 100},
}
options = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())


def make(options: dict[str, Any]) -> tuple[Any, KeyedMaker]:
    """Two of "a" and one of "b" are idle, or as many as may be."""
    maker = KeyedMaker(TOTAL, PER_KEY)
    pool = KeyedPool(maker, max_total=TOTAL, max_per_key=PER_KEY, **options)
    leases = [pool.acquire(key) for key in "aab"]
    for lease in leases:
        lease.release()
    return pool, maker


def sound(pool: Any, maker: KeyedMaker) -> None:
    """Nothing is held, every slot can be had by any key, and all is closed in the end."""
    wait_for_scheduler()
    eventually(lambda: pool.stats().leased == 0 and not pool.leases())
    manager = _core.manager(pool, "test")
    if pool.closed:
        assert pool.close(timeout=PATIENCE)
        eventually(lambda: maker.made == maker.closed)
        return
    for keys in ("abc", "ccd"):
        leases = [pool.acquire(key, timeout=PATIENCE) for key in keys]
        assert pool.stats().leased == TOTAL
        for lease in leases:
            lease.release()
    eventually(lambda: manager.arbiter.opened == pool.stats().open)
    eventually(lambda: not (manager.arbiter.starved or manager.arbiter.underserved))
    closed = pool.close(timeout=PATIENCE)
    assert closed is True and not maker.faults, maker.faults
    eventually(lambda: maker.made == maker.closed)


def every_moment(options: dict[str, Any], act: Callable[[Any], Callable[[], Any]]) -> int:
    """``act(pool)``: what is interrupted, at its first moment, then at the second, ...; how many
    there are.  A hit has none: it is one call."""
    point = 0
    interrupted = True
    while interrupted:
        point += 1
        pool, maker = make(options)
        call = act(pool)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("warnings.warn", lambda *args, **named: None)  # of leases that are lost
            interrupted = interrupt(point, call)
            del call
            gc.collect()
        sound(pool, maker)
    return point - 1


@options
@pytest.mark.parametrize("key", ["a", "new"])
def test_take(options: dict[str, Any], key: str) -> None:
    """Of what is idle; and where another key's has to be closed for it."""
    moments = every_moment(options, lambda pool: lambda: pool.acquire(key).release())
    assert moments or key == "a"


@options
def test_a_block(options: dict[str, Any]) -> None:
    def act(pool: Any) -> Callable[[], Any]:
        def block() -> None:
            with pool.lease("new"):
                pass

        return block

    assert every_moment(options, act)


@options
@pytest.mark.parametrize("end", ["release", "discard"])
def test_give_back(options: dict[str, Any], end: str) -> None:
    moments = every_moment(options, lambda pool: getattr(pool.acquire("new"), end))
    assert moments or end == "release"


def test_flush_and_close() -> None:
    assert every_moment({}, lambda pool: lambda: pool.flush("a"))
    assert every_moment({}, lambda pool: pool.close)
