"""`fastpool.contrib.redis` and `.valkey` for threads, on a real server that is killed at times."""

from __future__ import annotations

import gc
import importlib
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from integration.drivers import killed_servers
from support.helpers import PATIENCE, ThreadRunner, eventually

pytestmark = [
    pytest.mark.once,  # an adapter: the pool is tried on each
    pytest.mark.servers,
    # redis-py's connections are in circles, where the collector may come to the socket first
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


@pytest.fixture(params=["redis", "valkey"])
def host(request: pytest.FixtureRequest, killed_redis: killed_servers.Server) -> Any:
    """The package, its client class, our pools and the server's address."""
    package = pytest.importorskip(request.param)
    return SimpleNamespace(
        package=package,
        client=getattr(package, request.param.capitalize()),
        pools=importlib.import_module(f"fastpool.contrib.{request.param}"),
        url=f"{request.param}://127.0.0.1:{killed_redis.port}",
    )


@pytest.fixture(params=["ConnectionPool", "BlockingConnectionPool"])
def kind(request: pytest.FixtureRequest, host: Any) -> Any:
    """Our class and, as `host`, what it is of."""
    return SimpleNamespace(ours=getattr(host.pools, request.param), **vars(host))


Make = Callable[..., Any]


@pytest.fixture
def pool(kind: Any) -> Iterator[Make]:
    """`pool(...)`: one of ours, whose connections are all back at the end."""
    made = []

    def make(**options: Any) -> Any:
        made.append(kind.ours.from_url(kind.url, **options))
        return made[-1]

    yield make
    for each in made:
        assert each.fastpool.stats().leased == 0
        each.disconnect()


def test_it_is_what_the_client_expects(kind: Any, pool: Make) -> None:
    """A subclass of the host's, whose settings, encoder and context the client finds."""
    mine = pool(max_connections=3, decode_responses=True, db=1)
    own = getattr(kind.package, type(mine).__name__)
    assert isinstance(mine, own) and mine.connection_kwargs["db"] == 1
    assert mine.get_encoder().decode_responses is True
    client = kind.client(connection_pool=mine)
    assert client.set("greeting", "good day") and client.get("greeting") == "good day"
    assert client.get_connection_kwargs()["db"] == 1


def test_transactions_pipelines_and_messages(kind: Any, pool: Make) -> None:
    """What holds a connection for longer: WATCH, MULTI, a subscriber; each gives it back."""
    mine = pool(max_connections=4)
    client = kind.client(connection_pool=mine)
    client.set("n", 1)
    with client.pipeline() as transaction:
        transaction.watch("n")
        client.set("n", 2)
        transaction.multi()
        transaction.incr("n")
        with pytest.raises(kind.package.WatchError):
            transaction.execute()
    assert client.transaction(lambda pipe: pipe.multi() or pipe.incr("n"), "n") == [3]
    with client.pubsub() as subscriber:
        subscriber.subscribe("news")
        assert subscriber.get_message(timeout=PATIENCE)["type"] == "subscribe"
        client.publish("news", "hear")
        assert subscriber.get_message(timeout=PATIENCE)["data"] == b"hear"
        assert mine.fastpool.stats().leased == 1
    assert mine.fastpool.stats().leased == 0
    with kind.client(connection_pool=mine, single_connection_client=True) as single:
        single.ping()


def test_each_thread_has_its_turns(host: Any, runner: ThreadRunner) -> None:
    """Eight threads on two connections: the host's own pool serves the newest first, for ever."""
    mine = host.pools.BlockingConnectionPool.from_url(host.url, max_connections=2, timeout=PATIENCE)
    client = host.client(connection_pool=mine)
    turns = [0] * 8
    enough = threading.Event()

    def work(index: int) -> None:
        while not enough.is_set():
            client.ping()
            turns[index] += 1

    runner.together(8, work)
    eventually(lambda: min(turns) >= 20)
    enough.set()
    runner.finish()
    assert mine.fastpool.stats().open <= 2
    mine.disconnect()


def test_a_full_pool_refuses_as_the_host_does(host: Any) -> None:
    """The exceptions that callers of the host catch, with ours as the cause."""
    raising = host.pools.ConnectionPool.from_url(host.url, max_connections=1)
    held = raising.get_connection("_")
    with pytest.raises(host.package.ConnectionError, match="Too many connections") as refused:
        raising.get_connection("_")
    assert "leased" in str(refused.value.__cause__)
    raising.release(held)
    waiting = host.pools.BlockingConnectionPool.from_url(
        host.url, max_connections=1, timeout=0.05, max_waiting=0
    )
    held = waiting.get_connection("_")
    with pytest.raises(host.package.ConnectionError, match="No connection available"):
        waiting.get_connection("_")
    waiting.release(held)
    waiting.disconnect()
    raising.disconnect()


def test_a_raising_pool_never_refuses_while_there_is_capacity(
    host: Any, runner: ThreadRunner
) -> None:
    """As many threads as connections, and one that takes all the idle ones again and again."""
    mine = host.pools.ConnectionPool.from_url(host.url, max_connections=4)
    over = threading.Event()

    def work(index: int) -> None:
        try:
            for _ in range(300):
                mine.release(mine.get_connection("_"))
        finally:
            over.set()

    def disturb() -> None:
        while not over.is_set():
            mine.disconnect(inuse_connections=False)

    runner.start(disturb)
    runner.together(4, work)
    runner.finish()
    assert mine.fastpool.stats().open <= 4
    mine.disconnect()


def test_no_dead_connection_is_lent_after_the_server_was_killed(
    kind: Any, pool: Make, killed_redis: killed_servers.Server, runner: ThreadRunner
) -> None:
    """Under load and back: errors are the host's, each thread goes on, and what was dead was
    connected anew before it was lent again."""
    retry = importlib.import_module(f"{kind.package.__name__}.retry").Retry
    backoff = importlib.import_module(f"{kind.package.__name__}.backoff").NoBackoff()
    mine = pool(max_connections=4, retry=retry(backoff, 0))
    client = kind.client(connection_pool=mine)
    over = threading.Event()
    turns = [0] * 4

    def work(index: int) -> None:
        while not over.is_set():
            try:
                client.ping()
                turns[index] += 1
            except (kind.package.ConnectionError, kind.package.TimeoutError):
                continue

    runner.together(4, work)
    for _ in range(2):
        eventually(lambda: min(turns) > 5)
        killed_redis.restart()
        turns[:] = [0] * 4
    eventually(lambda: min(turns) > 5)
    over.set()
    runner.finish()
    idle = mine._get_free_connections()
    killed_redis.restart()  # all that are idle are dead now, and nobody has noticed
    for _ in range(len(idle) + 1):
        assert client.ping()


def test_disconnect_leaves_alone_what_is_in_use(kind: Any, pool: Make) -> None:
    """`inuse_connections=False`; else all are disconnected, and connect again by themselves."""
    mine = pool(max_connections=3)
    used, idle = mine.get_connection("_"), mine.get_connection("_")
    mine.release(idle)
    assert list(mine._available_connections) == [idle] and set(mine._in_use_connections) == {used}
    mine.disconnect(inuse_connections=False)
    assert idle._sock is None and used._sock is not None
    mine.disconnect()
    assert used._sock is None
    mine.release(used)
    for _ in range(2):
        kind.client(connection_pool=mine).ping()


def test_what_is_idle_is_out_of_reach_inside_the_lock(kind: Any, pool: Make) -> None:
    """Re-authentication writes to idle connections: nobody may be lent one meanwhile."""
    mine = pool(max_connections=2)
    first, second = mine.get_connection("_"), mine.get_connection("_")
    mine.release(first)
    mine.release(second)
    with mine._lock, mine._lock:
        assert mine.fastpool.qsize() == 0
        assert {*mine._available_connections} == {first, second}
        assert not {*mine._in_use_connections}
    assert mine.fastpool.queue == [first, second]


def test_the_cap_and_the_policy_of_retries_can_be_changed(kind: Any, pool: Make) -> None:
    """`max_connections` is assignable; `set_retry` reaches idle and used ones."""
    mine = pool(max_connections=1)
    used = mine.get_connection("_")
    mine.max_connections = 2
    other = mine.get_connection("_")
    mine.release(other)
    policy = object()
    mine.set_retry(policy)
    assert used.retry is policy and other.retry is policy
    assert mine.connection_kwargs["retry"] is policy
    mine.connection_kwargs.pop("retry")
    mine.release(used)


def test_a_strangers_connection_and_a_second_return_do_nothing(kind: Any, pool: Make) -> None:
    """As the hosts: no exception, and no connection is in the pool twice."""
    mine, other = pool(max_connections=2), pool(max_connections=2)
    connection = mine.get_connection("_")
    other.release(connection)
    assert other.fastpool.stats().open == 0
    mine.release(connection)
    mine.release(connection)
    assert mine.fastpool.queue == [connection]


def test_reset_starts_anew(kind: Any, pool: Make) -> None:
    """What was idle is closed; what was in use is closed when it comes back."""
    mine = pool(max_connections=2)
    used, idle = mine.get_connection("_"), mine.get_connection("_")
    mine.release(idle)
    mine.reset()
    eventually(lambda: idle._sock is None)
    assert used._sock is not None
    mine.release(used)
    eventually(lambda: used._sock is None)
    assert mine.fastpool.stats().open == 0
    kind.client(connection_pool=mine).ping()


def test_a_dropped_client_leaves_nothing(kind: Any) -> None:
    """Neither a warning nor a connection, as often as hosts drop theirs."""
    seen = kind.client.from_url(kind.url)

    def clients() -> Any:
        return seen.info("clients")["connected_clients"]

    before = clients()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for _ in range(3):
            client = kind.client(connection_pool=kind.ours.from_url(kind.url))
            client.ping()
            del client
        # the pool's own thread may hold one of them while the collector looks
        eventually(lambda: (gc.collect(), clients())[1] <= before)
    assert not [each for each in warned if "fastpool" in str(each.message)]
    seen.close()


FORKED = """
import os, sys
package, name, url = sys.argv[1:]
host = __import__(package)
pools = __import__(f"fastpool.contrib.{package}", fromlist=["x"])
pool = getattr(pools, name).from_url(url, max_connections=2)
client = getattr(host, package.capitalize())(connection_pool=pool)
client.set("who", "parent")
held = pool.get_connection("_")
mine = held.pid
child = os.fork()
if child == 0:
    code = 1
    try:
        assert pool.fastpool.stats().open == 0
        pool.release(held)                  # the parent's: left alone
        assert pool.fastpool.stats().open == 0
        assert client.get("who") == b"parent"
        own = pool.get_connection("_")
        assert own.pid == os.getpid() != mine
        pool.release(own)
        pool.disconnect()
        code = 0
    finally:
        os._exit(code)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
held.send_command("PING")
assert held.read_response() in (b"PONG", "PONG")
pool.release(held)
assert client.get("who") == b"parent"
"""


def test_a_forked_child_has_connections_of_its_own(kind: Any) -> None:
    """It uses none of its parent's, not even to close it; the parent goes on with them."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED, kind.package.__name__, kind.ours.__name__,
         kind.url],
        capture_output=True, text=True, timeout=4 * PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
