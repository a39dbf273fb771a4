"""What a manager and its parts share: the core, the options, the lock, and what those say."""

from __future__ import annotations

from .. import _core, _reports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._options import Options

__all__ = ["PoolState"]

INF = float("inf")


class PoolState:
    """The state of one pool.  ``lock`` guards what is counted here and in the parts, and is never
    held while a hook runs, a resource closes, or the core is waited in; it is re-entrant, since a
    signal handler may return a resource in the middle of anything."""

    awaits = False  # hooks are coroutine functions: see _loop_pool.py
    listeners: Any = None  # of the whole pool; see _listeners.py
    budget: Any  # its share of one, or None; see _budget.py
    lock: _core.Lock
    state_changed: _core.Condition  # something was closed, opened or came back
    orphaned: bool  # the FastPool was collected

    def __init__(self, core: _core.Core, options: Options) -> None:
        self.core = core
        self.options = options
        self.hooks = options.hooks
        self.name = options.name
        self.maxsize = options.maxsize
        # open=False, and neither opened nor used; one loop's share of a pool is made by its use
        self.unopened = not options.open and not self.awaits

    def counts(self) -> dict[str, Any]:
        """As ``Core.counts``, of the whole pool."""
        counted: dict[str, Any] = self.core.counts()
        return counted

    def sizes(self) -> dict[str, int]:
        n = self.counts()
        names = ("idle", "leased", "creating", "checking", "closing", "open", "waiting")
        return {name: n[name] for name in names} | {"maxsize": self.maxsize}

    def has_idle(self, n: int) -> bool:
        """Whether at least so many are idle in the whole pool."""
        return self.core.has_idle(n)

    def opened(self) -> int:
        """How many are open in the whole pool."""
        return self.core.open

    def to_keep(self) -> int:
        """How many are open, at least, in a pool that nobody uses."""
        return self.options.least_idle

    def why_retired(self) -> str:
        most = self.maxsize or INF
        if self.budget is not None:
            most = min(most, self.budget.most_open)
        return "surplus" if most < self.opened() else "flushed"

    def exhausted(self, index: int) -> str | None:
        """What speaks against it after that."""
        _, _, _, _, uses, _, retire = self.core.slot(index)
        if retire:
            return self.why_retired()
        return "uses" if uses >= self.options.max_uses else None

    def reject_reason(self, index: int) -> str:
        _, _, _, dies_at, uses, _, retire = self.core.slot(index)
        if self.core.closed:
            return "closed"
        if retire:
            return self.why_retired()
        return "uses" if uses >= self.options.max_uses else "lifetime"

    def idle(self) -> list[Any]:
        """The idle resources."""
        found = (self.core.item(slot[0]) for slot in self.core.slots() if slot[1] == "idle")
        return [resource for resource in found if resource is not None]  # None: gone meanwhile

    def log(self, what: str, error: BaseException | None) -> None:
        _reports.warn("%s: %s", self.name, what, error=error)

    def notify_changed(self) -> None:
        self.state_changed.notify_all()
