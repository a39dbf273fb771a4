"""Awaiting in SQLAlchemy's greenlets, without a switch where there is nothing to wait for."""

from __future__ import annotations

from sqlalchemy.util import concurrency

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator
    from typing import Any

__all__ = ["await_", "begin", "greenlet_spawn", "in_greenlet"]

await_ = getattr(concurrency, "await_", None) or concurrency.await_only  # before SQLAlchemy 2.1
greenlet_spawn = concurrency.greenlet_spawn
in_greenlet = concurrency.in_greenlet


def begin(call: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine.  It is begun here, and what can be had at once costs no switch of
    greenlets; if it has to wait, the greenlet does (MissingGreenlet if this is none)."""
    try:
        first = call.send(None)
    except StopIteration as end:
        return end.value
    return await_(_Begun(call, first))


class _Begun:
    """The rest of a coroutine that has yielded ``first``."""

    def __init__(self, call: Coroutine[Any, Any, Any], first: Any) -> None:
        self.call, self.first = call, first

    def __await__(self) -> Generator[Any, Any, Any]:
        call, yielded = self.call, self.first
        try:
            while True:
                try:
                    sent = yield yielded
                except BaseException as error:
                    yielded = call.throw(error)
                else:
                    yielded = call.send(sent)
        except StopIteration as end:
            return end.value
