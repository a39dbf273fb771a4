"""Calls that go unanswered are sent once more, and the first answer counts."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

import fastpool.grpc as fg  # noqa: E402
from bench.grpc.bad_link import BadLink  # noqa: E402
from fastpool.calls import CallPolicy  # noqa: E402
from fastpool.grpc._hedging import HedgeBudget  # noqa: E402
from integration.calls.server import SERVICE, ScriptServer  # noqa: E402
from integration.grpc.server import SERVICE as ECHO  # noqa: E402
from integration.grpc.server import GrpcServer  # noqa: E402
from support.helpers import eventually  # noqa: E402

SAY = f"/{SERVICE}/Say"
SOON, NEVER = 0.02, 60.0  # seconds without an answer
LONG = 30.0  # the deadline of calls that are to be answered


@pytest.fixture
def script() -> Iterator[ScriptServer]:
    server = ScriptServer()
    yield server
    server.gate.set()
    server.close()
    gc.collect()
    assert fg.stats() == ()


class Threads:
    """A shared channel, and calls of it that block."""

    def __init__(self, target: str, **parameters: Any) -> None:
        self.channel: Any = fg.shared(target, **parameters)
        self.error: type[Exception] = grpc.RpcError

    def call(self, request: bytes, path: str = SAY, **options: Any) -> Any:
        return self.channel.unary_unary(path)(request, **options)

    def ready(self, connections: int) -> None:
        fg.wait_ready(self.channel, LONG, connections=connections)

    def close(self) -> None:
        self.channel.close()


class Tasks:
    """The same of tasks, on a loop of its own."""

    def __init__(self, target: str, **parameters: Any) -> None:
        self.runner = asyncio.Runner()
        self.channel: Any = fg.aio_shared(target, **parameters)
        self.error: type[Exception] = grpc.RpcError

    def call(self, request: bytes, path: str = SAY, **options: Any) -> Any:
        async def one() -> Any:
            return await self.channel.unary_unary(path)(request, **options)

        return self.runner.run(one())

    def ready(self, connections: int) -> None:
        async def all_at_once() -> None:
            wait = self.channel.unary_unary(f"/{ECHO}/Wait")
            await asyncio.gather(*(wait(b"100", timeout=LONG) for _ in range(connections)))

        self.runner.run(all_at_once())

    def close(self) -> None:
        self.runner.run(self.channel.close())
        self.runner.close()


Open = Callable[..., Any]


@pytest.fixture(params=[Threads, Tasks], ids=["threads", "tasks"])
def opened(request: pytest.FixtureRequest) -> Open:
    """``with opened(target, **options) as client:``; no slot is held at the end."""

    @contextmanager
    def client(target: str, **parameters: Any) -> Iterator[Any]:
        made = request.param(target, **parameters)
        try:
            yield made
            if isinstance(made, Tasks):
                made.runner.run(_until(nothing_is_held))
            else:
                eventually(nothing_is_held)
        finally:
            made.close()

    return client


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG):
        while not condition():
            await asyncio.sleep(0.001)


def nothing_is_held() -> bool:
    return not any(each.in_use or each.waiting for each in fg.stats())


def hedged() -> int:
    return sum(each.hedged for each in fg.stats())


# -- whose answer counts -----------------------------------------------------------------------


def test_the_second_call_answers_where_the_first_hangs(opened: Open, script: ScriptServer) -> None:
    """The caller gets its answer, and the first call is ended at the server."""
    with opened(script.target, hedge={SAY: SOON}) as client:
        assert client.call(b"hang OK", timeout=LONG) == b"OK 2"
        assert hedged() == 1
        eventually(lambda: (script.open, script.cancelled) == (0, 1))


def test_a_call_that_is_answered_in_time_is_sent_once(opened: Open, script: ScriptServer) -> None:
    """The option costs the server nothing while it answers."""
    with opened(script.target, hedge={f"/{SERVICE}/*": NEVER}) as client:
        assert client.call(b"OK", timeout=LONG) == b"OK 1"
        assert hedged() == 0


def test_other_methods_are_sent_once(opened: Open, script: ScriptServer) -> None:
    """What is not named may not be made twice."""
    with opened(script.target, hedge={f"/{SERVICE}/Other": 0}) as client:
        with pytest.raises(client.error):
            client.call(b"hang OK", timeout=0.3)
        assert hedged() == 0


@pytest.mark.parametrize("second", ["NOT_FOUND", "INTERNAL"])
def test_an_error_of_the_server_is_an_answer(
    opened: Open, script: ScriptServer, second: str
) -> None:
    """Whichever call it ends: the other one is not waited for."""
    with opened(script.target, hedge={SAY: SOON}) as client:
        with pytest.raises(client.error) as caught:
            client.call(f"hang {second}".encode(), timeout=LONG)
        assert caught.value.code().name == second
        eventually(lambda: (script.open, script.cancelled) == (0, 1))


def test_a_call_that_was_not_to_be_had_is_no_answer(opened: Open, script: ScriptServer) -> None:
    """UNAVAILABLE says nothing while the other call is under way."""
    request = b"later-OK UNAVAILABLE"

    def open_gate() -> None:
        eventually(lambda: script.seen[request] == 2)
        script.gate.set()

    thread = threading.Thread(target=open_gate)
    thread.start()
    with opened(script.target, hedge={SAY: SOON}) as client:
        assert client.call(request, timeout=LONG) == b"OK 1"
    thread.join()


def test_two_that_were_not_to_be_had_are_an_error(opened: Open, script: ScriptServer) -> None:
    """The call ends, and is not sent a third time."""
    request = b"later-UNAVAILABLE UNAVAILABLE"

    def open_gate() -> None:
        eventually(lambda: script.seen[request] == 2)
        script.gate.set()

    thread = threading.Thread(target=open_gate)
    thread.start()
    with opened(script.target, hedge={SAY: SOON}) as client:
        with pytest.raises(client.error) as caught:
            client.call(request, timeout=LONG)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert script.seen[request] == 2
    thread.join()


def test_both_expire_with_the_deadline(opened: Open, script: ScriptServer) -> None:
    """The second call has what is left of the time, not a time of its own."""
    with opened(script.target, hedge={SAY: SOON}) as client:
        with pytest.raises(client.error) as caught:
            client.call(b"hang", timeout=0.5)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        eventually(lambda: script.open == 0)


# -- where the second one goes ----------------------------------------------------------------


def test_it_goes_by_another_connection(opened: Open) -> None:
    """So a connection that has gone silent delays the call and does not fail it; and since the call
    does not expire either, the winner tells that the connection is to be looked at."""
    path = f"/{ECHO}/Say"
    with GrpcServer() as server, BadLink(server.port) as link:
        with opened(link.target, connections=2, hedge={path: 0.2}) as client:
            client.ready(2)
            for each in list(link.links):  # until it is the one by which the calls go
                before, each.swallows = hedged(), True
                assert client.call(b"x", path, timeout=LONG) == b"x"
                if hedged() > before:
                    break
                each.swallows = False
            assert hedged() > before

            def replaced() -> bool:  # the loop of tasks runs while calls do
                assert client.call(b"x", path, timeout=LONG) == b"x"
                return len(link.links) > 2

            eventually(replaced)


def test_without_a_free_slot_there_is_none(opened: Open, script: ScriptServer) -> None:
    """It takes no place in the queue from calls that were not sent yet."""
    threading.Timer(0.3, script.gate.set).start()
    one = {"connections": 1, "streams_per_connection": 1}
    with opened(script.target, hedge={SAY: SOON}, **one) as client:
        assert client.call(b"later-OK", timeout=LONG) == b"OK 1"
        assert hedged() == 0


def test_a_tenth_of_the_calls_may_be_sent_twice() -> None:
    """And ten in a row: a server that is slow for want of power gets no second load."""
    budget = HedgeBudget()
    assert sum(budget.spend() for _ in range(100)) == budget.sent == 10
    for _ in range(101):
        budget.note_call()
        budget.spend()
    assert budget.sent == 20


def test_with_no_budget_left_there_is_none(opened: Open, script: ScriptServer) -> None:
    """The call goes on alone."""
    threading.Timer(0.3, script.gate.set).start()
    with opened(script.target, hedge={SAY: SOON}) as client:
        budget = client.channel._live().hedges
        while budget.spend():
            pass
        spent = hedged()
        assert client.call(b"later-OK", timeout=LONG) == b"OK 1"
        assert hedged() == spent


# -- as any method ----------------------------------------------------------------------------


def test_it_is_called_as_any_method(opened: Open, script: ScriptServer) -> None:
    """Names and policies are those of a plain one, and wrong arguments are refused."""
    with opened(script.target, hedge={SAY: SOON}) as client:
        method = client.channel.unary_unary(SAY)
        assert method.__name__ == "Say"
        with pytest.raises(TypeError):
            client.call(b"OK", timeout=LONG, wrong=1)
        client.channel = CallPolicy(timeout=LONG).wrap(client.channel)
        assert client.call(b"hang OK") == b"OK 2"
        metadata = (("a", "b"),)
        assert client.call(b"hang OK  ", timeout=LONG, metadata=metadata) == b"OK 2"


def test_a_future_and_with_call_of_threads(script: ScriptServer) -> None:
    """`with_call` gives the call that counts; a future is sent once."""
    with fg.shared(script.target, hedge={SAY: SOON}) as channel:
        method = channel.unary_unary(SAY)
        reply, call = method.with_call(b"hang OK", LONG, (("a", "b"),))
        assert (reply, call.code()) == (b"OK 2", grpc.StatusCode.OK)
        future = method.future(b"hang OK  ", timeout=0.3)
        assert future.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert hedged() == 1
        eventually(nothing_is_held)


class Refuses(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc] # no types
    async def intercept_unary_unary(self, go_on: Any, details: Any, request: bytes) -> Any:
        if request == b"no":
            raise ZeroDivisionError
        return await go_on(details, request)


def test_interceptors_of_tasks(script: ScriptServer) -> None:
    """Both calls go by them, and what one raises is the caller's."""

    async def main() -> None:
        async with fg.aio_shared(
            script.target, hedge={SAY: SOON}, interceptors=[Refuses()]
        ) as channel:
            method = channel.unary_unary(SAY)
            assert await method(b"hang OK", timeout=LONG) == b"OK 2"
            with pytest.raises(ZeroDivisionError):
                await method(b"no", timeout=LONG)

    asyncio.run(main())


def test_a_cancelled_task_takes_both_calls_along(script: ScriptServer) -> None:
    """Neither runs on at the server, and no slot is held."""

    async def main() -> None:
        async with fg.aio_shared(script.target, hedge={SAY: SOON}) as channel:
            call = channel.unary_unary(SAY)(b"hang", timeout=LONG)
            assert 0 < call.time_remaining() <= LONG and not call.done()

            async def wait() -> None:
                await call

            task = asyncio.ensure_future(wait())
            await _until(lambda: script.open == 2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert call.cancelled()
            await _until(lambda: (script.open, script.cancelled) == (0, 2))
            await _until(nothing_is_held)

    asyncio.run(main())


def test_a_call_in_the_queue_is_sent_again_only_after_it_was_sent(script: ScriptServer) -> None:
    """What has not been asked cannot be late with its answer."""

    async def main() -> None:
        one = {"connections": 1, "streams_per_connection": 1}
        async with fg.aio_shared(script.target, hedge={SAY: SOON}, **one) as channel:
            holds = channel.unary_stream(f"/{SERVICE}/Count")(b"first hang")
            assert await holds.read() == b"first"
            call = channel.unary_unary(SAY)(b"OK", timeout=LONG)
            await asyncio.sleep(5 * SOON)
            assert (hedged(), script.seen[b"OK"]) == (0, 0)
            holds.cancel()
            assert await call == b"OK 1"

    asyncio.run(main())
