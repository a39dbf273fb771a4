"""The gRPC server of the tests: that of the measurements, with a start that costs little.

What takes long is to import grpcio. So one process of the test run imports it, begins nothing of
it, and is forked for each server; this file, run as a script, is that process.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import traceback
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

from bench.grpc import server as bench
from bench.grpc.server import SERVICE, Counts, ServerFailed

__all__ = ["SERVICE", "Counts", "GrpcServer", "ServerFailed"]

CAN_FORK = sys.platform == "linux"
PACKET = 1 << 16  # no settings are longer
SERVICES = {
    "health": "grpc_health.v1.health",
    "reflection": "grpc_reflection.v1alpha.reflection",
}


class GrpcServer(bench.GrpcServer):
    """As that of the measurements. Its own start, by an interpreter of its own, is tested there."""

    def start(self, not_before: float = 0.0) -> None:
        if not CAN_FORK:
            super().start(not_before)
            return
        settings = {**self._settings, "ports": self.ports, "not_before": not_before}
        self._process: Any = Forked(settings)
        started = self._answer()
        self.ports, self.listening_since = started["ports"], started["since"]


class Forked:
    """A server's process: of subprocess.Popen what GrpcServer uses."""

    def __init__(self, settings: dict[str, Any]) -> None:
        theirs_in, ours_in = os.pipe()
        ours_out, theirs_out = os.pipe()
        self.stdin, self.stdout = os.fdopen(ours_in, "w"), os.fdopen(ours_out)
        try:
            self.pid = _template().ask({"serve": settings}, theirs_in, theirs_out)
        except BaseException:
            self.stdin.close()
            self.stdout.close()
            raise
        finally:
            os.close(theirs_in)
            os.close(theirs_out)

    def kill(self) -> None:
        _template().ask({"kill": self.pid})

    def communicate(self) -> None:
        """Closes its stdin, which ends it."""
        try:
            self.stdin.close()
        except BrokenPipeError:
            pass
        self.wait()
        self.stdout.close()

    def wait(self) -> int:
        return _template().ask({"wait": self.pid})


class Template:
    """The process that is forked, seen from the tests. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={
                    "GRPC_VERBOSITY": "NONE",
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(filter(None, map(os.path.abspath, sys.path))),
                },
            )
        atexit.register(self._end)

    def ask(self, question: dict[str, Any], *descriptors: int) -> int:
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(question).encode()], descriptors)
            answer = self._socket.recv(PACKET)
        if not answer:
            raise ServerFailed("the process that is forked for gRPC servers has ended")
        return int(answer)

    def _end(self) -> None:
        self._socket.close()
        self._process.wait()


_one: list[Template] = []
_making = threading.Lock()


def _template() -> Template:
    with _making:
        if not _one:
            _one.append(Template())
        return _one[0]


# -- the process that is forked ------------------------------------------------------------------


def forked_for_each(link: socket.socket) -> None:
    """Until nobody is left who could ask. One thread, so that a child has all that it had."""
    import grpc.aio  # noqa: F401 - for the children

    statuses: dict[int, int] = {}  # of those that have ended
    while True:
        text, descriptors, _, _ = socket.recv_fds(link, PACKET, 2)
        if not text:
            return
        question = json.loads(text)
        if "serve" in question:
            answer = fork(link, question["serve"], descriptors)
            statuses.pop(answer, None)  # the system gives numbers out again
        else:
            pid = question.get("kill") or question["wait"]
            if pid not in statuses:
                if "kill" in question:
                    os.kill(pid, signal.SIGKILL)
                statuses[pid] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            answer = statuses[pid]
        link.send(str(answer).encode())


def fork(link: socket.socket, settings: dict[str, Any], descriptors: list[int]) -> int:
    for name, module in SERVICES.items():
        if settings[name]:
            with suppress(ImportError):  # the child will say so
                import_module(module)
    pid = os.fork()
    if not pid:
        serve(link, settings, descriptors)
    for each in descriptors:
        os.close(each)
    return pid


def serve(link: socket.socket, settings: dict[str, Any], descriptors: list[int]) -> NoReturn:
    """In the child."""
    try:
        link.close()
        for number, each in enumerate(descriptors):
            os.dup2(each, number)
            os.close(each)
        asyncio.run(bench.serve(settings))
    except (KeyboardInterrupt, BrokenPipeError):  # the tests' to act upon; they have gone
        pass
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


if __name__ == "__main__":
    try:
        forked_for_each(socket.socket(fileno=int(sys.argv[1])))
    except KeyboardInterrupt:  # its servers end with their pipes
        pass
