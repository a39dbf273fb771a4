"""Clients that others have built on channels work on shared ones, against a server that answers
every method with an empty message.

What they ask of a channel beyond grpc's interfaces is tested without them; each has a test of its
own where it is installed (`pip install 'fastpool[grpc-clients]'`).
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

from fastpool.calls import CallPolicy  # noqa: E402
from fastpool.grpc import aio_shared, shared  # noqa: E402

pytestmark = [pytest.mark.process, pytest.mark.once, pytest.mark.light]

KINDS = ["unary_unary", "unary_stream", "stream_unary", "stream_stream"]


class Fake(grpc.GenericRpcHandler):  # type: ignore[misc] # grpcio has no types
    """Answers everything, and remembers the methods and what came with them."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.metadata: list[dict[str, Any]] = []
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        self._server.add_generic_rpc_handlers((self,))
        self.target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def service(self, details: Any) -> Any:
        self.called.append(details.method.rpartition("/")[2])
        self.metadata.append(dict(details.invocation_metadata))
        return grpc.unary_unary_rpc_method_handler(lambda request, context: b"")

    def close(self) -> None:
        self._server.stop(None).wait()


@pytest.fixture
def fake() -> Iterator[Fake]:
    fake = Fake()
    yield fake
    fake.close()


# ---- what they ask of a channel -----------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_method_has_a_name_and_a_signature(fake: Fake, kind: str) -> None:
    def wrapped(method: Any) -> Any:
        return functools.wraps(method)(lambda *args: method(*args))

    with shared(fake.target) as channel, grpc.insecure_channel(fake.target) as bare:
        method = getattr(channel, kind)("/package.Service/Method")
        assert method.__name__ == wrapped(method).__name__ == "Method"
        theirs = inspect.signature(getattr(bare, kind)("/package.Service/Method"))
        assert [*inspect.signature(method).parameters] == [*theirs.parameters]
    method = getattr(aio_shared(fake.target), kind)("/package.Service/Method")
    assert method.__name__ == "Method"
    assert "timeout" in inspect.signature(method).parameters


class Adds(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    """Metadata to each call."""

    async def intercept_unary_unary(self, proceed: Any, details: Any, request: Any) -> Any:
        metadata = grpc.aio.Metadata(*(details.metadata or ()), ("added", "yes"))
        return await proceed(details._replace(metadata=metadata), request)


@pytest.mark.parametrize("policy", [False, True])
def test_interceptors_may_be_added_to_a_channel_of_tasks(fake: Fake, policy: bool) -> None:
    """They go for the methods of this handle that are asked for after that."""

    async def main() -> None:
        async with aio_shared(fake.target) as shared, aio_shared(fake.target) as other:
            channel = CallPolicy(timeout=30).wrap(shared) if policy else shared
            for kind in KINDS:
                assert getattr(channel, f"_{kind}_interceptors") == []
            channel._unary_unary_interceptors.append(Adds())
            for each in (channel, other):
                assert await each.unary_unary("/package.Service/Method")(b"x") == b""
        assert [each.get("added") for each in fake.metadata] == ["yes", None]

    asyncio.run(main())


# ---- they themselves ----------------------------------------------------------------------------


def test_google_api_core(fake: Fake) -> None:
    pytest.importorskip("google.api_core.grpc_helpers", reason="google-api-core is not installed")
    from google.api_core import gapic_v1, grpc_helpers, grpc_helpers_async

    with shared(fake.target) as channel:
        for kind in KINDS:
            grpc_helpers.wrap_errors(getattr(channel, kind)("/a.B/C"))
        assert gapic_v1.method.wrap_method(channel.unary_unary("/a.B/C"))(b"x") == b""

    async def main() -> None:
        async with aio_shared(fake.target) as channel:
            for kind in KINDS:
                grpc_helpers_async.wrap_errors(getattr(channel, kind)("/a.B/C"))
            method = gapic_v1.method_async.wrap_method(channel.unary_unary("/a.B/C"))
            assert await method(b"x") == b""

    asyncio.run(main())
    assert fake.called == ["C", "C"]


GOOGLE = {
    "Publisher": ("google.pubsub_v1.services.publisher", "get_topic", {"topic": "t"}),
    "Firestore": ("google.cloud.firestore_v1.services.firestore", "get_document", {"name": "n"}),
    "Bigtable": (
        "google.cloud.bigtable_v2.services.bigtable",
        "mutate_row",
        {"table_name": "projects/p/instances/i/tables/t", "row_key": b"k"},
    ),
}


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("name", GOOGLE)
def test_google_cloud(fake: Fake, name: str) -> None:
    """The clients of threads and those of tasks."""
    path, method, request = GOOGLE[name]
    module = pytest.importorskip(path, reason=f"{path} is not installed")
    with shared(fake.target) as channel:
        transport = getattr(module.transports, f"{name}GrpcTransport")(channel=channel)
        getattr(getattr(module, f"{name}Client")(transport=transport), method)(request=request)

    async def main() -> None:
        async with aio_shared(fake.target) as channel:
            transport = getattr(module.transports, f"{name}GrpcAsyncIOTransport")(channel=channel)
            client = getattr(module, f"{name}AsyncClient")(transport=transport)
            await getattr(client, method)(request=request)

    asyncio.run(main())
    assert fake.called == [method.title().replace("_", "")] * 2


def test_health(fake: Fake) -> None:
    pytest.importorskip("grpc_health.v1", reason="grpcio-health-checking is not installed")
    from grpc_health.v1.health_pb2 import HealthCheckRequest
    from grpc_health.v1.health_pb2_grpc import HealthStub

    with shared(fake.target) as channel:
        HealthStub(channel).Check(HealthCheckRequest())

    async def main() -> None:
        async with aio_shared(fake.target) as channel:
            await HealthStub(channel).Check(HealthCheckRequest())

    asyncio.run(main())
    assert fake.called == ["Check", "Check"]


def test_reflection() -> None:
    pytest.importorskip("grpc_reflection.v1alpha", reason="grpcio-reflection is not installed")
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
        ProtoReflectionDescriptorDatabase,
    )

    from integration.grpc.server import GrpcServer

    with GrpcServer(reflection=True) as server, shared(server.target) as channel:
        services = ProtoReflectionDescriptorDatabase(channel).get_services()
        assert "grpc.reflection.v1alpha.ServerReflection" in services


def test_milvus(fake: Fake) -> None:
    pytest.importorskip("pymilvus.grpc_gen", reason="pymilvus is not installed")
    from pymilvus.grpc_gen import milvus_pb2, milvus_pb2_grpc

    with shared(fake.target) as channel:
        stub = milvus_pb2_grpc.MilvusServiceStub(channel)
        stub.GetVersion(milvus_pb2.GetVersionRequest())
    assert fake.called == ["GetVersion"]


def test_qdrant(fake: Fake) -> None:
    qdrant = pytest.importorskip("qdrant_client.grpc", reason="qdrant-client is not installed")
    with shared(fake.target) as channel:
        qdrant.QdrantStub(channel).HealthCheck(qdrant.HealthCheckRequest())

    async def main() -> None:
        async with aio_shared(fake.target) as channel:
            await qdrant.QdrantStub(channel).HealthCheck(qdrant.HealthCheckRequest())

    asyncio.run(main())
    assert fake.called == ["HealthCheck", "HealthCheck"]
