"""`aio_shared` with what others bring: interceptors, stubs, tools that patch grpc, TLS."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

import fastpool.grpc as fg  # noqa: E402
from integration.grpc.aio_channels import (  # noqa: E402
    ONE_SLOT,
    all_of,
    chat,
    count,
    in_use,
    join,
    occupied,
    quiet,
    say,
    turns,
    waiting,
)
from integration.grpc.server import SERVICE, GrpcServer  # noqa: E402
from support.loops import eventually, run_in  # noqa: E402

pytestmark = [pytest.mark.process, pytest.mark.light]

CODE, STATE = grpc.StatusCode, grpc.ChannelConnectivity


@pytest.fixture(scope="module")
def server() -> Iterator[GrpcServer]:
    with GrpcServer(health=True, reflection=True) as server:
        yield server


@pytest.fixture
def using(server: GrpcServer, on_loop: Callable[..., Any]) -> Callable[..., Any]:
    """``using(main, ...)``: runs ``main(channel)``, of one slot; afterwards it is free."""

    def use(main: Any, target: str = "", **more: Any) -> None:
        async def body() -> None:
            channel = fg.aio_shared(target or server.target, **{**ONE_SLOT, **more})
            async with channel:
                await main(channel)
                await quiet()

        on_loop(body())

    return use


# ---- interceptors -------------------------------------------------------------------------------


class Unary(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc] # grpcio has no types
    """Does as it is told: pass on, answer itself, raise, or try twice."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.order = "pass"

    async def intercept_unary_unary(self, go_on: Any, details: Any, request: Any) -> Any:
        self.seen.append(details)
        if self.order == "raise":
            raise KeyError("mine")
        if self.order == "refuse":
            raise grpc.aio.AioRpcError(CODE.PERMISSION_DENIED, None, None, "no")
        if self.order == "answer":
            return b"mine"
        if self.order == "twice":
            await (await go_on(details, request))
        return await go_on(details, request)


class Replies(grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[misc]
    order = "pass"

    async def intercept_unary_stream(self, go_on: Any, details: Any, request: Any) -> Any:
        if self.order == "raise":
            raise KeyError("mine")
        return await go_on(details, request)


class Talk(grpc.aio.StreamStreamClientInterceptor):  # type: ignore[misc]
    async def intercept_stream_stream(self, go_on: Any, details: Any, requests: Any) -> Any:
        return await go_on(details, requests)


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "in the queue"])
@pytest.mark.parametrize("order", ["pass", "answer", "twice", "raise", "refuse"])
def test_interceptors(using: Callable[..., Any], waits: bool, order: str) -> None:
    """However they end a call, it holds its slot as long as it is under way and no longer."""
    mine = Unary()

    async def main(channel: Any) -> None:
        async with occupied(channel, waits) as free:
            call = say(channel)(b"x", timeout=10, metadata=(("key", "value"),))
            mine.order = order
            if waits:
                await waiting(call)
            told: list[Any] = []
            call.add_done_callback(told.append)
            free()
            if order in ("raise", "refuse"):
                with pytest.raises((KeyError, grpc.aio.AioRpcError)):
                    await call
            else:
                assert await call == (b"mine" if order == "answer" else b"x")
        await quiet()
        await eventually(lambda: told == [call])
        details = mine.seen[0]
        assert details.metadata["key"] == "value" and details.method.endswith(b"/Say")
        mine.order = "pass"
        assert await say(channel)(b"y", timeout=10) == b"y"

    using(main, interceptors=[mine])


def test_interceptors_that_raise_where_grpc_tells_nobody(
    using: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of older grpcio; the slot is free all the same."""
    mine = Unary()
    mine.order = "raise"
    kind = grpc.aio._interceptor.InterceptedUnaryUnaryCall
    monkeypatch.setattr(kind, "add_done_callback", lambda self, callback: None)

    async def main(channel: Any) -> None:
        for _ in range(3):
            with pytest.raises(KeyError):
                await say(channel)(b"x", timeout=10)
            await quiet()

    using(main, interceptors=[mine])


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "in the queue"])
def test_interceptors_of_streams(using: Callable[..., Any], waits: bool) -> None:
    mine = Replies()

    async def main(channel: Any) -> None:
        async with occupied(channel, waits) as free:
            stream = count(channel)(b"abc")
            free()
            assert await all_of(stream) == [b"a", b"b", b"c"]
        await quiet()
        async for message in count(channel)(b"..."):  # abandoned
            assert message == b"first"
            break
        await quiet()
        assert await all_of(chat(channel)(iter([b"a", b"b"]))) == [b"a", b"b"]
        mine.order = "raise"
        stream = count(channel)(b"abc")
        with pytest.raises(KeyError):
            await all_of(stream)
        await quiet()
        mine.order = "pass"

    using(main, interceptors=[mine, Talk()])


def test_interceptors_are_part_of_the_key(server: GrpcServer, on_loop: Callable[..., Any]) -> None:
    async def main() -> None:
        mine = Unary()
        channels = [fg.aio_shared(server.target, interceptors=[mine]) for _ in range(2)]
        channels += [fg.aio_shared(server.target, interceptors=[Unary()])]
        assert sorted(each.references for each in fg.stats()) == [1, 2]
        for channel in channels:
            await channel.close()
        with pytest.raises(TypeError, match="interceptors"):
            fg.aio_shared(server.target, interceptors=[print])

    on_loop(main())


def test_tools_that_patch_grpc(using: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """As OpenTelemetry's: a function around `grpc.aio.insecure_channel` adds interceptors."""
    mine, plain = Unary(), grpc.aio.insecure_channel

    def traced(*args: Any, **kwargs: Any) -> Any:
        kwargs["interceptors"] = [mine, *(kwargs.get("interceptors") or ())]
        return plain(*args, **kwargs)

    monkeypatch.setattr(grpc.aio, "insecure_channel", traced)

    async def main(channel: Any) -> None:
        for _ in range(3):
            assert await say(channel)(b"x", timeout=10) == b"x"

    using(main)
    assert len(mine.seen) == 3


# ---- stubs --------------------------------------------------------------------------------------


def test_health_stub(using: Callable[..., Any], server: GrpcServer) -> None:
    pb2 = pytest.importorskip("grpc_health.v1.health_pb2")
    stubs = pytest.importorskip("grpc_health.v1.health_pb2_grpc")

    async def main(channel: Any) -> None:
        stub = stubs.HealthStub(channel)  # a generated one, with registered methods
        request = pb2.HealthCheckRequest(service=SERVICE)
        for _ in range(2):
            reply = await stub.Check(request, timeout=10)
            assert reply.status == pb2.HealthCheckResponse.SERVING
        watched = stub.Watch(request)
        assert (await watched.read()).status == pb2.HealthCheckResponse.SERVING
        server.set_health(SERVICE, False)
        assert (await watched.read()).status == pb2.HealthCheckResponse.NOT_SERVING
        server.set_health(SERVICE, True)

    using(main)


def test_reflection(using: Callable[..., Any]) -> None:
    pb2 = pytest.importorskip("grpc_reflection.v1alpha.reflection_pb2")
    stubs = pytest.importorskip("grpc_reflection.v1alpha.reflection_pb2_grpc")

    async def main(channel: Any) -> None:
        stub = stubs.ServerReflectionStub(channel)
        asked = iter([pb2.ServerReflectionRequest(list_services="")])
        (reply,) = await all_of(stub.ServerReflectionInfo(asked, timeout=10))
        assert SERVICE in [each.name for each in reply.list_services_response.service]

    using(main)


def test_a_stub_for_every_call_leaves_nothing_behind(using: Callable[..., Any]) -> None:
    async def main(channel: Any) -> None:
        connections = channel._entry.connections
        for _ in range(20):
            assert await say(channel)(b"x", timeout=10) == b"x"
        assert len(connections.methods.all) == 1

    using(main)


# ---- the channel --------------------------------------------------------------------------------


def test_states(using: Callable[..., Any], server: GrpcServer) -> None:
    async def main(channel: Any) -> None:
        assert isinstance(channel, grpc.aio.Channel)
        assert channel.get_state() is STATE.IDLE
        changed = asyncio.ensure_future(channel.wait_for_state_change(STATE.IDLE))
        await asyncio.sleep(0)
        assert not changed.done()
        await channel.channel_ready()
        await changed
        assert channel.get_state() is STATE.READY
        await channel.wait_for_state_change(STATE.IDLE)  # which it is not any more
        assert channel.target == server.target and "to '127" in repr(channel)

    using(main)


class Inner:
    """A connection's channel, in a state of the test's choice."""

    def __init__(self, state: Any) -> None:
        self.state = state
        self.changed = asyncio.Event()
        self.left = 0

    def get_state(self, try_to_connect: bool = False) -> Any:
        return self.state

    async def wait_for_state_change(self, last: Any) -> None:
        try:
            while self.state is last:
                await self.changed.wait()
        except asyncio.CancelledError:
            self.left += 1
            raise

    def become(self, state: Any) -> None:
        self.state = state
        self.changed.set()
        self.changed = asyncio.Event()


def test_the_state_is_the_best_of_all_connections(
    server: GrpcServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        best_first = [STATE.READY, STATE.CONNECTING, STATE.IDLE, STATE.TRANSIENT_FAILURE]
        async with fg.aio_shared(server.target, connections=2) as channel:
            inner: list[Inner] = []
            monkeypatch.setattr(fg.AioSharedChannel, "_inner", lambda self: inner)
            for i, better in enumerate(best_first):
                for worse in best_first[i:]:
                    inner[:] = [Inner(worse), Inner(better)]
                    assert channel.get_state() is better
                    inner.reverse()
                    assert channel.get_state() is better
            # Whoever waits for a change is told of the first one that makes a difference.
            inner[:] = [Inner(STATE.CONNECTING), Inner(STATE.TRANSIENT_FAILURE)]
            waits = asyncio.ensure_future(channel.wait_for_state_change(STATE.CONNECTING))
            await turns()
            inner[1].become(STATE.IDLE)
            await turns(6)
            assert not waits.done()
            inner[1].become(STATE.READY)
            await waits
            await turns()
            assert inner[0].left == 2  # once for each change of the other
            monkeypatch.undo()

    run_in("asyncio", main())


def test_tls(certificate: tuple[Path, Path], on_loop: Callable[..., Any]) -> None:
    key, chain = certificate

    async def main(target: str) -> None:
        credentials = grpc.ssl_channel_credentials(chain.read_bytes())
        handles = [fg.aio_shared(target, credentials=credentials) for _ in range(20)]
        for handle in handles:
            assert await say(handle)(b"x", timeout=10) == b"x"
        assert [each.kind for each in fg.stats()] == ["secure"]
        for handle in handles:
            await handle.close()

    with GrpcServer((key, chain)) as server:
        on_loop(main(server.target))
        assert server.counts().peers == 1


def test_compression_and_options(using: Callable[..., Any]) -> None:
    async def main(channel: Any) -> None:
        big = b"x" * 4000
        assert await say(channel)(big, timeout=10, compression=grpc.Compression.Gzip) == big
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await say(channel)(big * 2, timeout=10)
        assert caught.value.code() is CODE.RESOURCE_EXHAUSTED

    options = [("grpc.max_receive_message_length", 5000)]
    using(main, options=options, compression=grpc.Compression.Gzip)


def test_bulk_has_connections_of_its_own(server: GrpcServer, on_loop: Callable[..., Any]) -> None:
    async def main(target: str) -> None:
        more: Any = {**ONE_SLOT, "bulk": [f"/{SERVICE}/Count"]}
        async with fg.aio_shared(target, **more) as channel:
            stream = count(channel)(b"...")
            await stream.read()
            assert await say(channel)(b"x", timeout=10) == b"x"
            assert await join(channel)(iter([b"y"]), timeout=10) == b"y"
            queued = await waiting(count(channel)(b"a"))
            stream.cancel()
            assert await all_of(queued) == [b"a"]
            assert fg.stats()[0].connections == 2
            await quiet()
            assert in_use() == 0

    with GrpcServer() as server:
        on_loop(main(server.target))
        assert server.counts().peers == 2


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"connections": 0}, ValueError),
        ({"streams_per_connection": 0}, ValueError),
        ({"options": [("grpc.keepalive_time_ms", 5)]}, ValueError),
        ({"credentials": "none"}, TypeError),
        ({"max_queue": -1}, ValueError),
    ],
)
def test_bad_arguments(wrong: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match="aio_shared"):
        fg.aio_shared("127.0.0.1:1", **wrong)
    assert fg.stats() == ()


def test_nobody_listens(on_loop: Callable[..., Any]) -> None:
    async def main() -> None:
        async with fg.aio_shared("127.0.0.1:1") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await say(channel)(b"x", timeout=10)
            assert caught.value.code() is CODE.UNAVAILABLE
            await quiet()

    on_loop(main())
