"""The options of KeyedPool: its limits, and those of FastPool, which hold for each key."""

from __future__ import annotations

from math import inf

from ..pool._options import CHANGEABLE, NAMES, Options, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["LIMITS", "NOT_KEYED", "KeyedOptions", "parse_keyed"]

#: The limits, and the least that may be given; None is no limit.
LIMITS = {"max_total": 1, "max_per_key": 1, "max_idle_total": 0, "max_idle_per_key": 0}
MAX_TOTAL, MAX_PER_KEY = 100, 10  # defaults, unless another limit asks for more

#: A limit is part of others: one that is larger would mean nothing.
PARTS = (
    ("max_per_key", "max_total"),
    ("max_idle_total", "max_total"),
    ("max_idle_per_key", "max_per_key"),
    ("max_idle_per_key", "max_idle_total"),
)

#: Options of FastPool: why a KeyedPool has none of that name.
NOT_KEYED = {
    "maxsize": "say max_per_key and max_total",
    "max_idle": "say max_idle_per_key and max_idle_total",
    "min_idle": "a key that nobody uses is forgotten",
    "min_size": "a key that nobody uses is forgotten",
    "open": "it opens nothing before the first lease",
    "items": "the factory makes what a key wants",
    "create_in": (
        "it is the pool that decides for which key the next one is opened, on a worker; what the "
        "factory needs of a caller belongs in the key"
    ),
    "fairness": "the queue of each key is first come, first served",
}

IDLE_TIMEOUT = 90.0  # seconds, as in Go: servers close what was idle for a minute or two


class KeyedOptions(Options):
    """Checked options; limits are inf where there is none.  ``maxsize`` and ``max_idle`` are those
    of one key."""

    __slots__ = ("max_idle_total", "max_total")
    changeable = (*CHANGEABLE, "max_uses", *LIMITS)
    copied = (
        *CHANGEABLE,
        "max_uses",
        "max_total",
        "max_idle_total",
        "maxsize",
        "max_idle",
        "given",
    )
    max_total: float
    max_idle_total: float

    def reparsed(self, changes: dict[str, Any], maxsize: int) -> KeyedOptions:
        given = {**self.given, **changes}
        return parse_keyed(given.pop("factory"), ..., given)

    def values(self, whole: Any) -> dict[str, Any]:
        found = super().values(whole) | {
            "max_total": self.max_total,
            "max_idle_total": self.max_idle_total,
            "max_per_key": self.maxsize or inf,
            "max_idle_per_key": self.max_idle,
        }
        return {name: value for name, value in found.items() if name not in NOT_KEYED}


def parse_keyed(factory: Any, unset: object, given: dict[str, Any]) -> KeyedOptions:
    """As ``parse``."""
    given = {name: value for name, value in given.items() if value is not unset}
    who = given.get("name") or "KeyedPool"
    for name in given:
        if name in NOT_KEYED:
            raise TypeError(f"{who}: KeyedPool has no option {name!r}: {NOT_KEYED[name]}")
        if name not in LIMITS and name not in NAMES:
            from .._misuse import unknown_option

            names = ("factory", *LIMITS, *(n for n in NAMES if n not in NOT_KEYED))
            raise unknown_option(who, "KeyedPool", name, dict.fromkeys(names), NOT_KEYED)
    if factory is None:
        raise TypeError(
            f"{who}: KeyedPool needs a factory: KeyedPool(connect), where connect(key) makes a "
            "resource of that key"
        )
    limits = _limits(who, given)
    own = {name: given[name] for name in given if name not in LIMITS}
    own.setdefault("idle_timeout", IDLE_TIMEOUT)
    own.setdefault("max_creating", 4)
    per_key = limits["max_per_key"]
    idle = limits["max_idle_per_key"]
    own["max_idle"] = None if idle == inf else idle
    o: Any = parse(
        0 if per_key == inf else int(per_key), unset, {"factory": factory, **own}, KeyedOptions
    )
    o.given = {**given, "factory": factory, "name": o.name}
    o.max_total = limits["max_total"]
    o.max_idle_total = limits["max_idle_total"]
    keyed: KeyedOptions = o
    return keyed


def _limits(who: str, given: dict[str, Any]) -> dict[str, float]:
    """The limits, inf for none; TypeError or ValueError."""
    limits: dict[str, float] = {}
    for name, least in LIMITS.items():
        value = given.get(name)
        if value is None:
            limits[name] = inf
        elif isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{who}: {name} must be an int or None, not {value!r}")
        elif value < least:
            raise ValueError(f"{who}: {name} must be {least} or more, or None, not {value!r}")
        else:
            limits[name] = value
    finite = {name: value for name, value in limits.items() if value != inf}
    if "max_total" not in given:
        limits["max_total"] = max(MAX_TOTAL, *finite.values(), 0)
    if "max_per_key" not in given:
        wanted = max(MAX_PER_KEY, finite.get("max_idle_per_key", 0))
        limits["max_per_key"] = min(wanted, limits["max_total"])
    for part, whole in PARTS:
        if part in finite and limits[part] > limits[whole]:
            raise ValueError(
                f"{who}: {part} is {limits[part]}, more than {whole} allows: {limits[whole]}"
            )
    return limits
