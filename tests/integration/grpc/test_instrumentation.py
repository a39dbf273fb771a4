"""Shared channels under OpenTelemetry's instrumentation of gRPC clients, as it stands."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")
instrumentation = pytest.importorskip(
    "opentelemetry.instrumentation.grpc", reason="opentelemetry-instrumentation-grpc not installed"
)
pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed")

from opentelemetry import trace  # noqa: E402
from opentelemetry.sdk.trace import TracerProvider  # noqa: E402
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import (  # noqa: E402
    InMemorySpanExporter,
)

from fastpool.grpc import aio_shared, shared, stats  # noqa: E402
from fastpool.grpc._sync.generator_stream import Generated  # noqa: E402
from integration.grpc.server import SERVICE, GrpcServer  # noqa: E402
from support.helpers import ThreadRunner, eventually  # noqa: E402

CODE = grpc.StatusCode

pytestmark = [pytest.mark.process, pytest.mark.light]

SAY, COUNT = f"/{SERVICE}/Say", f"/{SERVICE}/Count"
Spans = Callable[[], list[str]]


@pytest.fixture(scope="module")
def target() -> Iterator[str]:
    with GrpcServer() as server:
        yield server.target


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    """Of the process: it can have one provider, and the client's instrumentation takes that."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


def instrumented(instrumentor: Any, exporter: InMemorySpanExporter) -> Iterator[Spans]:
    exporter.clear()
    instrumentor.instrument()
    try:
        yield lambda: [span.name for span in exporter.get_finished_spans()]
    finally:
        instrumentor.uninstrument()


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> Iterator[Spans]:
    """The names of what has been recorded so far."""
    yield from instrumented(instrumentation.GrpcInstrumentorClient(), exporter)


@pytest.fixture
def aio_spans(exporter: InMemorySpanExporter) -> Iterator[Spans]:
    yield from instrumented(instrumentation.GrpcAioInstrumentorClient(), exporter)


def test_calls_and_streams_of_threads_have_their_spans(target: str, spans: Spans) -> None:
    with shared(target, connections=1, streams_per_connection=2) as channel:
        say = channel.unary_unary(SAY)
        assert say(b"x", timeout=10) == b"x"
        answer, call = say.with_call(b"y", timeout=10)
        assert (answer, call.code()) == (b"y", grpc.StatusCode.OK)
        assert say.future(b"z", timeout=10).result(10) == b"z"
        assert list(channel.unary_stream(COUNT)(b"ab", timeout=10)) == [b"a", b"b"]
        with pytest.raises(grpc.RpcError):
            channel.unary_unary(f"/{SERVICE}/None")(b"", timeout=10)
        eventually(lambda: sorted(spans()) == [COUNT, f"/{SERVICE}/None", SAY, SAY, SAY])
        eventually(lambda: stats()[0].in_use == 0)


def test_a_stream_of_threads_holds_its_slot_and_gives_it_back(target: str, spans: Spans) -> None:
    """Instrumented, it is a generator and no call of grpc's."""
    with shared(target, connections=1, streams_per_connection=2) as channel:
        count = channel.unary_stream(COUNT)

        def left() -> None:
            stream = count(b"...", timeout=10)
            assert next(stream) == b"first"
            assert stats()[0].in_use == 1

        for _ in range(4):  # more than there are slots
            left()
            assert stats()[0].in_use == 0
        stream = count(b"...", timeout=10)
        assert next(stream) == b"first"
        assert stream.cancel()
        assert stats()[0].in_use == 0
        with pytest.raises(grpc.RpcError):
            list(channel.unary_stream(f"/{SERVICE}/None")(b"", timeout=10))
        assert stats()[0].in_use == 0


def test_calls_and_streams_of_tasks_have_their_spans(target: str, aio_spans: Spans) -> None:
    async def main() -> None:
        async with aio_shared(target, connections=1, streams_per_connection=2) as channel:
            assert await channel.unary_unary(SAY)(b"x", timeout=10) == b"x"
            stream = channel.unary_stream(COUNT)(b"ab", timeout=10)
            assert [each async for each in stream] == [b"a", b"b"]
            with pytest.raises(grpc.RpcError):
                await channel.unary_unary(f"/{SERVICE}/None")(b"", timeout=10)
            async with asyncio.timeout(10):
                while len(aio_spans()) < 3 or stats()[0].in_use:
                    await asyncio.sleep(0.001)
        assert sorted(aio_spans()) == [COUNT, f"/{SERVICE}/None", SAY]

    asyncio.run(main())


def test_a_generator_ends_as_it_first_did() -> None:
    """What is asked of it afterwards changes nothing, and those who wait for its end hear once."""

    def messages() -> Iterator[bytes]:
        yield b"a"
        yield b"b"

    for end in ("cancelled", "read"):
        call, heard = Generated(messages()), []
        assert call.add_callback(lambda heard=heard: heard.append(1)) and call.is_active()
        assert next(call) == b"a" and call.code() is None and not heard
        if end == "cancelled":
            assert call.cancel()
        else:
            assert list(call) == [b"b"]
        ended = call.code()
        assert ended is (CODE.CANCELLED if end == "cancelled" else CODE.OK)
        assert not call.cancel() and list(call) == []
        assert call.code() is ended and heard == [1] and not call.is_active()
        assert not call.add_callback(lambda: None)  # too late


def test_a_generator_that_another_thread_is_in_has_not_ended(runner: ThreadRunner) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def messages() -> Iterator[bytes]:
        entered.set()
        assert go_on.wait(10)
        yield b"a"

    call, heard = Generated(messages()), []
    call.add_callback(lambda: heard.append(1))
    reader = runner.start(next, call)
    assert entered.wait(10)
    with pytest.raises(ValueError):
        next(call)
    assert not call.cancel() and call.is_active() and not heard
    go_on.set()
    assert reader.result() == b"a"
    assert list(call) == [] and call.code() is CODE.OK and heard == [1]
