"""The manager behind a KeyedPool: a pool for each key, and what they share.

Each key has a core of its own: idle store, queue and fast path.  What the keys share is the right
to open, which is for ``_capacity.py`` to give out, and the threads.  A key is known from its first
lease on, and forgotten when nothing is open, nobody waits and nobody is on the way: whoever comes
by the slow path pins it.
"""

from __future__ import annotations

import threading

from .. import _blocking, _core
from .._runtime import scheduler
from .._runtime.threads import ThreadGroup
from ..errors import PoolClosed
from ..pool._own_blocks import surround_call, waits_for_itself
from ..pool._partitioned import PartitionedManager
from ..stats import KeyedStats, KeySizes
from ._budget import KeyedShare
from ._capacity import CapacityArbiter
from ._key_pool import KeyPool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ._options import KeyedOptions

__all__ = ["KeyedManager"]

INF = float("inf")
MOST_CREATING = 256  # calls of the factory at once, over all keys; a slot each
CLOSERS = 8  # threads that close what expires or is evicted, of all keys


class KeyedManager(PartitionedManager):
    """See the module.  ``cores`` is by key."""

    share_kind = KeyedShare
    stats_kind = KeyedStats
    most_closers = CLOSERS
    options: KeyedOptions

    def __init__(self, core: _core.Core, options: KeyedOptions) -> None:
        self.max_total = options.max_total
        super().__init__(core, options)

    def bind_to_process(self) -> None:
        super().bind_to_process()
        self.arbiter.budget = self.budget

    def create_threads(self) -> None:
        super().create_threads()
        name, o = f"fastpool-{self.name}", self.options
        self.creators = ThreadGroup(f"{name}-create", MOST_CREATING, o.context)
        self.checkers = ThreadGroup(f"{name}-check", min(o.max_creating * 16, 64), o.context)

    def create_arbiter(self) -> None:
        self.arbiter = self.new_arbiter()

    def new_arbiter(self) -> CapacityArbiter:
        return CapacityArbiter(self.core, self.cores, self.options, self.lock)

    # ---- which key -----------------------------------------------------------------------------

    def pin(self, key: Any) -> KeyPool:
        """The pool of a key, made when it is first asked for; ``KeyPool.unpin`` it."""
        core = self.cores.get(key)
        while (key_pool := self._pinned(core)) is None:
            if self.core.closed:
                raise PoolClosed(self.name, "the pool is closed")
            fresh = self.new_pool(key).core
            core = self.cores.setdefault(key, fresh)  # one step; slots hear of it with the first
            if core is not fresh and core.forgotten:
                self.lock.run(_core.replace_core, self.cores, key, core, fresh)
                core = self.cores.get(key)
            if core is not fresh:
                fresh.drop_manager()
        return key_pool

    def new_pool(self, key: Any) -> KeyPool:
        return KeyPool(self, key)

    def _pinned(self, core: _core.Core | None) -> KeyPool | None:
        """Its pool, unless it was forgotten meanwhile."""
        key_pool: KeyPool | None = None
        if core is not None:
            key_pool = self.lock.run(_core.pin, core, self.core)
        return key_pool

    def key_pool(self, key: Any) -> KeyPool | None:
        """The pool of a key, if there is one."""
        core = self.cores.get(key)
        return None if core is None else core.manager

    def left(self, key_pool: KeyPool) -> None:
        """On the scheduler's thread: a caller has left, or a resource, and the key may be of no
        interest any more."""
        with self.lock.hold():
            if self.arbiter.is_queued(key_pool):
                self.arbiter.serve(key_pool)
            if key_pool.core.forgotten or key_pool.busy():
                return
            self.cores.pop(key_pool.core_key, None)  # first: the key may not like to be compared
            key_pool.core.forgotten = True
            self.arbiter.forget(key_pool)
            key_pool.core.close(wake=False)  # for whoever has just found it
            self.past.add(key_pool.core)
        key_pool.core.drop_manager()  # who looks at it takes a reference, or finds it gone

    def would_wait_for_itself(self, me: int) -> bool:
        """As ``Manager.would_wait_for_itself``, over all keys."""
        return waits_for_itself([key_pool.core for key_pool in self.everyone()], me)

    # ---- what the pool asks of it --------------------------------------------------------------

    def flush_key(self, key: Any, idle_only: bool = False, fail_waiters: bool = False) -> None:
        key_pool = self.key_pool(key)
        if key_pool is not None:
            key_pool.flush(idle_only, fail_waiters)

    def options_changed(self) -> None:
        self.max_total = self.options.max_total
        self.arbiter.reconfigure(self.options)
        super().options_changed()
        self.arbiter.shrink()

    def warm(self, key: Any, n: Any, timeout: float | None, use_default: bool) -> int:
        key_pool = self.pin(key)
        try:
            return key_pool.warm(n, timeout, use_default)
        finally:
            key_pool.unpin()

    @property
    def maxsize(self) -> int:
        """Of one key."""
        return self.options.maxsize

    # ---- closing -------------------------------------------------------------------------------

    def wait_closed(self, timeout: float | None, me: int | None) -> None:
        """As in ``Manager.close``."""
        mine = threading.get_ident() if me is None else me
        if not surround_call([key_pool.core for key_pool in self.everyone()], mine):
            mine = 0
        arbiter = self.arbiter

        def busy(lent: bool = False) -> int:
            return self.lock.run(_core.busy, self.cores, mine, lent)

        if timeout != 0 and busy(lent=True):
            _blocking.before_wait(self.name, _blocking.CLOSE)
        held = arbiter.opened - busy()
        self.state_changed.wait_for(lambda: arbiter.opened <= held and not busy(), timeout)

    def refuse(self) -> bool:
        first = super().refuse()
        scheduler.call_soon(self.arbiter.close)
        return first

    def taken(self) -> int:
        return self.arbiter.opened

    def is_empty(self) -> bool:
        return not self.taken()

    def own_threads(self) -> tuple[ThreadGroup, ...]:
        return self.creators, self.checkers, *super().own_threads()

    # ---- what goes on in it --------------------------------------------------------------------

    def sizes(self) -> dict[str, int]:
        counted, sizes = self.counted()
        both = {name: counted[name] for name in KeySizes.__slots__}
        return both | {"keys": len(self.by_key(sizes)), "maxsize": self.most()}

    def by_key(self, sizes: Sequence[tuple[Any, tuple[int, ...]]]) -> dict[Any, tuple[int, ...]]:
        """The sizes of each key; ``sizes``: of each core."""
        return dict(sizes)

    def most(self) -> int:
        return 0 if self.max_total == INF else int(self.max_total)

    def stats_of(self, sizes: Sequence[tuple[Any, tuple[int, ...]]]) -> dict[str, Any]:
        return {"keys": {key: KeySizes(*size) for key, size in self.by_key(sizes).items()}}

    def workers(self) -> tuple[Any, ...]:
        return self.creators, self.checkers, self.closers
