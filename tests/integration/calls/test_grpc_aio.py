"""`CallPolicy.wrap` around real channels of tasks, with a server that fails on demand."""

from __future__ import annotations

import asyncio
import gc
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

from fastpool.calls import (  # noqa: E402
    CallPolicy,
    CircuitBreaker,
    CircuitOpen,
    DeadlineExceeded,
    Limit,
    Overloaded,
    Retry,
    budget,
)
from integration.calls.server import SERVICE, ScriptServer  # noqa: E402

QUICK = {"backoff": 1e-6, "throttle": None}
CODE = grpc.StatusCode
NOWHERE = "127.0.0.1:1"  # nobody listens there


@pytest.fixture(scope="module")
def script() -> Iterator[ScriptServer]:
    server = ScriptServer()
    yield server
    server.close()


@pytest.fixture
def using(script: ScriptServer) -> Callable[..., Any]:
    """``using(main, **parts)``: runs ``main(channel)`` on a loop; afterwards no permit is lost."""
    script.seen.clear()
    script.deadlines.clear()

    def use(main: Any, target: str = "", idempotent: Any = True, **parts: Any) -> CallPolicy:
        policy = CallPolicy(**parts)

        async def body() -> None:
            channel = grpc.aio.insecure_channel(target or script.target)
            async with policy.wrap(channel, idempotent=idempotent) as wrapped:
                async with asyncio.timeout(30):
                    await main(wrapped)
            gc.collect()
            await until(lambda: policy._limit is None or policy._limit.stats().in_use == 0)
            await until(lambda: script.open == 0)

        asyncio.run(body())
        return policy

    return use


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def say(channel: Any) -> Any:
    return channel.unary_unary(f"/{SERVICE}/Say")


def count(channel: Any) -> Any:
    return channel.unary_stream(f"/{SERVICE}/Count")


async def awaited(call: Any) -> Any:
    return await call


async def all_of(stream: Any) -> list[Any]:
    return [message async for message in stream]


# ---- a real channel -----------------------------------------------------------------------------


def test_all_kinds_of_methods_work(using: Callable[..., Any]) -> None:
    async def main(channel: Any) -> None:
        assert isinstance(channel, grpc.aio.Channel)
        unary = channel.unary_unary(f"/{SERVICE}/Say", str.encode, bytes.decode)
        assert isinstance(unary, grpc.aio.UnaryUnaryMultiCallable)
        assert await unary("OK", timeout=10, metadata=(("k", "v"),), wait_for_ready=True) == "OK 1"
        call = unary("OK")
        assert isinstance(call, grpc.aio.UnaryUnaryCall) and not call.done()
        done = []
        call.add_done_callback(done.append)
        await call.wait_for_connection()
        assert call.time_remaining() > 500
        assert await call == "OK 2"
        assert await call == "OK 2"  # as often as one likes
        assert await call.code() is CODE.OK and await call.details() == ""
        assert isinstance(await call.initial_metadata(), grpc.aio.Metadata)
        assert isinstance(await call.trailing_metadata(), grpc.aio.Metadata)
        await until(lambda: done == [call])
        assert call.done() and not call.cancelled() and not call.cancel()

        stream = count(channel)
        assert isinstance(stream, grpc.aio.UnaryStreamMultiCallable)
        answers = stream(b"OK", timeout=10)
        assert isinstance(answers, grpc.aio.UnaryStreamCall)
        answers.add_done_callback(done.append)
        assert await all_of(answers) == [b"OK 3", b"last"]
        assert await answers.code() is CODE.OK
        await until(lambda: done == [call, answers])
        assert answers.done()
        answers = stream(b"OK")
        assert [await answers.read() for _ in range(3)] == [b"OK 4", b"last", grpc.aio.EOF]

        joined = channel.stream_unary(f"/{SERVICE}/Join")
        assert isinstance(joined, grpc.aio.StreamUnaryMultiCallable)
        assert await joined(iter([b"OK", b"OK"]), timeout=10) == b"OK 1"
        call = joined()
        assert isinstance(call, grpc.aio.StreamUnaryCall)
        for _ in range(2):
            await call.write(b"OK")
        await call.done_writing()
        assert await call == b"OK 2"

        chat = channel.stream_stream(f"/{SERVICE}/Chat")
        assert isinstance(chat, grpc.aio.StreamStreamMultiCallable)
        assert await all_of(chat(iter([b"OK", b"OK"]), timeout=10)) == [b"OK 5", b"OK 6"]
        call = chat()
        assert isinstance(call, grpc.aio.StreamStreamCall)
        await call.write(b"OK")
        assert await call.read() == b"OK 7"
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF

    parts = {"retry": Retry(), "breaker": CircuitBreaker(), "limit": Limit(2)}
    policy = using(main, timeout=1000, **parts)
    assert (policy.stats().calls, policy.stats().succeeded) == (8, 8)


def test_requests_may_be_given_by_name(using: Callable[..., Any]) -> None:
    """As grpc calls them."""

    async def main(channel: Any) -> None:
        joined = channel.stream_unary(f"/{SERVICE}/Join")
        assert await joined(request_iterator=iter([b"OK"]), timeout=10) == b"OK 1"
        chat = channel.stream_stream(f"/{SERVICE}/Chat")
        assert await all_of(chat(request_iterator=iter([b"OK"]), timeout=10)) == [b"OK 2"]
        assert await say(channel)(request=b"OK", timeout=10) == b"OK 3"

    using(main, timeout=1000)


def test_generated_stubs_pass_their_private_argument(using: Callable[..., Any]) -> None:
    async def main(channel: Any) -> None:
        stub = channel.unary_unary(
            f"/{SERVICE}/Say",
            request_serializer=str.encode,
            response_deserializer=bytes.decode,
            _registered_method=True,
        )
        assert await stub("OK") == "OK 1"

    using(main)


def test_the_rest_is_the_channels_own(using: Callable[..., Any]) -> None:
    async def main(channel: Any) -> None:
        ready = grpc.ChannelConnectivity.READY
        assert channel.get_state() is not ready
        changed = channel.wait_for_state_change(channel.get_state(try_to_connect=True))
        await changed
        await channel.channel_ready()
        assert channel.get_state() is ready
        await channel.close(1)
        with pytest.raises(grpc.aio.UsageError):
            await say(channel)(b"OK")

    assert using(main).stats().failed == 1


def test_calls_begin_before_they_are_awaited(
    script: ScriptServer, using: Callable[..., Any]
) -> None:
    async def main(channel: Any) -> None:
        calls = [say(channel)(b"OK") for _ in range(3)]
        await until(lambda: script.seen[b"OK"] == 3)
        forgotten = say(channel)(b"NOT_FOUND")  # and nobody is warned that nobody asked
        await until(forgotten.done)
        del forgotten
        assert sorted([await call for call in calls]) == [b"OK 1", b"OK 2", b"OK 3"]

    using(main)


# ---- retries and time ---------------------------------------------------------------------------


def test_an_idempotent_method_is_tried_again(using: Callable[..., Any]) -> None:
    async def main(channel: Any) -> None:
        assert await say(channel)(b"UNAVAILABLE UNAVAILABLE OK") == b"OK 3"
        stream = count(channel)(b"UNAVAILABLE UNAVAILABLE OK .")
        assert await all_of(stream) == [b"OK 3", b"last"]
        assert await stream.code() is CODE.OK
        stream = count(channel)(b"UNAVAILABLE OK")
        assert await stream.read() == b"OK 2"
        assert await stream.read() == b"last"

    policy = using(main, retry=Retry(3, **QUICK), idempotent=[SERVICE], limit=Limit(2))
    assert policy.stats().retries == 5


def test_what_is_not_named_or_was_sent_as_a_stream_is_called_once(
    script: ScriptServer, using: Callable[..., Any]
) -> None:
    async def main(channel: Any) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await say(channel)(b"UNAVAILABLE OK")
        assert caught.value.code() is CODE.UNAVAILABLE
        with pytest.raises(grpc.aio.AioRpcError):
            await all_of(channel.stream_stream(f"/{SERVICE}/Chat")(iter([b"UNAVAILABLE OK OK"])))
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.stream_unary(f"/{SERVICE}/Join")(iter([b"UNAVAILABLE", b"OK", b"OK ."]))

    methods = [f"/{SERVICE}/Chat", f"/{SERVICE}/Join"]
    assert using(main, retry=Retry(3, **QUICK), idempotent=methods).stats().retries == 0
    assert set(script.seen.values()) == {1}


def test_a_stream_is_not_tried_again_after_its_first_message(
    script: ScriptServer, using: Callable[..., Any]
) -> None:
    async def main(channel: Any) -> None:
        stream = count(channel)(b"first UNAVAILABLE")
        got = []
        with pytest.raises(grpc.aio.AioRpcError):
            async for message in stream:
                got.append(message)
        assert got == [b"first"]

    policy = using(main, retry=Retry(3, **QUICK))
    assert script.seen[b"first UNAVAILABLE"] == 1 and policy.stats().failed == 1


def test_what_could_not_connect_and_what_the_server_asks(
    script: ScriptServer, using: Callable[..., Any]
) -> None:
    pauses = []

    class Clock:
        now = 1.0

        def advance(self, seconds: float) -> None:
            pauses.append(seconds)

    async def main(channel: Any) -> None:
        assert await say(channel)(b"UNAVAILABLE:250 OK") == b"OK 2"
        assert await all_of(count(channel)(b"UNAVAILABLE:1500 OK")) == [b"OK 2", b"last"]
        with pytest.raises(grpc.aio.AioRpcError):
            await say(channel)(b"UNAVAILABLE:-1 OK")
        with pytest.raises(grpc.aio.AioRpcError):
            await all_of(count(channel)(b"UNAVAILABLE:soon OK"))

    using(main, retry=Retry(5, backoff=5, throttle=None), clock=Clock())
    assert pauses == [0.25, 1.5]
    assert script.seen[b"UNAVAILABLE:-1 OK"] == script.seen[b"UNAVAILABLE:soon OK"] == 1

    async def nowhere(channel: Any) -> None:
        with pytest.raises(grpc.aio.AioRpcError):
            await say(channel)(b"OK")

    policy = using(nowhere, target=NOWHERE, idempotent=False, retry=Retry(3, **QUICK))
    assert policy.stats().retries == 2


def test_the_smallest_budget_is_the_deadline_that_is_sent(
    script: ScriptServer, using: Callable[..., Any]
) -> None:
    async def main(channel: Any) -> None:
        await say(channel)(b"OK")
        await say(channel)(b"OK", timeout=200)
        with budget(200):
            await say(channel)(b"OK", timeout=3000)
            await all_of(count(channel)(b"OK"))

    using(main, timeout=1000)
    first, *others = script.deadlines
    assert 600 < first < 1050  # type: ignore[operator]  # gRPC rounds a little up on the way
    assert all(100 < left < 210 for left in others)  # type: ignore[operator]


def test_no_time_left_and_hanging_tries(script: ScriptServer, using: Callable[..., Any]) -> None:
    async def main(channel: Any) -> None:
        with budget(0):
            for send in (say, count):
                with pytest.raises(DeadlineExceeded) as caught:
                    call = send(channel)(b"OK")
                    await (call if send is say else all_of(call))
                assert isinstance(caught.value, grpc.aio.AioRpcError)
                assert await call.code() is caught.value.code() is CODE.DEADLINE_EXCEEDED
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await say(channel)(b"hang")
        assert late.value.code() is CODE.DEADLINE_EXCEEDED

    retry = Retry(3, attempt_timeout=0.02, codes=["DEADLINE_EXCEEDED"], **QUICK)
    assert using(main, retry=retry).stats().retries == 2
    assert script.seen[b"OK"] == 0


# ---- breaker ------------------------------------------------------------------------------------


def test_what_is_refused_here_is_an_aio_rpc_error(using: Callable[..., Any]) -> None:
    breaker = CircuitBreaker("script")
    breaker.trip()

    async def main(channel: Any) -> None:
        call = say(channel)(b"OK")
        with pytest.raises(CircuitOpen) as caught:
            await call
        error: Any = caught.value
        assert isinstance(error, grpc.aio.AioRpcError)
        assert error.code() is CODE.UNAVAILABLE and "is open" in error.details()
        assert await call.code() is CODE.UNAVAILABLE and "is open" in await call.details()
        assert "CircuitOpen(" in repr(error) and list(error.trailing_metadata()) == []
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is CircuitOpen and str(copy) == str(error)
        for use in (all_of, lambda stream: stream.read()):
            with pytest.raises(CircuitOpen):
                await use(count(channel)(b"OK"))
        with pytest.raises(CircuitOpen):
            await channel.stream_stream(f"/{SERVICE}/Chat")().write(b"OK")

    assert using(main, breaker=breaker).stats().refused == 4


@pytest.mark.parametrize("name", ["UNAVAILABLE", "NOT_FOUND", "CANCELLED"])
@pytest.mark.parametrize("send", [say, count])
def test_which_codes_count(using: Callable[..., Any], name: str, send: Any) -> None:
    breaker = CircuitBreaker(min_calls=1)

    async def main(channel: Any) -> None:
        call = send(channel)(name.encode())
        with pytest.raises(grpc.aio.AioRpcError):
            await (call if send is say else all_of(call))

    using(main, breaker=breaker)
    assert (breaker.state == "open") == (name == "UNAVAILABLE")
    assert breaker.stats().calls == (name == "NOT_FOUND")


@pytest.mark.parametrize("how", ["call", "task", "stream", "abandoned"])
def test_cancelling_counts_as_nothing(
    script: ScriptServer, using: Callable[..., Any], how: str
) -> None:
    breaker = CircuitBreaker(min_calls=1, failures=Exception)

    async def main(channel: Any) -> None:
        call = (say if how in ("call", "task") else count)(channel)(b"hang")
        await until(lambda: script.open == 1)
        if how == "task":
            task = asyncio.create_task(awaited(call))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert call.cancelled() and await call.code() is CODE.CANCELLED
        elif how != "abandoned":
            assert call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await (call if how == "call" else call.read())
            assert call.cancelled()
        del call
        gc.collect()
        await until(lambda: script.open == 0)

    policy = using(main, breaker=breaker, limit=Limit(1))
    assert policy.stats().cancelled == policy.stats().calls == 1
    assert breaker.stats().calls == 0 and breaker.state == "closed"


def test_a_stream_is_told_by_its_first_message(using: Callable[..., Any], clock: Any) -> None:
    breaker = CircuitBreaker(clock=clock)
    breaker.trip()
    clock.advance(5)

    async def main(channel: Any) -> None:
        stream = count(channel)(b"first hang")
        assert await stream.read() == b"first"
        assert breaker.state == "closed"
        stream.cancel()

    using(main, breaker=breaker)


# ---- limit --------------------------------------------------------------------------------------


def test_the_limit_holds_for_calls_and_streams(
    script: ScriptServer, using: Callable[..., Any]
) -> None:
    limit = Limit(2, max_waiting=1)

    async def main(channel: Any) -> None:
        call, stream = say(channel)(b"hang"), count(channel)(b"first hang")
        assert await stream.read() == b"first"
        await until(lambda: script.open == 2)
        waiting = say(channel)(b"OK")
        await until(lambda: limit.stats().waiting == 1)
        for send in (say, count):
            with pytest.raises(Overloaded) as caught:
                other = send(channel)(b"OK")
                await (other if send is say else all_of(other))
            assert caught.value.code() is CODE.RESOURCE_EXHAUSTED
        stream.cancel()
        assert await waiting == b"OK 1"
        call.cancel()

    assert using(main, limit=limit).stats().overloaded == 2


def test_a_stream_that_is_left_gives_its_permit_back(using: Callable[..., Any]) -> None:
    """grpc's own goes on when a loop over it is left, and the next call waits for ever."""
    limit = Limit(4)

    async def main(channel: Any) -> None:
        for _ in range(20):
            async for message in count(channel)(b"first hang"):
                assert message == b"first"
                break
        gc.collect()
        assert await say(channel)(b"OK", timeout=10) == b"OK 1"

    using(main, limit=limit)


def test_a_stream_can_be_taken_up_again_where_it_was_left(using: Callable[..., Any]) -> None:
    async def main(channel: Any) -> None:
        stream = count(channel)(b"OK")
        async for message in stream:
            assert message == b"OK 1"
            break
        assert await all_of(stream) == [b"last"]

    using(main)


@pytest.mark.parametrize("how", ["open", "waiting"])
def test_a_loop_that_ends_takes_no_permit_with_it(script: ScriptServer, how: str) -> None:
    limit = Limit(1)
    policy = CallPolicy(limit=limit)
    kept: list[Any] = []

    async def main() -> None:
        channel = policy.wrap(grpc.aio.insecure_channel(script.target))
        kept.append(channel)
        stream = count(channel)(b"first hang")
        assert await stream.read() == b"first"
        kept.append(stream)
        if how == "waiting":
            kept.append(count(channel)(b"OK"))
            await until(lambda: limit.stats().waiting == 1)

    asyncio.run(main())
    kept.clear()
    gc.collect()
    assert limit.stats().in_use == 0


def test_a_storm_loses_no_permit(script: ScriptServer, using: Callable[..., Any]) -> None:
    limit = Limit(5)

    async def main(channel: Any) -> None:
        sender, receiver = say(channel), count(channel)

        async def run(index: int) -> None:
            for turn in range(8):
                kind = (index + turn) % 6
                try:
                    if kind == 0:
                        await sender(b"OK")
                    elif kind == 1:
                        await sender(b"NOT_FOUND")
                    elif kind == 2:
                        call = sender(b"hang")
                        await asyncio.sleep(0.001 * (index % 5))
                        call.cancel()
                        await call
                    elif kind == 3:
                        async for _ in receiver(b"first hang"):
                            break
                    elif kind == 4:
                        await all_of(receiver(b"OK"))
                    else:
                        await sender(b"hang", timeout=0.02)
                except grpc.RpcError:
                    pass
                except asyncio.CancelledError:
                    pass

        await asyncio.gather(*(run(index) for index in range(12)))
        gc.collect()

    retry = Retry(2, **QUICK)
    policy = using(main, limit=limit, retry=retry, breaker=CircuitBreaker(), timeout=20)
    assert limit.stats().waiting == 0
    assert policy.stats().calls == 96
