"""The etcd of the tests does what it says: it keeps its data and its port, and leaves nothing."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

from integration.grpc import etcd_server  # noqa: E402
from integration.grpc.etcd_server import Etcd, EtcdFailed, NoEtcd, Stubs  # noqa: E402
from support.helpers import eventually  # noqa: E402

pytestmark = [pytest.mark.servers, pytest.mark.once]

TESTS = Path(__file__).parents[2]


def test_what_was_answered_outlives_a_kill(etcd: Etcd, etcd_stubs: Stubs) -> None:
    pb, target = etcd_stubs.messages, etcd.target
    with grpc.insecure_channel(target) as channel:
        kv = etcd_stubs.kv(channel)
        kv.Put(pb.PutRequest(key=b"k", value=b"v"), timeout=10)
        etcd.kill()
        with pytest.raises(grpc.RpcError):
            kv.Range(pb.RangeRequest(key=b"k"), timeout=10)
        etcd.kill()
        etcd.start()
        (found,) = kv.Range(pb.RangeRequest(key=b"k"), timeout=10, wait_for_ready=True).kvs
        assert (found.value, etcd.target) == (b"v", target)


def test_it_ends_with_the_process_that_started_it(etcd: Etcd, tmp_path: Path) -> None:
    """As when a run of the tests is killed."""
    folder = tmp_path / "orphan"
    folder.mkdir()
    program = f"import sys; sys.path.insert(0, {str(TESTS)!r})\n"
    program += "from pathlib import Path; from integration.grpc.etcd_server import Etcd\n"
    program += f"print(Etcd(Path({str(folder)!r})).target, flush=True); input()"
    command = [sys.executable, "-c", program]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as parent:
        assert parent.stdout is not None
        target = parent.stdout.readline().strip()
        assert etcd_server.healthy(target)
        parent.kill()
    eventually(lambda: not etcd_server.healthy(target))


def test_why_it_did_not_start_is_told(
    etcd: Etcd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "second"
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(etcd_server, "free_ports", lambda number: [port] * number)
        with pytest.raises(EtcdFailed, match="address already in use"):
            Etcd(folder)
    monkeypatch.setattr(etcd_server.shutil, "which", lambda name: None)
    with pytest.raises(NoEtcd, match="apt-get install etcd-server"):
        Etcd(folder)
