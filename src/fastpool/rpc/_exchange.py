"""One turn of a caller on a pooled connection that is alive, and when it gets another one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from ._deadline import Deadline
from ._socket_connection import Wire

__all__ = ["Wired", "capped", "exchange", "live_connection"]

T = TypeVar("T")


class Wired(Protocol):
    """What is pooled: something that talks over one wire."""

    @property
    def wire(self) -> Wire: ...


C = TypeVar("C", bound=Wired)


def capped(size: int) -> int:
    """``size``, which FastPool would take for no cap if it were 0."""
    if size == 0:
        raise ValueError("size must be 1 or more, not 0")
    return size


@contextmanager
def live_connection(lease: Callable[[float | None], Any], deadline: Deadline) -> Iterator[Any]:
    """``with live_connection(pool.lease, deadline) as connection:`` - one that is alive, for this
    block.

    Connections that died while they were idle are closed on the way.  It goes back to the pool, or
    is closed if the block fails as the pool's ``discard_on`` has it, or has closed the wire.
    """
    began = time.monotonic()
    while True:
        left = deadline.left()
        if left == 0:
            raise deadline.missed("not begun")
        held = lease(left)
        with held as connection:
            wire = connection.wire
            if not wire.check(began):
                held.discard()
                continue
            wire.begin(deadline)
            try:
                yield connection
            finally:
                if wire.readers:  # left open, with part of what is to come, or to take some later
                    wire.hang_up()
            if wire.closed:
                held.discard()
            return


def exchange(
    lease: Callable[[float | None], Any], deadline: Deadline, resend: bool, ask: Callable[[C], T]
) -> T:
    """``ask(connection)``.  Once more over another connection if the first one had been used before
    and ended before any byte of the reply, unless ``resend`` is false."""
    if resend:
        with live_connection(lease, deadline) as connection:
            try:
                return ask(connection)
            except OSError as error:
                if not connection.wire.was_stale(error):
                    raise
                connection.wire.close()
    with live_connection(lease, deadline) as connection:
        return ask(connection)
