"""Calls on shared channels: every kind, what tools and stubs ask of a channel, exact slots."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

from fastpool.grpc import aio_shared, shared, stats  # noqa: E402
from fastpool.grpc._sync.connection import Method  # noqa: E402
from integration.grpc.server import SERVICE, GrpcServer  # noqa: E402
from support.helpers import ThreadRunner, eventually  # noqa: E402

pytestmark = [pytest.mark.process, pytest.mark.light]

NOWHERE = "127.0.0.1:1"  # nobody listens there


@pytest.fixture(scope="module")
def echo() -> Iterator[GrpcServer]:
    server = GrpcServer(health=True)
    yield server
    server.close()


@pytest.fixture(autouse=True)
def balanced() -> Iterator[None]:
    """At the end of each test no channel is open, and no slot was."""
    yield
    gc.collect()
    assert stats() == ()


def path(method: str) -> str:
    return f"/{SERVICE}/{method}"


def say(channel: Any) -> Any:
    return channel.unary_unary(path("Say"))


def wait(channel: Any) -> Any:
    return channel.unary_unary(path("Wait"))


def in_use() -> int:
    return sum(each.in_use for each in stats())


def all_free() -> None:
    eventually(lambda: in_use() == 0)


# -- every kind --------------------------------------------------------------------------------


def test_futures_end_well_badly_and_by_cancel(echo: GrpcServer) -> None:
    with shared(echo.target) as channel:
        good = say(channel).future(b"x", timeout=10)
        assert good.result(10) == b"x" and good.done() and not good.cancelled()
        assert good.code() is grpc.StatusCode.OK and good.exception() is None
        late = wait(channel).future(b"5000", timeout=0.05)
        with pytest.raises(grpc.RpcError) as caught:
            late.result(10)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        all_free()  # their ends come a little later than their results
        running = wait(channel).future(b"5000", timeout=10)
        assert in_use() == 1 and running.running()
        assert stats()[0].streams == 0  # it is none
        assert running.cancel() and running.cancelled()
        with pytest.raises(grpc.FutureCancelledError):
            running.result(10)
        heard = threading.Event()
        told = say(channel).future(b"y", timeout=10)
        told.add_done_callback(lambda call: heard.set() if call.result() == b"y" else None)
        assert heard.wait(10)
        all_free()


def test_every_end_of_a_stream_frees_its_slot_once(echo: GrpcServer) -> None:
    """The end, a cancel before and after it, a deadline, a break, a dropped stream, a request
    iterator that fails."""
    with shared(echo.target, connections=1, streams_per_connection=4) as channel:
        count = channel.unary_stream(path("Count"))
        chat = channel.stream_stream(path("Chat"))

        def requests() -> Iterator[bytes]:
            yield b"a"
            raise LookupError

        def finish() -> None:
            call = count(b"abc", timeout=10)
            assert list(call) == [b"a", b"b", b"c"] and call.code() is grpc.StatusCode.OK
            call.cancel()

        def cancel() -> None:
            call = count(b"...", timeout=10)
            assert next(call) == b"first" and call.is_active()
            call.cancel()
            call.cancel()

        def deadline() -> None:
            with pytest.raises(grpc.RpcError):
                list(count(b"...", timeout=0.05))

        def leave() -> None:
            for _ in count(b"...", timeout=60):
                break

        def drop() -> None:
            count(b"...", timeout=60)

        def drop_with_callback() -> None:
            count(b"...", timeout=60).add_done_callback(lambda call: None)

        def converse() -> None:
            assert list(chat(iter([b"a", b"b"]), timeout=10)) == [b"a", b"b"]

        def fail() -> None:
            with pytest.raises(grpc.RpcError):
                list(chat(requests(), timeout=10))

        ends = [finish, cancel, deadline, leave, drop, drop_with_callback, converse, fail]
        for end in ends:
            for _ in range(6):  # more often than there are slots
                end()
            all_free()
        assert say(channel)(b"x", timeout=10) == b"x"


def ways_to_call(channel: Any) -> list[Any]:
    say, join = channel.unary_unary(path("Say")), channel.stream_unary(path("Join"))
    count, chat = channel.unary_stream(path("Count")), channel.stream_stream(path("Chat"))
    return [
        *(lambda: say(b"x"), lambda: say.with_call(b"x"), lambda: say.future(b"x")),
        *(lambda: join(iter([b"x"])), lambda: join.with_call(iter([b"x"]))),
        *(lambda: join.future(iter([b"x"])), lambda: count(b"x"), lambda: chat(iter([b"x"]))),
    ]


def test_whatever_is_called_on_a_closed_handle_is_refused(echo: GrpcServer) -> None:
    """Though the channel is open, for others."""
    with shared(echo.target) as other:
        closed = shared(echo.target)
        ways = ways_to_call(closed)
        closed.close()
        for call in ways:
            with pytest.raises(ValueError, match="Cannot invoke RPC on closed channel!"):
                call()
        assert in_use() == 0
        assert say(other)(b"x", timeout=10) == b"x"


def test_whatever_is_called_while_the_channel_is_being_closed_is_refused(echo: GrpcServer) -> None:
    """By another thread, which has not come to say so to this handle's calls."""
    with shared(echo.target) as channel:
        ways = ways_to_call(channel)
        channel._live().close(None)
        for call in ways:
            with pytest.raises(ValueError, match="Cannot invoke RPC on closed channel!"):
                call()


def test_a_stream_counts_as_a_stream_while_it_is_open(
    echo: GrpcServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And as a long one after a while; the log says once when they fill half of the slots."""
    from fastpool.grpc import _open_streams

    with shared(echo.target, connections=1, streams_per_connection=4) as channel:
        count = channel.unary_stream(path("Count"))
        open_calls = [count(b"...", timeout=60) for _ in range(2)]
        (now,) = stats()
        assert (now.in_use, now.streams, now.long_streams) == (2, 2, 0)
        monkeypatch.setattr(_open_streams, "LONG", 0.0)
        assert stats()[0].long_streams == 2 and not caplog.records
        open_calls += [count(b"...", timeout=60) for _ in range(2)]
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "fill half of the 4 slots" in caplog.text
        for call in open_calls:
            call.cancel()
        all_free()
        assert stats()[0].streams == stats()[0].long_streams == 0


def test_errors_of_the_call_itself_free_the_slot(echo: GrpcServer) -> None:
    def no(_: Any) -> bytes:
        raise LookupError("cannot be serialized")

    with shared(echo.target) as channel:
        for kind, method in (("unary_unary", "Say"), ("unary_stream", "Count")):
            with pytest.raises(grpc.RpcError) as caught:
                next(iter([getattr(channel, kind)(path(method), no)(b"x", timeout=10)]))
            assert caught.value.code() is grpc.StatusCode.INTERNAL
        for wrong in ({"nonsense": 1}, {"timeout": "soon"}):
            for use in (say(channel), say(channel).with_call, say(channel).future):
                with pytest.raises(TypeError):
                    use(b"x", **wrong)
        assert in_use() == 0


def test_metadata_compression_and_credentials_reach_the_call(echo: GrpcServer) -> None:
    with shared(echo.target, compression=grpc.Compression.Gzip) as channel:
        reply, call = say(channel).with_call(
            b"x" * 5000,
            timeout=10,
            metadata=(("key", "value"),),
            wait_for_ready=True,
            compression=grpc.Compression.NoCompression,
        )
        assert reply == b"x" * 5000 and call.code() is grpc.StatusCode.OK
        creds = grpc.access_token_call_credentials("token")
        with pytest.raises(grpc.RpcError) as caught:  # grpc sends none over a plain connection
            say(channel)(b"x", timeout=10, credentials=creds)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


# -- what others do to channels ----------------------------------------------------------------


class Prefix(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Notes each call that passes."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def note(self, proceed: Any, details: Any, request: Any) -> Any:
        self.seen.append(details.method.rpartition("/")[2])
        return proceed(details, request)

    intercept_unary_unary = intercept_unary_stream = note
    intercept_stream_unary = intercept_stream_stream = note


def use_all_kinds(channel: Any) -> None:
    assert say(channel)(b"a", timeout=10) == b"a"
    assert say(channel).with_call(b"a", timeout=10)[0] == b"a"
    assert say(channel).future(b"a", timeout=10).result(10) == b"a"
    assert list(channel.unary_stream(path("Count"))(b"ab", timeout=10)) == [b"a", b"b"]
    assert channel.stream_unary(path("Join"))(iter([b"a", b"b"]), timeout=10) == b"ab"
    assert channel.stream_unary(path("Join")).future(iter([b"a"]), timeout=10).result(10) == b"a"
    assert list(channel.stream_stream(path("Chat"))(iter([b"a"]), timeout=10)) == [b"a"]


ALL = ["Say", "Say", "Say", "Count", "Join", "Join", "Chat"]


def test_interceptors_outside(echo: GrpcServer) -> None:
    noted = Prefix()
    with shared(echo.target) as channel:
        use_all_kinds(grpc.intercept_channel(channel, noted))
        assert noted.seen == ALL
        all_free()


def test_tools_that_patch_grpc_take_part(echo: GrpcServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As OpenTelemetry does: the functions that make channels are replaced, before or after our
    import, and give intercepted ones."""
    noted, original = Prefix(), grpc.insecure_channel

    def instrumented(*args: Any, **kwargs: Any) -> Any:
        return grpc.intercept_channel(original(*args, **kwargs), noted)

    monkeypatch.setattr(grpc, "insecure_channel", instrumented)
    with shared(echo.target) as channel:
        use_all_kinds(channel)
        assert noted.seen == ALL
        all_free()


def test_health_stubs_and_ready_futures(echo: GrpcServer) -> None:
    reason = "grpcio-health-checking is not installed"
    health_pb2 = pytest.importorskip("grpc_health.v1.health_pb2", reason=reason)
    from grpc_health.v1.health_pb2_grpc import HealthStub

    with shared(echo.target) as channel:
        grpc.channel_ready_future(channel).result(10)
        stub = HealthStub(channel)
        request = health_pb2.HealthCheckRequest()
        serving = health_pb2.HealthCheckResponse.SERVING
        assert stub.Check(request, timeout=10).status == serving
        watch = stub.Watch(request, timeout=10)
        assert next(watch).status == serving
        watch.cancel()
        all_free()


# -- stubs come and go -------------------------------------------------------------------------


def test_what_generated_stubs_pass_reaches_grpc_and_nothing_else_does(
    echo: GrpcServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not every channel has that parameter."""
    given: list[dict[str, Any]] = []
    plain = grpc.insecure_channel

    def noting(*args: Any, **kwargs: Any) -> Any:
        channel = plain(*args, **kwargs)
        unary = channel.unary_unary
        channel.unary_unary = lambda *args, **kw: given.append(kw) or unary(*args, **kw)
        return channel

    monkeypatch.setattr(grpc, "insecure_channel", noting)
    with shared(echo.target) as channel:
        assert channel.unary_unary(path("Say"), _registered_method=True)(b"x", timeout=10) == b"x"
        assert channel.unary_unary(path("Say"))(b"x", timeout=10) == b"x"
    assert given == [{"_registered_method": True}, {}]


def test_stubs_made_anew_keep_nothing(echo: GrpcServer) -> None:
    """A function of its own for each stub, as a program may have it that makes them in passing."""
    with shared(echo.target) as channel:
        table = channel._live().methods.all
        for number in range(50):
            stub = channel.unary_unary(path("Say"), lambda each, n=number: each + b"%d" % n)
            assert stub(b"", timeout=10) == b"%d" % number
            del stub
        assert len(table) <= 3
        kept = say(channel)
        assert say(channel).method is kept.method  # what is alike is looked up once


@pytest.mark.parametrize("make", [shared, aio_shared])
def test_a_number_that_is_given_up_is_nobodys(make: Any, echo: GrpcServer) -> None:
    """A thread that asks for a method while the last stub of it is being finalised has one that
    keeps its number: its calls would go to another method."""
    channel = make(echo.target)
    connections = channel._live()
    methods, kept = connections.methods, []
    one, other = (Method("unary_unary", path(name), None, None, False) for name in ("Say", "Sing"))
    leave = methods.leave

    def slowly(number: int) -> None:
        kept.append(connections.bound(one))
        leave(number)

    methods.leave = slowly
    last = connections.bound(one)
    del last
    methods.leave = leave
    for method in (other, one):
        assert methods.all[connections.bound(method).number] is method
    assert methods.all[kept[0].number] is one


def test_serializers_that_cannot_be_hashed(echo: GrpcServer) -> None:
    class Upper:
        __hash__ = None  # type: ignore[assignment]

        def __call__(self, data: bytes) -> bytes:
            return data.upper()

    with shared(echo.target) as channel:
        for _ in range(2):
            assert channel.unary_unary(path("Say"), Upper())(b"x", timeout=10) == b"X"


def test_methods_come_and_go_among_threads(
    echo: GrpcServer, runner: ThreadRunner, fast_switching: None
) -> None:
    """A number that is free goes to another method; no call ever reaches the wrong one."""
    with shared(echo.target, connections=(1, 3), streams_per_connection=2) as channel:

        def work(index: int) -> int:
            for number in range(40):
                mark = b"%d.%d" % (index, number)
                stub = channel.unary_unary(path("Say"), lambda each, m=mark: each + m)
                assert stub(b"", timeout=30) == mark
            return index

        workers = runner.together(6, work)
        assert [each.result() for each in workers] == list(range(6))
        assert len(channel._live().methods.all) <= 12
