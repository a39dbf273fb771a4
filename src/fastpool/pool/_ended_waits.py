"""Ending waits before their time: ``flush`` and ``suspend`` with ``fail_waiters``."""

from __future__ import annotations

from .. import _core
from ..errors import PoolInterrupted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["end_waits"]


def end_waits(act: str, managers: Iterable[Any]) -> None:
    """Raise PoolInterrupted in all who wait in these pools; ``act``: the call that wants it."""
    text = f"{act}(fail_waiters=True) was called while the caller waited"
    for manager in managers:

        def interrupted(name: str = manager.name) -> PoolInterrupted:
            return PoolInterrupted(name, text)

        _core.fail_waiters(manager.core, interrupted)
