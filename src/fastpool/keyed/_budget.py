"""What a KeyedPool has of a budget: permits of all its keys, given out as slots of ``max_total``
are; see ``_capacity.py``."""

from __future__ import annotations

from .. import _core
from .._runtime import scheduler
from ..pool._budget import Share, more_wanted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["KeyedShare"]


class KeyedShare(Share):
    """See the module.  In time that depends on the keys that wait, and not on all there are."""

    def is_short(self, core: _core.Core) -> bool:
        whole = self._whole()
        if whole is None or not core.has_capacity():  # the limit of the key
            return False
        return bool(self.allowance <= whole.arbiter.opened < whole.max_total)

    def set_allowance(self, whole: Any, n: int) -> int:
        with whole.lock.hold():
            self.allowance = n
            whole.arbiter.allowance = n
            return int(whole.arbiter.opened)

    def in_use(self, whole: Any) -> int:
        return int(whole.arbiter.opened)

    def parts(self, whole: Any) -> list[Any]:
        parts: list[Any] = whole.everyone()
        return parts

    def listen(self, whole: Any) -> None:
        """Callers who want one more ask the arbiter, each of them."""

    def needed(self, whole: Any) -> int:
        arbiter = whole.arbiter
        with whole.lock.hold():
            idle, _ = _core.oldest_idle(whole.cores, 0)
            wanted = sum(_wanted(key_pool) for key_pool in arbiter.queued())
            needed = arbiter.opened - idle + wanted
            return int(min(needed, whole.max_total))

    def shed(self, whole: Any) -> None:
        scheduler.call_soon(whole.arbiter.shrink)

    def serve(self, whole: Any) -> None:
        whole.arbiter.feed()
        whole.state_changed.notify_all()


def _wanted(key_pool: Any) -> int:
    """How many more the callers of one key want, under its own limit."""
    return int(max(0, min(more_wanted(key_pool), key_pool.capacity_left())))
