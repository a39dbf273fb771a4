"""The parent's side of the demo's servers: start one, ask for its counts, kill it, restart it."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import IO, NamedTuple

from . import server_process

# A slow machine may take seconds to import grpcio; one that takes longer than this is stuck.
_PATIENCE = 30.0


class ServerFailed(Exception):
    """A server of the demo did not start, or stopped answering."""


class Counts(NamedTuple):
    """What a server counted. None = it has no way to know."""

    accepted: int
    open: int | None
    peak: int | None


class Server:
    """One server in a child process, on a loopback port that it keeps across restarts.

    Starting is in two steps, so that several can start side by side: the process starts here, and
    `ready()` waits until it listens. Not thread-safe.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.port = 0
        self._launch()

    @property
    def address(self) -> tuple[str, int]:
        return server_process.HOST, self.port

    @property
    def target(self) -> str:
        return f"{server_process.HOST}:{self.port}"

    def _launch(self) -> None:
        # By path and with -P, since the child is to have nothing of fastpool on its sys.path; in a
        # session of its own, so that Ctrl-C is not sent to it even before it can refuse it.
        self._process = subprocess.Popen(
            [sys.executable, "-P", server_process.__file__, self.kind, str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={"GRPC_VERBOSITY": "NONE", **os.environ},
        )
        assert self._process.stdout is not None
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(
            target=_forward, args=(self._process.stdout, self._answers), daemon=True
        ).start()

    def ready(self) -> Server:
        """Wait until the server listens."""
        self.port = self._answer()["port"]
        return self

    def counts(self) -> Counts:
        return self._ask("count")

    def mark(self) -> Counts:
        """Set the peak to what is open now."""
        return self._ask("mark")

    def wait_until(self, condition: Callable[[Counts], bool], timeout: float = 5.0) -> Counts:
        """The counts as soon as they meet a condition, or as they are after `timeout` seconds: a
        server hears of a closed connection a little after the client has closed it."""
        deadline = time.monotonic() + timeout
        while not condition(counts := self.counts()) and time.monotonic() < deadline:
            time.sleep(0.005)
        return counts

    def kill(self) -> None:
        """End the process as a crash would: no farewell to any client."""
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """Start a new process on the same port and wait until it listens."""
        self._release()
        self._launch()
        self.ready()

    def close(self) -> None:
        """End the process. Idempotent."""
        self._release()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _release(self) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()  # the child ends itself when it sees this
        except BrokenPipeError:
            pass
        try:
            self._process.wait(2.0)
        except subprocess.TimeoutExpired:
            self.kill()

    def _ask(self, question: str) -> Counts:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(question + "\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            raise ServerFailed(f"the {self.kind} server has gone") from None
        return Counts(**self._answer())

    def _answer(self) -> dict[str, int]:
        try:
            line = self._answers.get(timeout=_PATIENCE)
        except queue.Empty:
            raise ServerFailed(f"the {self.kind} server does not answer") from None
        if not line:
            raise ServerFailed(
                f"the {self.kind} server ended unexpectedly (exit code {self._process.wait()})"
            )
        answer: dict[str, int] = json.loads(line)
        return answer


def _forward(stdout: IO[str], answers: queue.SimpleQueue[str]) -> None:
    """Hand the child's lines on, so that they can be waited for with a limit; "" is the end."""
    with stdout:
        for line in stdout:
            answers.put(line)
    answers.put("")
