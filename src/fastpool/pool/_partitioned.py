"""A pool in parts that share their limits, their threads and their end: what all such pools do.

A part is a pool of its own: resources, wait queue, idle store and fast path are those of its core,
hooks are called by its manager.  FastPool has a part for each event loop where its factory is
asynchronous, KeyedPool one for each key, or for each key on each loop.  Subclasses say how a part
is found, who may open one more, and what becomes of a part that nobody uses.
"""

from __future__ import annotations

from .. import _core, _reports
from .._runtime import scheduler
from .._runtime.threads import ThreadGroup
from ..stats import KeySizes, PoolStats, snapshot
from ._budget import Share, join
from ._configuration import change, readable
from ._ended_waits import end_waits
from ._idle_checks import check_all, checkable
from ._listeners import add, remove
from ._manager import warn_unclosed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..stats import Holder
    from ._options import Options

__all__ = ["PartitionedManager"]

INF = float("inf")


class PartitionedManager:
    """See the module.  Fields are written under ``lock``, which is that of all parts.  Its own core
    lends nothing: it says that the pool is closed or suspended, and sends callers here."""

    listeners: Any = None
    unopened = False
    share_kind: type[Share]
    stats_kind: type[PoolStats] = PoolStats
    most_closers = 1  # threads that close what no caller does
    maxsize: Any

    def __init__(self, core: _core.Core, options: Options) -> None:
        self.core = core
        self.options = options
        self.name = options.name
        # By what the parts differ in; also read by the core, without the lock.  The manager of each
        # is a part.
        self.cores: dict[Any, _core.Core] = {}
        self.bind_to_process()
        core.set_pool(
            self,
            lifo=True,
            fair=True,
            limit=self.most() or INF,
            timeout=None if options.timeout == INF else options.timeout,
            max_waiting=INF,
            fresh_for=INF,
            timed=False,
            has_check=False,
            ask_get=True,
            ask_put=False,
        )

    def bind_to_process(self) -> None:
        """Everything that is bound to this process; in a forked child all parts are forgotten."""
        self.lock = _core.Lock()
        self.state_changed = _core.Condition()  # something was closed, opened or came back
        self.create_threads()
        self.past = _core.Counted()  # of parts that are forgotten
        parts = self.everyone()
        self.cores.clear()
        for part in parts:
            part.core.forgotten = True
            part.core.drop_manager()
        self.create_arbiter()
        self.budget: Any = None  # none of its own calls asks before it has joined
        self.budget = join(self.share_kind, self)

    def create_threads(self) -> None:
        """Threads that start when there is work."""
        name, context = f"fastpool-{self.name}", self.options.context
        self.offload_threads = ThreadGroup(f"{name}-task", 64, context)
        self.closers = ThreadGroup(f"{name}-close", self.most_closers, context)

    def create_arbiter(self) -> None:
        """Who gives out the right to open."""
        raise NotImplementedError

    def everyone(self) -> list[Any]:
        """The parts that there are.  Needs no lock."""
        parts: list[Any] = _core.managers_of(self.cores)
        return parts

    # ---- what the pool asks of it --------------------------------------------------------------

    def look(self) -> None:
        """Have the scheduler see what may be opened."""
        for part in self.everyone():
            scheduler.call_soon(part.creator.refill)

    def flush(self, idle_only: bool = False, fail_waiters: bool = False) -> None:
        parts = self.everyone()
        if fail_waiters:
            end_waits("flush", parts)
        end = _core.end_unused if idle_only else _core.end_all
        end([(part.core, part.closing.here) for part in parts], "flushed")

    def check_idle(self, on_worker: bool = False) -> int:
        checkable(self)
        return check_all(self, self.everyone())

    def configure(self, changes: dict[str, Any]) -> None:
        change(self, changes)

    def options_changed(self) -> None:
        """On the scheduler's thread: follow the new options."""
        self.core.set_span(self.options.timeout)
        for part in self.everyone():
            part.reconfigure()

    def readable(self) -> dict[str, Any]:
        return readable(self)

    def add_listener(self, pool: Any, listener: Any) -> None:
        add(self, self.cores, pool, listener)

    def remove_listener(self, listener: Any) -> None:
        remove(self, self.cores, listener)

    def suspend(self, fail_waiters: bool = False) -> None:
        self.lock.run(_core.suspend_all, self.core, self.cores)
        if fail_waiters:
            end_waits("suspend", self.everyone())

    def resume(self) -> None:
        self.lock.run(_core.resume_all, self.core, self.cores)
        self.look()

    # ---- closing -------------------------------------------------------------------------------

    def close(self, timeout: float | None, me: int | None = None) -> bool:
        """As ``Manager.close``."""
        self.options.check_timeout("close", timeout)
        self.refuse()
        self.sweep()
        self.wait_closed(timeout, me)
        self.sweep()
        if self.budget is not None:
            self.budget.ask()
        if self.opened():
            return False
        self.shut_down_if_empty()
        return True

    def refuse(self) -> bool:
        """Closes the gates; True for the call that did it."""
        first: bool = self.lock.run(_core.close_all, self.core, self.cores)
        self.state_changed.notify_all()  # for warm(), which waits for the news
        return first

    def sweep(self, later: bool = False) -> None:
        """Closes everything idle."""
        parts = self.everyone()
        for part in parts:
            part.core.close(wake=False)  # at interpreter exit; else it is closed already
        closings = [(part.core, part.closing) for part in parts]
        idle = [(core, closing.later if later else closing.here) for core, closing in closings]
        _core.end_idle(idle, "closed")

    def wait_closed(self, timeout: float | None, me: int | None) -> None:
        """Waits for what others than the caller ``me`` have to give back or to close."""
        raise NotImplementedError

    def opened(self) -> int:
        """How many are open."""
        return sum(part.core.open for part in self.everyone())

    def taken(self) -> int:
        """How many slots are taken; at times more than are open."""
        return self.opened()

    def shut_down_if_empty(self) -> None:
        """Closed and nothing is open: its threads end."""
        if self.core.closed and self.is_empty():
            for workers in self.own_threads():
                scheduler.call_soon(workers.stop)

    def is_empty(self) -> bool:
        """Whether nothing is open, and none of its threads is wanted any more."""
        return not self.opened()

    def own_threads(self) -> tuple[ThreadGroup, ...]:
        return self.offload_threads, self.closers

    def on_collected(self) -> None:
        """The pool itself is being collected."""
        parts = self.remaining()
        open_ = sum(part.core.open for part in parts)
        unclosed = self.refuse()
        for part in parts:
            part.orphan()
        self.core.drop_manager()
        if unclosed and open_:  # last: a warning may be an error
            warn_unclosed(self.options, open_)

    def remaining(self) -> list[Any]:
        """The parts whose resources can still be closed."""
        return self.everyone()

    # ---- what goes on in it --------------------------------------------------------------------

    def counted(self) -> tuple[dict[str, Any], list[tuple[Any, tuple[int, ...]]]]:
        """As ``Core.counts``, of all parts and of those that are forgotten; and the sizes of each
        part where anything goes on.  Nothing is opened meanwhile: the sum is within the limit."""
        both: tuple[dict[str, Any], list[Any]] = self.lock.run(self.past.and_of, self.cores)
        return both

    def sizes(self) -> dict[str, int]:
        counted, _ = self.counted()
        return {name: counted[name] for name in KeySizes.__slots__} | {"maxsize": self.most()}

    def most(self) -> int:
        """How many may be open by the pool's own limit; 0 for any number."""
        return int(self.maxsize)

    def stats(self) -> Any:
        counted, sizes = self.counted()
        overdue = sum(part.overdue() for part in self.everyone())
        counted |= {"overdue": overdue, **self.stats_of(sizes)}
        return snapshot(self.name, self.most(), counted, self.stats_kind, self.budget)

    def stats_of(self, sizes: list[tuple[Any, tuple[int, ...]]]) -> dict[str, Any]:
        """What ``stats`` says beside the sums; ``sizes``: of each part."""
        return {}

    def idle(self) -> list[Any]:
        return [resource for part in self.everyone() for resource in part.idle()]

    def leases(self) -> list[Holder[Any]]:
        return [holder for part in self.everyone() for holder in part.leases()]

    def maintain(self) -> None:
        """For the manual clock: the time has moved."""
        for part in self.everyone():
            part.maintain()

    def log(self, what: str, error: BaseException | None) -> None:
        _reports.warn("%s: %s", self.name, what, error=error)
