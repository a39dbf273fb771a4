"""Reading the options of a pool, and changing at run time those that need not be fixed.

New values are checked as those of a new pool are, all together: a change that contradicts another
option is refused as a whole.  Whoever reads an option later reads the new one; the core, which has
copies of some, is told.
"""

from __future__ import annotations

from .. import _core
from .._runtime import scheduler
from ._broken import is_broken, is_broken_for_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._options import Options

__all__ = ["change", "configure_core", "look_again", "readable"]

INF = float("inf")
_INSTEAD = {"maxsize": "resize(n), or assign maxsize", "items": "resize(items)"}


def change(whole: Any, changes: dict[str, Any]) -> None:
    """Give options of a pool new values, or raise the TypeError or ValueError of a constructor.
    The scheduler does it, so that no signal handler splits it."""
    options = whole.options
    changes = {name: value for name, value in changes.items() if value is not _core.DEFAULT}
    for name in changes:
        if name not in options.changeable:
            raise TypeError(_refusal(whole, name))
    fresh = options.reparsed(changes, whole.maxsize)
    values = {name: getattr(fresh, name) for name in options.copied}
    scheduler.run(_assign, whole, values)


def _assign(whole: Any, values: dict[str, Any]) -> None:
    """On the scheduler's thread."""
    _core.assign(whole.options, values)
    whole.options_changed()


def _refusal(whole: Any, name: str) -> str:
    listed = ", ".join(whole.options.changeable)
    if name in _INSTEAD:
        why = f"{name} is changed by another call: {_INSTEAD[name]}; here"
    elif name in readable(whole):
        why = f"{name} is fixed when the pool is made;"
    else:
        why = f"there is no option {name!r};"
    return f"{whole.name}: configure: {why} may be changed: {listed}"


def configure_core(manager: Any) -> None:
    """Pass new values on to the core of a pool, or of a part of it."""
    o = manager.options
    fresh_for = o.fresh_for()
    manager.core.reconfigure(
        timeout=None if o.timeout == INF else o.timeout,
        max_waiting=o.max_waiting,
        fresh_for=fresh_for,
        timed=o.factory is not None or fresh_for != INF,
        most_idle=manager.most_idle(),
        ask_put=manager.asks_put(),
    )


def look_again(manager: Any) -> None:
    """Have the scheduler see to what follows from new values."""
    scheduler.call_soon(manager.creator.refill)
    manager.maintenance.ask()


def readable(whole: Any) -> dict[str, Any]:
    """The options of a pool by name, as its constructor would take them."""
    options = whole.options
    return {name: _as_given(options, name, value) for name, value in options.values(whole).items()}


def _as_given(options: Options, name: str, value: Any) -> Any:
    if name.endswith("_on") and name in options.given:
        return options.given[name]
    if value is is_broken or value is is_broken_for_all:
        return "broken"
    return None if value == INF else value
