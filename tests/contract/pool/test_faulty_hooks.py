"""Hooks of a pool that raise: what is logged, once each, and no slot and no thread is lost."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from fastpool import PoolTimeout
from support.helpers import PATIENCE, Maker, eventually, states, works


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Any:
    with caplog.at_level(logging.WARNING, logger="fastpool"):
        yield caplog


def raising(error: BaseException) -> Any:
    def hook(*args: Any) -> None:
        raise error

    return hook


def closing(error: BaseException) -> Any:
    """A close hook that raises when it has closed."""

    def close(resource: Any) -> None:
        resource.close()
        raise error

    return close


def one_record(log: Any, error: BaseException, *words: str) -> None:
    """It names the pool, and has the very exception with its traceback."""
    (record,) = log.records
    assert record.levelno == logging.WARNING and record.name == "fastpool"
    assert record.exc_info[1] is error
    for word in ("shop", *words):
        assert word in record.getMessage()


def test_failed_close_is_logged(accounted: Any, log: Any) -> None:
    """It is nobody's problem but its resource's, which counts as closed."""
    error = ValueError("cannot close")
    pool, maker = accounted(1, name="shop", close=closing(error))
    pool.discard(pool.get())
    one_record(log, error, "close failed")
    assert maker.closed == 1 and pool.stats().closed == {"discarded": 1}
    works(pool, 1)


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
def test_failed_close_on_a_worker_is_logged(
    accounted: Any, clock: Any, log: Any, kind: Any
) -> None:
    """Whatever it raises: the slot is free and the worker goes on."""
    error = kind()
    pool, maker = accounted(1, name="shop", close=closing(error), idle_timeout=100, clock=clock)
    pool.put(pool.get())
    clock.advance(100)
    eventually(lambda: states(pool) == {})
    one_record(log, error, "close failed")
    assert maker.closed == 1 and pool.stats().closed == {"idle": 1}
    pool.put(pool.get(timeout=PATIENCE))
    clock.advance(100)
    eventually(lambda: pool.stats().closed == {"idle": 2})


def test_failed_reset_is_logged(accounted: Any, log: Any) -> None:
    """Its resource is closed; who gave it back is told nothing."""
    error = ValueError("dirty")
    pool, _ = accounted(1, name="shop", reset=raising(error))
    pool.put(pool.get())
    one_record(log, error, "reset failed")


def test_failed_discard_on_is_logged(accounted: Any, log: Any) -> None:
    """In place of the answer that it did not give."""
    error = RuntimeError("no idea")
    pool, _ = accounted(1, name="shop", discard_on=raising(error))
    with pytest.raises(ValueError, match="plain"), pool.lease():
        raise ValueError("plain")
    one_record(log, error, "discard_on raised")


def test_failed_check_is_not_logged(accounted: Any, clock: Any, log: Any) -> None:
    """That is what a check is for; neither is a factory that fails: its caller is told."""
    pool, maker = accounted(1, check=raising(OSError()), check_after=0, keepalive=60, clock=clock)
    maker.script.append(OSError())
    with pytest.raises(OSError):
        pool.get()
    pool.put(pool.get())
    pool.put(pool.get())
    clock.advance(61)
    eventually(lambda: pool.stats().closed == {"check": 2})
    assert log.records == []


def test_reset_is_not_run_where_the_block_says_that_it_is_broken(accounted: Any) -> None:
    """One who is closed anyway is not cleaned first."""
    seen: list[Any] = []
    pool, _ = accounted(1, reset=seen.append)
    for error in (OSError, KeyboardInterrupt):
        with pytest.raises(error), pool.lease():
            raise error
    lease = pool.acquire()
    pool.close(timeout=0)
    lease.release()
    eventually(lambda: states(pool) == {})
    assert seen == []


def test_reset_runs_once_for_each_return(accounted: Any) -> None:
    """Before anybody else has the resource, and also after the last use of its life."""
    seen: list[Any] = []
    pool, _ = accounted(1, reset=lambda resource: seen.append(pool.stats().idle), max_uses=3)
    for returns in range(1, 4):
        pool.put(pool.get())
        assert seen == [0] * returns
    assert pool.stats().closed == {"uses": 1}


@pytest.mark.parametrize("timeout", [0.01, 0])
def test_timeout_has_the_sizes_of_that_moment(accounted: Any, timeout: float) -> None:
    """Also after the pool was resized."""
    pool, maker = accounted(2)
    lease = pool.acquire()
    pool.resize(1)
    with pytest.raises(PoolTimeout) as caught:
        pool.get(timeout=timeout)
    sizes = caught.value.sizes
    assert (sizes["maxsize"], sizes["open"], sizes["leased"]) == (1, 1, 1)
    assert "of maxsize 1" in str(caught.value)
    maker.cap = 1
    lease.release()


def test_factory_object_that_raises_closes_nothing() -> None:
    """What was not made has no close."""
    from fastpool import FastPool

    maker = Maker()
    maker.script.append(ValueError())
    closed: list[Any] = []
    pool: Any = FastPool(1, factory=maker, close=closed.append)
    with pytest.raises(ValueError):
        pool.get()
    assert pool.close() is True and closed == [] and pool.stats().closed == {}
