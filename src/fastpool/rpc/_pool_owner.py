"""What a client for threads has of its pool: it is closed with it."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

__all__ = ["PoolOwner"]


class PoolOwner:
    """The end of a client, by ``close`` or by a ``with`` block."""

    pool: Any

    def close(self, timeout: float | None = 5.0) -> bool:
        """``close`` of its pool: no new calls, idle connections go now, the others when they come
        back; True if all came within ``timeout`` seconds."""
        closed: bool = self.pool.close(timeout)
        return closed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.pool.__exit__(kind, error, trace)
