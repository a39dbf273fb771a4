"""A grpcio server in a process of its own, for tests and measurements; run as a script it is one.

It can be given what real servers have: a limit of streams per connection, TLS, the health service,
reflection, several ports. It counts for itself what clients claim: the distinct peers that have
made a call, the calls that run in it, and, where the kernel shows its table, open connections.

Clients need no generated code: requests and replies are bytes.

    Say     replies with the request
    Wait    the same after as many milliseconds as the request says
    Count   a stream of as many messages as the request has bytes; b"..." never ends
    Pour    "N SIZE MS": a stream of N messages of SIZE bytes, MS apart; N = 0 never ends
    Join    takes a stream, replies with all of it
    Chat    a stream back for a stream
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

SERVICE = "fastpool.test.Echo"
# Until it has answered. A slow machine may take seconds to import grpcio.
PATIENCE = 60.0

Argument = tuple[str, int | str]


class Counts(NamedTuple):
    """The server's own count."""

    peers: int
    """Distinct peers that have made a call: one per connection that was used."""
    open: int | None
    """Established connections. None where the kernel shows no table of them."""
    running: int
    """Calls whose handler has not ended."""
    most: int
    """The most handlers that ever ran at once."""


class ServerFailed(Exception):
    """The server did not start or does not answer."""


class GrpcServer:
    """One server, on loopback ports that it keeps when it is killed and started again.

    `certificate` is a pair of PEM files, key and certificate, for TLS; `streams` is
    SETTINGS_MAX_CONCURRENT_STREAMS, None = no limit; `patient=True` lets streams over the limit
    wait as other makes of servers do, where grpcio's refuses some of them; `health` and
    `reflection` add those services (grpcio-health-checking, grpcio-reflection); `ports` is how many
    it listens on; `options` are further channel arguments of grpcio.

    Not thread-safe. Use it as a context manager, or `close()` it.
    """

    def __init__(
        self,
        certificate: tuple[Path, Path] | None = None,
        *,
        streams: int | None = None,
        patient: bool = False,
        health: bool = False,
        reflection: bool = False,
        ports: int = 1,
        options: Sequence[Argument] = (),
    ) -> None:
        arguments = list(options)
        if streams is not None:
            arguments.append(("grpc.max_concurrent_streams", streams))
        if patient:
            arguments.append(("grpc.http.overload_protection", 0))
        self._settings: dict[str, Any] = {
            "certificate": [str(path) for path in certificate or ()],
            "health": health,
            "reflection": reflection,
            "options": arguments,
        }
        self.ports = [0] * ports
        self.listening_since = 0.0
        self.start()

    def start(self, not_before: float = 0.0) -> None:
        """Start, or start again on the same ports, and return when it listens.

        Not before `not_before`, an instant of `time.monotonic()`; `listening_since` is another.
        """
        settings = {**self._settings, "ports": self.ports, "not_before": not_before}
        # -P: nothing that lies beside this file is to stand for an installed package.
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"GRPC_VERBOSITY": "NONE", **os.environ},
        )
        started = self._answer()
        self.ports, self.listening_since = started["ports"], started["since"]

    @property
    def port(self) -> int:
        return self.ports[0]

    @property
    def targets(self) -> list[str]:
        host = "localhost" if self._settings["certificate"] else "127.0.0.1"
        return [f"{host}:{port}" for port in self.ports]

    @property
    def target(self) -> str:
        return self.targets[0]

    def counts(self) -> Counts:
        return Counts(**self._ask({}))

    def set_health(self, service: str, serving: bool) -> None:
        """What the health service says of `service` from now on; "" is the server as a whole."""
        self._ask({"health": [service, serving]})

    def stop(self, grace: float) -> None:
        """Stop gracefully: no new calls, `grace` seconds for those that run; returns at the end."""
        self._ask({"stop": grace})
        self.close()

    def kill(self) -> None:
        """End the process as a crash would: no farewell to any client."""
        self._process.kill()
        self.close()

    def close(self) -> None:
        """End the process. Idempotent."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.communicate()  # the end of its stdin ends it

    def __enter__(self) -> GrpcServer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ServerFailed(f"the gRPC server ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


# -- the child ---------------------------------------------------------------------------------


class Ledger:
    """What this server has seen. All of it happens on one event loop."""

    def __init__(self) -> None:
        self.peers: set[str] = set()
        self.running = self.most = 0

    def enter(self, context: Any) -> Ledger:
        self.peers.add(context.peer())
        return self

    def __enter__(self) -> None:
        self.running += 1
        self.most = max(self.most, self.running)

    def __exit__(self, *exc_info: object) -> None:
        self.running -= 1

    def counts(self, port: int) -> dict[str, int | None]:
        return {
            "peers": len(self.peers),
            "open": established(port),
            "running": self.running,
            "most": self.most,
        }


def handlers(ledger: Ledger) -> dict[str, Any]:
    """The methods of SERVICE."""
    import asyncio

    import grpc

    async def say(request: bytes, context: Any) -> bytes:
        with ledger.enter(context):
            return request

    async def wait(request: bytes, context: Any) -> bytes:
        with ledger.enter(context):
            await asyncio.sleep(int(request) / 1000)
            return request

    async def count(request: bytes, context: Any) -> Any:
        with ledger.enter(context):
            if request != b"...":
                for byte in request:
                    yield bytes([byte])
                return
            yield b"first"
            await asyncio.Event().wait()  # cancelled when the caller is gone

    async def pour(request: bytes, context: Any) -> Any:
        with ledger.enter(context):
            number, size, apart = map(int, request.split())
            message = bytes(size)
            poured = 0
            while not number or poured < number:
                yield message
                poured += 1
                await asyncio.sleep(apart / 1000)

    async def join(requests: Any, context: Any) -> bytes:
        with ledger.enter(context):
            return b"".join([each async for each in requests])

    async def chat(requests: Any, context: Any) -> Any:
        with ledger.enter(context):
            async for each in requests:
                yield each

    return {
        "Say": grpc.unary_unary_rpc_method_handler(say),
        "Wait": grpc.unary_unary_rpc_method_handler(wait),
        "Count": grpc.unary_stream_rpc_method_handler(count),
        "Pour": grpc.unary_stream_rpc_method_handler(pour),
        "Join": grpc.stream_unary_rpc_method_handler(join),
        "Chat": grpc.stream_stream_rpc_method_handler(chat),
    }


async def serve(settings: dict[str, Any]) -> None:
    import asyncio

    import grpc

    ledger = Ledger()
    server = grpc.aio.server(options=settings["options"])
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, handlers(ledger)),)
    )
    health = await add_health(server) if settings["health"] else None
    if settings["reflection"]:
        from grpc_reflection.v1alpha import reflection

        reflection.enable_server_reflection((SERVICE, reflection.SERVICE_NAME), server)
    await asyncio.sleep(settings["not_before"] - time.monotonic())
    ports = [listen(server, port, settings["certificate"]) for port in settings["ports"]]
    await server.start()
    tell({"ports": ports, "since": time.monotonic()})
    while line := await asyncio.to_thread(sys.stdin.readline):
        question = json.loads(line)
        if "health" in question:
            await set_health(health, *question["health"])
        if "stop" in question:
            await server.stop(question["stop"])
        tell(ledger.counts(ports[0]))
    # Nobody is left who could be told anything: the parent has closed the pipe, or has gone.
    os._exit(0)


def listen(server: Any, port: int, certificate: list[str]) -> int:
    import grpc

    if certificate:
        pair = tuple(Path(name).read_bytes() for name in certificate)
        return server.add_secure_port(f"localhost:{port}", grpc.ssl_server_credentials([pair]))
    return server.add_insecure_port(f"127.0.0.1:{port}")


async def add_health(server: Any) -> Any:
    from grpc_health.v1 import health, health_pb2_grpc

    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    await set_health(servicer, "", True)
    await set_health(servicer, SERVICE, True)
    return servicer


async def set_health(servicer: Any, service: str, serving: bool) -> None:
    from grpc_health.v1.health_pb2 import HealthCheckResponse

    status = HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING
    await servicer.set(service, status)


def tell(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


def established(port: int) -> int | None:
    """Connections to `port` that are open, as the kernel's tables have them."""
    tables = [path for path in map(Path, ("/proc/net/tcp", "/proc/net/tcp6")) if path.exists()]
    if not tables:
        return None
    rows = [line.split() for path in tables for line in path.read_text().splitlines()[1:]]
    return sum(row[3] == "01" and int(row[1].rpartition(":")[2], 16) == port for row in rows)


if __name__ == "__main__":
    import asyncio

    try:
        asyncio.run(serve(json.loads(sys.argv[1])))
    except (KeyboardInterrupt, BrokenPipeError):  # the parent's to act upon; it has gone
        os._exit(0)
