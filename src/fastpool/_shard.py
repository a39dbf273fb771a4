"""What a pool with an async factory keeps for one event loop: a manager whose hooks are awaited.

The resources, the line and the idle store of that loop.  Hooks run as tasks of the loop that belong
to the pool, so a borrower who is cancelled takes no hook with it; they can be cancelled themselves,
and are when their time is over.  How many may be open is for ``_shards.py`` to say.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from asyncio import _get_running_loop
from functools import partial

from . import _core, _policy
from ._checking import Checking
from ._closing import Closing
from ._manager import Manager
from ._opener import Opener, Try
from .errors import PoolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any

    from ._shards import Shards

__all__ = ["Shard"]

INF = float("inf")


async def called(hook: Callable[..., Any], *args: Any) -> Any:
    """The result of a hook, which may be a plain function too."""
    result = hook(*args)
    return await result if hasattr(type(result), "__await__") else result


def _within(seconds: float) -> asyncio.Timeout:
    return asyncio.timeout(None if seconds == INF else seconds)


class Tasks:
    """In the place of ``Workers``: runs coroutine functions as tasks of one loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._context = contextvars.copy_context()  # a borrower's is not the pool's
        self._under_way: set[asyncio.Task[Any]] = set()  # a loop keeps no task alive

    def submit(self, call: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
        """Never runs it at once: the caller may hold the manager's lock.  RuntimeError: the loop is
        closed."""
        if _get_running_loop() is self.loop:
            self.loop.call_soon(self.begin, call, *args)
        else:
            self.loop.call_soon_threadsafe(self.begin, call, *args)

    def begin(self, call: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> asyncio.Task[Any]:
        """In the loop's own thread: begun, and to be awaited by who wants to."""
        task = self.loop.create_task(call(*args), context=self._context.copy())
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # may end with its loop
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    def excuse(self, tasks: int = 1) -> None:
        """Nothing: tasks stand in nobody's way."""

    def stop(self) -> None:
        """Nothing: what is under way ends by itself."""

    def settle(self, timeout: float) -> bool:
        """Waits, in another thread than the loop's, until nothing is under way."""
        if _get_running_loop() is self.loop or not self.loop.is_running():
            return not self._under_way

        async def ended() -> None:
            await asyncio.sleep(0)  # what was submitted before begins before this goes on
            while self._under_way:
                await asyncio.wait(list(self._under_way))

        bounded = asyncio.wait_for(ended(), timeout)
        try:
            asyncio.run_coroutine_threadsafe(bounded, self.loop).result()
        except TimeoutError:
            return False
        return True


class ShardOpener(Opener):
    """Creations are tasks; who may start one is decided over all loops."""

    def __init__(self, manager: Shard) -> None:
        super().__init__(manager)
        self.shards = manager.shards
        self.workers = manager.tasks

    def room(self) -> bool:
        return self.shards.room()

    def missing(self) -> int:
        return super().missing() if self.shards.latest() is self.manager else 0

    def start(self) -> None:
        self.shards.start()

    def wanted(self) -> int:
        """How many more tries this loop could do with: for callers, and by wishes."""
        wishes = self.wishes if time.monotonic() >= self.paused_until else 0
        return _policy.tries_wanted(self.manager.core.demand, wishes, self.tries, INF)

    async def _run(self, attempt: Try) -> None:
        attempt.task = asyncio.current_task()
        if not self._begin(attempt):
            return
        resource: Any = None
        error: BaseException | None = None
        try:
            resource = await called(self.manager.hooks.create)
            self._take_in(attempt, resource)
        except asyncio.CancelledError as cancelled:  # which would look like the waiter's own
            error = PoolError(self.manager.name, "the creation was cancelled")
            error.__cause__ = cancelled
        except BaseException as failure:
            error = failure
        del resource
        self._finish(attempt, error)

    def _give_up(self, attempt: Try) -> None:
        super()._give_up(attempt)
        try:
            attempt.task.get_loop().call_soon_threadsafe(attempt.task.cancel)
        except RuntimeError:  # the loop is closed
            pass


class ShardChecking(Checking):
    """The check is a task; its borrower waits for it as long as there is time."""

    manager: Shard

    async def aexamine(self, hand: _core.Hand, start: float, span: float | None) -> bool:
        """As ``examine``."""
        if not self.core.claim(hand.index, "leased"):
            return False
        why, due = self.look(hand.index)
        if due:
            why = await self._aask(hand, start, span)
        return self.verdict(hand, why)

    async def _aask(self, hand: _core.Hand, start: float, span: float | None) -> str | None:
        manager, index = self.manager, hand.index
        left = self.options.hook_timeout
        if span:
            left = min(left, max(0.0, start + span - time.monotonic()))
        task = manager.tasks.begin(self._check, index)
        away = hand.move()  # a borrower who goes away leaves the slot to the task
        try:
            await asyncio.wait({task}, timeout=None if left == INF else left)
        finally:
            if task.done():
                hand.receive(away)
            else:
                task.add_done_callback(partial(self._checked, index))
        if not task.done():
            raise manager.refusal("timeout", start, span, "check")
        return None if task.result() else "check"

    async def _check(self, index: int) -> bool:
        """The hook's answer; False also if it raised, or was cancelled."""
        self.deadlines.begin(index)
        try:
            async with _within(self.options.hook_timeout):
                answer = await called(self.hook, self.core.item(index))
            return answer is None or bool(answer)
        except (Exception, asyncio.CancelledError):
            return False
        finally:
            self.deadlines.end(index)

    def _checked(self, index: int, task: asyncio.Task[bool]) -> None:
        """A check without a borrower is over."""
        self.core.freshen(index)
        good = not task.cancelled() and task.exception() is None and task.result()
        if good and self.core.publish(index, used=False):
            self.manager.came_back()
        else:
            self.manager.closing.later(index, "closed" if good else "check")

    async def keep_alive(self, index: int) -> None:  # type: ignore[override]
        task = self.manager.tasks.begin(self._check, index)
        await asyncio.wait({task})
        self._checked(index, task)
        self.manager.housekeeping.tend_soon()


class ShardClosing(Closing):
    """Closing is a task; where the loop is closed, nothing can be awaited and the place is free at
    once."""

    manager: Shard

    def here(self, index: int, why: str, workers: object = None) -> None:
        self.later(index, why)

    def on(self, workers: object, index: int, why: str) -> None:
        self.later(index, why)

    def later(self, index: int, why: str) -> None:
        if self.core.retire(index):
            try:
                self.manager.tasks.submit(self.end, index, why)
            except RuntimeError:
                self.core.free(index, "loop")

    def rescue(self, index: int, why: str) -> None:
        if self.core.slot(index)[1] == "checking":
            self.manager.tracking.forget(index)
            self.later(index, why)

    async def end(self, index: int, why: str) -> None:
        """A CLOSING slot: its hook, and then the place."""
        self.deadlines.begin(index)
        try:
            async with _within(self.manager.options.hook_timeout):
                await self._close(self.core.item(index))
        except Exception as failure:
            self.manager.log("close failed", failure)
        except asyncio.CancelledError:
            self.manager.log("a close was cancelled, most likely with its event loop", None)
        finally:
            self.deadlines.end(index)
            self.core.free(index, why)

    async def _close(self, resource: Any) -> None:
        hook = self.hook
        if hook is not None:
            await called(hook, resource)
        elif hasattr(resource, "aclose"):
            await called(resource.aclose)
        elif hasattr(resource, "close"):
            await called(resource.close)


class Shard(Manager):
    """The manager of one loop's share of a pool.  Its core's limit says only when callers ask for
    a place; places are given out under the lock of ``Shards``, which all its shards share."""

    awaits = True
    opener: ShardOpener
    checking: ShardChecking
    closing: ShardClosing

    def __init__(self, shards: Shards, loop: asyncio.AbstractEventLoop) -> None:
        self.shards = shards
        self.loop = loop  # kept alive: the core tells loops apart by their addresses
        self.tasks = Tasks(loop)
        super().__init__(_core.Core(), shards.options)
        self.maxsize = shards.maxsize
        self.set_core(INF, self.options.max_waiting)

    def start_anew(self) -> None:
        self.lock, self.news = self.shards.lock, self.shards.news
        self.equip()

    def equip(self) -> None:
        super().equip()
        self.checkers = self.closers = self.tasks
        self.errands = self.shards.errands
        self.closing = ShardClosing(self)
        self.checking = ShardChecking(self)
        self.opener = ShardOpener(self)

    # ---- borrowing -----------------------------------------------------------------------------

    def come(self, hand: _core.Hand, start: float, span: float | None) -> None:
        refused = self.shards.refuses(_core.task())
        if refused is not None:
            raise self.refusal(refused, start, span)
        super().come(hand, start, span)

    def counts(self) -> dict[str, Any]:
        return self.shards.counts()

    # ---- returning -----------------------------------------------------------------------------

    def settle(self, index: int, error: BaseException | None, discard: bool) -> None:
        """For who cannot await it, in any thread: the loop does it soon."""
        try:
            self.tasks.submit(self.asettle, index, error, discard)
        except RuntimeError:  # the loop is closed
            if self.core.retire(index):
                self.core.free(index, "loop")

    async def asettle(self, index: int, error: BaseException | None, discard: bool) -> None:
        """As ``Manager.settle``."""
        core = self.core
        try:
            if self.tracking.on:
                self.tracking.forget(index)
            why = "discarded" if discard else self.broken(index, error)
            why = why or await self._areset(index) or self.worn(index)
            kept = why is None and core.publish(index)
        except BaseException:
            self.rescue(index, "interrupted")
            raise
        if kept:
            self.came_back()
        elif core.retire(index):
            await self.closing.end(index, why or self.why_not_idle(index))
        if core.closed:
            self.sweep()

    async def _areset(self, index: int) -> str | None:
        if self.hooks.reset is None:
            return None
        self.deadlines.begin(index)
        try:
            async with _within(self.options.hook_timeout):
                await called(self.hooks.reset, self.core.item(index))
        except (Exception, asyncio.CancelledError) as failure:
            self.log("reset failed; the resource is closed", failure)
            return "reset"
        finally:
            self.deadlines.end(index)
        return None

    def settled(
        self, index: int, error: BaseException | None, discard: bool
    ) -> Awaitable[None] | None:
        """``asettle``, begun at once.  A caller who is cancelled does not cancel it; None: the
        caller's loop is another."""
        if _get_running_loop() is not self.loop:
            self.settle(index, error, discard)
            return None
        return asyncio.shield(self.tasks.begin(self.asettle, index, error, discard))

    def why_retired(self) -> str:
        why = super().why_retired()
        with self.lock:
            if why == "flushed" and self.shards.spared:
                self.shards.spared -= 1
                return "evicted"
        return why

    def came_back(self) -> None:
        super().came_back()
        self.shards.came_back()

    def returned(self, later: bool = False) -> None:
        """Also while another loop waits for a place."""
        if self.core.closed:
            self.sweep(later)
        else:
            self.shards.came_back()

    # ---- closing -------------------------------------------------------------------------------

    def dismiss(self) -> None:
        super().dismiss()
        self.shards.dismiss_if_empty()

    def forsake(self) -> list[Any]:
        """The loop is closed: its resources go, and nothing can be awaited for them.  Those that a
        hook was running for stay with the task of that hook, which is never resumed."""
        core = self.core
        core.close()
        gone = []
        for index, state, *_ in core.slots():
            if state in ("idle", "leased") and core.claim(index, state):
                gone.append(core.item(index))
                if core.retire(index):
                    core.free(index, "loop")
        return gone
