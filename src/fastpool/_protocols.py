"""What a factory object looks like to a type checker.

Imported on first need, by ``fastpool.Factory``: the pool itself looks at the methods that are
there and never asks for a protocol.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

__all__ = ["AsyncFactory", "AsyncKeyedFactory", "Factory", "KeyedFactory"]

T_co = TypeVar("T_co", covariant=True)
K_contra = TypeVar("K_contra", contravariant=True)


class Factory(Protocol[T_co]):
    """An object that makes resources: ``FastPool(factory=it)``.

    Only ``create`` is asked for.  It may have ``close(resource)``, ``check(resource)`` and
    ``reset(resource)`` too, which then are the pool's hooks unless keywords of these names are
    given; they mean what the options of FastPool say.
    """

    def create(self) -> T_co:
        """Returns a new resource, never None and never one that the pool holds already; or raises,
        and the one waiter that it was called for gets that exception.

        Runs on a worker of the pool, several at once: ``max_creating``, ``create_timeout``.
        """
        ...


class AsyncFactory(Protocol[T_co]):
    """The same for asyncio: ``create`` is a coroutine function, and the hooks may be.

    They run as tasks of the pool on the event loop that wants the resource, which belongs to that
    loop from then on.  A pool with such a factory is for tasks alone.
    """

    async def create(self) -> T_co:
        """Returns a new resource, or raises; see ``Factory.create``."""
        ...


class KeyedFactory(Protocol[K_contra, T_co]):
    """The same for ``KeyedPool``: ``create`` is told the key.  The other hooks are not: what they
    need to know of it, the resource carries."""

    def create(self, key: K_contra) -> T_co:
        """Returns a new resource of this key, or raises; see ``Factory.create``."""
        ...


class AsyncKeyedFactory(Protocol[K_contra, T_co]):
    """The same for asyncio: ``create`` is a coroutine function, and the hooks may be; see
    ``AsyncFactory``."""

    async def create(self, key: K_contra) -> T_co:
        """Returns a new resource of this key, or raises; see ``Factory.create``."""
        ...
