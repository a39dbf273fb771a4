"""What the tests with real servers share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bench import servers
from bench.grpc.certificate import NoCertificate, make_certificate
from bench.measure import NotRun
from integration.grpc.etcd_server import Etcd, NoEtcd, Stubs, make_stubs
from support.loops import KINDS, Run, run_in

if TYPE_CHECKING:
    from fastpool.calls import CallPolicy
    from integration.calls.server import ScriptServer


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A key and a certificate for localhost, two PEM files."""
    try:
        return make_certificate(tmp_path_factory.mktemp("certificate"))
    except NoCertificate as reason:
        pytest.skip(str(reason))


@pytest.fixture(params=KINDS)
def on_loop(request: pytest.FixtureRequest) -> Run:
    """`on_loop(main())`, as asyncio.run, on event loops of both makes."""
    return partial(run_in, request.param)


@pytest.fixture(scope="module")
def redis_server() -> Iterator[str]:
    """The port of a redis-server of our own, on loopback."""
    with contextlib.ExitStack() as stack:
        try:
            port = stack.enter_context(servers.redis())
        except NotRun as reason:
            pytest.skip(str(reason))
        yield str(port)


@pytest.fixture(scope="session")
def etcd_stubs(tmp_path_factory: pytest.TempPathFactory) -> Stubs:
    """What grpcio-tools makes of `grpc/etcd.proto`."""
    try:
        return make_stubs(tmp_path_factory.mktemp("stubs"))
    except NoEtcd as reason:
        pytest.skip(str(reason))


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    """An etcd of the test's own, empty."""
    try:
        server = Etcd(tmp_path)
    except NoEtcd as reason:
        pytest.skip(str(reason))
    with server:
        yield server


@pytest.fixture(scope="module")
def script_server() -> Iterator[ScriptServer]:
    """A gRPC server in this process that fails as its requests say."""
    from integration.calls.server import ScriptServer

    server = ScriptServer()
    yield server
    server.close()


@pytest.fixture
def script(script_server: ScriptServer) -> ScriptServer:
    """The same, with nothing seen yet and its gate closed."""
    script_server.seen.clear()
    script_server.gate.clear()
    return script_server


@pytest.fixture
def wrap(script: ScriptServer) -> Iterator[Callable[[CallPolicy], Any]]:
    """A channel of threads to it, under the policy."""
    import grpc

    channels = []

    def make(policy: CallPolicy) -> Any:
        channels.append(policy.wrap(grpc.insecure_channel(script.target), idempotent=True))
        return channels[-1]

    yield make
    script.gate.set()
    for channel in channels:
        channel.close()
