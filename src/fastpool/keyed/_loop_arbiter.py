"""The limits of a KeyedPool with an async factory: those over all keys, and that of each key over
the event loops that use it.

What asks for a slot is a key on one loop.  It gets one as in ``_capacity.py``, if the key has one
left; else the loops of that key are looked at: see ``_key_loops.py``.
"""

from __future__ import annotations

from .. import _core
from .._runtime import scheduler
from ._capacity import CapacityArbiter
from ._key_loops import KeyLoops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._key_pool import KeyPool
    from ._loop_key_pool import LoopKeyPool
    from ._options import KeyedOptions

__all__ = ["LoopArbiter"]


class LoopArbiter(CapacityArbiter):
    """See the module."""

    def __init__(
        self,
        core: _core.Core,
        cores: dict[Any, _core.Core],
        options: KeyedOptions,
        lock: _core.Lock,
    ) -> None:
        super().__init__(core, cores, options, lock)
        self.options = options
        self.of_key: dict[Any, KeyLoops] = {}

    def join(self, part: LoopKeyPool) -> None:
        """A key on a loop that asks for the first time."""
        with self.lock.hold():
            if part not in part.loops.parts and not part.core.forgotten:
                loops = self.of_key.setdefault(part.key, KeyLoops(self.options))
                part.loops = loops
                loops.join(part)
                part.crowded()

    def forget(self, key_pool: Any) -> None:
        super().forget(key_pool)
        key_pool.loops.leave(key_pool)
        self._drop_unused(key_pool)

    def _drop_unused(self, part: LoopKeyPool) -> None:
        loops = part.loops
        if not loops.parts and not loops.opened and self.of_key.get(part.key) is loops:
            del self.of_key[part.key]

    def count_opened(self, key_pool: Any) -> None:
        super().count_opened(key_pool)
        key_pool.taken += 1
        key_pool.loops.opened += 1

    def slot_freed(self, key_pool: Any) -> None:
        with self.lock.hold():
            if key_pool.taken:  # else its loop is closed, and they have been given back
                key_pool.taken -= 1
                key_pool.loops.opened -= 1
                super().slot_freed(key_pool)
                key_pool.loops.serve(self)

    # ---- closed loops ----------------------------------------------------------------------------

    def abandon(self, part: LoopKeyPool, held: int) -> None:
        """Its loop is closed: its slots are free, but so many that hold what is left of it."""
        self.forget(part)
        free, part.taken = part.taken - held, 0
        self.release(part, free)

    def hold(self, part: LoopKeyPool, n: int) -> None:
        """So many slots are taken for what is left of a closed loop."""
        with self.lock.hold():
            self.opened += n
            part.loops.opened += n

    def release(self, part: LoopKeyPool, n: int) -> None:
        """They are free."""
        with self.lock.hold():
            self.opened -= n
            part.loops.opened -= n
            self._drop_unused(part)
        scheduler.call_soon(self._released, part.loops)

    def _released(self, loops: KeyLoops) -> None:
        with self.lock.hold():
            loops.serve(self)
            self.feed()
        if self.budget is not None:
            self.budget.ask()

    def _oldest(self, for_warming: bool) -> tuple[KeyPool, int] | None:
        """What loops that do not run have idle is closed last: as soon as they run again."""
        found = super()._oldest(for_warming)
        if found is None:
            stopped = [part for part in _core.managers_of(self.cores) if not part.loop.is_running()]
            if stopped:
                _, oldest = _core.oldest_idle({part: part.core for part in stopped}, 1)
                found = oldest[0] if oldest else None
        return found
