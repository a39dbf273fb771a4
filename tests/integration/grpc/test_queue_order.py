"""`queue_order="deadline"`: which call is next, and which is not sent since it cannot make it."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

import fastpool.grpc as fg  # noqa: E402
from fastpool.grpc import _queue_order  # noqa: E402
from fastpool.grpc._aio import wait_queue  # noqa: E402
from fastpool.grpc._queue_order import SAMPLE, LeastTime, cannot_make_it  # noqa: E402
from support.helpers import PATIENCE, ThreadRunner, eventually  # noqa: E402

pytestmark = [pytest.mark.process, pytest.mark.light]

ONE: Any = {"connections": 1, "streams_per_connection": 1}
BY_DEADLINE: Any = {**ONE, "queue_order": "deadline"}
DEADLINE = grpc.StatusCode.DEADLINE_EXCEEDED
SAY, HOLD = "/test.Order/Say", "/test.Order/Hold"
#: In the order in which they join; None stands as if it were 10.
TIMEOUTS = (60.0, None, 20.0, 5.0)
BY_TIMEOUT = [b"5.0", b"None", b"20.0", b"60.0"]


class Server:
    """Notes what it was sent, in order. `Hold` answers when told to; `slow` takes a while."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.go_on = threading.Event()
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        handlers = {
            "Say": grpc.unary_unary_rpc_method_handler(self._say),
            "Hold": grpc.unary_unary_rpc_method_handler(self._hold),
        }
        generic = grpc.method_handlers_generic_handler("test.Order", handlers)
        self._server.add_generic_rpc_handlers((generic,))
        self.target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def _say(self, request: bytes, _: Any) -> bytes:
        self.sent.append(request)
        if request == b"slow":
            time.sleep(0.02)
        return request

    def _hold(self, request: bytes, _: Any) -> bytes:
        self.go_on.wait(PATIENCE)
        return request

    def close(self) -> None:
        self.go_on.set()
        self._server.stop(None).wait()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()
    gc.collect()
    assert fg.stats() == ()


@pytest.fixture(autouse=True)
def known_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is."""
    monkeypatch.setattr(_queue_order, "KNOWN_FOR", 20 * PATIENCE)


def waiting(n: int) -> None:
    eventually(lambda: fg.stats()[0].waiting == n)


def name(timeout: float | None) -> bytes:
    return str(timeout).encode()


# ---- who is next --------------------------------------------------------------------------------


def test_blocking_calls_go_by_deadline(server: Server, runner: ThreadRunner) -> None:
    with fg.shared(server.target, **BY_DEADLINE) as channel:
        held = channel.unary_unary(HOLD).future(b"", timeout=60)
        say = channel.unary_unary(SAY)
        for number, timeout in enumerate(TIMEOUTS):
            runner.start(lambda timeout=timeout: say(name(timeout), timeout=timeout))
            waiting(number + 1)
        server.go_on.set()
        runner.finish()
        held.result()
    assert server.sent == BY_TIMEOUT


def test_futures_go_by_deadline(server: Server) -> None:
    with fg.shared(server.target, **BY_DEADLINE) as channel:
        held = channel.unary_unary(HOLD).future(b"", timeout=60)
        say, calls = channel.unary_unary(SAY), []
        for timeout in TIMEOUTS:
            calls.append(say.future(name(timeout), timeout=timeout))
            waiting(len(calls))
        server.go_on.set()
        for call in [held, *calls]:
            call.result()
    assert server.sent == BY_TIMEOUT


async def in_queue(n: int) -> None:
    while fg.stats()[0].waiting < n:
        await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    ("order", "sent"), [("deadline", BY_TIMEOUT), ("arrival", [*map(name, TIMEOUTS)])]
)
def test_calls_of_tasks(server: Server, order: str, sent: list[bytes]) -> None:
    async def main() -> None:
        async with fg.aio_shared(server.target, **ONE, queue_order=order) as channel:
            held = channel.unary_unary(HOLD)(b"", timeout=60)
            say = channel.unary_unary(SAY)
            calls = [say(name(timeout), timeout=timeout) for timeout in TIMEOUTS]
            await in_queue(len(calls))
            server.go_on.set()
            await asyncio.gather(held, *calls)

    asyncio.run(main())
    assert server.sent == sent


def test_tasks_that_cancel_leave_nothing_behind(server: Server) -> None:
    """Not in the order either, which would grow with calls whose time is far away."""

    async def main() -> None:
        async with fg.aio_shared(server.target, **BY_DEADLINE) as channel:
            held = channel.unary_unary(HOLD)(b"", timeout=60)
            say = channel.unary_unary(SAY)
            last = say(b"last", timeout=60)
            for _ in range(500):
                call = say(b"never", timeout=30)
                call.cancel()
            (loop,) = channel._live().dispatchers()
            assert len(loop.wait_queue._ranked) < 100
            server.go_on.set()
            assert await last == b"last"
            await held
            assert not loop.wait_queue._ranked  # or a reply would live as long as the channel

    asyncio.run(main())
    assert server.sent == [b"last"]


class Struck(BaseException):
    """What a signal handler raises."""


@pytest.mark.parametrize("order", ["deadline", "arrival"])
def test_a_turn_that_a_handler_cuts_short_comes_again(
    server: Server, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, told = wait_queue.begin, []

    def struck(dispatcher: Any, slot: Any, *call: Any) -> Any:
        monkeypatch.undo()
        slot()  # as `begin` does where something raises
        raise Struck

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: told.append(type(context["exception"])))
        async with fg.aio_shared(server.target, **ONE, queue_order=order) as channel:
            held = channel.unary_unary(HOLD)(b"", timeout=60)
            call = channel.unary_unary(SAY)(b"late")
            await in_queue(1)
            monkeypatch.setattr(wait_queue, "begin", struck)
            server.go_on.set()
            assert await asyncio.wait_for(call, PATIENCE) == b"late"
            await held

    asyncio.run(main())
    assert wait_queue.begin is begin and told == [Struck]


def test_streams_stand_in_the_same_order(server: Server) -> None:
    """Between a call that is in more of a hurry and one that is in less."""
    with fg.shared(server.target, **BY_DEADLINE) as channel:
        held = channel.unary_unary(HOLD).future(b"", timeout=60)
        say = channel.unary_unary(SAY)
        late = say.future(b"late", timeout=60)
        waiting(1)
        stream = channel.unary_stream(SAY)(b"stream", timeout=30)
        waiting(2)
        soon = say.future(b"soon", timeout=5)
        waiting(3)
        server.go_on.set()
        held.result()
        assert list(stream) == [b"stream"]
        assert (soon.result(), late.result()) == (b"soon", b"late")
    assert server.sent == [b"soon", b"stream", b"late"]


def test_close_ends_those_in_the_queue(server: Server) -> None:
    channel = fg.shared(server.target, **BY_DEADLINE)
    held = channel.unary_unary(HOLD).future(b"", timeout=60)
    calls = [channel.unary_unary(SAY).future(b"never", timeout=each) for each in TIMEOUTS]
    waiting(len(calls))
    channel.close()
    for call in [held, *calls]:
        eventually(call.done)
        assert call.code() is grpc.StatusCode.CANCELLED
    assert server.sent == []


def test_close_ends_tasks_in_the_queue(server: Server) -> None:
    async def main() -> None:
        channel = fg.aio_shared(server.target, **BY_DEADLINE)
        held = channel.unary_unary(HOLD)(b"", timeout=60)
        calls = [channel.unary_unary(SAY)(b"never", timeout=each) for each in TIMEOUTS]
        await in_queue(len(calls))
        await channel.close()
        for call in [held, *calls]:
            with pytest.raises(asyncio.CancelledError):
                await call

    asyncio.run(main())
    assert server.sent == []


# ---- what is not sent ---------------------------------------------------------------------------


def test_the_least_time_is_that_of_the_shortest_tenth_of_a_sample() -> None:
    least = LeastTime()
    for ms in range(SAMPLE - 1, 0, -1):
        least.note(ms / 1000)
    assert least.seconds == 0  # nothing is known of so few
    least.note(0.5)
    assert least.seconds == 0.003
    for _ in range(SAMPLE):
        least.note(0.2)
    assert least.seconds == 0.2  # of the latest


def test_the_least_time_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is fast again would else be sent none of the calls that could show it."""
    least = LeastTime()
    least.learn(50.0)
    assert cannot_make_it("server", 1.0, least) is not None
    assert cannot_make_it("server", 60.0, least) is None
    monkeypatch.setattr(_queue_order, "KNOWN_FOR", 0.0)
    for _ in range(SAMPLE):
        least.note(50.0)
    assert cannot_make_it("server", 1.0, least) is None


@pytest.mark.parametrize("blocking", [True, False])
def test_queued_calls_are_measured(server: Server, runner: ThreadRunner, blocking: bool) -> None:
    """And one that has less time is refused at once, before it has waited."""
    with fg.shared(server.target, **BY_DEADLINE) as channel:
        say: Any = channel.unary_unary(SAY)
        held = channel.unary_unary(HOLD).future(b"", timeout=60)
        if blocking:
            for _ in range(SAMPLE):
                runner.start(say, b"slow", 60)
        calls = [] if blocking else [say.future(b"slow", timeout=60) for _ in range(SAMPLE)]
        waiting(SAMPLE)
        server.go_on.set()
        runner.finish()
        for call in calls:
            call.result()
        held.result()
        eventually(lambda: say.method.least.seconds >= 0.02)
        server.go_on.clear()
        held = channel.unary_unary(HOLD).future(b"", timeout=60)
        with pytest.raises(fg.LocalError, match="at the least, so it was not sent") as caught:
            say(b"hurried", timeout=0.01)
        assert caught.value.code() is DEADLINE
        server.go_on.set()
        held.result()
        assert say(b"unhurried", timeout=60) == b"unhurried"
    assert b"hurried" not in server.sent


@pytest.mark.parametrize("blocking", [True, False])
def test_a_slot_goes_on_to_one_that_can_make_it(
    server: Server, runner: ThreadRunner, blocking: bool
) -> None:
    with fg.shared(server.target, **BY_DEADLINE) as channel:
        say: Any = channel.unary_unary(SAY)
        held = channel.unary_unary(HOLD).future(b"", timeout=60)

        def refused() -> None:
            with pytest.raises(fg.LocalError, match="at the least") as caught:
                say(b"first", timeout=40) if blocking else say.future(b"first", timeout=40).result()
            assert caught.value.code() is DEADLINE

        first = runner.start(refused)
        waiting(1)
        second = say.future(b"second", timeout=90)
        waiting(2)
        say.method.least.learn(50.0)
        server.go_on.set()
        first.result()
        assert second.result() == b"second"
        held.result()
    assert server.sent == [b"second"]


def test_a_slot_of_tasks_goes_on_to_one_that_can_make_it(server: Server) -> None:
    async def main() -> None:
        async with fg.aio_shared(server.target, **BY_DEADLINE) as channel:
            held = channel.unary_unary(HOLD)(b"", timeout=60)
            say: Any = channel.unary_unary(SAY)
            first, second = say(b"first", timeout=40), say(b"second", timeout=90)
            await in_queue(2)
            say.method.least.learn(50.0)
            third = say(b"third", timeout=30)
            assert await third.code() is DEADLINE and "at the least" in await third.details()
            server.go_on.set()
            with pytest.raises(grpc.aio.AioRpcError, match="at the least"):
                await first
            assert await second == b"second"
            await held

    asyncio.run(main())
    assert server.sent == [b"second"]


def test_by_arrival_nothing_is_measured(server: Server) -> None:
    """Nor does a method cost more."""
    with fg.shared(server.target, **ONE) as channel:
        assert channel.unary_unary(SAY).method.least is None
