"""Callbacks, of ours and of users: what runs in grpc's own threads, and one thread beside them.

A channel that is closed by the thread which brings its calls' ends waits for calls whose ends that
thread would have to bring. So whoever may be in such a callback closes elsewhere.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from ..._core import Lock
from ..._runtime.launch import launch


class _Thread(threading.local):
    depth = 0


_thread = _Thread()


def callback(fn: Callable[..., Any]) -> Callable[..., None]:
    """The function, for grpc to call."""

    def called(*args: Any) -> None:
        _thread.depth += 1
        try:
            fn(*args)
        finally:
            _thread.depth -= 1

    return called


def close(channel: Any) -> None:
    """Close it; in a callback, by a thread of its own."""
    if not _thread.depth:
        channel.close()
        return
    try:
        launch("fastpool-grpc-close", channel.close)
    except RuntimeError:
        pass  # there is no thread to be had: the interpreter is about to end


class CallbackThread:
    """Calls back whoever is to be told of a call that stood in the queue, which no thread of grpc's
    can do. What users do there may wait for calls that stand in the queue still, so it is not the
    thread that serves it. Thread-safe; started for the first one, and a daemon."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._inbox: SimpleQueue[Callable[[], object]] | None = None

    def run(self, call: Callable[[], object]) -> None:
        """Has it called there, after what was given before. Never blocks. RuntimeError: there is
        no thread to be had."""
        inbox = self._inbox
        if inbox is None:
            inbox = self._start()
        inbox.put(call)

    def _start(self) -> SimpleQueue[Callable[[], object]]:
        with self._lock.hold():
            if self._inbox is None:
                inbox: SimpleQueue[Callable[[], object]] = SimpleQueue()
                launch("fastpool-grpc-callbacks", _serve, inbox)
                self._inbox = inbox
            return self._inbox

    def forked(self) -> None:
        """In the child the thread is not there."""
        self.__init__()  # type: ignore[misc]


def _serve(inbox: SimpleQueue[Callable[[], object]]) -> None:
    while True:
        call = inbox.get()
        try:
            call()
        except BaseException:  # sys.exit(), say: others are told still
            logging.getLogger("fastpool").exception("a callback of a gRPC call raised")
        del call  # while it waits, it keeps nobody's call


callback_thread = CallbackThread()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=callback_thread.forked)
