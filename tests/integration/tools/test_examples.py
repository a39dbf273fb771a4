"""The examples run as they stand. For the code in the documents see test_docs.py."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# They use what `contract/` shows on each interpreter.
pytestmark = [pytest.mark.process, pytest.mark.once]

ROOT = Path(__file__).resolve().parents[3]
#: A word in an example's name: the module that it needs.
NEEDS = {
    "grpc": "grpc",
    "tenacity": "tenacity",
    "stamina": "stamina",
    "json": "urllib3",
    "aio": "httpx",
    "thrift": "thrift",
}

#: Likewise: the program.
PROGRAMS = {"redigo": "redis-server"}

#: Example: what it prints, as a regular expression.
EXAMPLES = {
    "asyncio_service": r"200 answers for 200 tasks over ([1-4]) connections\n"
    r"closed at the end: \1\n",
    "keyed_servers": r"260 right answers of 12 servers, for 8 threads and 60 tasks\n"
    r"at most 6 connections: True\nat most 2 of one server: True\n"
    r"used again: True, left open: 0\n",
    "several_loops": r"two loops at once: 120 leases, 0 still open\n"
    r"and a third one: 180 leases\nall is closed: True\n",
    "threads_and_tasks": r"100 turns of threads, 100 turns of tasks\n"
    r"[12] connections, 0 timeouts\n",
    "channel_pool": r"20 at once over 20 connections\nkept: 4, closed on return: 16\n"
    r"opened for the next 200: 0\n",
    "redigo_pool": r"count is 800, by 16 threads\nthe server saw at most 4 connections\n"
    r"left over state was undone: True\nrefused: WRONGTYPE\nafter all were cut off: PONG\n"
    r"all is closed: True\n",
    "object_cache": r"200 downloads, all of them right: True\n"
    r"fewer than 30 buffers were made for them: True\n",
    "tcp_pool": r"200 answers for 16 threads over [1-4] connections\n",
    "xmlrpc_pool": r"fault: (integer )?division( or modulo)? by zero\n"
    r"200 calls by 16 threads through [1-4] clients\nclosed before the end: 0\n",
    "rpc_xmlrpc": r"fault: (integer )?division( or modulo)? by zero\n\[4, 1\] \[2, 2\]\n"
    r"200 calls by 32 threads over [1-4] connections\n",
    "rpc_sockets": r"300 answers for 16 threads, over at most 4 connections\n",
    "rpc_json": r"19\n2 4 \['hello', 'and again'\]\nMethod not found \(-32601\)\n"
    r"200 calls by 32 threads over [1-4] connections\n",
    "rpc_json_aio": r"0 2 4\n19\n200 tasks, at most 4 connections: True\n",
    "thrift_pool": r"the server says: (integer )?division( or modulo)? by zero\n"
    r"200 calls by 32 threads through [1-4] clients\nclosed before the end: 0\n",
    "calls_tenacity": r"circuit breaker stock: closed -> open, 4 of 4 calls failed\n"
    r"stock: 42, sent 5 times, breaker closed\nrefused meanwhile: 1, opened: 1\n",
    "calls_stamina": r"20 answers, 4 questions at once\nsome were asked again: True\n",
    "shared_wire": r"320 answers, all of them right: True\n"
    r"[1-4] connections for 32 threads\nnever more than 8 calls on one: True\n",
    "worker_pool": r"200 downloads, never more than 8 at once: True\n"
    r"never more than 24 under way: True, in memory: True\n"
    r"done or refused: 100 of 100\nsum of the tasks: 999000\n",
    "grpc_shared": r"10 handles of one insecure channel\nchannels left: 0\n",
    "grpc_tasks": r"1000 answers, at most 8 connections: True\n"
    r"slots held now: 0, calls in the queue: 0\n",
    "grpc_workers": r"workers that were answered: 4 of 4\n"
    r"hello parent, on the connection from before\n",
}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONWARNINGS": "error", "GRPC_VERBOSITY": "NONE"}
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=50, env=environment
    )


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_runs(name: str) -> None:
    for word in name.split("_"):
        if word in NEEDS:
            pytest.importorskip(NEEDS[word], reason=f"{NEEDS[word]} is not installed")
        if word in PROGRAMS and shutil.which(PROGRAMS[word]) is None:
            pytest.skip(f"{PROGRAMS[word]} is not installed (Debian: apt-get install redis-server)")
    done = run(str(ROOT / "examples" / f"{name}.py"))
    assert done.returncode == 0, f"{name}.py ended with {done.returncode}\n{done.stderr}"
    assert not done.stderr, done.stderr
    assert re.fullmatch(EXAMPLES[name], done.stdout), done.stdout


def test_the_server_of_the_pages_on_grpc_serves_until_it_is_interrupted() -> None:
    grpc = pytest.importorskip("grpc", reason="grpcio is not installed")
    command = [sys.executable, str(ROOT / "examples/grpc_greeter.py"), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        target = process.stdout.readline().removeprefix("example.Greeter on ").strip()
        with grpc.insecure_channel(target) as channel:
            greet = channel.unary_unary("/example.Greeter/Greet")
            assert greet(b"you", wait_for_ready=True, timeout=40) == b"hello you"
        process.send_signal(signal.SIGINT)
        assert process.wait(40) == 0


def test_every_example_is_run() -> None:
    programs = {path.stem for path in (ROOT / "examples").glob("*.py")}
    assert programs == {*EXAMPLES, "grpc_greeter"}
