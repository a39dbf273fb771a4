"""What tasks call: plain coroutine functions, put into the compiled types by ``pool.py``.

A hit is served without touching the event loop, and asyncio is not imported for it.
"""

from __future__ import annotations

from . import _core
from ._core import DEFAULT, MISSED, Hand, hit, lease_hit, stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


async def aget(self: Any, timeout: Any = DEFAULT) -> Any:
    """``get`` for a task: waits without blocking the event loop.  Cancelled, it takes nothing."""
    if timeout is not DEFAULT:
        _core.asks(self, timeout)  # a bad one is an error, before anything is taken
    found = hit(self)
    if found is MISSED or type(found) is Hand:
        from ._aio import get

        hand: Hand | None = None if found is MISSED else found
        return await get(self, hand, timeout)
    return found


async def aput(self: Any, item: Any, timeout: Any = DEFAULT) -> None:
    """Queue use: ``put`` for a task."""
    if not stored(self, item):
        from ._aio import put

        await put(self, item, timeout)


async def aacquire(self: Any, timeout: Any = DEFAULT) -> Any:
    """``acquire`` for a task."""
    lease = self.lease(timeout)
    found = lease_hit(lease, False)
    if type(found) is Hand:
        from ._aio import enter

        await enter(lease, found, False)
    return lease


async def aclose(self: Any, timeout: float | None = 5.0) -> bool:
    """``close`` for a task: waits for borrowers other than the calling task."""
    if not _core.is_pool(self):
        self.close()
        return True
    from ._aio import aclose

    return await aclose(_core.manager(self, "aclose"), timeout)


async def awarm(self: Any, n: int, timeout: Any = DEFAULT) -> int:
    """``warm`` for a task."""
    from ._aio import warm

    default = timeout is DEFAULT
    return await warm(_core.asks(self, None)[1], n, None if default else timeout, default)


async def enter_pool(self: Any) -> Any:
    return self


async def exit_pool(self: Any, kind: Any, error: BaseException | None, trace: Any) -> None:
    await self.aclose(5.0 if error is None else 0)


async def enter_lease(self: Any) -> Any:
    """Takes the resource."""
    found = self._hit()
    if type(found) is Hand:
        from ._aio import enter

        return await enter(self, found)
    return found


def settle(manager: Any, index: int, error: BaseException | None, discard: bool) -> Any:
    """The slow path of a return by a task; something to await, or None."""
    from . import _aio

    return _aio.settle(manager, index, error, discard)


def install() -> None:
    """Puts them there; once."""
    _core.add_faces(
        {
            "aget": aget,
            "aput": aput,
            "aacquire": aacquire,
            "aclose": aclose,
            "awarm": awarm,
            "__aenter__": enter_pool,
            "__aexit__": exit_pool,
        },
        {"__aenter__": enter_lease},
        settle,
    )
