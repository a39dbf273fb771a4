"""A child that a program with a running event loop forks."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable

__all__ = ["fork_on_loop"]


def fork_on_loop(act: Callable[[], object]) -> int:
    """Fork: the child, which has left the parent's loop, acts and ends, with 1 if that raised.  Its
    process id."""
    child = os.fork()
    if child:
        return child
    try:
        asyncio._set_running_loop(None)  # the parent's: it is not this process's
        act()
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)
