"""The gRPC server of tests and measurements does what it says: limits, TLS, health, restarts."""

from __future__ import annotations

import builtins
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

from bench.grpc import certificate as certificates  # noqa: E402
from bench.grpc.server import SERVICE, GrpcServer  # noqa: E402
from support.helpers import eventually  # noqa: E402

pytestmark = [pytest.mark.process, pytest.mark.once]

OK = grpc.StatusCode.OK


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def connected(stack: ExitStack, server: GrpcServer) -> Any:
    return stack.enter_context(grpc.insecure_channel(server.target))


def test_its_methods(stack: ExitStack) -> None:
    server = stack.enter_context(GrpcServer())
    channel = connected(stack, server)
    path = f"/{SERVICE}/"
    assert channel.unary_unary(path + "Say")(b"x", timeout=10) == b"x"
    begun = time.monotonic()
    assert channel.unary_unary(path + "Wait")(b"30", timeout=10) == b"30"
    assert time.monotonic() - begun >= 0.03
    assert list(channel.unary_stream(path + "Count")(b"abc", timeout=10)) == [b"a", b"b", b"c"]
    assert list(channel.unary_stream(path + "Pour")(b"2 3 0", timeout=10)) == [b"\0\0\0"] * 2
    assert channel.stream_unary(path + "Join")(iter([b"a", b"b"]), timeout=10) == b"ab"
    assert list(channel.stream_stream(path + "Chat")(iter([b"a", b"b"]), timeout=10)) == [
        b"a",
        b"b",
    ]
    assert server.counts().peers == 1


@pytest.mark.parametrize("patient", [False, True])
def test_it_runs_no_more_streams_of_a_connection_than_its_limit(
    stack: ExitStack, patient: bool
) -> None:
    server = stack.enter_context(GrpcServer(streams=3, patient=patient))
    wait = connected(stack, server).unary_unary(f"/{SERVICE}/Wait")
    wait(b"0", timeout=10)  # the client has heard of the limit
    futures = [wait.future(b"50", timeout=10) for _ in range(9)]
    codes = [future.code() for future in futures]
    assert server.counts().most == 3
    if patient:
        assert codes == [OK] * 9


def test_it_counts_the_calls_that_run(stack: ExitStack) -> None:
    server = stack.enter_context(GrpcServer())
    stream = connected(stack, server).unary_stream(f"/{SERVICE}/Count")(b"...", timeout=30)
    assert next(stream) == b"first"
    assert server.counts().running == 1
    stream.cancel()
    eventually(lambda: server.counts().running == 0)


def test_it_speaks_tls(stack: ExitStack, certificate: tuple[Path, Path]) -> None:
    server = stack.enter_context(GrpcServer(certificate))
    credentials = grpc.ssl_channel_credentials(certificate[1].read_bytes())
    channel = stack.enter_context(grpc.secure_channel(server.target, credentials))
    assert channel.unary_unary(f"/{SERVICE}/Say")(b"x", timeout=10) == b"x"


def test_certificates_are_made_without_the_command_too(
    stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates.shutil, "which", lambda name: None)
    pytest.importorskip("cryptography", reason="cryptography is not installed")
    test_it_speaks_tls(stack, certificates.make_certificate(tmp_path))

    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("cryptography"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(certificates.NoCertificate, match="openssl"):
        certificates.make_certificate(tmp_path)


def test_it_comes_back_on_its_port_when_it_is_told_to(stack: ExitStack) -> None:
    server = stack.enter_context(GrpcServer(ports=2))
    ports = server.ports
    assert len(set(ports)) == 2
    server.kill()
    due = time.monotonic() + 1.0
    server.start(not_before=due)
    assert server.ports == ports
    assert due <= server.listening_since <= time.monotonic()
    for target in server.targets:
        with grpc.insecure_channel(target) as channel:
            assert channel.unary_unary(f"/{SERVICE}/Say")(b"x", timeout=10) == b"x"


def test_a_graceful_stop_lets_calls_end(stack: ExitStack) -> None:
    server = stack.enter_context(GrpcServer())
    waiting = connected(stack, server).unary_unary(f"/{SERVICE}/Wait").future(b"300", timeout=10)
    eventually(lambda: server.counts().running == 1)
    server.stop(10)
    assert waiting.result(0.1) == b"300"


def test_its_health_can_be_set(stack: ExitStack) -> None:
    pytest.importorskip("grpc_health", reason="grpcio-health-checking is not installed")
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    server = stack.enter_context(GrpcServer(health=True))
    stub = health_pb2_grpc.HealthStub(connected(stack, server))

    def status(service: str) -> str:
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
        return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)

    assert status("") == status(SERVICE) == "SERVING"
    server.set_health(SERVICE, False)
    assert (status(""), status(SERVICE)) == ("SERVING", "NOT_SERVING")


def test_it_tells_its_services_by_reflection(stack: ExitStack) -> None:
    pytest.importorskip("grpc_reflection", reason="grpcio-reflection is not installed")
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    server = stack.enter_context(GrpcServer(reflection=True))
    stub = reflection_pb2_grpc.ServerReflectionStub(connected(stack, server))
    question = reflection_pb2.ServerReflectionRequest(list_services="")
    (answer,) = stub.ServerReflectionInfo(iter([question]), timeout=10)
    names = {service.name for service in answer.list_services_response.service}
    assert SERVICE in names
