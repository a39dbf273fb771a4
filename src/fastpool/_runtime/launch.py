"""Starts threads without waiting for them, and without anything that a signal handler could break.

``Thread.start`` waits until the new thread has said that it is there, and before it says so, that
thread may run a finaliser, which may ask for any lock: whoever started it under that lock would
wait for ever.  And a handler that raises in ``Thread.start`` can leave the lock of all threads
held.  So it is called in a thread of its own, where no handler runs and which holds no lock.
"""

from __future__ import annotations

import sys
import threading
from _contextvars import Context
from _thread import start_new_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["apart", "launch"]


def apart() -> dict[str, Any]:
    """Arguments of a Thread that does not inherit the context variables of who happens to start it,
    and so does not keep them alive; before Python 3.14 none does."""
    return {"context": Context()} if sys.version_info >= (3, 14) else {}


def launch(name: str, target: Callable[..., object], *args: Any) -> threading.Thread:
    """Has ``target(*args)`` run by a daemon thread, soon.  Never blocks.  RuntimeError: there is no
    thread to be had, for the interpreter ends or the system's limit is reached."""
    thread = threading.Thread(target=target, args=args, name=name, daemon=True, **apart())
    start_new_thread(_start, (thread,))
    return thread


def _start(thread: threading.Thread) -> None:
    try:
        thread.start()
    except (RuntimeError, MemoryError):  # no second one is to be had: this one will do
        thread.run()
