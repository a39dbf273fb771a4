"""etcd as a server that is not ours and not grpcio's: started for a test, on loopback.

Debian and its kin have it as `etcd-server`. Clients use stubs that grpcio-tools generates from
`etcd.proto`, our own description of the part of its API that the tests call.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

# Until it has answered. A slow disk may take seconds over its first log.
PATIENCE = 30.0

# The end of stdin ends it, and the kernel closes that with the parent, whatever ended the parent.
GUARDED = """
exec 3<&0
"$@" 3<&- & etcd=$!
{ read -r _ <&3; kill -9 $etcd; } 2>/dev/null &
wait $etcd
"""


class NoEtcd(Exception):
    """etcd, or what makes the stubs for it, is not here; the text says what to install."""


class EtcdFailed(Exception):
    """etcd did not start; the text is the end of its log."""


class Etcd:
    """One etcd with its data in `folder`, on ports that it keeps when it is killed and started.

    Not thread-safe. Use it as a context manager, or `kill()` it.
    """

    def __init__(self, folder: Path) -> None:
        found = shutil.which("etcd")
        if found is None:
            raise NoEtcd("etcd is not installed (Debian: apt-get install etcd-server)")
        self._program, self._folder = found, folder
        self._log = folder / "etcd.log"
        for last in (False, False, True):
            self.port, self._peer_port = free_ports(2)
            try:
                self.start()
                return
            except EtcdFailed as error:  # somebody was quicker to take one of the ports
                if last or "address already in use" not in str(error):
                    raise

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, or start again on the same data, and return when it answers."""
        clients, peers = (f"http://127.0.0.1:{port}" for port in (self.port, self._peer_port))
        arguments = {
            "name": "test",
            "data-dir": str(self._folder / "data"),
            "listen-client-urls": clients,
            "advertise-client-urls": clients,
            "listen-peer-urls": peers,
            "initial-advertise-peer-urls": peers,
            "initial-cluster": f"test={peers}",
            "heartbeat-interval": "10",  # it is alone: no reason to wait long for an election
            "election-timeout": "100",
            "enable-grpc-gateway": "false",  # it would be a client of its own
            "logger": "zap",
            "log-level": "error",
        }
        options = [f"--{name}={value}" for name, value in arguments.items()]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", GUARDED, "etcd", self._program, *options],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={name: value for name, value in os.environ.items() if name[:5] != "ETCD_"},
            )
        deadline = time.monotonic() + PATIENCE
        while not healthy(self.target):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise EtcdFailed(self._log.read_text()[-2000:])
            time.sleep(0.02)

    def kill(self) -> None:
        """End it as a crash would. What it has acknowledged is in its log on disk. Idempotent."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def __enter__(self) -> Etcd:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.kill()


def healthy(target: str) -> bool:
    """Whether an etcd answers there, and can write."""
    # No proxy of the environment is to be asked for a loopback address.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{target}/health", timeout=0.5) as answer:
            return b"true" in answer.read()
    except OSError:
        return False


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on now: etcd cannot be given port 0."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Stubs(NamedTuple):
    """The two modules that grpcio-tools makes."""

    messages: ModuleType
    services: ModuleType

    def kv(self, channel: Any) -> Any:
        return self.services.KVStub(channel)

    def watch(self, channel: Any) -> Any:
        return self.services.WatchStub(channel)

    def lease(self, channel: Any) -> Any:
        return self.services.LeaseStub(channel)


def make_stubs(folder: Path) -> Stubs:
    """Generate them into `folder` and import them from there."""
    if importlib.util.find_spec("grpc_tools") is None:
        raise NoEtcd("grpcio-tools is not installed (pip install 'fastpool[grpc-test]')")
    proto = Path(__file__).with_name("etcd.proto")
    out = [f"-I{proto.parent}", f"--python_out={folder}", f"--grpc_python_out={folder}"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *out, proto.name], check=True)
    sys.path.insert(0, str(folder))
    try:
        return Stubs(importlib.import_module("etcd_pb2"), importlib.import_module("etcd_pb2_grpc"))
    finally:
        sys.path.remove(str(folder))
