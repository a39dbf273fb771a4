"""Connections of a shared channel: as many as are needed, who gets calls, what a close takes."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

from fastpool.grpc import NotReady, _channel_key, _wait_ready, shared, stats, wait_ready  # noqa: E402
from fastpool.grpc._connectivity import wait_connected  # noqa: E402
from fastpool.grpc._sync import connections as sync_connections  # noqa: E402
from integration.grpc.server import SERVICE, GrpcServer  # noqa: E402
from support.helpers import eventually  # noqa: E402

pytestmark = [pytest.mark.process, pytest.mark.light]

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@pytest.fixture
def server() -> Iterator[GrpcServer]:
    """One whose peers the test counts."""
    server = GrpcServer()
    yield server
    server.close()
    gc.collect()
    assert stats() == ()


def path(method: str) -> str:
    return f"/{SERVICE}/{method}"


def say(channel: Any) -> Any:
    return channel.unary_unary(path("Say"))


def streams(channel: Any, n: int) -> list[Any]:
    """So many that hold a slot each."""
    opened = [channel.unary_stream(path("Count"))(b"...", timeout=60) for _ in range(n)]
    for each in opened:
        assert next(each) == b"first"
    return opened


def pool_of(channel: Any) -> Any:
    return channel._live().pool


@pytest.mark.parametrize(("waiting", "more"), [(4, 1), (8, 2)])
def test_as_many_are_opened_as_those_in_queue_need(
    server: GrpcServer, waiting: int, more: int
) -> None:
    """One for every four that wait, where a connection carries four; not one for each of them. Of
    those that are not served yet when it comes, one may have begun to open another."""
    with shared(server.target, connections=(1, 8), streams_per_connection=4) as channel:
        held = streams(channel, 4)
        count = channel.unary_stream(path("Count"))
        late = [count(b"...", timeout=60) for _ in range(waiting)]
        for each in late:
            assert next(each) == b"first"
        assert 1 + more <= stats()[0].connections <= 2 + more
        for each in held + late:
            each.cancel()
        eventually(lambda: stats()[0].in_use == 0)


def test_the_first_in_bulk_connects_with_its_first_call(
    server: GrpcServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the first of all does: it takes no load off others, and a server that is not there is the
    call's to report."""
    with shared(server.target, bulk=[path("Count")]) as channel:
        assert say(channel)(b"x", timeout=10) == b"x"
        kind = type(channel._live().key)
        dial = kind.dial
        monkeypatch.setattr(kind, "dial", lambda key: dial(key._replace(target="127.0.0.1:1")))
        with pytest.raises(grpc.RpcError) as caught:
            next(channel.unary_stream(path("Count"))(b"x", timeout=10))
        assert caught.value.code() is UNAVAILABLE


def test_all_that_are_kept_are_to_be_ready(
    server: GrpcServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not some of them, unless so many are asked for."""
    kind, dialled = _channel_key.Key, []
    dial = kind.dial

    def third_is_lost(key: Any) -> Any:
        dialled.append(key)
        return dial(key._replace(target="127.0.0.1:1") if len(dialled) == 3 else key)

    monkeypatch.setattr(kind, "dial", third_is_lost)
    with shared(server.target, connections=3) as channel:
        wait_ready(channel, 10, connections=2)
        with pytest.raises(NotReady):
            wait_ready(channel, 0.1)
        assert len(dialled) == 3


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_state_of_several_is_that_of_the_one_furthest_from_ready(
    monkeypatch: pytest.MonkeyPatch, order: tuple[int, int]
) -> None:
    states = [
        grpc.ChannelConnectivity.CONNECTING,
        grpc.ChannelConnectivity.TRANSIENT_FAILURE,
    ]
    with shared("127.0.0.1:1", connections=2) as channel:
        live = channel._live().connected()
        now = {each.channel: states[i] for each, i in zip(live, order, strict=True)}
        monkeypatch.setattr(_wait_ready, "state_of", lambda channel, connect: now[channel])
        with pytest.raises(NotReady) as caught:
            wait_ready(channel, 0)
        assert caught.value.states == {"127.0.0.1:1": "TRANSIENT_FAILURE"}


class Core:
    """The state of a channel that is connecting, as grpcio's own tells it."""

    def __init__(self, *states: Any) -> None:
        self.states = list(states)

    def check_connectivity_state(self, connect: bool) -> int:
        assert connect
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return int(state.value[0])


@pytest.mark.parametrize(
    ("states", "seconds", "given_up", "connected"),
    [
        (("IDLE", "CONNECTING", "READY"), 3600, False, True),
        (("IDLE", "CONNECTING", "TRANSIENT_FAILURE"), 3600, False, False),
        (("CONNECTING",), 0, False, False),
        (("CONNECTING",), 0.01, False, False),
        (("CONNECTING",), 3600, True, False),
        (("READY",), 0, True, True),
    ],
)
def test_a_connection_is_waited_for_until_it_fails_or_nobody_wants_it(
    states: Any, seconds: float, given_up: bool, connected: bool
) -> None:
    core = Core(*(getattr(grpc.ChannelConnectivity, name) for name in states))
    assert wait_connected(core, seconds, lambda: given_up) is connected


def test_those_in_bulk_are_not_counted_among_the_others(server: GrpcServer) -> None:
    """For who waits until so many are ready, or is told of states."""
    with shared(server.target, bulk=[path("Count")]) as channel:
        (held,) = streams(channel, 1)
        assert stats()[0].connections == 2
        (main,) = channel._live().connected()
        assert not main.bulk
        wait_ready(channel, 10, connections=2)
        assert pool_of(channel).stats().open == 2 and stats()[0].connections == 3
        held.cancel()


def test_a_collected_handle_lets_go_of_bulk_too(server: GrpcServer) -> None:
    channel = shared(server.target, bulk=[path("Count")])
    (held,) = streams(channel, 1)
    assert say(channel)(b"x", timeout=10) == b"x"
    if server.counts().open is None:
        pytest.skip("this system has no /proc/net/tcp")
    assert server.counts().open == 2
    del channel
    gc.collect()
    assert stats() == ()
    eventually(lambda: server.counts().open == 1)  # that of the stream
    held.cancel()
    del held
    eventually(lambda: server.counts().open == 0)


@pytest.mark.parametrize("kind", ["with_call", "future", "in the queue", "stream_unary", "stream"])
def test_however_a_call_fails_fast_it_does_not_attract_others(
    server: GrpcServer, kind: str
) -> None:
    with (
        shared(server.target, connections=2, streams_per_connection=20) as channel,
        grpc.insecure_channel("127.0.0.1:1") as nowhere,
    ):
        wait_ready(channel, 10)
        good, bad = channel._live().connected()
        # The call, its number, and the same method where nobody listens.
        if kind == "stream_unary":
            method = channel.stream_unary(path("Join"))
            number, lost = method._bound.number, nowhere.stream_unary(path("Join"))
        elif kind == "stream":
            method = channel.unary_stream(path("Count"))
            number, lost = method._bound.number, nowhere.unary_stream(path("Count"))
        else:
            method = say(channel)
            number, lost = method.method.number, say(nowhere)
        call = {
            "with_call": lambda: method.with_call(b"x", timeout=10),
            "future": lambda: method.future(b"x", timeout=10).result(),
            "in the queue": lambda: method.method.miss((b"x",), {"timeout": 10}),
            "stream_unary": lambda: method(iter([b"x"]), timeout=10),
            "stream": lambda: next(method(b"x", timeout=10)),
        }[kind]
        bad.inner[number] = lost
        held = {lease.resource: lease for lease in [pool_of(channel).acquire() for _ in "12"]}
        held.pop(bad).release()  # which makes it the least loaded
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert caught.value.code() is UNAVAILABLE

        def next_is_the_other() -> bool:
            with pool_of(channel).lease() as connection:
                return connection is good

        eventually(next_is_the_other)  # the ends of futures and streams come a little later
        call()
        held.pop(good).release()


@pytest.mark.parametrize("kind", ["call", "with_call", "future", "stream"])
def test_an_error_that_the_server_answers_keeps_nobody_away(server: GrpcServer, kind: str) -> None:
    with shared(server.target, connections=2, streams_per_connection=20) as channel:
        wait_ready(channel, 10)
        nothing = channel.unary_unary(path("Nothing"))
        ways = {
            "call": lambda: nothing(b"x", timeout=10),
            "with_call": lambda: nothing.with_call(b"x", timeout=10),
            "future": lambda: nothing.future(b"x", timeout=10).result(),
            "stream": lambda: next(channel.unary_stream(path("Nothing"))(b"x", timeout=10)),
        }
        busy, least = [pool_of(channel).acquire() for _ in "12"]
        asked = least.resource
        least.release()
        with pytest.raises(grpc.RpcError) as caught:
            ways[kind]()
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        eventually(lambda: stats()[0].in_use == 1)
        with pool_of(channel).lease() as connection:
            assert connection is asked
        busy.release()


def test_of_equal_subscriptions_one_is_ended_at_a_time(server: GrpcServer) -> None:
    """As on any channel."""
    heard: list[Any] = []
    with shared(server.target) as channel:
        for _ in range(2):
            channel.subscribe(heard.append)
        channel.unsubscribe(heard.append)
        wait_ready(channel, 10)
        eventually(lambda: heard.count(grpc.ChannelConnectivity.READY) == 1)
        channel.unsubscribe(heard.append)
        assert channel._live().subscriptions.of(*channel._live().connected()) == []


def test_a_subscriber_is_told_of_one_that_is_open(
    server: GrpcServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the connection that it was to be told of is closed in that very moment."""
    heard: list[Any] = []
    with shared(server.target, connections=1) as channel:
        connections = channel._live()
        begin = connections.subscriptions.begin
        begun: list[Any] = []

        def too_late(subscription: Any, connection: Any) -> None:
            begun.append(connection)
            if len(begun) == 1:
                pool_of(channel).replace()
                eventually(lambda: pool_of(channel).stats().closed_total == 1)
                connection.channel = grpc.insecure_channel(server.target)  # closed ones refuse
            begin(subscription, connection)

        monkeypatch.setattr(connections.subscriptions, "begin", too_late)
        channel.subscribe(heard.append, try_to_connect=True)
        assert len(begun) == 2 and begun[1] in connections.live
        eventually(lambda: grpc.ChannelConnectivity.READY in heard)
        begun[0].channel.close()


class Closing:
    """A pool that needs some time of a clock to close."""

    def __init__(self, pool: Any, clock: list[float], needs: float, given: list[Any]) -> None:
        self._pool, self._clock, self._needs, self._given = pool, clock, needs, given

    def close(self, timeout: float) -> bool:
        self._given.append(timeout)
        self._clock[0] += min(self._needs, timeout)
        return bool(self._pool.close(0))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)


@pytest.mark.parametrize(
    ("grace", "needs", "given"),
    [(4.0, 3.0, [4.0, 1.0]), (4.0, 9.0, [4.0, 0.0]), (4.0, 0.0, [4.0, 4.0]), (None, 1.0, [0, 0])],
)
def test_the_grace_is_one_for_all_calls(
    monkeypatch: pytest.MonkeyPatch, grace: float | None, needs: float, given: list[float]
) -> None:
    """Those in bulk have what is left of it, not as much again."""
    clock, had = [100.0], []
    channel = shared("127.0.0.1:1", bulk=[path("Count")])
    connections = channel._live()
    connections.pool = Closing(connections.pool, clock, needs, had)
    connections.bulk = Closing(connections.bulk, clock, needs, had)
    monkeypatch.setattr(sync_connections, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    channel.close(grace)
    assert had == given
