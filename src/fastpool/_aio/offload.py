"""Hooks that would stop the event loop: called on a worker, for a task that awaits the result."""

from __future__ import annotations

import weakref
from asyncio import _get_running_loop  # None where no loop runs

from .. import _core
from .loop import look_later, loop_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any, Protocol

    from .._runtime.threads import ThreadGroup

    class Offloading(Protocol):
        """A manager, of whatever kind of pool."""

        offload_threads: ThreadGroup


__all__ = ["OffloadedCall", "off_loop"]


def off_loop(manager: Offloading, call: Callable[..., Any], *args: Any) -> Awaitable[Any]:
    """``call(*args)`` on a worker, begun at once; await its result."""
    offloaded = OffloadedCall(lambda: None)
    offloaded.send(manager, call, *args)
    return offloaded.result()


class OffloadedCall:
    """One call on a worker for one task.  Done, or given up by its task: whoever comes second finds
    out, and does ``undo()``.  Kept by the task until it has what the call has brought; dropped
    before, it gives up: a signal handler may raise anywhere in between."""

    def __init__(self, undo: Callable[[], object]) -> None:
        self.to_begin, self.to_end, self.to_leave = _core.Once(), _core.Once(), _core.Once()
        self.undo = undo
        loop: Any = _get_running_loop()
        its = loop_of(loop)  # first: it refuses where asyncio runs not
        self.offloaded_calls = offloaded_calls = its.offloaded_calls
        self.loop = loop
        self.future = loop.create_future()
        self.found: Any = None
        self.error: BaseException | None = None
        me = id(self)
        offloaded_calls[me] = weakref.ref(self, lambda _: offloaded_calls.pop(me, None))

    def send(self, manager: Offloading, call: Callable[..., Any], *args: Any) -> None:
        """Has it begun."""
        look_later()
        manager.offload_threads.hand_over(self.run, call, args)

    def run(self, call: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """On a worker."""
        if not self.to_begin.take():
            return
        try:
            self.found = call(*args)
        except BaseException as error:
            self.error = error
        if not self.to_end.take():
            self.undo()
            return
        try:
            self.loop.call_soon_threadsafe(_core.set_done, self.future)
        except RuntimeError:  # the loop is closed
            self.abandon()

    async def result(self) -> Any:
        try:
            await self.future
        except BaseException:
            self.abandon()
            raise
        finally:
            self.offloaded_calls.pop(id(self), None)
        if self.error is not None:
            raise self.error
        return self.found

    def abandon(self) -> None:
        """Nobody awaits it any more.  Also for a loop that is closed, while the task is kept."""
        if self.to_leave.take() and not self.to_end.take():
            self.undo()

    def retract(self) -> None:
        """The same, and if it has not begun it never will."""
        if self.to_begin.take():
            self.to_leave.take()
            self.undo()
        else:
            self.abandon()

    def __del__(self) -> None:
        if hasattr(self, "undo"):
            self.retract()
