"""A FastPool that its owner may drop: redis-py's pools are seldom closed by anybody."""

from __future__ import annotations

from typing import Any

from fastpool import FastPool

__all__ = ["QuietPool"]


class QuietPool(FastPool[Any]):
    """Collected without ``close()``, it closes what is idle, and warns of nothing."""

    def __del__(self) -> None:
        self.close(0)
        super().__del__()  # type: ignore[misc]  # not in the stub: nobody else calls it
