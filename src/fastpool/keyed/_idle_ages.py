"""Which key of a KeyedPool has what has been idle longest, without a look at every key.

What is idle changes hands on the fast path, which tells nobody.  But the time since when the oldest
of a key has been idle only grows; so the keys are kept in a heap by the last time that is known,
which is never too late, and only the first is looked at: it is right, or moves back.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace
from itertools import count
from weakref import ref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._key_pool import KeyPool

__all__ = ["IdleAges"]

MOMENT = 1e-6  # seconds; a manual clock may stand still


class IdleAges:
    """Under the lock of whoever holds the keys."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, ref[KeyPool]]] = []
        self._order = count()

    def add(self, key_pool: KeyPool, known: int) -> None:
        """A new key; ``known``: how many there are."""
        if len(self._heap) > 2 * known + 64:  # those that are forgotten are many
            self._heap[:] = [entry for entry in self._heap if entry[2]() is not None]
            heapify(self._heap)
        heappush(self._heap, (0.0, next(self._order), ref(key_pool)))

    def oldest(self, for_warming: bool) -> tuple[KeyPool, int] | None:
        """Key and slot of what has been idle longest, of keys for which nobody waits; None: there
        is nothing.  ``for_warming``: for nobody who waits; then what is warmed stays, or two would
        close each other's."""
        warmed: list[tuple[float, int, ref[KeyPool]]] = []
        try:
            return self._oldest(warmed if for_warming else None)
        finally:
            for entry in warmed:
                heappush(self._heap, entry)

    def _oldest(
        self, warmed: list[tuple[float, int, ref[KeyPool]]] | None
    ) -> tuple[KeyPool, int] | None:
        """``warmed``: takes in the keys that are passed over, with what is known of them."""
        heap = self._heap
        later = 0.0  # than all that is idle at this moment
        while heap:
            known, _, key = heap[0]
            key_pool = key()
            if key_pool is None or key_pool.core.forgotten:
                heappop(heap)
                continue
            if warmed is not None and key_pool.creator.warming:
                warmed.append(heappop(heap))
                continue
            since, index = key_pool.oldest()
            if index >= 0 and since <= known:
                return key_pool, index
            if index < 0:  # what comes back to it does so from now on
                later = later or key_pool.core.now() + MOMENT
                if known >= later:
                    return None
                since = later
            heapreplace(heap, (max(since, known), next(self._order), key))
        return None
