"""FastQueuePool does what QueuePool does: what is asked of ours is asked of SQLAlchemy's, too.

The rest is what only ours has.
"""

from __future__ import annotations

import contextvars
import gc
import threading
import time
import warnings
import weakref
from typing import Any

import pytest

from support.helpers import PATIENCE, ThreadRunner, eventually

pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")

from sqlalchemy import create_engine, exc
from sqlalchemy.pool import QueuePool, StaticPool

from fastpool.contrib.sqlalchemy import FastQueuePool, Plugin
from integration.sqlalchemy.recorded import Driver, log_of

BOTH = pytest.mark.parametrize("kind", [QueuePool, FastQueuePool])


def numbers(pool: Any) -> tuple[Any, ...]:
    return pool.size(), pool.checkedin(), pool.checkedout(), pool.overflow(), pool.status()


def story(kind: Any) -> list[Any]:
    """What one pool says and does, from its first connection to its last."""
    driver = Driver()
    pool = kind(driver.connect, pool_size=2, max_overflow=1, timeout=0, recycle=3600)
    log: list[Any] = log_of(pool)
    log.append(numbers(pool))
    first, second, third = (pool.connect() for _ in range(3))
    log.append(numbers(pool))
    with pytest.raises(exc.TimeoutError) as caught:
        pool.connect()
    log.append(str(caught.value))
    for connection in (first, second, third):  # the third is too many to be kept
        connection.close()
        log.append((numbers(pool), driver.open()))
    again = pool.connect()
    again.invalidate()
    log.append(numbers(pool))
    again.close()
    again = pool.connect()
    again.invalidate(soft=True)
    again.close()
    again = pool.connect()
    again.detach()
    log.append(numbers(pool))
    again.close()
    held = pool.connect(), pool.connect()
    driver.fails.append(RuntimeError("refused"))
    with pytest.raises(RuntimeError):
        pool.connect()
    log.append(numbers(pool))
    for connection in held:
        connection.close()
    told = len(log)
    pool.dispose()
    log[told:] = sorted(log[told:])  # which one goes first is nobody's business
    log.append((numbers(pool), driver.open()))
    pool.connect().close()
    log.append((numbers(pool), driver.open()))
    return [*log, [each.rollbacks for each in driver.made]]


def test_the_same_story() -> None:
    """Events in their order, sizes, texts, and what is opened and closed when."""
    assert story(FastQueuePool) == story(QueuePool)


@BOTH
@pytest.mark.parametrize("use_lifo", [False, True])
def test_order(kind: Any, use_lifo: bool) -> None:
    driver = Driver()
    pool = kind(driver.connect, pool_size=3, use_lifo=use_lifo)
    held = [pool.connect() for _ in range(3)]
    for connection in held:
        connection.close()
    again = pool.connect()
    assert again.dbapi_connection.number == (2 if use_lifo else 0)
    again.close()


@BOTH
@pytest.mark.parametrize("limits", [{"max_overflow": -1}, {"pool_size": 0}])
def test_no_limit(kind: Any, limits: dict[str, int]) -> None:
    driver = Driver()
    pool = kind(driver.connect, timeout=0, **limits)
    held = [pool.connect() for _ in range(40)]
    assert len(driver.open()) == 40
    for connection in held:
        connection.close()
    assert len(driver.open()) == (pool.size() or 40) == pool.checkedin()


@BOTH
def test_the_creator_and_events_run_in_the_callers_thread_and_context(kind: Any) -> None:
    request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")
    seen = []
    driver = Driver()

    def creator() -> Any:
        seen.append((threading.get_ident(), request.get()))
        return driver.connect()

    pool = kind(creator, pool_size=1, max_overflow=0)
    request.set("mine")
    pool.connect().close()
    assert seen == [(threading.get_ident(), "mine")]


@BOTH
def test_a_hanging_connect_keeps_nobody_else_waiting(kind: Any, runner: ThreadRunner) -> None:
    go_on, driver = threading.Event(), Driver()

    def creator() -> Any:
        if threading.get_ident() != main:
            go_on.wait(PATIENCE)
        return driver.connect()

    main = threading.get_ident()
    pool = kind(creator, pool_size=8, max_overflow=0)
    hanging = [runner.start(lambda: pool.connect().close()) for _ in range(6)]
    for each in hanging:
        each.parked()
    pool.connect().close()
    go_on.set()
    runner.finish()


@BOTH
def test_reconnects_by_ping_recycle_and_invalidation(kind: Any) -> None:
    driver = Driver()
    pool = kind(driver.connect, pool_size=1, recycle=100)
    connection = pool.connect()
    connection._connection_record.starttime -= 200
    connection.close()
    pool.connect().close()
    assert driver.open() == [1]

    driver = Driver()
    pool = kind(driver.connect, pool_size=1, pre_ping=True)
    pool._dialect._do_ping_w_event = lambda connection: connection.number > 0  # type: ignore[attr-defined]
    try:
        pool.connect().close()
        pool.connect().close()
    finally:
        del pool._dialect._do_ping_w_event  # type: ignore[attr-defined]
    assert driver.open() == [1]


@BOTH
def test_recreate_keeps_every_option(kind: Any) -> None:
    driver = Driver()
    options = {
        "pool_size": 7, "max_overflow": 2, "timeout": 3.5, "use_lifo": True, "recycle": 90,
        "echo": True, "logging_name": "orders", "reset_on_return": "commit", "pre_ping": True,
    }  # fmt: skip
    more = {"fairness": "throughput", "max_waiting": 9, "leak_after": 60.0}
    pool = kind(driver.connect, **options, **(more if kind is FastQueuePool else {}))
    log = log_of(pool)
    other = pool.recreate()
    for each in (pool, other):
        assert (each.size(), each._max_overflow, each.timeout()) == (7, 2, 3.5)
        assert each._pool.use_lifo and each._recycle == 90 and each._pre_ping and each.echo
        assert each.logging_name == "orders" and each._reset_on_return.name == "reset_commit"
        if kind is FastQueuePool:
            assert each._more == more and each.fastpool.name == "orders"
    other._pre_ping = False  # there is no dialect here to ping with
    other.connect().close()
    assert ("connect", 0) in log, "events go along"


@BOTH
def test_log_lines_are_sqlalchemys(kind: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Under its names, so that what is configured there goes on to work."""
    with caplog.at_level("DEBUG", "sqlalchemy.pool"):
        pool = kind(Driver().connect, pool_size=1, logging_name="orders")
        pool.connect().close()
        pool.dispose()
    its = [record for record in caplog.records if record.name.endswith(".orders")]
    assert {record.name for record in its} == {f"sqlalchemy.pool.impl.{kind.__name__}.orders"}
    said = [record.getMessage().partition(" <")[0] for record in its]
    assert said[:2] == ["Created new connection", "Connection"]
    assert "Closing connection" in said and said[-1].startswith("Pool disposed. Pool size: 1")


def test_a_dropped_engine_leaves_nothing_and_says_nothing() -> None:
    """Not disposed: its connections are closed.  Of those that the driver finalises in the same
    collection, it may warn as with QueuePool: sqlite3 since Python 3.13, psycopg."""
    driver = Driver()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine = create_engine(
            "sqlite://", creator=driver.connect, poolclass=FastQueuePool, _initialize=False
        )
        engine.raw_connection().close()
        lent = engine.raw_connection()
        gone = weakref.ref(engine.pool)
        assert driver.open() == [0]
        del engine, lent
        eventually(lambda: (gc.collect(), gone() is None and not driver.open())[1])


@BOTH
def test_dispose_leaves_what_is_lent_alone(kind: Any) -> None:
    """It works, and goes with the pool that was disposed of; what was idle is closed before
    dispose returns."""
    driver = Driver()
    engine = create_engine("sqlite://", creator=driver.connect, poolclass=kind, _initialize=False)
    lent, idle = engine.raw_connection(), engine.raw_connection()
    idle.close()
    engine.dispose()
    assert driver.open() == [0]
    lent.rollback()
    lent.close()
    del lent, idle
    eventually(lambda: (gc.collect(), driver.open() == [] or kind is QueuePool)[1])
    engine.raw_connection().close()
    assert driver.open()[-1:] == [2]
    engine.dispose()


def test_eight_threads_on_four_connections_all_get_turns(runner: ThreadRunner) -> None:
    """QueuePool gives some of them one turn in a whole run."""
    driver, turns, over = Driver(), [0] * 8, threading.Event()
    pool = FastQueuePool(driver.connect, pool_size=4, max_overflow=0, timeout=PATIENCE)

    def borrow(index: int) -> None:
        while not over.is_set():
            connection = pool.connect()
            time.sleep(0.0005)
            connection.close()
            turns[index] += 1
            if turns[index] == 150:
                over.set()

    runner.together(8, borrow)
    runner.finish()
    assert min(turns) >= 15, turns
    assert len(driver.made) == 4


def test_many_threads_keep_to_the_limits(runner: ThreadRunner) -> None:
    """Never more open than allowed, never more kept than pool_size, no connection for two."""
    driver = Driver()
    pool = FastQueuePool(driver.connect, pool_size=2, max_overflow=3, timeout=PATIENCE)
    holders: dict[int, int] = {}
    most = []

    def borrow(index: int) -> None:
        for turn in range(120):
            connection = pool.connect()
            number = connection.dbapi_connection.number  # type: ignore[union-attr]
            assert holders.setdefault(number, index) == index, "lent to two"
            most.append(len([each for each in driver.made if not each.closed]))
            if turn % 40 == 7:
                connection.invalidate()
            del holders[number]
            connection.close()

    runner.together(9, borrow)
    runner.finish()
    assert max(most) <= 5
    assert pool.checkedout() == 0 and pool.checkedin() <= 3  # two that came back at once
    pool.connect().close()
    assert pool.checkedin() <= 2 and len(driver.open()) <= 2
    pool.dispose()
    assert driver.open() == []


def test_the_timeout_has_its_cause() -> None:
    """Who holds what, with leak_after."""
    pool = FastQueuePool(Driver().connect, pool_size=1, max_overflow=0, timeout=0, leak_after=60)
    held = pool.connect()
    with pytest.raises(exc.TimeoutError, match="QueuePool limit of size 1 overflow 0") as caught:
        pool.connect()
    assert "held by MainThread" in str(caught.value.__cause__)
    (holder,) = pool.fastpool.leases()
    assert holder.resource is held._connection_record  # type: ignore[attr-defined]
    assert "test_the_timeout_has_its_cause" in str(holder.stack)
    held.close()


def test_no_more_waiters_than_max_waiting() -> None:
    pool = FastQueuePool(Driver().connect, pool_size=1, max_overflow=0, max_waiting=0)
    held = pool.connect()
    with pytest.raises(exc.TimeoutError, match="max_waiting is 0"):
        pool.connect()
    held.close()


def test_options_that_cannot_be() -> None:
    """At once, not at the first checkout."""
    with pytest.raises(ValueError, match="max_overflow must be -1"):
        FastQueuePool(Driver().connect, max_overflow=-2)
    with pytest.raises(ValueError, match="timeout"):
        FastQueuePool(Driver().connect, timeout=-1)
    with pytest.raises(ValueError, match="fairness"):
        FastQueuePool(Driver().connect, fairness="random")


def test_options_by_create_engine(tmp_path: Any) -> None:
    engine = create_engine(
        f"sqlite:///{tmp_path}/base", poolclass=FastQueuePool, pool_size=3, max_overflow=2,
        pool_timeout=7, pool_use_lifo=True, leak_after=60, max_waiting=100, fairness="throughput",
    )  # fmt: skip
    pool: Any = engine.pool
    assert (pool.size(), pool.timeout(), pool.fastpool.maxsize) == (3, 7, 5)
    engine.dispose()


class TestPlugin:
    """The class behind the entry point; test_plugin.py finds that by its name."""

    def given(self, url: str, **kwargs: Any) -> Any:
        from sqlalchemy import make_url

        Plugin(make_url(url), kwargs)
        return kwargs.get("poolclass")

    def test_takes_the_place_of_queue_pool(self, tmp_path: Any) -> None:
        assert self.given(f"sqlite:///{tmp_path}/base") is FastQueuePool
        assert self.given("sqlite://", poolclass=QueuePool) is FastQueuePool

    def test_leaves_other_pools_alone(self) -> None:
        assert self.given("sqlite://") is None
        assert self.given("sqlite://", poolclass=StaticPool) is StaticPool
        assert self.given("postgresql://", pool=QueuePool(Driver().connect)) is None
