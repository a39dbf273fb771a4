"""`fastpool.contrib.psycopg.ConnectionPool` on a real server that is killed at times.

What psycopg_pool's own class does as well is asked of both.
"""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from integration.drivers import killed_servers
from support.helpers import PATIENCE, ThreadRunner, all_warnings, eventually

pytest.importorskip("psycopg_pool", reason="psycopg_pool is not installed")

import psycopg
import psycopg_pool

import fastpool
from fastpool.contrib.psycopg import ConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

pytestmark = [pytest.mark.servers, pytest.mark.once]  # an adapter: the pool is tried on each

Make = Callable[..., Any]


@pytest.fixture
def conninfo(killed_postgresql: killed_servers.Server) -> str:
    return f"host=127.0.0.1 port={killed_postgresql.port} user=postgres dbname=postgres"


def making(conninfo: str, kind: Any) -> Iterator[Make]:
    made = []

    def make(given: Any = conninfo, **options: Any) -> Any:
        made.append(kind(given, **{"open": True, "timeout": PATIENCE} | options))
        return made[-1]

    yield make
    for each in made:
        each.close()
        if kind is ConnectionPool:
            eventually(lambda each=each: each.fastpool.stats().open == 0)


@pytest.fixture
def pool(conninfo: str) -> Iterator[Make]:
    """`pool(...)`: one of ours, open; nothing of it is open at the end."""
    yield from making(conninfo, ConnectionPool)


@pytest.fixture(params=["host", "ours"])
def either(request: pytest.FixtureRequest, conninfo: str) -> Iterator[Make]:
    """`either(...)`: one of ours, or one of psycopg_pool's."""
    kind = ConnectionPool if request.param == "ours" else psycopg_pool.ConnectionPool
    yield from making(conninfo, kind)


# ---- As the host's ---------------------------------------------------------------------------


def test_a_block_commits_or_rolls_back(either: Make) -> None:
    """And gives the connection back, which is open."""
    mine = either(min_size=1)
    with mine.connection() as first:
        first.execute("create table turns (number int)")
    with pytest.raises(ZeroDivisionError):
        with mine.connection() as second:
            second.execute("insert into turns values (1)")
            1 / 0  # noqa: B018
    with mine.connection() as third:
        assert third is second is first and third._pool is mine
        assert third.execute("select count(*) from turns").fetchone() == (0,)
        third.execute("drop table turns")
    assert not first.closed and first._pool is None


def test_a_connection_has_its_class_arguments_and_configuration(either: Make) -> None:
    """Of `conninfo` and `kwargs` that are callables, too."""

    class Own(psycopg.Connection[Any]):
        pass

    def configure(connection: Any) -> None:
        connection.execute("set search_path to elsewhere")
        connection.commit()

    mine = either(
        min_size=1,
        connection_class=Own,
        kwargs=lambda: {"application_name": "shop"},
        configure=configure,
    )
    with mine.connection() as connection:
        assert type(connection) is Own
        names = "select current_setting('application_name'), current_setting('search_path')"
        assert connection.execute(names).fetchone() == ("shop", "elsewhere")


def test_a_transaction_left_open_goes_to_nobody(
    either: Make, caplog: pytest.LogCaptureFixture
) -> None:
    mine = either(min_size=1)
    connection = mine.getconn()
    connection.execute("create table left_open (number int)")
    mine.putconn(connection)
    with mine.connection() as same:
        assert same is connection
        found = same.execute("select 1 from pg_class where relname = 'left_open'")
        assert found.fetchone() is None
    assert [each.getMessage()[:12] for each in caplog.records] == ["rolling back"]


def test_reset_is_called_and_its_failure_closes(either: Make) -> None:
    seen: list[Any] = []

    def reset(connection: Any) -> None:
        seen.append(connection)
        if len(seen) == 2:
            raise RuntimeError("unclean")

    mine = either(min_size=1, reset=reset)
    for _ in range(3):
        with mine.connection():
            pass
    eventually(lambda: len(seen) == 3)
    assert seen[0] is seen[1] is not seen[2] and seen[0].closed


def test_connections_of_others_are_refused(either: Make, conninfo: str) -> None:
    mine, other = either(min_size=1), either(min_size=1)
    stranger = psycopg.connect(conninfo)
    with pytest.raises(ValueError, match="doesn't come from any pool"):
        mine.putconn(stranger)
    stranger.close()
    connection = mine.getconn()
    with pytest.raises(ValueError, match=f"it comes from pool '{mine.name}'"):
        other.putconn(connection)
    mine.putconn(connection)
    with pytest.raises(ValueError, match="doesn't come from any pool"):
        mine.putconn(connection)  # a second time


def test_the_hosts_except_clauses(either: Make, runner: ThreadRunner) -> None:
    """What a user catches is what they catch today: psycopg's OperationalError among it."""
    busy = either(min_size=1)
    held = busy.getconn()
    with pytest.raises(psycopg_pool.PoolTimeout, match=r"couldn't get a connection after 0\.01"):
        busy.getconn(0.01)
    busy.putconn(held)
    mine = either(min_size=1, max_waiting=1)
    held = mine.getconn()
    waiter = runner.start(mine.getconn)
    eventually(lambda: mine.get_stats()["requests_waiting"] == 1)
    with pytest.raises(psycopg_pool.TooManyRequests, match="has already 1 requests waiting"):
        mine.getconn()
    mine.close()
    with pytest.raises(psycopg_pool.PoolClosed, match="is closed"):
        waiter.result()
    with pytest.raises(psycopg.OperationalError, match="is already closed"):
        mine.getconn()
    mine.putconn(held)
    assert held.closed
    with pytest.raises(psycopg_pool.PoolClosed, match="cannot be reused"):
        mine.open()


def test_a_pool_that_is_not_open_refuses(either: Make) -> None:
    """A block opens it."""
    mine = either(min_size=1, open=False)
    with pytest.raises(psycopg_pool.PoolClosed, match="is not open yet"):
        mine.getconn()
    with mine:
        mine.wait()
        with mine.connection():
            assert not mine.closed
    assert mine.closed


def test_open_by_default_is_told_of(either: Make) -> None:
    """The host means to change its default."""
    mine = either(min_size=1, open=None)
    with pytest.warns(DeprecationWarning, match="'open' parameter"):
        mine.putconn(mine.getconn())
    mine.putconn(mine.getconn())


def test_wait_gives_up_and_closes(either: Make) -> None:
    """Whether it is the server that cannot be had, or `configure` that fails."""

    def configure(connection: Any) -> None:
        raise RuntimeError("unfit")

    for options in ({"kwargs": {"port": 1}}, {"configure": configure}):
        mine = either(min_size=1, **options)
        with pytest.raises(psycopg_pool.PoolTimeout, match=r"incomplete after 0\.2"):
            mine.wait(0.2)
        assert mine.closed


def test_closing_returns_if_asked_to(either: Make) -> None:
    """`close_returns`."""
    mine = either(min_size=1, close_returns=True)
    connection = mine.getconn()
    connection.close()
    assert not connection.closed
    assert mine.getconn() is connection
    connection.close()


def test_every_request_is_checked(either: Make) -> None:
    """A connection whose check fails is not lent; a new one is checked as well."""
    checked: list[Any] = []

    def check(connection: Any) -> None:
        checked.append(connection)
        mine.check_connection(connection)

    mine = either(min_size=1, check=check)
    with mine.connection() as first:
        pass
    first.pgconn.finish()
    with mine.connection() as second:
        assert second is not first and second.execute("select 1").fetchone() == (1,)
    assert checked == [first, first, second]
    assert mine.get_stats()["connections_lost"] == 1


def test_a_check_that_always_fails_ends_at_the_timeout(either: Make) -> None:
    """And loses no connection."""

    def check(connection: Any) -> None:
        raise RuntimeError("not today")

    mine = either(min_size=1, check=check)
    with pytest.raises(psycopg_pool.PoolTimeout):
        mine.getconn(0.1)
    mine._check = None
    with mine.connection() as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    assert mine.get_stats()["connections_num"] == 1


def test_check_replaces_what_is_broken(either: Make) -> None:
    mine = either(min_size=2)
    mine.wait()
    broken, sound = mine.getconn(), mine.getconn()
    broken.pgconn.finish()
    for each in (sound, broken):
        each._pool = mine
    mine.putconn(sound)
    mine.putconn(broken)  # found broken where it is given back
    assert mine.get_stats()["returns_bad"] == 1
    mine.wait()
    sound.pgconn.finish()  # broken while it is idle
    mine.check()
    mine.wait()
    assert mine.get_stats()["connections_lost"] == 1
    for _ in range(4):
        with mine.connection() as connection:
            assert connection.execute("select 1").fetchone() == (1,)


def test_drain_replaces_all(either: Make) -> None:
    """What is lent, when it comes back."""
    mine = either(min_size=2)
    mine.wait()
    lent, idle = mine.getconn(), mine.getconn()
    mine.putconn(idle)
    mine.drain()
    eventually(lambda: idle.closed)
    assert not lent.closed
    mine.putconn(lent)
    assert lent.closed


def test_sizes(either: Make) -> None:
    mine = either(min_size=1, max_size=3)
    assert (mine.min_size, mine.max_size) == (1, 3)
    held = [mine.getconn() for _ in range(3)]
    with pytest.raises(psycopg_pool.PoolTimeout):
        mine.getconn(0.01)
    mine.resize(2, 4)
    held.append(mine.getconn())
    mine.resize(1, 2)
    assert (mine.min_size, mine.max_size) == (1, 2)
    for each in held:
        mine.putconn(each)
    for sizes in ((0, 0), (-1, None), (4, 2)):
        with pytest.raises(ValueError, match="size"):
            mine.resize(*sizes)


def test_statistics(either: Make) -> None:
    """The host's keys; `pop_stats` begins anew."""
    mine = either(min_size=1)
    mine.wait()
    with mine.connection() as connection:
        connection.execute("select pg_sleep(0.01)")
    held = mine.getconn()
    with pytest.raises(psycopg_pool.PoolTimeout):
        mine.getconn(0.01)
    stats = mine.pop_stats()
    wanted = {
        "pool_min": 1, "pool_max": 1, "pool_size": 1, "pool_available": 0, "requests_num": 3,
        "requests_queued": 1, "requests_errors": 1, "connections_num": 1,
    }  # fmt: skip
    assert stats | wanted == stats
    assert stats["usage_ms"] >= 10 and stats["requests_wait_ms"] >= 10
    mine.putconn(held)
    mine.putconn(mine.getconn())
    stats = mine.get_stats()
    assert (stats["requests_num"], stats.get("requests_queued", 0)) == (1, 0)


# ---- Ours alone ------------------------------------------------------------------------------


def test_it_is_a_pool_of_the_hosts() -> None:
    """Libraries ask by isinstance; annotations subscript it."""
    mine = ConnectionPool[Any]("host=nowhere", open=False)
    assert isinstance(mine, psycopg_pool.ConnectionPool)
    assert (mine.min_size, mine.max_size, mine.timeout, mine.max_idle) == (4, 4, 30.0, 600.0)
    assert PoolTimeout is psycopg_pool.PoolTimeout and PoolClosed is psycopg_pool.PoolClosed
    assert TooManyRequests is psycopg_pool.TooManyRequests
    with pytest.raises(ValueError, match="num_workers"):
        ConnectionPool("", open=False, num_workers=0)
    with pytest.raises(ValueError, match="fairness"):
        ConnectionPool("", open=False, fairness="random")


def test_a_timeout_says_why(pool: Make) -> None:
    """Who holds what, or why the server cannot be reached."""
    mine = pool(min_size=1, leak_after=60)
    held = mine.getconn()
    with pytest.raises(PoolTimeout, match="held by MainThread") as caught:
        mine.getconn(0.01)
    mine.putconn(held)
    assert isinstance(caught.value.__cause__, fastpool.PoolTimeout)
    elsewhere = pool(min_size=1, kwargs={"port": 1})
    with pytest.raises(PoolTimeout, match="phase: create") as caught:
        elsewhere.getconn(0.5)
    refused = caught.value.__cause__.__cause__
    assert isinstance(refused, psycopg.OperationalError) and "port 1 failed" in str(refused)


def test_blocks_that_wait_for_each_other_end_at_once(pool: Make) -> None:
    """A thread that waits inside blocks of its own for what they hold."""
    mine = pool(min_size=1)
    with mine.connection():
        with pytest.raises(PoolTimeout, match="the caller holds all 1") as caught:
            with mine.connection():
                pytest.fail("lent twice")
    assert isinstance(caught.value.__cause__, fastpool.PoolDeadlock)


def test_settings_can_be_changed(pool: Make) -> None:
    """What the host reads anew each time."""
    mine = pool(min_size=1, max_waiting=3, max_idle=50, max_lifetime=70)
    options = mine.fastpool.options
    assert (options["max_waiting"], options["idle_timeout"], options["max_lifetime"]) == (3, 50, 70)
    mine.max_waiting, mine.max_idle, mine.max_lifetime, mine.timeout = 0, 60, 80, 0.01
    options = mine.fastpool.options
    assert (mine.max_waiting, mine.max_idle, mine.max_lifetime) == (0, 60, 80)
    assert options["max_waiting"] is None
    assert (options["idle_timeout"], options["max_lifetime"]) == (60, 80)
    held = mine.getconn(PATIENCE)
    with pytest.raises(PoolTimeout, match=r"after 0\.01 sec"):
        mine.getconn()
    mine.putconn(held)


def test_given_back_inside_a_block_its_end_leaves_it_alone(pool: Make) -> None:
    """It may be somebody else's by then: the host commits and closes it."""
    mine = pool(min_size=1, close_returns=True)
    with mine.connection() as connection:
        connection.close()
        other = mine.getconn()
        assert other is connection
        other.execute("select 1")
    status = connection.info.transaction_status
    assert status is psycopg.pq.TransactionStatus.INTRANS
    mine.putconn(other)


def test_a_block_is_entered_once(pool: Make) -> None:
    """A second time it is refused, and the connection of the first stays as it was."""
    mine = pool(min_size=1)
    block = mine.connection()
    with block as connection:
        with pytest.raises(fastpool.PoolError, match="entered before"):
            block.__enter__()
        assert connection.execute("select 1").fetchone() == (1,)
    with pytest.raises(fastpool.PoolError, match="entered before"):
        block.__enter__()
    assert mine.fastpool.stats().idle == 1


def test_a_block_ends_as_its_connections_class_says(either: Make) -> None:
    """By its own `commit`, or its own `__exit__`; and quietly on a closed connection."""
    ends = []

    class Commits(psycopg.Connection[Any]):
        def commit(self) -> None:
            ends.append("commit")
            super().commit()

    class Exits(Commits):
        def __exit__(self, *error: Any) -> None:
            ends.append("exit")
            super().__exit__(*error)

    own: Any = psycopg.Connection
    for kind, wanted in (
        (own, []),
        (psycopg.Connection[Any], []),
        (Commits, ["commit"]),
        (Exits, ["exit", "commit"]),
    ):
        ends.clear()
        mine = either(min_size=1, connection_class=kind)
        with mine.connection() as connection:
            connection.execute("select 1")
        assert ends == wanted
        with mine.connection() as connection:
            psycopg.Connection.close(connection) if kind is Commits else connection.pgconn.finish()
        assert ends == [*wanted, *wanted[:-1]]


@pytest.mark.parametrize("check", [None, lambda connection: None])
def test_a_block_whose_begin_fails_gives_back(either: Make, check: Any) -> None:
    """What a class of one's own raises as the block begins."""

    class Own(psycopg.Connection[Any]):
        fails = True

        def __enter__(self) -> Any:
            if self.fails:
                raise ZeroDivisionError
            return super().__enter__()

    mine = either(min_size=1, connection_class=Own, check=check)
    with pytest.raises(ZeroDivisionError):
        with mine.connection():
            raise AssertionError
    Own.fails = False
    with mine.connection() as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    assert mine.get_stats()["pool_size"] == 1


def test_a_block_that_begins_after_close_is_refused(either: Make) -> None:
    mine = either(min_size=1)
    mine.wait()
    block = mine.connection()
    mine.close()
    with pytest.raises(psycopg_pool.PoolClosed):
        with block:
            raise AssertionError


def test_a_block_that_is_dropped_loses_no_connection(pool: Make) -> None:
    """As with a generator that nobody goes on with."""
    mine = pool(min_size=1)

    def rows() -> Iterator[Any]:
        with mine.connection() as connection:
            yield from connection.execute("select generate_series(1, 3)")

    class Dropped:
        def __init__(self) -> None:
            self.block = mine.connection()
            self.block.__enter__()

    next(rows())  # closed by the interpreter: an orderly end
    with all_warnings() as warned:
        Dropped()
        gc.collect()
        with mine.connection() as connection:
            assert connection.execute("select 1").fetchone() == (1,)
    assert [each.category for each in warned] == [ResourceWarning]
    assert mine.fastpool.stats().closed == {"lost": 1}


def test_reconnect_failed_is_called(pool: Make, caplog: pytest.LogCaptureFixture) -> None:
    """After `reconnect_timeout` of failures, again after as long; the pool goes on trying."""
    told: list[Any] = []
    go_on = threading.Event()

    def failed(of: Any) -> None:
        told.append(of)
        if len(told) == 1:
            raise RuntimeError("the callback's")

    def where() -> dict[str, Any]:
        return {} if go_on.is_set() else {"port": 1}

    caplog.set_level(logging.CRITICAL, "psycopg.pool")
    mine = pool(min_size=1, kwargs=where, reconnect_timeout=0.0, reconnect_failed=failed)
    eventually(lambda: len(told) >= 2)
    assert {*told} == {mine}
    go_on.set()
    with mine.connection() as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_eight_threads_on_two_connections_all_get_turns(pool: Make, runner: ThreadRunner) -> None:
    """From when each has had its first: one that starves has no second."""
    mine, turns, over = pool(min_size=2), [0] * 8, threading.Event()
    mine.wait()

    def work(index: int) -> None:
        while not over.is_set():
            with mine.connection() as connection:
                connection.execute("select 1")
            turns[index] += 1
            if turns[index] >= 300 and all(turns):
                over.set()

    runner.together(8, work)
    runner.finish()
    assert min(turns) >= 6, turns
    assert mine.fastpool.stats().created == 2


@pytest.mark.parametrize("check", [None, ConnectionPool.check_connection])
def test_the_server_is_killed_and_back(
    pool: Make, killed_postgresql: killed_servers.Server, runner: ThreadRunner, check: Any
) -> None:
    """Under load: no connection that had failed is lent again, and all threads go on."""
    mine = pool(min_size=4, check=check, timeout=2 * PATIENCE)
    mine.wait()
    failed: list[Any] = []
    again: list[Any] = []
    back, over = threading.Event(), threading.Event()
    done = [0] * 8

    def work(index: int) -> None:
        while not over.is_set():
            connection = None
            try:
                with mine.connection() as connection:
                    if any(connection is each for each in failed):
                        again.append(connection)
                    connection.execute("select 1")
                done[index] += back.is_set()
            except psycopg.OperationalError:  # as users write it
                if connection is not None:
                    failed.append(connection)

    runner.together(8, work)
    eventually(lambda: mine.fastpool.stats().uses > 100)
    restart(killed_postgresql)
    back.set()
    eventually(lambda: min(done) >= 5, 3 * PATIENCE)
    over.set()
    runner.finish()
    assert not again, "a dead connection was lent twice"
    stats = mine.fastpool.stats()
    assert stats.leased == 0 and stats.open <= 4


def restart(server: killed_servers.Server) -> None:
    """Kills it and starts it again, as soon as the processes that served its connections have
    noticed and let go of its memory."""
    from bench.measure import NotRun

    def starts() -> bool:
        try:
            server.start()
            return True
        except NotRun:
            return False

    server.kill()
    eventually(starts)


FORKED = """
import os, sys
from fastpool.contrib.psycopg import ConnectionPool

me = "select pg_backend_pid()"
pool = ConnectionPool(sys.argv[1], min_size=2, open=True)
pool.wait()
with pool.connection() as connection:
    parents = {connection.execute(me).fetchone()}
    with pool.connection() as other:
        parents.add(other.execute(me).fetchone())
child = os.fork()
if child == 0:
    code = 1
    try:
        for _ in range(3):
            with pool.connection() as own, pool.connection() as second:
                assert own.execute(me).fetchone() not in parents
                assert second.execute(me).fetchone() not in parents
        pool.close()
        code = 0
    finally:
        os._exit(code)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
for _ in range(3):
    with pool.connection() as connection:
        assert connection.execute(me).fetchone() in parents
assert pool.get_stats()["connections_num"] == 2
pool.close()
"""


def test_a_forked_child_has_connections_of_its_own(conninfo: str) -> None:
    """It uses none of its parent's, not even to close it; the parent goes on with them."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", FORKED, conninfo],
        capture_output=True, text=True, timeout=4 * PATIENCE,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_a_dropped_pool_leaves_nothing(conninfo: str) -> None:
    """Neither a warning nor a connection, idle or lent."""
    with psycopg.connect(conninfo, autocommit=True) as watcher:
        mark = "dropped"
        count = "select count(*) from pg_stat_activity where application_name = %s"

        def left() -> Any:
            gc.collect()
            return watcher.execute(count, [mark]).fetchone()[0]

        with all_warnings() as warned:
            for lent in (False, True):
                mine = ConnectionPool(
                    conninfo, min_size=2, kwargs={"application_name": mark}, open=True
                )
                mine.wait()
                connection = mine.getconn()
                assert left() == 2
                if not lent:
                    mine.putconn(connection)
                del mine, connection
                eventually(lambda: left() == 0)
        assert not warned, [str(each.message) for each in warned]
