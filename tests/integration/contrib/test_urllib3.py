"""`fastpool.contrib.urllib3` on real servers of HTTP and HTTPS, one of which is killed at times."""

from __future__ import annotations

import gc
import logging
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.measure import NotRun
from fastpool import PoolError
from integration.contrib import web
from integration.drivers import killed_servers
from support.helpers import PATIENCE, ThreadRunner, all_warnings, eventually
from support.signal_injection import strike

urllib3 = pytest.importorskip("urllib3")

from fastpool.contrib import urllib3 as ours  # noqa: E402

Make = Callable[..., Any]


@pytest.fixture(params=["http", "https"])
def site(request: pytest.FixtureRequest, certificate: tuple[Path, Path]) -> Iterator[web.Site]:
    with web.serving(tls=certificate if request.param == "https" else None) as site:
        yield site


@pytest.fixture
def plain_site() -> Iterator[web.Site]:
    with web.serving() as site:
        yield site


@pytest.fixture
def manager(certificate: tuple[Path, Path]) -> Iterator[Make]:
    """`manager(...)`: one of ours, of whose connections none is lent at the end."""
    made = []

    def make(**options: Any) -> Any:
        made.append(ours.PoolManager(ca_certs=str(certificate[1]), **options))
        return made[-1]

    yield make
    for each in made:
        for key in each.pools.keys():  # noqa: SIM118
            assert each.pools[key].fastpool.stats().leased == 0
        each.clear()


def pool_of(manager: Any, site: web.Site) -> Any:
    """The connection pool of a site."""
    return manager.connection_from_url(site.url)


def test_it_is_what_users_of_urllib3_have(site: web.Site, manager: Make) -> None:
    """Subclasses of theirs, whose pools are ours; a connection is used again."""
    http = manager(maxsize=2)
    assert isinstance(http, urllib3.PoolManager)
    for _ in range(3):
        assert http.request("GET", site.url + "/hello").data == b"hello"
    pool = pool_of(http, site)
    assert isinstance(pool, urllib3.HTTPConnectionPool)
    assert str(pool).startswith(("HTTPConnectionPool(", "HTTPSConnectionPool("))
    assert (pool.num_requests, pool.num_connections, len(site.open)) == (3, 1, 1)
    assert pool.fastpool.name == f"{site.scheme}://localhost:{site.port}"
    stats = pool.fastpool.stats()
    assert (stats.uses, stats.idle, stats.open) == (3, 1, 1)


def test_each_thread_has_its_turns(
    plain_site: web.Site, manager: Make, runner: ThreadRunner
) -> None:
    """Eight threads on two connections of a pool that blocks: nobody waits for ever."""
    http = manager(maxsize=2, block=True)
    turns = [0] * 8
    enough = threading.Event()

    def work(index: int) -> None:
        while not enough.is_set():
            assert http.request("GET", plain_site.url + "/hello").status == 200
            turns[index] += 1

    runner.together(8, work)
    eventually(lambda: min(turns) >= 10)
    enough.set()
    runner.finish()
    assert pool_of(http, plain_site).fastpool.stats().open <= 2
    assert len(plain_site.open) <= 2


def test_a_pool_that_does_not_block_drops_what_it_cannot_keep(
    plain_site: web.Site, manager: Make, runner: ThreadRunner, caplog: pytest.LogCaptureFixture
) -> None:
    """As theirs, with their warning; all of them are seen while they are lent."""
    http = manager(maxsize=1)
    tasks = [runner.start(http.request, "GET", plain_site.url + "/wait") for _ in range(3)]
    eventually(lambda: plain_site.waiting == 3)
    pool = pool_of(http, plain_site)
    assert pool.fastpool.stats().leased == 3 and len(pool.fastpool.leases()) == 3
    with caplog.at_level(logging.WARNING, "urllib3.connectionpool"):
        plain_site.gate.set()
        assert {task.result(PATIENCE).data for task in tasks} == {b"waited"}
        eventually(lambda: len(caplog.records) == 2)
    assert (
        caplog.messages
        == ["Connection pool is full, discarding connection: localhost. Connection pool size: 1"]
        * 2
    )
    assert pool.fastpool.stats().closed == {"surplus": 2}
    eventually(lambda: len(plain_site.open) == 1)


def test_a_full_pool_refuses_as_theirs_does(site: web.Site, manager: Make) -> None:
    """EmptyPoolError after `pool_timeout`, of the call or of the pool, or at once with more waiting
    than `max_waiting`; its cause is ours, and names the holders if they are tracked."""
    http = manager(maxsize=1, block=True, pool_timeout=0.02, leak_after=60)
    held = http.request("GET", site.url + "/stream", preload_content=False)
    for more in ({}, {"pool_timeout": 0.01}):
        with pytest.raises(urllib3.exceptions.EmptyPoolError) as refused:
            http.request("GET", site.url + "/hello", **more)
    assert "held by MainThread" in str(refused.value.__cause__)
    held.drain_conn()
    assert http.request("GET", site.url + "/hello").data == b"hello"
    impatient = manager(maxsize=1, block=True, max_waiting=0)
    held = impatient.request("GET", site.url + "/stream", preload_content=False)
    with pytest.raises(urllib3.exceptions.EmptyPoolError):
        impatient.request("GET", site.url + "/hello")
    held.close()


def test_a_closed_pool_refuses_as_theirs_does(plain_site: web.Site, runner: ThreadRunner) -> None:
    """ClosedPoolError for who comes and who waits; what is in use is closed as it comes back."""
    pool = ours.connection_from_url(plain_site.url, maxsize=1, block=True)
    held = pool.request("GET", "/stream", preload_content=False)
    waiter = runner.start(pool.request, "GET", "/hello")
    eventually(lambda: pool.fastpool.stats().waiting == 1)
    pool.close()
    pool.close()
    for call in (waiter.result, lambda _: pool.request("GET", "/hello")):
        with pytest.raises(urllib3.exceptions.ClosedPoolError):
            call(PATIENCE)
    assert len(held.read()) == 16 * 65536
    assert pool.pool is None and pool.fastpool.stats().open == 0
    eventually(lambda: not plain_site.open)


@pytest.mark.parametrize("way", ["read", "stream", "close", "with", "drop", "release"])
@pytest.mark.parametrize("path", ["/stream", "/last"])
def test_a_connection_is_lent_until_its_body_is_over(
    plain_site: web.Site, manager: Make, way: str, path: str
) -> None:
    """Read, closed or dropped: the only connection of a pool that blocks is there again.  Theirs
    loses it unless it was read or released."""
    http = manager(maxsize=1, block=True, pool_timeout=PATIENCE)
    response = http.request("GET", plain_site.url + path, preload_content=False)
    pool = pool_of(http, plain_site)
    assert pool.fastpool.stats().leased == 1
    assert response.connection.host == "localhost"
    match way:
        case "read":
            response.read()
        case "stream":
            list(response.stream(1000))
        case "close":
            response.close()
            response.release_conn()  # as requests does
        case "with":
            with response:
                response.read(3)
        case "drop":
            del response
            gc.collect()
        case "release":
            response.drain_conn()
            response.release_conn()
    assert pool.fastpool.stats().leased == 0
    assert http.request("GET", plain_site.url + "/hello").data == b"hello"


def test_a_closed_response_gives_nothing_back_twice(plain_site: web.Site, manager: Make) -> None:
    """The connection may be somebody else's by then."""
    http = manager(maxsize=1, block=True)
    first = http.request("GET", plain_site.url + "/stream", preload_content=False)
    mine = first.connection
    first.close()
    second = http.request("GET", plain_site.url + "/stream", preload_content=False)
    first.close()
    first.release_conn()
    pool_of(http, plain_site)._put_conn(mine)
    assert pool_of(http, plain_site).fastpool.stats().leased == 1
    assert len(second.read()) == 16 * 65536


def test_redirects_retries_and_failures_leave_nothing_lent(site: web.Site, manager: Make) -> None:
    """What is broken is closed, and another is made in its place."""
    http = manager(maxsize=1, block=True, pool_timeout=PATIENCE)
    assert http.request("GET", site.url + "/move").data == b"hello"
    retries = urllib3.Retry(3, status_forcelist=[503])
    assert http.request("GET", site.url + "/busy", retries=retries).status == 200
    with pytest.raises(urllib3.exceptions.MaxRetryError):
        http.request("GET", site.url + "/moves", retries=2)
    with pytest.raises(urllib3.exceptions.MaxRetryError):
        http.request("GET", site.url + "/break", retries=1)
    assert site.seen["/break"] == 2
    with pytest.raises(urllib3.exceptions.ProtocolError):
        http.request("GET", site.url + "/break", retries=False)
    with pytest.raises(urllib3.exceptions.ProtocolError):
        http.request("GET", site.url + "/cut", retries=False)
    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        http.request("GET", site.url + "/wait", retries=False, timeout=0.05)
    pool = pool_of(http, site)
    assert pool.fastpool.stats().leased == 0
    assert http.request("GET", site.url + "/hello").data == b"hello"
    eventually(lambda: pool.fastpool.stats().open <= 1)


def test_a_body_may_make_requests_itself(plain_site: web.Site, manager: Make) -> None:
    """Through the same pool, one of which fails while the outer one goes on."""
    http = manager(maxsize=3, block=True, pool_timeout=PATIENCE)
    pool = pool_of(http, plain_site)

    def body() -> Iterator[bytes]:
        kept = http.request("GET", plain_site.url + "/stream", preload_content=False)
        with pytest.raises(urllib3.exceptions.ProtocolError):
            http.request("GET", plain_site.url + "/break", retries=False)
        assert pool.fastpool.stats().leased == 2
        yield b"some"
        kept.close()

    assert http.request("POST", plain_site.url + "/hello", body=body()).data == b"hello"
    assert pool.fastpool.stats().leased == 0

    def failing() -> Iterator[bytes]:
        nonlocal kept
        kept = http.request("GET", plain_site.url + "/stream", preload_content=False)
        yield b"some"
        raise OSError("no more")

    kept: Any = None
    with pytest.raises(urllib3.exceptions.ProtocolError):
        http.request("POST", plain_site.url + "/hello", body=failing(), retries=False)
    assert pool.fastpool.stats().leased == 1
    assert len(kept.read()) == 16 * 65536


@pytest.mark.costly
@pytest.mark.filterwarnings(  # of a response, and of a lease, that was struck as it was made
    "ignore:unclosed <socket:ResourceWarning",
    "ignore:.*a lease was collected unreleased:ResourceWarning",
    # http.client's responses, in whose constructor the handler has raised
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
def test_a_handler_that_raises_leaves_nothing_lent(plain_site: web.Site, manager: Make) -> None:
    """At moments all over a request, in our steps and between urllib3's."""
    http = manager(maxsize=1, block=True, pool_timeout=PATIENCE)
    pool = pool_of(http, plain_site)
    url = plain_site.url + "/hello"
    http.request("GET", url)
    raised = 0
    point = 1
    while True:
        struck = strike(point, lambda: http.request("GET", url))
        if struck is None:
            break
        raised += struck.raised
        gc.collect(0)  # a response that was being made
        eventually(lambda: pool.fastpool.stats().leased == 0)
        assert http.request("GET", url).data == b"hello"
        point += 23
    assert raised > 50


def test_it_is_seen_who_holds_what(plain_site: web.Site, manager: Make) -> None:
    """`leak_after` has the stack; `name` goes before the address."""
    http = manager(maxsize=2, leak_after=60, name="crawler")
    held = http.request("GET", plain_site.url + "/stream", preload_content=False)
    fastpool = pool_of(http, plain_site).fastpool
    (holder,) = fastpool.leases()
    assert "test_it_is_seen_who_holds_what" in str(holder.stack)
    assert fastpool.name == f"crawler http://localhost:{plain_site.port}"
    held.close()


def test_what_is_idle_or_old_is_closed(plain_site: web.Site, manager: Make) -> None:
    """`idle_timeout`, `max_lifetime`: urllib3 has neither."""
    for option, reason in (("idle_timeout", "idle"), ("max_lifetime", "lifetime")):
        http = manager(maxsize=2, **{option: 0.05})
        http.request("GET", plain_site.url + "/hello")
        fastpool = pool_of(http, plain_site).fastpool
        eventually(lambda pool=fastpool, why=reason: pool.stats().closed == {why: 1})
        eventually(lambda: not plain_site.open)


def test_newcomers_may_be_allowed_to_barge(plain_site: web.Site, manager: Make) -> None:
    http = manager(fairness="throughput")
    assert pool_of(http, plain_site).fastpool.options["fairness"] == "throughput"


@pytest.mark.parametrize(
    "wrong", [{"fairness": "lucky"}, {"leak_after": -1}, {"pool_timeout": -1}, {"name": 3}]
)
def test_a_wrong_option_is_told_where_it_is_given(wrong: dict[str, Any]) -> None:
    """Not at the first request."""
    with pytest.raises((ValueError, TypeError)):
        ours.PoolManager(**wrong)


def test_a_certificate_that_is_not_trusted_is_an_error_of_theirs(
    certificate: tuple[Path, Path],
) -> None:
    with web.serving(tls=certificate) as site:
        http = ours.PoolManager(maxsize=1, block=True, cert_reqs="CERT_REQUIRED")
        for _ in range(2):
            with pytest.raises(urllib3.exceptions.MaxRetryError) as refused:
                http.request("GET", site.url + "/hello", retries=1)
            assert isinstance(refused.value.reason, urllib3.exceptions.SSLError)
        assert pool_of(http, site).fastpool.stats().leased == 0
        http.clear()


def test_proxies(site: web.Site, certificate: tuple[Path, Path]) -> None:
    """Plain HTTP is fetched by the proxy, TLS goes through a tunnel; both by pools of ours."""
    with web.serving(web.ProxyHandler) as proxy:
        http = ours.proxy_from_url(
            proxy.url, maxsize=1, block=True, pool_timeout=PATIENCE, ca_certs=str(certificate[1])
        )
        assert isinstance(http, urllib3.ProxyManager)
        for _ in range(3):
            assert http.request("GET", site.url + "/hello").data == b"hello"
        pool = pool_of(http, site)
        assert isinstance(pool, (ours.HTTPConnectionPool, ours.HTTPSConnectionPool))
        assert pool.fastpool.stats().uses == 3
        assert len(proxy.open) == 1
        if site.scheme == "http":
            assert proxy.seen["/hello"] == 3
            assert pool.fastpool.name == proxy.url
        else:
            assert proxy.seen["CONNECT"] == 1
            assert pool.fastpool.name == f"{site.url} by localhost:{proxy.port}"
        http.clear()


def test_socks_proxies(site: web.Site, certificate: tuple[Path, Path]) -> None:
    pytest.importorskip("socks")
    from fastpool.contrib.urllib3 import socks

    with web.serving(web.SocksHandler) as proxy:
        http = socks.SOCKSProxyManager(
            f"socks5h://localhost:{proxy.port}", maxsize=1, block=True, ca_certs=str(certificate[1])
        )
        for _ in range(3):
            assert http.request("GET", site.url + "/hello").data == b"hello"
        assert proxy.seen["SOCKS"] == 1
        assert pool_of(http, site).fastpool.stats().uses == 3
        http.clear()


def test_a_dropped_manager_leaves_nothing(plain_site: web.Site) -> None:
    """Neither a warning nor a connection, in a circle or not: an error of urllib3's makes one."""
    with all_warnings() as warned:
        for path in ("/hello", "/break", "/hello"):
            http = ours.PoolManager(maxsize=2)
            try:
                http.request("GET", plain_site.url + path, retries=False)
            except urllib3.exceptions.ProtocolError:
                http.request("GET", plain_site.url + "/hello")
            del http
        gc.collect()
        eventually(lambda: not plain_site.open)
    assert not [str(each.message) for each in warned]


def test_its_queue_can_be_read_as_theirs(plain_site: web.Site) -> None:
    """`pool.pool` is what people count free slots by."""
    pool = ours.connection_from_url(plain_site.url, maxsize=2, block=True)
    assert (pool.pool.qsize(), pool.pool.queue, pool.pool.full()) == (2, [None, None], True)
    held = pool.request("GET", "/stream", preload_content=False)
    assert (pool.pool.qsize(), pool.pool.queue) == (1, [None])
    held.drain_conn()
    (connection,) = filter(None, pool.pool.queue)
    assert pool.pool.get_nowait() is connection and pool.pool.qsize() == 1
    pool.pool.put(connection)
    with pytest.raises(queue.Full):
        pool.pool.put(connection)
    view = pool.pool
    pool.close()
    assert view.qsize() == 0 and view.empty() and view.queue == []


def test_direct_calls_of_what_others_call(plain_site: web.Site) -> None:
    """`_get_conn` and `_put_conn`, as extensions of urllib3 use them."""
    pool = ours.connection_from_url(plain_site.url, maxsize=1, block=True)
    connection = pool._get_conn()
    with pytest.raises(urllib3.exceptions.EmptyPoolError) as refused:
        pool._get_conn(timeout=0)
    assert isinstance(refused.value.__cause__, PoolError)
    pool._put_conn(connection)
    with pytest.raises(urllib3.exceptions.FullPoolError):
        pool._put_conn(connection)
    pool._get_conn()
    pool._put_conn(None)
    assert pool.fastpool.stats().open == 0
    pool.close()


@pytest.mark.servers
def test_no_dead_connection_is_used_after_the_server_was_killed(
    manager: Make, runner: ThreadRunner
) -> None:
    """Under load and back: errors are theirs, each thread goes on, and what was dead was connected
    anew before it was used again."""
    try:
        stack = killed_servers.running(killed_servers.HTTP)
        server = stack.__enter__()
    except NotRun as reason:
        pytest.skip(str(reason))
    http = manager(maxsize=4, block=True, retries=False)
    url = f"http://127.0.0.1:{server.port}/"
    over = threading.Event()
    turns = [0] * 8

    def work(index: int) -> None:
        while not over.is_set():
            try:
                assert http.request("GET", url).data == b"ok"
                turns[index] += 1
            except urllib3.exceptions.HTTPError:
                continue

    try:
        runner.together(8, work)
        for _ in range(2):
            eventually(lambda: min(turns) > 5)
            server.restart()
            turns[:] = [0] * 8
        eventually(lambda: min(turns) > 5)
        over.set()
        runner.finish()
        fastpool = http.connection_from_url(url).fastpool
        idle = fastpool.stats().idle
        server.restart()  # all that are idle are dead now, and nobody has noticed
        for _ in range(idle + 1):
            assert http.request("GET", url).data == b"ok"
    finally:
        over.set()
        stack.__exit__(None, None, None)


FORKED = """
import os, sys
from fastpool.contrib import urllib3
url = sys.argv[1]
http = urllib3.PoolManager(maxsize=2, block=True)
http.request("GET", url + "/hello")
held = http.request("GET", url + "/stream", preload_content=False)
pool = http.connection_from_url(url)
mine = {id(pool.fastpool.leases()[0].resource)}
child = os.fork()
if child == 0:
    code = 1
    try:
        assert pool.fastpool.stats().open == 0
        assert http.request("GET", url + "/hello").data == b"hello"
        assert pool.num_connections == 2
        http.clear()
        code = 0
    finally:
        os._exit(code)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert len(held.read()) == 16 * 65536
assert http.request("GET", url + "/hello").data == b"hello"
assert pool.num_connections == 1
"""


@pytest.mark.process
@pytest.mark.light
def test_a_forked_child_has_connections_of_its_own(plain_site: web.Site) -> None:
    """Two processes that read one socket get each other's answers."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED, plain_site.url],
        capture_output=True, text=True, timeout=4 * PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
