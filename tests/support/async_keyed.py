"""An async factory of keys that keeps accounts: hooks on their loop, caps of a key and of all."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastpool import KeyedPool
from support.async_factories import AsyncMaker, Thing, agreeing


class KeyedThing(Thing):
    __slots__ = ("key",)


class AsyncKeyedMaker(AsyncMaker):
    """As ``AsyncMaker``, with ``create(key)``; its cap is that of all keys."""

    def __init__(self, total: float = float("inf"), per_key: float = float("inf")) -> None:
        super().__init__(total)
        self.per_key = per_key
        self._of_key: list[tuple[asyncio.AbstractEventLoop, Any]] = []  # creations under way

    async def create(self, key: Any) -> Any:  # type: ignore[override]
        loop = asyncio.get_running_loop()
        with self._lock:
            self.calls += 1
            self._of_key.append((loop, key))
            self._creating.append(loop)
            if self.running + self.open > self.cap:
                self.faults.append(f"{self.running} + {self.open} exceed the cap {self.cap}")
            if self.open_of(key) > self.per_key:
                self.faults.append(f"{self.open_of(key)} of {key!r} exceed {self.per_key}")
        try:
            told = await self._act("create")
        finally:
            with self._lock:
                self._creating.remove(loop)
                self._of_key.remove((loop, key))
        if told is not None:
            return told
        with self._lock:
            thing = KeyedThing(len(self.all), loop)
            thing.key = key
            self.all.append(thing)
        return thing

    def open_of(self, key: Any) -> int:
        """Open or being made, on loops that are not closed."""
        made = sum(
            one.key == key and not (one.closed or one.loop.is_closed())  # type: ignore[attr-defined]
            for one in list(self.all)
        )
        return made + Counter(one for loop, one in list(self._of_key) if not loop.is_closed())[key]


@contextmanager
def accounted_keys(
    maker: AsyncKeyedMaker | None = None, **options: Any
) -> Iterator[tuple[Any, AsyncKeyedMaker]]:
    """A pool and its factory.  At the end the pool is closed, and must agree with the factory."""
    infinite = float("inf")
    per_key = options.get("max_per_key", 10)
    total = options.get("max_total", 100)
    maker = maker or AsyncKeyedMaker(total or infinite, per_key or infinite)
    pool: Any = KeyedPool(maker, **options)
    with agreeing(pool, maker):
        yield pool, maker
    assert not pool.stats().keys


async def use(pool: Any, key: Any, **options: Any) -> Any:
    """One lease; the resource."""
    async with pool.lease(key, **options) as thing:
        assert thing.key == key
        return thing
