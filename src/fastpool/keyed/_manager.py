"""The manager behind a KeyedPool: a pool for each key, and what they share.

Each key has a core of its own: idle store, queue and fast path.  What the keys share is the right
to open, which is for ``_capacity.py`` to give out, and the threads.  A key is known from its first
lease on, and forgotten when nothing is open, nobody waits and nobody is on the way: whoever comes
by the slow path pins it.
"""

from __future__ import annotations

import threading

from .. import _blocking, _core, _reports
from .._runtime import scheduler
from .._runtime.threads import ThreadGroup
from ..errors import PoolClosed
from ..pool._budget import join
from ..pool._configuration import change, readable
from ..pool._ended_waits import end_waits
from ..pool._idle_checks import check_all, checkable
from ..pool._listeners import add, remove
from ..pool._manager import warn_unclosed
from ..pool._own_blocks import surround_call
from ..stats import KeyedStats, KeySizes, snapshot
from ._budget import KeyedShare
from ._capacity import CapacityArbiter
from ._key_pool import KeyPool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..stats import Holder
    from ._options import KeyedOptions

__all__ = ["KeyedManager"]

INF = float("inf")
MOST_CREATING = 256  # calls of the factory at once, over all keys; a slot each
CLOSERS = 8  # threads that close what expires or is evicted, of all keys


class KeyedManager:
    """See the module.  Fields are written under ``lock``.  Its own core lends nothing: it says that
    the pool is closed or suspended."""

    listeners: Any = None

    def __init__(self, core: _core.Core, options: KeyedOptions) -> None:
        self.core = core
        self.options = options
        self.name = options.name
        self.max_total = options.max_total
        self.unopened = False  # there is nothing that could be opened before the first lease
        # By key; also read by the core, without the lock.  The manager of each is its pool.
        self.cores: dict[Any, _core.Core] = {}
        self.bind_to_process()
        core.set_pool(
            self,
            lifo=True,
            fair=True,
            limit=options.max_total,
            timeout=None if options.timeout == INF else options.timeout,
            max_waiting=INF,
            fresh_for=INF,
            timed=False,
            has_check=False,
            ask_get=True,
            ask_put=False,
        )

    def bind_to_process(self) -> None:
        """Everything that is bound to this process; in a forked child all keys are forgotten."""
        self.lock = _core.Lock()
        self.state_changed = _core.Condition()
        name, o = f"fastpool-{self.name}", self.options
        self.creators = ThreadGroup(f"{name}-create", MOST_CREATING, o.context)
        self.checkers = ThreadGroup(f"{name}-check", min(o.max_creating * 16, 64), o.context)
        self.closers = ThreadGroup(f"{name}-close", CLOSERS, o.context)
        self.offload_threads = ThreadGroup(f"{name}-task", 64, o.context)
        self.arbiter = self.new_arbiter()
        self.past = _core.Counted()  # of keys that are forgotten
        self.orphaned = False
        key_pools = self.everyone()
        self.cores.clear()
        for key_pool in key_pools:
            key_pool.core.forgotten = True
            key_pool.core.drop_manager()
        self.budget: Any = join(KeyedShare, self)
        self.arbiter.budget = self.budget

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

    def everyone(self) -> list[KeyPool]:
        return _core.managers_of(self.cores)

    def would_wait_for_itself(self, me: int) -> bool:
        """As ``Manager.would_wait_for_itself``, over all keys."""
        return surround_call([key_pool.core for key_pool in self.everyone()], me)

    # ---- what the pool asks of it --------------------------------------------------------------

    def flush(self, idle_only: bool = False, fail_waiters: bool = False) -> None:
        key_pools = self.everyone()
        if fail_waiters:
            end_waits("flush", key_pools)
        end = _core.end_unused if idle_only else _core.end_all
        end([(key_pool.core, key_pool.closing.here) for key_pool in key_pools], "flushed")

    def flush_key(self, key: Any, idle_only: bool = False, fail_waiters: bool = False) -> None:
        key_pool = self.key_pool(key)
        if key_pool is not None:
            key_pool.flush(idle_only, fail_waiters)

    def check_idle(self, on_worker: bool = False) -> int:
        checkable(self)
        return check_all(self, self.everyone())

    def configure(self, changes: dict[str, Any]) -> None:
        change(self, changes)
        self.core.set_span(self.options.timeout)
        self.max_total = self.options.max_total
        self.arbiter.reconfigure(self.options)
        for key_pool in self.everyone():
            key_pool.reconfigure()
        scheduler.call_soon(self.arbiter.shrink)

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

    def add_listener(self, pool: Any, listener: Any) -> None:
        add(self, [key_pool.core for key_pool in self.everyone()], pool, listener)

    def remove_listener(self, listener: Any) -> None:
        remove(self, [key_pool.core for key_pool in self.everyone()], listener)

    def readable(self) -> dict[str, Any]:
        return readable(self)

    def suspend(self, fail_waiters: bool = False) -> None:
        self.lock.run(_core.suspend_all, self.core, self.cores)
        if fail_waiters:
            end_waits("suspend", self.everyone())

    def resume(self) -> None:
        self.lock.run(_core.resume_all, self.core, self.cores)
        for key_pool in self.everyone():
            scheduler.call_soon(key_pool.creator.refill)

    # ---- closing -------------------------------------------------------------------------------

    def close(self, timeout: float | None, me: int | None = None) -> bool:
        """As ``Manager.close``."""
        self.options.check_timeout("close", timeout)
        self._refuse()
        self.sweep()
        mine = threading.get_ident() if me is None else me
        if not self.would_wait_for_itself(mine):
            mine = 0
        arbiter = self.arbiter

        def busy(lent: bool = False) -> int:
            return self.lock.run(_core.busy, self.cores, mine, lent)

        if timeout != 0 and busy(lent=True):
            _blocking.before_wait(self.name, _blocking.CLOSE)
        held = arbiter.opened - busy()  # as in Manager.close
        self.state_changed.wait_for(lambda: arbiter.opened <= held and not busy(), timeout)
        self.sweep()
        if self.budget is not None:
            self.budget.ask()
        if any(key_pool.core.open for key_pool in self.everyone()):
            return False
        self.shut_down_if_empty()
        return True

    def _refuse(self) -> bool:
        """Closes the gates; True for the call that did it."""
        first: bool = self.lock.run(_core.close_all, self.core, self.cores)
        scheduler.call_soon(self.arbiter.close)
        self.state_changed.notify_all()  # for warm(), which waits for the news
        return first

    def sweep(self, later: bool = False) -> None:
        """Closes everything idle."""
        key_pools = self.everyone()
        for key_pool in key_pools:
            key_pool.core.close(wake=False)  # at interpreter exit; else it is closed already
        closings = [(key_pool.core, key_pool.closing) for key_pool in key_pools]
        parts = [(core, closing.later if later else closing.here) for core, closing in closings]
        _core.end_idle(parts, "closed")

    def shut_down_if_empty(self) -> None:
        """Closed and nothing is open: its threads end."""
        if self.core.closed and not self.arbiter.opened:
            for workers in (self.creators, self.checkers, self.closers, self.offload_threads):
                scheduler.call_soon(workers.stop)

    def on_collected(self) -> None:
        """The KeyedPool is being collected."""
        open_ = sum(key_pool.core.open for key_pool in self.everyone())
        unclosed = self._refuse()
        for key_pool in self.everyone():
            key_pool.orphan()
        self.core.drop_manager()
        if unclosed and open_:
            warn_unclosed(self.options, open_)

    # ---- what goes on in it --------------------------------------------------------------------

    def sizes(self) -> dict[str, int]:
        counted, sizes = self.lock.run(self.past.and_of, self.cores)
        both = {name: counted[name] for name in KeySizes.__slots__}
        return both | {"keys": len(self.by_key(sizes)), "maxsize": self._most()}

    def by_key(self, sizes: Sequence[tuple[Any, tuple[int, ...]]]) -> dict[Any, tuple[int, ...]]:
        """The sizes of each key; ``sizes``: of each core."""
        return dict(sizes)

    def _most(self) -> int:
        return 0 if self.max_total == INF else int(self.max_total)

    def idle(self) -> list[Any]:
        return [resource for key_pool in self.everyone() for resource in key_pool.idle()]

    def leases(self) -> list[Holder[Any]]:
        return [holder for key_pool in self.everyone() for holder in key_pool.leases()]

    def stats(self) -> KeyedStats:
        # nothing is opened meanwhile: the sum is never above the limit
        counted, sizes = self.lock.run(self.past.and_of, self.cores)
        beside = {
            "overdue": sum(key_pool.overdue() for key_pool in self.everyone()),
            "keys": {key: KeySizes(*size) for key, size in self.by_key(sizes).items()},
        }
        stats: Any = snapshot(self.name, self._most(), counted | beside, KeyedStats, self.budget)
        whole: KeyedStats = stats
        return whole

    def workers(self) -> tuple[Any, ...]:
        return self.creators, self.checkers, self.closers

    def maintain(self) -> None:
        """For the manual clock: the time has moved."""
        for key_pool in self.everyone():
            key_pool.maintain()

    def log(self, what: str, error: BaseException | None) -> None:
        _reports.warn("%s: %s", self.name, what, error=error)
