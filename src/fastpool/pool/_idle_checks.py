"""Checking all that is idle, on request: ``check_idle``.

Each resource is checked on the pool's ``checkers``, as ever at most ``max_creating`` at once, and
is out of the borrowers' reach only while its own check runs.
"""

from __future__ import annotations

from .. import _blocking, _core
from ..errors import PoolClosed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["check_all", "checkable"]

INF = float("inf")


class CheckRound:
    """The checks of one call that are over, and what they said; written by one step of a list each,
    on workers or event loops."""

    def __init__(self) -> None:
        self.closed: list[bool] = []  # of each check that is over: whether its resource was closed
        self.state_changed = _core.Condition()

    def ended(self, closed: bool) -> None:
        """One more is over."""
        self.closed.append(closed)
        self.state_changed.notify_all()

    def wait_for(self, n: int, hook_timeout: float) -> None:
        """Wait until so many are over.  Those that hang are not waited for: not once nothing has
        ended for as long as it takes to replace a worker, and to run one more check."""
        patience = None if hook_timeout == INF else 2 * hook_timeout
        while (before := len(self.closed)) < n:
            if not self.state_changed.wait_for(lambda: len(self.closed) > before, patience):
                return


def checkable(manager: Any) -> None:
    """TypeError or PoolClosed unless ``check_idle`` has something to do in this pool."""
    if manager.options.hooks.check is None:
        raise TypeError(f"{manager.name}: check_idle() needs a check hook")
    if manager.core.closed:
        raise PoolClosed(manager.name, "the pool is closed")


def check_all(whole: Any, managers: Iterable[Any]) -> int:
    """Check what is idle in these parts of a pool now; how many were closed."""
    checks = CheckRound()
    jobs = [
        (manager, slot[0])
        for manager in managers
        for slot in manager.core.slots()
        if slot[1] == "idle"
    ]
    if jobs:
        _blocking.before_wait(whole.name, _blocking.CHECK)
    for manager, index in jobs:
        manager.checking.begin(index, checks)
    checks.wait_for(len(jobs), whole.options.hook_timeout)
    _wait_until_over(whole, jobs)
    return sum(checks.closed)


def _wait_until_over(whole: Any, jobs: list[tuple[Any, int]]) -> None:
    """Wait until each of these slots has been free or lendable, for as long as a close hook may
    take: where hooks are tasks, a check is over before its resource has begun to be closed."""
    left = jobs

    def over() -> bool:
        nonlocal left
        left = [
            (manager, index)
            for manager, index in left
            if manager.core.slot(index)[1] in ("checking", "closing")
        ]
        return not left

    most = whole.options.hook_timeout
    whole.state_changed.wait_for(over, None if most == INF else most)
