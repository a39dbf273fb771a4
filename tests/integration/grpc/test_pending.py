"""Futures and streams that stand in the queue: begun at once, ended like any other."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

from fastpool.grpc import LocalError, shared, stats  # noqa: E402
from fastpool.grpc._sync.dispatcher import Dispatcher, dispatcher  # noqa: E402
from fastpool.grpc._sync.pending_call import Pending  # noqa: E402
from integration.grpc.server import SERVICE, GrpcServer  # noqa: E402
from support.helpers import PATIENCE, ThreadRunner, eventually  # noqa: E402

pytestmark = [pytest.mark.process, pytest.mark.light]

ONE: dict[str, Any] = {"connections": 1, "streams_per_connection": 1}


class Scene:
    """A channel whose only slot is held, and what was sent on it since."""

    def __init__(self, target: str) -> None:
        self.channel = shared(target, **ONE)
        self.sent: list[bytes] = []
        self.say = self.channel.unary_unary(f"/{SERVICE}/Say", self.send)
        self.count = self.channel.unary_stream(f"/{SERVICE}/Count", self.send)
        self.held = self.channel.unary_stream(f"/{SERVICE}/Count")(b"...", timeout=60)
        assert next(self.held) == b"first"

    def send(self, request: bytes) -> bytes:
        self.sent.append(request)
        return request

    def free(self) -> None:
        self.held.cancel()

    def settled(self) -> None:
        eventually(lambda: (stats()[0].in_use, stats()[0].waiting) == (0, 0))


@pytest.fixture(scope="module")
def echo() -> Iterator[GrpcServer]:
    server = GrpcServer()
    yield server
    server.close()


@pytest.fixture
def scene(echo: GrpcServer) -> Iterator[Scene]:
    scene = Scene(echo.target)
    yield scene
    scene.held.cancel()
    scene.channel.close()
    del scene
    gc.collect()
    assert stats() == ()


def in_queue(n: int) -> None:
    eventually(lambda: stats()[0].waiting == n)


def test_a_future_begins_at_once_and_ends_when_it_had_its_slot(scene: Scene) -> None:
    future = scene.say.future(b"x", timeout=30)
    in_queue(1)
    assert not future.done() and future.running() and future.is_active()
    assert not future.cancelled() and not scene.sent and "in the queue" in repr(future)
    for ask in (future.result, future.exception, future.traceback):
        with pytest.raises(grpc.FutureTimeoutError):
            ask(timeout=0.01)
    told: list[bytes] = []
    heard = threading.Event()
    future.add_done_callback(lambda call: told.append(call.result()))
    assert future.add_callback(heard.set)
    scene.free()
    assert future.result(30) == b"x" and heard.wait(10)
    eventually(lambda: told == [b"x"])
    assert future.done() and future.code() is grpc.StatusCode.OK and future.exception() is None
    future.add_done_callback(lambda call: told.append(b"late"))
    assert told == [b"x", b"late"]
    scene.settled()


def test_a_stream_begins_at_once_too(scene: Scene) -> None:
    stream = scene.count(b"abc", timeout=30)
    in_queue(1)
    scene.free()
    assert list(stream) == [b"a", b"b", b"c"]
    assert stream.code() is grpc.StatusCode.OK and stream.details() == ""
    assert stream.initial_metadata() is not None and stream.trailing_metadata() is not None
    scene.settled()


def test_its_deadline_passes_in_queue(scene: Scene) -> None:
    future = scene.say.future(b"x", timeout=0.05)
    error = future.exception(30)
    assert isinstance(error, LocalError) and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert future.done() and future.code() is error.code() and not scene.sent


def test_cancelled_in_queue_it_is_not_sent(scene: Scene) -> None:
    told: list[Any] = []
    future, stream = scene.say.future(b"x", timeout=30), scene.count(b"abc", timeout=30)
    future.add_done_callback(lambda call: told.append(call.code()))
    future.add_done_callback(lambda call: 1 / 0)  # is logged, and hurts nobody
    future.add_callback(lambda: told.append("and another"))
    in_queue(2)
    assert future.cancel() and stream.cancel()
    assert future.cancelled() and future.done()
    assert told == [grpc.StatusCode.CANCELLED, "and another"]
    with pytest.raises(grpc.FutureCancelledError):
        future.result()
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    assert caught.value.code() is grpc.StatusCode.CANCELLED
    scene.free()
    scene.settled()  # the slots that they were given were passed on
    assert scene.say(b"y", timeout=30) == b"y"
    assert scene.sent == [b"y"]


def test_cancelled_while_it_is_being_made_it_is_cancelled_where_it_is() -> None:
    """It was wanted when its slot came, and is not any more when there is a call."""

    class Made:
        def __init__(self) -> None:
            self.cancelled = threading.Event()

        def cancel(self) -> bool:
            self.cancelled.set()
            return True

    made, there = Made(), threading.Event()
    line: list[Pending] = []

    async def begin(wanted: Any) -> Made:
        assert there.wait(10) and wanted()
        assert line[0].cancel()
        assert not wanted()
        return made

    line.append(Pending(begin))
    there.set()
    assert made.cancelled.wait(10)
    assert line[0].cancelled() and line[0].code() is grpc.StatusCode.CANCELLED


@pytest.mark.parametrize("ask", ["result", "exception", "traceback"])
def test_the_time_in_queue_is_part_of_the_time_to_wait(ask: str) -> None:
    left: list[Any] = []

    class Made:
        def __getattr__(self, name: str) -> Any:
            assert name == ask
            return lambda timeout=None: left.append(timeout)

    async def begin(wanted: Any) -> Made:
        await asyncio.sleep(0.01)
        return Made()

    getattr(Pending(begin), ask)(timeout=60)
    getattr(Pending(begin), ask)()
    assert 0 < left[0] < 60 and left[1] is None


def test_dropped_in_queue_it_is_cancelled_unless_somebody_is_to_be_told(scene: Scene) -> None:
    heard = threading.Event()
    scene.say.future(b"forgotten", timeout=30)
    scene.count(b"forgotten", timeout=30)
    scene.say.future(b"told", timeout=30).add_done_callback(lambda call: heard.set())
    gc.collect()
    in_queue(1)
    scene.free()
    assert heard.wait(30)
    scene.settled()
    assert scene.sent == [b"told"]
    assert scene.say(b"x", timeout=30) == b"x"


def test_dropped_after_that_it_calls_back_all_the_same(scene: Scene) -> None:
    """As grpc's own: a call with a done callback may be left to itself."""
    scene.free()
    scene.settled()
    heard: list[bytes] = []
    done = threading.Event()
    for _ in range(5):
        done.clear()
        future = scene.say.future(b"x", timeout=30)
        future.add_done_callback(lambda call: (heard.append(call.result()), done.set()))
        del future
        gc.collect()
        assert done.wait(30)
    assert heard == [b"x"] * 5


def test_closed_in_queue(scene: Scene) -> None:
    future = scene.say.future(b"x", timeout=30)
    in_queue(1)
    scene.channel.close()
    assert future.exception(30).code() is grpc.StatusCode.CANCELLED
    assert future.done() and not future.cancelled()  # nobody asked for that, as with grpc's own
    with pytest.raises(ValueError, match="closed channel"):
        scene.say.future(b"x")


def test_calls_that_begin_others_from_their_callbacks(scene: Scene) -> None:
    """All slots are taken then, and the thread that would have to wait is the one that brings the
    end of the call which has the slot."""
    scene.free()
    scene.settled()
    done, left = threading.Event(), [20]

    def again(call: Any) -> None:
        assert call.result() == b"x"
        left[0] -= 1
        if left[0]:
            for _ in range(2):  # one more than there are slots
                last = scene.say.future(b"x", timeout=30)
            last.add_done_callback(again)
        else:
            done.set()

    scene.say.future(b"x", timeout=30).add_done_callback(again)
    assert done.wait(60)
    scene.settled()


def test_a_callback_may_wait_for_another_call_in_the_queue(scene: Scene) -> None:
    """Of a call that never left the queue: no other is kept there by what its callback does."""
    other: list[bytes] = []
    done = threading.Event()

    def expired(call: Any) -> None:
        scene.free()
        other.append(scene.say.future(b"other", timeout=60).result(60))
        done.set()

    scene.say.future(b"x", timeout=0.05).add_done_callback(expired)
    assert done.wait(60) and other == [b"other"]
    scene.settled()


def test_a_callback_that_ends_its_thread_ends_no_other(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    heard, gate = threading.Event(), threading.Event()
    dispatcher.run(lambda loop: gate.wait(30))  # so that it does not expire before
    scene.say.future(b"x", timeout=0.05).add_done_callback(lambda call: sys.exit(1))
    gate.set()
    eventually(lambda: "SystemExit" in caplog.text)
    scene.say.future(b"x", timeout=0.05).add_done_callback(lambda call: heard.set())
    assert heard.wait(60)
    future = scene.say.future(b"x", timeout=60)
    scene.free()
    assert future.result(60) == b"x"
    scene.settled()


def test_what_cannot_be_begun_fails_by_itself(scene: Scene) -> None:
    future = scene.say.future(b"x", timeout=30, nonsense=1)
    in_queue(1)
    scene.free()
    error = future.exception(30)
    assert error.code() is grpc.StatusCode.UNKNOWN and "nonsense" in error.details()
    scene.settled()


def test_one_that_waits_was_not_refused_before(scene: Scene) -> None:
    """Nothing is made up for it, or counted, that it does not get."""
    future, stream = scene.say.future(b"x", timeout=60), scene.count(b"x", timeout=60)
    in_queue(2)
    entry = scene.channel._entry
    assert entry is not None and entry.connections.pool.stats().timeouts == 0
    scene.free()
    assert future.result(30) == b"x" and list(stream) == [b"x"]


def test_cancelled_before_it_has_come_to_the_queue(scene: Scene) -> None:
    """The thread that takes them there has not seen it yet."""
    gate, there = threading.Event(), threading.Event()
    dispatcher.run(lambda loop: (there.set(), gate.wait(30)))
    assert there.wait(30)
    calls = [scene.say.future(b"cancelled", timeout=60), scene.count(b"cancelled", timeout=60)]
    assert all(call.cancel() for call in calls) and all(call.cancelled() for call in calls)
    kept = scene.say.future(b"kept", timeout=60)
    gate.set()
    in_queue(1)
    scene.free()
    assert kept.result(30) == b"kept" and scene.sent == [b"kept"]
    scene.settled()


def test_what_fails_on_the_way_to_the_queue_keeps_no_other_from_it(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    dispatcher.run(lambda loop: 1 / 0)
    future = scene.say.future(b"x", timeout=60)
    in_queue(1)
    scene.free()
    assert future.result(30) == b"x"
    assert "ZeroDivisionError" in caplog.text


def test_a_thousand_at_once_are_taken_in_their_order(scene: Scene) -> None:
    """More than are taken in at a time."""
    sent = [b"%d" % number for number in range(1000)]
    calls = [scene.say.future(each, timeout=60) for each in sent]
    scene.free()
    assert [call.result(60) for call in calls] == scene.sent == sent


def test_one_thread_waits_for_all(scene: Scene) -> None:
    before = threading.active_count()
    calls = [scene.say.future(b"x", timeout=60) for _ in range(100)]
    calls += [scene.count(b"", timeout=60) for _ in range(100)]
    in_queue(200)
    assert threading.active_count() <= before + 4
    scene.free()
    for call in calls:
        call.result()
    scene.settled()


def test_they_are_served_in_the_order_in_which_they_came(
    scene: Scene, runner: ThreadRunner
) -> None:
    """Blocking calls and others."""
    calls = []
    for number in range(3):
        calls.append(scene.say.future(b"%d future" % number, timeout=60))
        in_queue(2 * number + 1)
        runner.start(scene.say, b"%d blocking" % number, 60)
        in_queue(2 * number + 2)
    scene.free()
    runner.finish()
    assert scene.sent == [
        b"%d %s" % (n, kind) for n in range(3) for kind in (b"future", b"blocking")
    ]


def test_in_queue_it_has_the_time_that_it_has(scene: Scene) -> None:
    future, stream = scene.say.future(b"x", timeout=30), scene.count(b"x")
    in_queue(2)
    assert 0 < future.time_remaining() <= 30 and stream.time_remaining() is None
    future.cancel(), stream.cancel()


def test_context_variables_are_those_of_the_caller(scene: Scene) -> None:
    """Where the request is made into bytes."""
    variable: ContextVar[str] = ContextVar("variable")
    seen: list[str] = []

    def send(request: bytes) -> bytes:
        seen.append(variable.get())
        return request

    say = scene.channel.unary_unary(f"/{SERVICE}/Say", send)
    variable.set("first")
    first = say.future(b"x", timeout=30)
    in_queue(1)
    variable.set("second")
    second = say.future(b"x", timeout=30)
    in_queue(2)
    scene.free()
    assert first.result() == second.result() == b"x" and seen == ["first", "second"]


def test_a_request_that_cannot_be_sent_is_what_it_is_out_of_queue(scene: Scene) -> None:
    def send(request: bytes) -> bytes:
        raise ValueError("no request")

    say = scene.channel.unary_unary(f"/{SERVICE}/Say", send)
    in_it = say.future(b"x", timeout=30)
    in_queue(1)
    scene.free()
    scene.settled()
    with pytest.raises(grpc.RpcError) as caught:
        say.future(b"x", timeout=30)
    with pytest.raises(grpc.RpcError) as late:
        in_it.result(30)
    for error in (caught.value, late.value):
        assert (error.code(), error.details()) == (
            grpc.StatusCode.INTERNAL,
            "Exception serializing request!",
        )


def test_a_handler_that_strikes_who_wakes_the_thread_leaves_nobody_behind() -> None:
    """Others have seen it woken by then, and left their call to that."""
    made = threading.Event()

    class Struck:
        """A loop that is not reached by the first who calls it."""

        def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
            self.loop = loop
            self.strikes = 1

        def call_soon_threadsafe(self, *args: Any) -> None:
            if self.strikes:
                self.strikes -= 1
                mine.run(lambda loop: made.set())  # of another thread
                raise KeyboardInterrupt
            self.loop.call_soon_threadsafe(*args)

    mine: Any = Dispatcher()
    loop = mine._start()
    mine._loop = Struck(loop)
    with pytest.raises(KeyboardInterrupt):
        mine.run(lambda loop: None)
    assert made.wait(PATIENCE)
    loop.call_soon_threadsafe(loop.stop)
    eventually(lambda: not loop.is_running())
    loop.close()
