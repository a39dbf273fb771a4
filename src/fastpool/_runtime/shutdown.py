"""Interpreter exit: every pool is closed, within a bound, whatever its close hooks do.

Hooks run on the pools' own workers: one that hangs holds up neither the other pools nor the exit.
"""

from __future__ import annotations

import time

from . import scheduler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

__all__ = ["after_pools", "close_all"]

INF = float("inf")
UNLIMITED = 5.0  # seconds for a hook of a pool that gives its hooks as long as they like
GRACE = 1.0  # on top: past its deadline a hook frees its worker, which others may have waited for
AT_ONCE = 64  # pools: each has threads of its own

#: Called when all pools are closed, each within a bound of its own.
after_pools: list[Callable[[], object]] = []


class Ending:
    """The last closings of one pool: they go on as long as any ends within the time of a hook."""

    def __init__(self, manager: Any) -> None:
        self.manager = manager
        most = manager.options.hook_timeout
        self.most = UNLIMITED if most == INF else most
        self.undone = manager.closers.undone
        self.since = time.monotonic()

    def over(self) -> bool:
        """Whether there is nothing left to wait for."""
        undone, now = self.manager.closers.undone, time.monotonic()
        if undone < self.undone:
            self.undone, self.since = undone, now
        if undone and now < self.since + self.most + GRACE:
            return False
        if undone:
            self.manager.log(
                f"{undone} left unclosed at interpreter exit: no close hook has returned for"
                f" {self.most:.3g} s",
                None,
            )
        self.manager.closers.stop()
        return True


def close_all(managers: Iterable[Any]) -> None:
    """Refuses, closes what is idle, and waits for no borrower.  Those who wait are daemon threads:
    they sleep on, since they would have nothing to tell but that they were refused."""
    managers = list(managers)
    for manager in managers:
        manager.core.close(wake=False)
    endings: list[Ending] = []
    for manager in managers:
        try:
            manager.sweep(later=True)
        except BaseException as error:  # whatever it is, the other pools are not to suffer
            manager.log("closing at interpreter exit failed", error)
        if manager.closers.starved:  # CPython 3.12.0 and 3.12.1 start no thread any more
            scheduler.call_soon(manager.closers.work_off)
        endings.append(Ending(manager))
        while len(endings) >= AT_ONCE:
            endings = _wait(endings)
    while endings:
        endings = _wait(endings)
    for call in after_pools:
        call()


def _wait(endings: list[Ending]) -> list[Ending]:
    """A moment, for one of them; those that are not over."""
    endings[0].manager.closers.wait_idle(0.01)
    return [ending for ending in endings if not ending.over()]
