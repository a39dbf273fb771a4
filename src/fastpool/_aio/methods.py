"""What tasks call: plain coroutine functions, put into the compiled types by ``pool/__init__.py``.

A hit is served without touching the event loop, and asyncio is not imported for it.
"""

from __future__ import annotations

from .. import _core
from .._core import (
    DEFAULT,
    MISSED,
    SlotGuard,
    get_later,
    hit,
    is_pool,
    keyed_lease_hit,
    lease_hit,
    put_later,
    share_lease_hit,
    shared_hit,
    stored,
    units_hit,
    units_keep,
    units_later,
    units_taken,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


_aio: Any = None  # the module, once it is needed: finding it in a call costs a third of a hand-off


def _load() -> Any:
    global _aio
    from . import slow_paths as module

    _aio = module
    return module


async def aget(self: Any, timeout: Any = DEFAULT) -> Any:
    """``get`` for a task: waits without blocking the event loop.  Cancelled, it takes nothing."""
    if timeout is not DEFAULT:
        _core.asks(self, timeout)  # a bad one is an error, before anything is taken
    found = hit(self)
    if found is MISSED or type(found) is SlotGuard:
        aio = _aio or _load()
        wait = get_later(self, timeout)
        if wait is None:
            return await aio.get(self, None if found is MISSED else found, timeout)
        await wait
        return wait.claim()
    return found


async def aput(self: Any, item: Any, timeout: Any = DEFAULT) -> None:
    """Queue use: ``put`` for a task."""
    if timeout is not DEFAULT:
        _core.asks(self, timeout)
    if not stored(self, item):
        _aio or _load()
        await put_later(self, item, timeout)


async def aacquire(self: Any, timeout: Any = DEFAULT) -> Any:
    """``acquire`` for a task."""
    lease = self.lease(timeout)
    found = lease_hit(lease, False)
    if type(found) is SlotGuard:
        await (_aio or _load()).enter(lease, found, False)
    return lease


async def aclose(self: Any, timeout: float | None = 5.0) -> bool:
    """``close`` for a task: does not wait for the blocks of the calling task."""
    if not is_pool(self):
        self.close()
        return True
    closed: bool = await (_aio or _load()).aclose(_core.manager(self, "aclose"), timeout)
    return closed


async def awarm(self: Any, n: int, timeout: Any = DEFAULT) -> int:
    """``warm`` for a task."""
    default = timeout is DEFAULT
    _core.manager(self, "awarm")
    opened: int = await (_aio or _load()).warm(
        _core.asks(self, None)[1], n, None if default else timeout, default
    )
    return opened


async def aopen(self: Any, wait: bool = False, timeout: float | None = 30.0) -> None:
    """``open`` for a task."""
    _core.manager(self, "aopen")
    manager = _core.asks(self, None)[1]  # of the running loop, if its factory is asynchronous
    await (_aio or _load()).open_pool(manager, bool(wait), timeout)


async def acheck_idle(self: Any) -> int:
    """``check_idle`` for a task."""
    closed: int = await (_aio or _load()).check_idle(_core.manager(self, "acheck_idle"))
    return closed


async def enter_pool(self: Any) -> Any:
    return self


async def exit_pool(self: Any, kind: Any, error: BaseException | None, trace: Any) -> None:
    await self.aclose(5.0 if error is None else 0)


async def enter_lease(self: Any) -> Any:
    """Takes the resource."""
    found = self._hit()
    if type(found) is SlotGuard:
        return await (_aio or _load()).enter(self, found)
    return found


async def share_get(self: Any, timeout: Any = DEFAULT) -> Any:
    """``get`` for a task: waits without blocking the event loop.  Cancelled, it takes nothing."""
    if timeout is not DEFAULT:
        _core.asks(self, timeout)
    found = shared_hit(self)
    if found is MISSED or type(found) is SlotGuard:
        aio = _aio or _load()
        return await aio.get(self, None if found is MISSED else found, timeout)
    return found


async def share_acquire(self: Any, timeout: Any = DEFAULT) -> Any:
    """``acquire`` for a task."""
    lease = self.lease(timeout)
    found = share_lease_hit(lease, False)
    if type(found) is SlotGuard:
        await (_aio or _load()).enter(lease, found, False)
    return lease


async def keyed_acquire(self: Any, key: Any, timeout: Any = DEFAULT) -> Any:
    """``acquire`` for a task."""
    lease = self.lease(key, timeout)
    await enter_key(lease, False)
    return lease


async def keyed_warm(self: Any, key: Any, n: int, timeout: Any = DEFAULT) -> int:
    """``warm`` for a task."""
    default = timeout is DEFAULT
    key_pool = _core.manager(self, "awarm").pin(key)
    try:
        opened: int = await (_aio or _load()).warm(
            key_pool, n, None if default else timeout, default
        )
        return opened
    finally:
        key_pool.unpin()


async def enter_keyed(self: Any) -> Any:
    """Takes the resource."""
    return await enter_key(self, True)


async def enter_key(lease: Any, block: bool) -> Any:
    found = keyed_lease_hit(lease, block)
    due = type(found) is SlotGuard
    if not due and found is not MISSED:
        return found
    try:
        key_pool = lease._manager().pin(lease.key)
    except BaseException:
        if due:
            found.drop()
        raise
    try:
        guard = lease._guard_for(key_pool.core, found if due else None)
        resource = await (_aio or _load()).enter(lease, guard, block)
        lease._entered()
        return resource
    finally:
        key_pool.unpin()


async def units_acquire(self: Any, n: int = 1, timeout: float | None = None) -> None:
    """``acquire`` for a task: does not block the event loop.  Cancelled, it takes nothing."""
    if timeout is None and units_taken(self, n):
        return
    hold = self.hold(n, timeout)
    await units_enter(hold)
    units_keep(hold)


async def units_enter(self: Any) -> Any:
    """Takes the units."""
    if not units_hit(self):
        _aio or _load()
        await units_later(self)
    return self


def give_back(manager: Any, index: int, error: BaseException | None, discard: bool) -> Any:
    """The slow path of a return by a task; something to await, or None."""
    return (_aio or _load()).give_back(manager, index, error, discard)


class OfResource:
    """Stands in a lease for what its resource has, and raises the error that says so.  By name: a
    ``__getattr__`` would make every call of a lease's own methods slower."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, lease: Any, kind: type) -> Any:
        from .._misuse import asked_of_lease

        raise asked_of_lease(lease, kind, self.name)


OF_RESOURCES = {
    name: OfResource(name)
    for name in (
        "begin", "close", "commit", "cursor", "delete", "execute", "executemany", "fetch",
        "fetchall", "fetchone", "fetchrow", "fetchval", "get", "ping", "pipeline", "post", "put",
        "query", "read", "recv", "request", "rollback", "send", "sendall", "set", "stream",
        "transaction", "write",
    )
}  # fmt: skip


def without_theirs(lease: Any) -> list[str]:
    """``dir`` of a lease: what it has itself."""
    return [name for name in object.__dir__(lease) if name not in OF_RESOURCES]


def named(function: Any, name: str) -> Any:
    """The function with the name that it has in the type."""
    function.__name__ = function.__qualname__ = name
    return function


def install() -> None:
    """Puts them there; once."""
    _core.add_async_methods(
        {
            "aget": aget,
            "aput": aput,
            "aacquire": aacquire,
            "aclose": aclose,
            "acheck_idle": acheck_idle,
            "aopen": aopen,
            "awarm": awarm,
            "__aenter__": enter_pool,
            "__aexit__": exit_pool,
        },
        {"__aenter__": enter_lease, "__dir__": without_theirs, **OF_RESOURCES},
        give_back,
    )
    _core.add_shared_async_methods(
        {
            "aget": named(share_get, "aget"),
            "aacquire": named(share_acquire, "aacquire"),
            "aclose": aclose,
            "acheck_idle": acheck_idle,
            "aopen": aopen,
            "awarm": awarm,
            "__aenter__": enter_pool,
            "__aexit__": exit_pool,
        },
        {"__aenter__": enter_lease, "__dir__": without_theirs, **OF_RESOURCES},
    )
    _core.add_semaphore_async_methods(
        {"aacquire": named(units_acquire, "aacquire")},
        {"__aenter__": named(units_enter, "__aenter__")},
    )


def install_keyed() -> None:
    """The same for ``KeyedPool``."""
    _core.add_keyed_async_methods(
        {
            "aacquire": named(keyed_acquire, "aacquire"),
            "acheck_idle": acheck_idle,
            "aclose": aclose,
            "awarm": named(keyed_warm, "awarm"),
            "__aenter__": enter_pool,
            "__aexit__": exit_pool,
        },
        {"__aenter__": named(enter_keyed, "__aenter__")},
    )
