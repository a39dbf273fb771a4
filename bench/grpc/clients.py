"""How the measurements call: methods by name, bursts of tasks, and bare grpcio's ways to spread."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

import grpc
import grpc.aio

from bench.grpc.server import SERVICE

# Far above any call here: it only keeps a measurement finite when something is stuck.
PATIENCE = 60.0

Method = Callable[..., Any]
Options = Sequence[tuple[str, Any]]


def path(method: str) -> str:
    return f"/{SERVICE}/{method}"


def unary(channel: Any, method: str = "Say") -> Method:
    return channel.unary_unary(path(method))


def stream(channel: Any, method: str = "Count") -> Method:
    return channel.unary_stream(path(method))


def native_scaling(connections: int) -> Options:
    """grpcio's own: further connections when the server's limit is hit; ignored before 1.84."""
    scaling = {"connectionScaling": {"maxConnectionsPerSubchannel": connections}}
    return [("grpc.service_config", json.dumps(scaling))]


def connection_of_its_own(index: int) -> Options:
    return [("grpc.use_local_subchannel_pool", 1), ("bench.connection", index)]


class Burst(NamedTuple):
    """What became of calls that began all at once."""

    seconds: float
    first: float  # until the first of them had ended well
    codes: Counter[str]

    @property
    def lost(self) -> int:
        return self.codes.total() - self.codes["OK"]

    @property
    def lost_percent(self) -> float:
        return 100 * self.lost / self.codes.total()


Opened = Callable[[], Any]  # makes an asyncio channel, on the loop that runs


@asynccontextmanager
async def methods_of(openers: Iterable[Opened], method: str) -> AsyncIterator[list[Method]]:
    """The method on each channel, all of them connected: so the server's limit is known."""
    async with AsyncExitStack() as stack:
        methods = []
        for creator in openers:
            channel = await stack.enter_async_context(creator())
            await unary(channel)(b"", timeout=PATIENCE, wait_for_ready=True)
            methods.append(unary(channel, method))
        yield methods


async def _burst(openers: Iterable[Opened], calls: int, milliseconds: int) -> Burst:
    request = b"%d" % milliseconds
    async with methods_of(openers, "Wait") as methods:
        begun = time.perf_counter()
        first: list[float] = []

        async def one(method: Method) -> str:
            try:
                await method(request, timeout=PATIENCE)
            except grpc.aio.AioRpcError as error:
                return str(error.code().name)
            if not first:
                first.append(time.perf_counter() - begun)
            return "OK"

        tasks: list[Awaitable[str]] = [one(methods[i % len(methods)]) for i in range(calls)]
        codes = Counter(await asyncio.gather(*tasks))
        seconds = time.perf_counter() - begun
    return Burst(seconds, first[0] if first else float("inf"), codes)


def burst(openers: Iterable[Opened], calls: int, milliseconds: int) -> Burst:
    """That many calls of that many milliseconds at once, dealt to the channels in turn."""
    return asyncio.run(_burst(openers, calls, milliseconds))


def bare(target: str, options: Options = ()) -> Opened:
    return lambda: grpc.aio.insecure_channel(target, options=list(options))


def by_hand(target: str, connections: int) -> list[Opened]:
    return [bare(target, connection_of_its_own(i)) for i in range(connections)]
