"""What fastpool raises: the family, what the errors tell, and that they travel."""

from __future__ import annotations

import copy
import gc
import pickle
import queue
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import fastpool
from fastpool import (
    PoolClosed,
    PoolDeadlock,
    PoolError,
    PoolInterrupted,
    PoolOverloaded,
    PoolTimeout,
)
from fastpool.pool import _creation
from fastpool.queue import ShutDown
from support.callers import FastPool
from support.helpers import PATIENCE, eventually, unattended

pytestmark = pytest.mark.usefixtures("caller_kind")

ALL = [PoolError, PoolTimeout, PoolClosed, PoolOverloaded, PoolInterrupted, PoolDeadlock]
SIZES = {"idle", "leased", "creating", "checking", "closing", "open", "maxsize", "waiting"}


def interrupt(pool: Any) -> None:
    """Ends the wait of the one who waits, or will."""
    eventually(lambda: pool.stats().waiting == 1)
    pool.flush(fail_waiters=True)


def caught_from_pool(kind: type[PoolError], accounted: Any) -> PoolError:
    """A real one, raised by a pool named "shop"."""
    options: dict[str, Any] = {"max_waiting": 0} if kind is PoolOverloaded else {}
    pool, _ = accounted(1, name="shop", **options)
    with pytest.raises(kind) as caught:
        if kind is PoolClosed:
            pool.close()
            pool.get()
        elif kind is PoolDeadlock:
            with pool.lease():
                pool.get()
        elif kind is PoolError:
            lease = pool.acquire()
            lease.release()
            lease.release()
        else:
            lease = pool.acquire()
            if kind is PoolInterrupted:
                threading.Thread(target=interrupt, args=(pool,), daemon=True).start()
            try:
                pool.get(timeout=0.001 if kind is PoolTimeout else PATIENCE)
            finally:
                lease.release()
    return caught.value


@pytest.mark.threads_only("there is no call in it")
def test_the_family() -> None:
    """Each error can be caught by the classes that its users already catch."""
    assert PoolTimeout.__bases__ == (PoolError, TimeoutError, queue.Empty)
    assert issubclass(PoolClosed, PoolError) and issubclass(PoolClosed, ShutDown)
    assert issubclass(PoolOverloaded, PoolError) and issubclass(PoolDeadlock, PoolError)
    assert issubclass(PoolError, Exception)


@pytest.mark.threads_only("there is no call in it")
def test_they_are_public_under_the_package() -> None:
    """A traceback shows fastpool.PoolTimeout, and that is where it can be imported from."""
    for kind in ALL:
        assert kind.__module__ == "fastpool"
        assert getattr(fastpool, kind.__name__) is kind and kind.__name__ in fastpool.__all__


@pytest.mark.parametrize("kind", ALL)
def test_each_names_the_pool(kind: type[PoolError], accounted: Any) -> None:
    """The text begins with the pool's name or has it; `.pool` is the name alone."""
    error = caught_from_pool(kind, accounted)
    assert type(error) is kind
    assert "shop" in str(error) and error.pool == "shop"


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_each_can_be_pickled(kind: type[PoolError], protocol: int, accounted: Any) -> None:
    """In another process it is the same class, with the same text and attributes."""
    error = caught_from_pool(kind, accounted)
    for twin in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error)):
        assert type(twin) is kind and str(twin) == str(error)
        assert repr(twin) == repr(error)
        assert vars(twin) == vars(error)


def test_a_timeout_carries_phase_waited_and_sizes(accounted: Any) -> None:
    """What a program needs to tell one timeout from another is in attributes."""
    error = caught_from_pool(PoolTimeout, accounted)
    assert isinstance(error, PoolTimeout)
    assert error.phase == "wait"
    assert isinstance(error.waited, float) and 0.001 <= error.waited < PATIENCE
    sizes = dict(error.sizes)
    assert set(sizes) >= SIZES
    assert (sizes["leased"], sizes["open"], sizes["maxsize"], sizes["idle"]) == (1, 1, 1, 0)
    twin = pickle.loads(pickle.dumps(error))
    assert (twin.phase, twin.waited, dict(twin.sizes)) == (error.phase, error.waited, sizes)


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_a_creation_that_has_not_begun_counts_as_one(accounted: Any, timeout: float) -> None:
    """Nothing is lent: what the caller waits for is that one is made."""
    pool, _ = accounted(1)
    with unattended(), pytest.raises(PoolTimeout) as caught:
        pool.get(timeout=timeout)
    assert caught.value.phase == "create"


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_nobody_waits_for_a_creation_where_there_is_no_factory(timeout: float) -> None:
    """Though more would fit under the cap."""
    with FastPool(2, items=["the only one"]) as pool, pool.lease():
        with pytest.raises(PoolTimeout) as caught:
            pool.get(timeout=timeout)
    assert caught.value.phase == "wait"


def test_a_creation_is_over_when_its_resource_is_lent(
    accounted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the thread that has made it is not through with it yet."""
    back, through = _creation.Creator._return_permit, threading.Event()

    def return_permit(creator: Any, attempt: Any) -> None:
        assert through.wait(PATIENCE)
        back(creator, attempt)

    monkeypatch.setattr(_creation.Creator, "_return_permit", return_permit)
    pool, _ = accounted(1)
    held = pool.get()
    with pytest.raises(PoolTimeout) as caught:
        pool.get(timeout=0.01)
    through.set()
    assert caught.value.phase == "wait"
    pool.put(held)


def test_the_text_of_a_timeout_has_the_figures(accounted: Any) -> None:
    """A person who reads the log sees the phase, and how many are idle, in use and waiting."""
    text = str(caught_from_pool(PoolTimeout, accounted))
    assert "wait" in text and "1 leased" in text and "0 idle" in text


def test_a_timeout_chains_the_last_failure_of_the_factory(accounted: Any) -> None:
    """When the factory has been failing, the reason for the timeout is its failure."""
    pool, maker = accounted(1, name="shop")
    failure = ConnectionRefusedError("no server")
    maker.script.append(failure)
    with pytest.raises(ConnectionRefusedError):
        pool.get()
    maker.gate.clear()
    with pytest.raises(PoolTimeout) as caught:
        pool.get(timeout=0.02)
    cause = caught.value.__cause__
    assert type(cause) is ConnectionRefusedError and cause.args == failure.args
    maker.gate.set()


class Unlike(Exception):
    """Takes other arguments than it passes on, so that it cannot be copied."""

    def __init__(self, *, host: str) -> None:
        super().__init__(f"{host} is ill")


FAILURES: dict[str, Callable[[], Exception]] = {
    "copied": lambda: OSError(111, "no server"),
    "unlike": lambda: Unlike(host="a"),
    "bare": ValueError,
}


class Big:
    """What a caller has at hand."""


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("make", FAILURES.values(), ids=FAILURES.keys())
def test_a_failure_keeps_nothing_of_its_caller_alive(
    accounted: Any, make: Callable[[], Exception], closed: bool
) -> None:
    """What a caller had at hand when the factory's failure was raised in it goes with its frame,
    though the pool remembers the failure; a later timeout says what it was."""
    pool, maker = accounted(1)

    def call() -> weakref.ref[Big]:
        big, failure = Big(), make()
        maker.script.append(failure)
        with pytest.raises(type(failure)) as caught:
            pool.get()
        assert caught.value is failure
        return weakref.ref(big)

    kept = call()
    maker.gate.clear()
    with pytest.raises(PoolTimeout) as later:
        pool.get(timeout=0.02)
    cause = later.value.__cause__
    assert str(make()) in str(cause) and cause is not None and cause.__traceback__ is None
    maker.gate.set()
    if closed:
        assert pool.close() is True
    # the worker's own frame has it until it is done with the attempt, which may take a while

    def gone() -> bool:
        gc.collect()
        return kept() is None

    eventually(gone)


def test_a_timeout_without_failures_has_no_cause(accounted: Any) -> None:
    """Nothing is chained that had nothing to do with it."""
    error = caught_from_pool(PoolTimeout, accounted)
    assert error.__cause__ is None


def test_a_creation_that_worked_clears_the_last_failure(accounted: Any) -> None:
    """A failure of yesterday is not the reason for the timeout of today."""
    pool, maker = accounted(1)
    maker.script.append(OSError("yesterday"))
    with pytest.raises(OSError):
        pool.get()
    resource = pool.get()
    with pytest.raises(PoolTimeout) as caught:
        pool.get(timeout=0.01)
    assert caught.value.__cause__ is None
    pool.put(resource)


def test_code_written_for_the_standard_queue_catches_ours(accounted: Any) -> None:
    """`except queue.Empty` around get_nowait is a common idiom and goes on working."""
    pool, _ = accounted(1)
    resource = pool.get()
    try:
        pool.get_nowait()
    except queue.Empty as error:
        assert isinstance(error, PoolTimeout)
    else:
        pytest.fail("no exception")
    pool.put(resource)
