"""The state of all pools on a signal, written to the standard error or a file."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any

from .._runtime import scheduler
from .._runtime.launch import launch
from ._dump import dump

if TYPE_CHECKING:
    from types import FrameType
    from typing import TextIO

__all__ = ["on_signal"]


def on_signal(signum: int, file: TextIO | None = None) -> Any:
    """Have ``dump()`` written whenever the signal comes; return the handler that was there before,
    which is called too.

    ``file``: where to; None: the standard error.  In the main thread, as ``signal.signal`` wants it
    (ValueError elsewhere).  The handler takes no lock and writes nothing: a thread of its own does,
    so that a program whose main thread waits for a pool can be looked at.
    """
    before = signal.getsignal(signum)

    def handle(number: int, frame: FrameType | None) -> None:
        scheduler.call_soon(launch, "fastpool-dump", _write, file)
        if callable(before):
            before(number, frame)

    signal.signal(signum, handle)
    return before


def _write(file: TextIO | None) -> None:
    dump(sys.stderr if file is None else file)
