"""`aio_shared(health=...)`: connections whose server says NOT_SERVING get no new calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")
pytest.importorskip("grpc_health.v1", reason="grpcio-health-checking is not installed")

import fastpool.grpc as fg  # noqa: E402
from fastpool.grpc._aio.connection import AioConnection  # noqa: E402
from integration.grpc.aio_channels import quiet, say  # noqa: E402
from integration.grpc.server import SERVICE, GrpcServer  # noqa: E402
from support.loops import eventually, run_in  # noqa: E402

pytestmark = [pytest.mark.process, pytest.mark.light]


@pytest.fixture
def server() -> Iterator[GrpcServer]:
    with GrpcServer(health=True) as server:
        yield server


def avoided(dispatcher: Any) -> int:
    return len(dispatcher.verdicts._avoided)


def test_calls_go_where_the_service_is_served(
    server: GrpcServer, on_loop: Callable[..., Any]
) -> None:
    """Both connections lead to one server here, so half of them may be avoided and no more; and the
    watch begins anew when the server comes back."""

    async def main() -> None:
        async with fg.aio_shared(server.target, connections=2, health=SERVICE) as channel:
            await channel.channel_ready()
            dispatcher = channel._live().dispatcher()
            await eventually(lambda: len(dispatcher.watches) == 2)
            assert avoided(dispatcher) == 0
            server.set_health(SERVICE, False)
            await eventually(lambda: avoided(dispatcher) == 1)
            (ill,) = dispatcher.verdicts._avoided
            call_slots = [dispatcher.take() for _ in range(3)]
            assert all(call_slot.connection is not ill for call_slot in call_slots)
            for call_slot in call_slots:
                call_slot()
            assert await say(channel)(b"x", timeout=10) == b"x"
            server.kill()
            await eventually(lambda: avoided(dispatcher) == 0)
            await asyncio.to_thread(server.start)
            server.set_health(SERVICE, False)
            await eventually(lambda: avoided(dispatcher) == 1)
            server.set_health(SERVICE, True)
            await eventually(lambda: avoided(dispatcher) == 0)
            await quiet()
        assert not [task for task in asyncio.all_tasks() if "watch" in repr(task.get_coro())]

    on_loop(main())


def test_what_is_not_in_its_place_cannot_be_avoided(server: GrpcServer) -> None:
    """Which those who decide are told, so that they ask again."""

    async def main() -> None:
        async with fg.aio_shared(server.target, connections=2) as channel:
            dispatcher = channel._live().dispatcher()
            one = next(iter(dispatcher.live))
            assert dispatcher.avoid(one, True) is True
            assert dispatcher.avoid(one, False) is True
            assert dispatcher.avoid(AioConnection(dispatcher), True) is False

    run_in("asyncio", main())


def test_a_server_without_the_service_serves(on_loop: Callable[..., Any]) -> None:
    async def main(target: str) -> None:
        async with fg.aio_shared(target, connections=2, health=SERVICE) as channel:
            dispatcher = channel._live().dispatcher()
            assert await say(channel)(b"x", timeout=10) == b"x"
            await eventually(lambda: all(task.done() for task in dispatcher.watches.values()))
            assert len(dispatcher.watches) == 2 and avoided(dispatcher) == 0

    with GrpcServer() as plain:
        on_loop(main(plain.target))


def test_with_round_robin_grpc_watches_itself(
    server: GrpcServer, on_loop: Callable[..., Any]
) -> None:
    async def main() -> None:
        server.set_health(SERVICE, False)
        options: Any = {"health": SERVICE, "load_balancing": "round_robin", "connections": 1}
        async with fg.aio_shared(server.target, **options) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await say(channel)(b"x", timeout=10)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert not channel._live().dispatcher().watches
            server.set_health(SERVICE, True)
            assert await say(channel)(b"x", timeout=10, wait_for_ready=True) == b"x"

    on_loop(main())
