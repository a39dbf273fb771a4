"""`fastpool.grpc`: shared channels against real servers, which count the connections themselves."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

import fastpool.grpc as fg  # noqa: E402
from fastpool import PoolError  # noqa: E402
from fastpool.grpc import NotReady, SharedChannel, aio_shared, shared, stats, wait_ready  # noqa: E402
from integration.grpc.server import SERVICE, GrpcServer  # noqa: E402
from support.helpers import ThreadRunner, eventually  # noqa: E402

pytestmark = [pytest.mark.process, pytest.mark.light]

CLOSED = "Cannot invoke RPC on closed channel!"
NOWHERE = "127.0.0.1:1"  # nobody listens there


@pytest.fixture(scope="module")
def echo() -> Iterator[GrpcServer]:
    server = GrpcServer()
    yield server
    server.close()


@pytest.fixture
def server() -> Iterator[GrpcServer]:
    """A server of the test's own, for tests that count its connections or end it."""
    server = GrpcServer()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def released() -> Iterator[None]:
    """At the end of each test no handle is left, not even by accident."""
    assert stats() == ()
    yield
    gc.collect()
    left, _ = stats(), [channel.close() for channel in list(_open_handles())]
    assert left == ()


def _open_handles() -> Iterator[SharedChannel]:
    for thing in gc.get_objects():
        if isinstance(thing, SharedChannel) and not thing.closed:
            yield thing


def say(channel: Any) -> Callable[..., bytes]:
    return channel.unary_unary(f"/{SERVICE}/Say")


def references() -> list[int]:
    return [each.references for each in stats()]


def no_connection(server: GrpcServer) -> bool:
    counts = server.counts()
    if counts.open is None:
        pytest.skip("this system has no /proc/net/tcp")
    return counts.open == 0


# -- one channel for many ----------------------------------------------------------------------


def test_many_handles_and_threads_share_one_connection(
    server: GrpcServer, runner: ThreadRunner
) -> None:
    def use(_: int) -> None:
        with shared(server.target) as channel:
            stub = say(channel)
            for number in range(20):
                assert stub(b"%d" % number, timeout=10) == b"%d" % number

    with shared(server.target) as kept:
        runner.together(16, use)
        runner.finish()
        assert say(kept)(b"", timeout=10) == b""
        assert server.counts().peers == 1
        assert references() == [1]
    assert stats() == ()
    eventually(lambda: no_connection(server))


def test_over_tls_handles_share_what_plain_channels_do_not(certificate: tuple[Path, Path]) -> None:
    server = GrpcServer(certificate)
    credentials = grpc.ssl_channel_credentials(certificate[1].read_bytes())
    try:
        plain = [grpc.secure_channel(server.target, credentials) for _ in range(3)]
        for channel in plain:
            assert say(channel)(b"x", timeout=10) == b"x"
        assert server.counts().peers == 3  # the control: grpc shares nothing by itself here
        for channel in plain:
            channel.close()

        handles = [shared(server.target, credentials=credentials) for _ in range(20)]
        for handle in handles:
            assert say(handle)(b"x", timeout=10) == b"x"
        assert server.counts().peers == 4
        (entry,) = stats()
        assert (entry.kind, entry.references) == ("secure", 20)
        for handle in handles:
            handle.close()
        eventually(lambda: no_connection(server))
    finally:
        server.close()


def test_what_differs_is_not_shared(echo: GrpcServer) -> None:
    one, other = grpc.ssl_channel_credentials(), grpc.ssl_channel_credentials()
    different: list[dict[str, Any]] = [
        {},
        {"options": [("grpc.max_receive_message_length", 1)]},
        {"options": [("grpc.max_receive_message_length", 2)]},
        {"compression": grpc.Compression.Gzip},
        {"credentials": one},
        {"credentials": other},
    ]
    handles = [shared(echo.target, **keywords) for keywords in different]
    assert references() == [1] * len(different)
    # A list, a tuple and a generator of the same pairs are the same options.
    same = {"grpc.max_receive_message_length": 1}
    handles.append(shared(echo.target, options=tuple(same.items())))
    handles.append(shared(echo.target, options=(pair for pair in same.items())))
    assert references() == [1, 3, 1, 1, 1, 1]
    for handle in handles:
        handle.close()


def test_credentials_are_kept_so_that_their_identity_is_theirs(echo: GrpcServer) -> None:
    """Were they not, new credentials at the same address would get the old ones' channel."""
    handles = []
    for _ in range(50):
        handles.append(shared(echo.target, credentials=grpc.ssl_channel_credentials()))
        gc.collect()
    assert references() == [1] * 50
    for handle in handles:
        handle.close()


# -- a real grpc.Channel -----------------------------------------------------------------------


def test_all_kinds_of_methods_work(echo: GrpcServer) -> None:
    with shared(echo.target) as channel:
        assert isinstance(channel, grpc.Channel)
        unary = channel.unary_unary(f"/{SERVICE}/Say", bytes.upper, bytes.decode)
        assert isinstance(unary, grpc.UnaryUnaryMultiCallable)
        assert unary(b"a", timeout=10, wait_for_ready=True, metadata=(("k", "v"),)) == "A"
        reply, call = unary.with_call(b"b", 10)
        assert (reply, call.code()) == ("B", grpc.StatusCode.OK)
        assert unary.future(b"c", timeout=10).result(10) == "C"

        stream = channel.unary_stream(f"/{SERVICE}/Count")
        assert isinstance(stream, grpc.UnaryStreamMultiCallable)
        assert list(stream(b"abc", timeout=10)) == [b"a", b"b", b"c"]

        joined = channel.stream_unary(f"/{SERVICE}/Join")
        assert isinstance(joined, grpc.StreamUnaryMultiCallable)
        assert joined(iter([b"a", b"b"]), timeout=10) == b"ab"
        assert joined.with_call(iter([b"a"]), timeout=10)[0] == b"a"
        assert joined.future(iter([b"a"]), timeout=10).result(10) == b"a"

        chat = channel.stream_stream(f"/{SERVICE}/Chat")
        assert isinstance(chat, grpc.StreamStreamMultiCallable)
        assert list(chat(iter([b"a", b"b"]), timeout=10)) == [b"a", b"b"]


def test_generated_stubs_pass_their_private_argument(echo: GrpcServer) -> None:
    """They call with `_registered_method=True`, as what protoc makes does."""
    with shared(echo.target) as channel:
        for _ in range(2):  # the second finds the method registered
            stub = channel.unary_unary(
                f"/{SERVICE}/Say",
                request_serializer=bytes.upper,
                response_deserializer=bytes.decode,
                _registered_method=True,
            )
            assert stub(b"x", timeout=10) == "X"


def test_stubs_made_by_many_threads_at_once(echo: GrpcServer, runner: ThreadRunner) -> None:
    """grpc's table of registered methods is not thread-safe by itself."""
    with shared(echo.target) as channel:

        def make(index: int) -> bytes:
            path = f"/{SERVICE}/{'Say' if index % 2 else 'None'}"
            stub = channel.unary_unary(path, _registered_method=True)
            return stub(b"x", timeout=10) if index % 2 else b"x"

        runner.together(24, make)
        assert runner.finish() == [b"x"] * 24


def test_interceptors_and_ready_futures_take_it(echo: GrpcServer) -> None:
    seen = []

    class Note(grpc.UnaryUnaryClientInterceptor):
        def intercept_unary_unary(self, proceed: Any, details: Any, request: Any) -> Any:
            seen.append(details.method)
            return proceed(details, request)

    with shared(echo.target) as channel:
        intercepted = grpc.intercept_channel(channel, Note())
        wait_ready(intercepted, 10)
        assert say(intercepted)(b"x", timeout=10) == b"x"
        assert seen == [f"/{SERVICE}/Say"]
        grpc.channel_ready_future(channel).result(10)


def test_errors_of_calls_are_grpcs_own() -> None:
    with shared(NOWHERE) as channel, pytest.raises(grpc.RpcError) as caught:
        say(channel)(b"x", timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


# -- releasing ---------------------------------------------------------------------------------


def test_a_closed_handle_refuses_and_the_others_go_on(echo: GrpcServer) -> None:
    one, other = shared(echo.target), shared(echo.target)
    stub = say(one)
    one.close()
    assert one.closed and not other.closed
    for use in (lambda: stub(b"x"), lambda: stub.future(b"x"), lambda: say(one), one.__enter__):
        with pytest.raises(ValueError, match=CLOSED):
            use()
    with pytest.raises(ValueError, match=CLOSED):
        one.subscribe(print)
    one.unsubscribe(print)  # as on a closed grpc channel: nothing
    assert say(other)(b"x", timeout=10) == b"x"
    other.close()


def test_the_message_is_that_of_grpc(echo: GrpcServer) -> None:
    """So that code which looks at it goes on working."""
    plain = grpc.insecure_channel(echo.target)
    stub = say(plain)
    plain.close()
    with pytest.raises(ValueError) as caught:
        stub(b"x")
    assert str(caught.value) == CLOSED


def test_a_copy_of_a_handle_is_another_handle(echo: GrpcServer) -> None:
    """Each is released once, whichever goes first, and nobody loses a channel that he holds."""
    with shared(echo.target) as handle:
        for make in (copy.copy, copy.deepcopy):
            copied = make(handle)
            assert stats()[0].references == 2
            copied.close()
        copied = copy.copy(handle)
        del copied
        gc.collect()
        assert stats()[0].references == 1
        assert handle.unary_unary(f"/{SERVICE}/Say")(b"x", timeout=10) == b"x"
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(handle)
    with pytest.raises(ValueError, match="closed channel"):
        copy.copy(handle)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("far.example:1", True),
        ("dns:///far.example:1", True),
        ("ipv4:10.0.0.1:1,10.0.0.2:1", True),
        ("127.0.0.1:1", False),
        ("localhost:1", False),
        ("dns:///localhost:1", False),
        ("[::1]:1", False),
        ("ipv4:127.0.0.1:1,127.0.0.2:1", False),
        ("unix:/run/x", False),
    ],
)
def test_calls_that_are_not_encrypted_are_said_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, target: str, said: bool
) -> None:
    monkeypatch.setattr("fastpool.grpc._options._said", set())
    for make in (shared, shared, aio_shared):
        make(target)
    secure = shared(target, credentials=grpc.ssl_channel_credentials())
    secure.close()
    assert len(caplog.records) == said
    assert all("not encrypted" in each.message for each in caplog.records)


def test_the_last_release_closes_the_connection(server: GrpcServer) -> None:
    one, other = shared(server.target), shared(server.target)
    wait_ready(one, 10)
    one.close()
    one.close()  # counts once
    assert references() == [1]
    if server.counts().open is not None:
        assert server.counts().open == 1
    other.close()
    assert stats() == ()
    eventually(lambda: no_connection(server))
    with shared(server.target) as again:  # and a new channel is no trouble
        assert say(again)(b"x", timeout=10) == b"x"


def test_many_threads_that_close_one_handle_release_it_once(
    echo: GrpcServer, runner: ThreadRunner, fast_switching: None
) -> None:
    with shared(echo.target):
        for _ in range(50):
            handle = shared(echo.target)
            runner.together(4, lambda _, handle=handle: handle.close())
            runner.finish()
            assert references() == [1]


def test_calls_in_flight_end_with_the_channel_not_with_another_handle(echo: GrpcServer) -> None:
    one, other = shared(echo.target), shared(echo.target)
    stream = one.unary_stream(f"/{SERVICE}/Count")(b"...", timeout=30)
    assert next(stream) == b"first"
    other.close()
    assert stream.is_active()
    one.close()
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    assert caught.value.code() is grpc.StatusCode.CANCELLED


def test_a_stub_keeps_its_channel_and_its_end_releases_it(server: GrpcServer) -> None:
    stub = say(shared(server.target))
    gc.collect()
    assert stub(b"x", timeout=10) == b"x"
    assert references() == [1]
    del stub
    assert stats() == ()
    eventually(lambda: no_connection(server))


def test_a_stream_outlives_a_collected_handle(server: GrpcServer) -> None:
    """As on a plain channel, whose collection does not end what runs on it."""
    stream = shared(server.target).unary_stream(f"/{SERVICE}/Count")(b"abc", timeout=10)
    gc.collect()
    assert stats() == ()
    assert list(stream) == [b"a", b"b", b"c"]
    del stream
    eventually(lambda: no_connection(server))


def test_a_handle_collected_under_the_registrys_lock_is_counted_later(echo: GrpcServer) -> None:
    """A collection can start anywhere, so also in the thread that holds the lock."""
    from fastpool.grpc import _registry

    kept, dropped = shared(echo.target), [shared(echo.target)]
    with _registry._lock.hold():
        dropped.clear()
    kept.close()  # whoever lets go of the lock next settles it
    assert stats() == ()


def test_random_sharing_ends_with_nothing_open(server: GrpcServer, runner: ThreadRunner) -> None:
    options = [(), (("grpc.keepalive_time_ms", 60_000),)]

    def work(seed: int) -> int:
        rng, handles, calls = random.Random(seed), [], 0
        for _ in range(150):
            action = rng.random()
            if action < 0.4 or not handles:
                handles.append(shared(server.target, options=rng.choice(options)))
            elif action < 0.6:
                handles.pop(rng.randrange(len(handles))).close()
            elif action < 0.7:
                del handles[rng.randrange(len(handles))]
            else:
                assert say(rng.choice(handles))(b"x", timeout=10) == b"x"
                calls += 1
        for handle in handles[::2]:
            handle.close()
        return calls

    runner.together(8, work)
    assert sum(runner.finish()) > 0
    gc.collect()
    assert stats() == ()
    eventually(lambda: no_connection(server))


# -- waiting until connected -------------------------------------------------------------------


def test_wait_ready_connects(server: GrpcServer) -> None:
    with shared(server.target) as one, grpc.insecure_channel(server.target) as plain:
        with pytest.raises(NotReady, match="IDLE"):
            wait_ready(one, 0)
        wait_ready([one, plain], 10)
        wait_ready(one, 0)
        wait_ready([], 0)


def test_the_error_names_target_and_state(server: GrpcServer) -> None:
    begun = time.monotonic()
    with shared(NOWHERE) as lost, shared(server.target) as found:
        wait_ready(found, 30)
        with pytest.raises(NotReady, match=rf"{NOWHERE} \(TRANSIENT_FAILURE\)") as caught:
            wait_ready([found, lost], 0.3)
    error = caught.value
    assert 0.3 <= error.waited <= time.monotonic() - begun
    assert error.states == {NOWHERE: "TRANSIENT_FAILURE"}
    assert isinstance(error, PoolError) and isinstance(error, TimeoutError)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.states, copy.waited) == (str(error), error.states, error.waited)


def test_a_server_that_comes_later_is_waited_for(server: GrpcServer, runner: ThreadRunner) -> None:
    server.kill()
    # Without this option grpc waits a second before it tries again.
    options = [("grpc.initial_reconnect_backoff_ms", 100)]
    with shared(server.target, options=options) as channel:
        with pytest.raises(NotReady):
            wait_ready(channel, 0.1)
        waiting = runner.start(wait_ready, channel, 30)
        server.start()
        waiting.result(30)
        assert say(channel)(b"x", timeout=10) == b"x"


def test_a_handle_closed_meanwhile_ends_the_wait(runner: ThreadRunner) -> None:
    with shared(NOWHERE), shared(NOWHERE) as closing:  # the first keeps the channel itself open
        waiting = runner.start(wait_ready, closing)
        waiting.parked()
        closing.close()
        with pytest.raises(ValueError, match=CLOSED):
            waiting.result()
        with pytest.raises(ValueError, match=CLOSED):
            wait_ready(closing, 0)


class Foreign(grpc.Channel):
    """A channel of some other make, which has only what every channel has."""

    def __init__(self, target: str) -> None:
        self.inner = grpc.insecure_channel(target)
        self.subscribed: set[Any] = set()

    def subscribe(self, callback: Any, try_to_connect: bool = False) -> None:
        self.subscribed.add(callback)
        self.inner.subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Any) -> None:
        self.subscribed.discard(callback)
        self.inner.unsubscribe(callback)

    def close(self) -> None:
        self.inner.close()

    unary_unary = unary_stream = stream_unary = stream_stream = None  # not looked at here


def test_channels_of_other_makes_are_waited_for_too(echo: GrpcServer) -> None:
    near, far = Foreign(echo.target), Foreign(NOWHERE)
    wait_ready(near, 10)
    with pytest.raises(NotReady, match="TRANSIENT_FAILURE"):
        wait_ready([near, far], 0.5)
    assert not near.subscribed and not far.subscribed
    near.close()
    far.close()


def test_closing_ends_the_subscriptions_of_this_handle_only(echo: GrpcServer) -> None:
    one, other = shared(echo.target), shared(echo.target)
    heard: dict[str, list[Any]] = {"one": [], "other": [], "ended": []}
    one.subscribe(heard["one"].append)
    other.subscribe(heard["other"].append)
    other.subscribe(heard["ended"].append)
    eventually(lambda: all(heard.values()))  # each is told the present state
    other.unsubscribe(heard["ended"].append)
    one.close()
    wait_ready(other, 10)
    eventually(lambda: grpc.ChannelConnectivity.READY in heard["other"])
    assert heard["one"] == heard["ended"] == [grpc.ChannelConnectivity.IDLE]
    other.close()


# -- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"target": None}, TypeError, "target must be a str"),
        ({"target": b"host:1"}, TypeError, "not b'host:1'"),
        ({"target": ""}, ValueError, "target is empty"),
        ({"target": "https://host:1/x"}, ValueError, "give it 'host:1', and credentials="),
        ({"target": "HTTP://host:1"}, ValueError, "is an address of the web"),
        ({"credentials": "secret"}, TypeError, "ChannelCredentials or None, not 'secret'"),
        ({"compression": 2}, TypeError, "grpc.Compression or None, not 2"),
        ({"options": 5}, TypeError, "pairs"),
        ({"options": {"grpc.x": 1}}, TypeError, "pairs"),
        ({"options": [("grpc.x", [])]}, TypeError, "hashable"),
        ({"options": [(5, 1)]}, TypeError, "pairs"),
    ],
)
def test_bad_arguments_are_named(
    arguments: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        shared(**{"target": "host:1", **arguments})


def test_bad_waits_are_named() -> None:
    with pytest.raises(ValueError, match="at least 0 s, not -1"):
        wait_ready([], -1)
    with pytest.raises(ValueError, match="nan"):
        wait_ready([], float("nan"))
    with pytest.raises(TypeError, match="not 'host:1'"):
        wait_ready(["host:1"], 1)
    with pytest.raises(TypeError, match=r"fastpool\.grpc\.shared"):
        SharedChannel("host:1")


def test_without_grpcio_one_queue_says_what_to_install() -> None:
    code = "import sys; sys.modules['grpc'] = None; import fastpool.grpc"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = done.stderr.splitlines()[-1]
    assert last == "ImportError: fastpool.grpc needs grpcio: pip install 'fastpool[grpc]'"


def test_public_names_say_where_they_live() -> None:
    for name in fg.__all__:
        assert getattr(fg, name).__module__ == "fastpool.grpc"


# -- fork --------------------------------------------------------------------------------------

FORKS = """
import os, sys, traceback
from fastpool.grpc import shared, stats, wait_ready

target, method = sys.argv[1:]
handle, other = shared(target), shared(target)
stub = handle.unary_unary(method)
assert stub(b"parent", timeout=10) == b"parent"

def child():
    # Handles and stubs of before the fork connect anew here.
    assert [(each.references, each.opened) for each in stats()] == [(2, False)]
    assert stub(b"old stub", timeout=10) == b"old stub"
    assert [(each.references, each.opened) for each in stats()] == [(2, True)]
    fresh = shared(target)
    wait_ready(fresh, 10)
    assert fresh.unary_unary(method)(b"new stub", timeout=10) == b"new stub"
    for each in (handle, other, fresh):
        each.close()
    assert stats() == ()

for _ in range(3):
    pid = os.fork()
    if not pid:
        code = 1
        try:
            child()
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
    assert stub(b"parent still", timeout=10) == b"parent still"
assert [(each.references, each.opened) for each in stats()] == [(2, True)]
handle.close()
other.close()
assert stats() == ()
"""


can_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@can_fork
def test_a_forked_child_connects_anew_and_leaves_the_parents_connection(
    server: GrpcServer,
) -> None:
    """Run apart: a test process full of threads is no place to fork."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS, server.target, f"/{SERVICE}/Say"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    # The parent's one connection through it all, and one of each child.
    assert server.counts().peers == 4
    eventually(lambda: no_connection(server))


@can_fork
def test_a_fork_while_others_share_finds_the_registry_whole(echo: GrpcServer) -> None:
    code = """
import os, sys, threading
from fastpool.grpc import shared, stats
# Held, so that the others make no channel of grpc's: a fork in the middle of that is a deadlock in
# the child, with bare grpc too, and so is one in the middle of its imports.
held = shared(sys.argv[1])
stop = threading.Event()
def churn():
    while not stop.is_set():
        shared(sys.argv[1]).close()
threads = [threading.Thread(target=churn) for _ in range(4)]
for thread in threads: thread.start()
for _ in range(20):
    pid = os.fork()
    if not pid:
        mine = shared(sys.argv[1])
        ok = stats()[0].references >= 1
        mine.close()
        os._exit(not ok)
    assert os.waitpid(pid, 0)[1] == 0
stop.set()
for thread in threads: thread.join()
held.close()
assert stats() == ()
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, echo.target],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
