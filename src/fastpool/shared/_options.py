"""The options of SharedPool: those of FastPool that mean something for it, and its own."""

from __future__ import annotations

from math import inf, isnan

from ..pool._broken import evidence, is_broken_for_all, matches_any
from ..pool._options import CHANGEABLE, NAMES, Options, errors_rule, is_async, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["NOT_SHARED", "OWN", "SharedOptions", "bounds", "matches", "parse_shared"]

MOST_SLOTS = 2**30
OWN = (
    "items",
    "slots",
    "shrink_after",
    "penalty",
    "penalty_time",
    "penalize_on",
    "drain_timeout",
    "abort",
    "units",
)
UNITS = ("resources", "slots")

#: Options of FastPool: why a SharedPool has none of that name.
NOT_SHARED = {
    "maxsize": "say items=(least, most)",
    "min_idle": "the least of items is kept open",
    "min_size": "the least of items is kept open",
    "max_idle": "resources that are not needed are closed by shrink_after",
    "order": "leases go to the resource that carries least",
    "create_in": "a resource is opened for many callers, and lent to them as soon as it is there",
    "reset": "others use the resource when one lease ends",
}


class SharedOptions(Options):
    """Checked options; times in seconds, inf where the user said None."""

    __slots__ = (*OWN[1:], "least")
    changeable = (*CHANGEABLE, "shrink_after", "penalty_time", "penalize_on")
    copied = (*changeable, "given")
    least: int
    slots: int
    shrink_after: float
    penalty: int
    penalty_time: float
    penalize_on: tuple[type[BaseException], ...] | Callable[[BaseException, Any], object]
    drain_timeout: float
    abort: Callable[[Any], object] | None
    units: str
    broken = staticmethod(is_broken_for_all)

    def reparsed(self, changes: dict[str, Any], maxsize: int) -> SharedOptions:
        return parse_shared(None, ..., {**self.given, **changes})

    def values(self, whole: Any) -> dict[str, Any]:
        found = super().values(whole) | {name: getattr(self, name) for name in OWN[1:]}
        found["items"] = whole.least, whole.maxsize or None
        return {name: value for name, value in found.items() if name not in NOT_SHARED}


def bounds(where: str, items: Any) -> tuple[int, int | None]:
    """(least, most) of what was given; TypeError or ValueError."""
    least: Any
    most: Any
    least, most = items if isinstance(items, (tuple, list)) and len(items) == 2 else (items, items)
    for n in (least, most):
        if isinstance(n, bool) or not isinstance(n, int | None) or least is None:
            raise TypeError(
                f"{where}items must be a number of resources or (least, most), not {items!r}"
            )
    if least < 0 or (most is not None and most < max(1, least)):
        raise ValueError(f"{where}items must be 0 <= least <= most, 1 <= most, not {items!r}")
    return least, most


def parse_shared(factory: Any, unset: object, given: dict[str, Any]) -> SharedOptions:
    """As ``parse``."""
    given = {name: value for name, value in given.items() if value is not unset}
    who = given.get("name") or "SharedPool"
    for name in given:
        if name in NOT_SHARED:
            raise TypeError(f"{who}: SharedPool has no option {name!r}: {NOT_SHARED[name]}")
    known = dict.fromkeys((*OWN, *(n for n in NAMES if n not in NOT_SHARED)))
    for name in given:
        if name not in known:
            from .._misuse import unknown_option

            raise unknown_option(who, "SharedPool", name, known, NOT_SHARED)
    factory = given.pop("factory", None) if factory is None else factory
    if factory is None:
        raise TypeError(
            f"{who}: SharedPool needs a factory: SharedPool(connect), where connect() makes a "
            "resource that many callers may use at once"
        )
    if getattr(factory, "reset", None) is not None and hasattr(factory, "create"):
        raise TypeError(f"{who}: SharedPool calls no reset(): {NOT_SHARED['reset']}")
    whole = {**given, "factory": factory}
    own = {name: given.pop(name) for name in OWN if name in given}
    least, most = bounds(f"{who}: ", own.get("items", (1, 8)))
    o: Any = parse(most or 0, unset, {"factory": factory, **given}, SharedOptions)
    where = f"{o.name}: "
    o.given = {**whole, "name": o.name}
    o.least = least
    o.slots = _number(where, "slots", own.get("slots", 50), 1, MOST_SLOTS, whole=True)
    o.shrink_after = _number(where, "shrink_after", own.get("shrink_after", 60.0), 1e-3)
    o.penalty = _number(where, "penalty", own.get("penalty", 10), 0, MOST_SLOTS, whole=True)
    o.penalty_time = _number(where, "penalty_time", own.get("penalty_time", 5.0), 0)
    rule = own.get("penalize_on", TimeoutError)
    o.penalize_on = errors_rule(where + "penalize_on", rule)
    o.drain_timeout = _number(where, "drain_timeout", own.get("drain_timeout"), 0)
    o.abort = own.get("abort")
    if not (o.abort is None or callable(o.abort)):
        raise TypeError(f"{where}abort must be a callable, not {o.abort!r}")
    if is_async(o.abort) and not o.hooks.awaits:
        raise TypeError(f"{where}abort is a coroutine function, but the factory is not")
    if (o.abort is None) != (o.drain_timeout == inf):
        raise TypeError(f"{where}drain_timeout and abort go together: when, and what is done then")
    o.units = _units(where, own.get("units", UNITS[0]))
    if o.units == "slots" and o.budget is None:
        raise TypeError(
            f"{where}units='slots' has each lease take a permit of the budget, and there is no "
            "budget: give budget=, or leave units out"
        )
    if o.penalty == inf or o.slots == inf:
        raise TypeError(f"{where}slots and penalty must be ints")
    if o.penalty_time == inf:
        raise TypeError(f"{where}penalty_time must be a number of seconds, not None")
    shared: SharedOptions = o
    return shared


def _units(where: str, units: Any) -> str:
    if units in UNITS:
        return str(units)
    kind = ValueError if isinstance(units, str) else TypeError
    raise kind(
        f'{where}units must be "resources", a permit for each resource that is open, or "slots", a '
        f"permit for each lease, not {units!r}"
    )


def _number(
    where: str, name: str, value: Any, least: float, most: float = inf, whole: bool = False
) -> Any:
    if value is None:
        return inf
    kind = "an int" if whole else "a number"
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise TypeError(f"{where}{name} must be {kind}, not {value!r}")
    if isnan(value) or not least <= value <= most:
        raise ValueError(f"{where}{name} must be {kind} >= {least:g}, not {value!r}")
    return value


def matches(rule: Any, error: BaseException, resource: object) -> bool:
    """Whether an exception that left a block, or a member of a group, is one of those that a rule
    names.  A PoolError, of whatever pool, says nothing about the resource."""
    found = evidence(error)
    if isinstance(rule, tuple):
        return matches_any(found, rule)
    return bool(found) and bool(rule(error, resource))
