"""Health of connections: those whose server says NOT_SERVING get no new calls, within limits."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")
pytest.importorskip("grpc_health.v1", reason="grpcio-health-checking is not installed")

from fastpool.grpc import shared, stats, wait_ready  # noqa: E402
from fastpool.grpc._health import Verdicts, request_of, status_in  # noqa: E402
from fastpool.grpc._sync.connection import Connection  # noqa: E402
from integration.grpc.server import SERVICE, GrpcServer  # noqa: E402
from support.helpers import eventually  # noqa: E402

pytestmark = [pytest.mark.process, pytest.mark.light]


@pytest.fixture
def server() -> Iterator[GrpcServer]:
    server = GrpcServer(health=True)
    yield server
    server.close()
    gc.collect()
    assert stats() == ()


def say(channel: Any) -> Any:
    return channel.unary_unary(f"/{SERVICE}/Say")


# -- the verdicts ------------------------------------------------------------------------------


class Patients:
    def __init__(self, n: int) -> None:
        self.there = list(range(n))
        self.avoided: set[int] = set()
        self.absent: set[int] = set()  # of the pool
        self.verdicts = Verdicts(lambda: self.there, self.avoid)

    def avoid(self, connection: int, on: bool) -> bool:
        if connection in self.absent:
            return False
        (self.avoided.add if on else self.avoided.discard)(connection)
        assert len(self.avoided) < len(self.there), "the last one was avoided"
        return True

    def say(self, status: int, *connections: int) -> None:
        for connection in connections:
            self.verdicts.say(connection, status)


NOT_SERVING, SERVING, UNKNOWN = 2, 1, 0


def test_never_more_than_seventy_per_cent_and_never_the_last() -> None:
    for n, most in ((1, 0), (2, 1), (3, 2), (4, 2), (8, 5), (10, 7), (20, 14)):
        patients = Patients(n)
        patients.say(NOT_SERVING, *range(n))
        assert patients.avoided == set(range(most)), n
        patients.say(SERVING, *range(n))
        assert not patients.avoided


def test_when_one_recovers_another_that_is_ill_takes_its_turn() -> None:
    patients = Patients(4)
    patients.say(NOT_SERVING, 3, 2, 1)
    assert patients.avoided == {3, 2}
    patients.say(NOT_SERVING, 3)  # said again, it is no later for it
    assert patients.avoided == {3, 2}
    patients.say(UNKNOWN, 3)
    assert patients.avoided == {2, 1}


def test_the_limits_hold_when_there_are_fewer() -> None:
    patients = Patients(4)
    patients.say(NOT_SERVING, 0, 1)
    assert patients.avoided == {0, 1}
    for gone in (3, 2):
        patients.there.remove(gone)
        patients.avoided.discard(gone)
        patients.verdicts.forget(gone)
    assert patients.avoided == {0}
    patients.there.remove(1)
    patients.verdicts.forget(1)
    assert not patients.avoided


def test_one_that_is_not_in_its_place_yet_is_avoided_later() -> None:
    patients = Patients(2)
    patients.absent.add(0)
    assert patients.verdicts.say(0, NOT_SERVING) is False and not patients.avoided
    patients.absent.clear()
    assert patients.verdicts.apply() is True and patients.avoided == {0}


def test_the_messages_are_those_of_grpc_health() -> None:
    from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

    for name in ("", "a", "package.Service", "s" * 127, "s" * 128, "s" * 400, "né"):
        assert request_of(name) == HealthCheckRequest(service=name).SerializeToString()
    for status in range(4):
        data = HealthCheckResponse(status=status).SerializeToString()
        assert status_in(data) == status


# -- with servers ------------------------------------------------------------------------------


def avoided(channel: Any) -> int:
    return len(channel._live().verdicts._avoided)


def test_calls_go_where_the_service_is_served(server: GrpcServer) -> None:
    """Both connections lead to one server here, so half of them may be avoided and no more."""
    with shared(server.target, connections=2, health=SERVICE) as channel:
        wait_ready(channel, 10)
        assert avoided(channel) == 0
        server.set_health(SERVICE, False)
        eventually(lambda: avoided(channel) == 1)
        ill, well = channel._live().verdicts._avoided, channel._live().connected()
        (ill,) = ill
        lease = channel._live().pool.acquire()
        with channel._live().pool.lease() as next_one:
            assert lease.resource is next_one is not ill and next_one in well
        lease.release()
        assert say(channel)(b"x", timeout=10) == b"x"
        server.set_health(SERVICE, True)
        eventually(lambda: avoided(channel) == 0)


def test_it_holds_after_the_server_was_away(server: GrpcServer) -> None:
    """The watch is begun anew."""
    with shared(server.target, connections=2, health="") as channel:
        wait_ready(channel, 10)
        server.set_health("", False)
        eventually(lambda: avoided(channel) == 1)
        server.kill()
        eventually(lambda: avoided(channel) == 0)
        server.start()
        wait_ready(channel, 10)
        server.set_health("", False)
        eventually(lambda: avoided(channel) == 1)


def watching() -> set[threading.Thread]:
    return {each for each in threading.enumerate() if each.name == "fastpool-grpc-health"}


def test_a_server_without_the_service_is_not_asked_again() -> None:
    before = watching()
    with GrpcServer() as plain, shared(plain.target, connections=2, health=SERVICE) as channel:
        wait_ready(channel, 10)
        eventually(lambda: watching() <= before)
        assert say(channel)(b"x", timeout=10) == b"x"


def test_what_is_not_in_its_place_cannot_be_avoided(server: GrpcServer) -> None:
    """Which those who decide are told, so that they ask again."""
    with shared(server.target, connections=2) as channel:
        connections = channel._live()
        (one, _) = connections.connected()
        assert connections.avoid(one, True) is True
        assert connections.avoid(one, False) is True
        stranger = Connection(connections.key.dial(), connections.methods)
        assert connections.avoid(stranger, True) is False
        stranger.channel.close()


def test_what_is_in_bulk_is_not_watched(server: GrpcServer) -> None:
    """It is the only one of its kind, so nothing could follow from it."""
    before = watching()
    with shared(server.target, connections=2, health=SERVICE, bulk=[f"/{SERVICE}/Count"]) as it:
        assert list(it.unary_stream(f"/{SERVICE}/Count")(b"ab", timeout=10)) == [b"a", b"b"]
        assert stats()[0].connections == 3
        ours = watching() - before
        assert len(ours) == 2
    for each in ours:  # a closed channel is watched no longer
        each.join(10)
        assert not each.is_alive()


def test_a_server_without_the_service_serves() -> None:
    with GrpcServer() as plain, shared(plain.target, connections=2, health=SERVICE) as channel:
        wait_ready(channel, 10)
        assert say(channel)(b"x", timeout=10) == b"x" and avoided(channel) == 0


def test_with_round_robin_grpc_watches_itself(server: GrpcServer) -> None:
    server.set_health(SERVICE, False)
    options = {"health": SERVICE, "load_balancing": "round_robin", "connections": 1}
    with shared(server.target, **options) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            say(channel)(b"x", timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert not channel._live()._watches
        server.set_health(SERVICE, True)
        assert say(channel)(b"x", timeout=10, wait_for_ready=True) == b"x"
