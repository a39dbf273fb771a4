"""What runs in grpc's own threads: callbacks, of ours and of users.

A channel that is closed by the thread which brings its calls' ends waits for calls whose ends that
thread would have to bring. So whoever may be in such a callback closes elsewhere.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

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
