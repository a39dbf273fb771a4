"""Forked children of a parent with several connections: they begin afresh, and it goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

pytest.importorskip("grpc", reason="grpcio is not installed")

from integration.grpc.server import SERVICE, GrpcServer

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
]

PROGRAM = """
import os, sys, threading, time, traceback
from fastpool.grpc import shared, stats, wait_ready

target, service = sys.argv[1:]
options = dict(connections=(1, 3), streams_per_connection=2, bulk=[f"/{service}/Pour"])
channel = shared(target, **options)
say = channel.unary_unary(f"/{service}/Say")
count = channel.unary_stream(f"/{service}/Count")
pour = channel.unary_stream(f"/{service}/Pour")
assert say(b"parent", timeout=10) == b"parent"
held = [count(b"...", timeout=60) for _ in range(3)]
held += [pour(b"0 1 1000", timeout=60)]
for each in held:
    next(each)
(before,) = stats()
assert (before.in_use, before.streams) == (4, 4), before
# grpc itself cannot be forked while a stream is open: children of plain channels crash then, too.
for each in held:
    each.cancel()
end = time.monotonic() + 10
while stats()[0].in_use and time.monotonic() < end:
    time.sleep(0.01)
(before,) = stats()
assert before.in_use == 0 and before.connections == 3, before

def child():
    (now,) = stats()
    assert (now.references, now.opened, now.connections) == (1, False, 0), now
    assert (now.in_use, now.waiting, now.streams) == (0, 0, 0), now
    assert say(b"child", timeout=10) == b"child"
    fresh = [count(b"...", timeout=60) for _ in range(4)]  # and it grows
    for each in fresh:
        assert next(each) == b"first"
    assert next(pour(b"1 1 0", timeout=10)) == bytes(1)
    assert stats()[0].streams >= 4
    threads = [threading.Thread(target=say, args=(b"x", 10)) for _ in range(8)]
    for each in fresh:
        each.cancel()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with shared(target, **options) as other:
        assert other.unary_unary(f"/{service}/Say")(b"x", timeout=10) == b"x"
    channel.close(5)
    assert stats() == ()

for _ in range(3):
    pid = os.fork()
    if not pid:
        code = 1
        try:
            child()
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
    assert say(b"parent still", timeout=10) == b"parent still"
assert stats() == (before,), stats()
channel.close(5)
assert stats() == ()
"""

QUEUED = """
import os, sys, traceback
from fastpool.grpc import shared

target, service = sys.argv[1:]
channel = shared(target, connections=1, streams_per_connection=1)
say = channel.unary_unary(f"/{service}/Say")

def call():
    futures = [say.future(b"x", timeout=30) for _ in range(5)]
    assert [each.result(40) for each in futures] == [b"x"] * 5

call()
pid = os.fork()
if not pid:
    code = 1
    try:
        call()
        code = 0
    except BaseException:
        traceback.print_exc()
    os._exit(code)
assert os.waitpid(pid, 0)[1] == 0
call()
"""


def run(target: str, program: str = PROGRAM, **environment: str) -> Any:
    """Run apart: a test process full of threads is no place to fork."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, target, SERVICE],
        capture_output=True,
        text=True,
        timeout=90,
        env={**os.environ, **environment},
    )


def test_children_begin_afresh_and_the_parent_goes_on() -> None:
    with GrpcServer() as server:
        done = run(server.target)
        assert done.returncode == 0, done.stderr
        assert "GRPC_ENABLE_FORK_SUPPORT" not in done.stderr


def test_futures_wait_in_the_queue_of_a_child() -> None:
    """The thread that takes them there is not in the child, where there is another one."""
    with GrpcServer() as server:
        done = run(server.target, QUEUED)
        assert done.returncode == 0, done.stderr


def test_a_child_without_grpcs_support_of_forks_is_told() -> None:
    code = """
import os
from fastpool.grpc import shared
from fastpool.grpc import _channel_key
channel = shared("127.0.0.1:1")
_channel_key.warn_of_fork_support()
os.write(2, b"parent\\n")
if not os.fork():
    _channel_key.warn_of_fork_support()
    _channel_key.warn_of_fork_support()
    os._exit(0)
os.wait()
"""
    for value, times in (("0", 1), ("1", 0)):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "GRPC_ENABLE_FORK_SUPPORT": value},
        )
        before, _, after = done.stderr.partition("parent")
        assert "calls may hang" not in before  # which nobody has forked
        assert after.count("calls may hang") == times, done.stderr
