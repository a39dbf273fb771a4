"""The options of FastPool: defaults, meaning and what is wrong with the ones given."""

from __future__ import annotations

from _contextvars import copy_context
from math import inf, isnan

from ._broken import Rule, is_broken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _contextvars import Context
    from collections.abc import Callable
    from typing import Any

__all__ = ["Hooks", "Options", "parse"]

NAMES = (
    "factory", "items", "close", "check", "reset", "min_idle", "min_size", "max_idle", "order",
    "timeout", "create_timeout", "hook_timeout", "max_creating", "check_after", "keepalive",
    "idle_timeout", "max_lifetime", "max_uses", "max_waiting", "fairness", "leak_after",
    "discard_on", "create_in", "on_create_error", "open", "warn_unclosed", "budget", "name",
    "clock",
)  # fmt: skip
#: Those of every pool that may be changed while it is in use, and those of FastPool.
CHANGEABLE = (
    "timeout", "create_timeout", "hook_timeout", "check_after", "keepalive", "idle_timeout",
    "max_lifetime", "max_waiting", "discard_on", "on_create_error", "warn_unclosed",
)  # fmt: skip
OF_FASTPOOL = ("min_idle", "min_size", "max_idle", "max_uses")
_CO_COROUTINE = 0x80
_pools = 0


class Hooks:
    """The four user functions of a pool; None where there is none.  ``awaits``: the factory is
    asynchronous, and so may be the others."""

    __slots__ = ("awaits", "check", "close", "create", "reset")
    awaits: bool
    create: Any
    close: Any
    check: Any
    reset: Any


class Options:
    """Checked options of one pool; times in seconds, inf where the user said None."""

    __slots__ = (*NAMES, "context", "given", "hooks", "maxsize", "pool_use")
    changeable: tuple[str, ...] = (*CHANGEABLE, *OF_FASTPOOL)
    copied: tuple[str, ...] = (*CHANGEABLE, *OF_FASTPOOL, "given")  # attributes, once it is changed
    given: dict[str, Any]  # as the user wrote it; no resources, which must not live on here
    context: Context  # the variables as they were when the pool was made
    factory: Any
    items: list[Any] | None
    hooks: Hooks
    pool_use: bool
    maxsize: int
    min_idle: int
    min_size: int
    max_idle: float
    order: str
    timeout: float
    create_timeout: float
    hook_timeout: float
    max_creating: float
    check_after: float
    keepalive: float
    idle_timeout: float
    max_lifetime: float
    max_uses: float
    max_waiting: float
    fairness: str
    leak_after: float
    create_in: str
    on_create_error: str
    discard_on: tuple[type[BaseException], ...] | Callable[[BaseException, Any], object]
    open: bool
    warn_unclosed: bool
    budget: Any
    name: str
    clock: Any
    broken = staticmethod(is_broken)  # what discard_on="broken" means

    @property
    def least_idle(self) -> int:
        """So many are idle, at least, in a pool that nobody uses."""
        return max(self.min_idle, self.min_size)

    def fresh_for(self) -> float:
        """Seconds for which an idle resource needs no question."""
        return min(self.idle_timeout, self.check_after if self.hooks.check is not None else inf)

    def reparsed(self, changes: dict[str, Any], maxsize: int) -> Options:
        """What a pool of this size would have that is given these options too."""
        return parse(maxsize, ..., {**self.given, **changes}, type(self))

    def values(self, whole: Any) -> dict[str, Any]:
        """The options of a pool by name, infinite ones as inf."""
        found = {"maxsize": whole.maxsize} | {name: getattr(self, name, None) for name in NAMES}
        return found | {name: getattr(self.hooks, name) for name in ("close", "check", "reset")}

    def check_timeout(self, act: str, timeout: Any) -> None:
        """TypeError or ValueError unless it is seconds or None."""
        if timeout is None:
            return
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
            raise TypeError(f"{self.name}: {act}: timeout must be a number, not {timeout!r}")
        if not timeout >= 0:
            raise ValueError(f"{self.name}: {act}: timeout must be >= 0 or None, not {timeout!r}")

    def check_maxsize(self, maxsize: Any) -> None:
        """For ``resize``: TypeError or ValueError unless it is a good one for this pool."""
        if isinstance(maxsize, bool) or not isinstance(maxsize, int):
            raise TypeError(f"{self.name}: maxsize must be an int, not {maxsize!r}")
        if maxsize < 0 or (maxsize and maxsize < self.least_idle):
            name = "min_idle" if maxsize < self.min_idle or not self.min_size else "min_size"
            raise ValueError(
                f"{self.name}: maxsize must be 0 (no cap) or at least {name} "
                f"({getattr(self, name)}), not {maxsize!r}"
            )


def parse(
    maxsize: Any, unset: object, given: dict[str, Any], kind: type[Options] = Options
) -> Options:
    """Checks what was given and fills in the defaults, in an object of that kind.  TypeError or
    ValueError says which option, what was given and what is allowed."""
    global _pools
    given = {name: value for name, value in given.items() if value is not unset}
    unknown = given.keys() - set(NAMES)
    if unknown:
        from .._misuse import unknown_option

        who = given.get("name") or "FastPool"
        raise unknown_option(who, "FastPool", sorted(unknown)[0], ("maxsize", *NAMES))
    o = kind()
    o.context = copy_context()
    _pools += 1
    o.name = given.get("name") or f"pool-{_pools}"
    if not isinstance(o.name, str):
        raise TypeError(f"name must be a str, not {o.name!r}")
    where = f"{o.name}: "

    def number(
        name: str, default: float, least: float = 0.0, whole: bool = False, most: float = inf
    ) -> Any:
        value = given.get(name, unset)
        if value is unset:
            return default
        if value is None:
            return inf
        kind = "an int" if whole else "a number"
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            hint = "; for seconds say idle_timeout" if name == "max_idle" else ""
            raise TypeError(f"{where}{name} must be {kind} or None, not {value!r}{hint}")
        if isnan(value) or not least <= value <= most:
            raise ValueError(f"{where}{name} must be {kind} >= {least:g} or None, not {value!r}")
        return value

    def choice(name: str, default: str, *allowed: str) -> Any:
        value = given.get(name, default)
        if value not in allowed:
            raise ValueError(f"{where}{name} must be one of {', '.join(allowed)}, not {value!r}")
        return value

    def yes_or_no(name: str, default: bool) -> bool:
        value = given.get(name, default)
        if not isinstance(value, bool):
            raise TypeError(f"{where}{name} must be True or False, not {value!r}")
        return value

    o.factory, o.items = given.get("factory"), given.get("items")
    if o.factory is not None and o.items is not None:
        raise TypeError(f"{where}give factory or items=, not both")
    o.pool_use = o.factory is not None or o.items is not None
    if o.items is not None:
        if not hasattr(o.items, "__iter__") and not hasattr(o.items, "__getitem__"):
            raise TypeError(
                f"{where}items must be the ready resources, in a list or so, not {o.items!r}; how "
                "many a factory may make is maxsize="
            )
        o.items = list(o.items)
        if any(item is None for item in o.items):
            raise bad_items(o.name, o.items)
    o.given = {**given, "name": o.name} | ({"items": ()} if o.items is not None else {})
    o.maxsize = _maxsize(where, maxsize, unset, o)
    o.hooks = _hooks(where, o.factory, given)
    o.order = choice("order", "lifo", "lifo", "fifo")
    o.fairness = choice(
        "fairness", "fair" if o.pool_use else "throughput", "fair", "throughput"
    )  # fmt: skip
    o.timeout = number("timeout", 30.0 if o.factory is not None else inf)
    o.max_waiting = number("max_waiting", inf, whole=True)
    if not o.pool_use:
        queue_too = {"order", "fairness", "timeout", "max_waiting", "name"}
        idle = sorted(name for name in given if name not in queue_too and given[name] is not None)
        if idle:
            raise TypeError(
                f"{where}{idle[0]} means nothing without a factory or items=: this FastPool would "
                "be a queue"
            )
        return o
    o.create_in = choice("create_in", "worker", "worker", "caller")
    if "create_in" in given and o.factory is None:
        raise TypeError(f"{where}create_in needs a factory, which it has run there")
    if o.create_in == "caller":
        _check_caller(where, o, given)
    o.on_create_error = choice("on_create_error", "raise", "raise", "wait")
    if "on_create_error" in given and o.factory is None:
        raise TypeError(f"{where}on_create_error needs a factory, which may fail")
    o.open = yes_or_no("open", True)
    if "open" in given and o.factory is None:
        raise TypeError(f"{where}open needs a factory: ready items are open already")
    o.create_timeout = number("create_timeout", 30.0)
    o.hook_timeout = number("hook_timeout", 5.0)
    o.max_creating = number("max_creating", 4 if o.maxsize else inf, least=1, whole=True)
    o.max_idle = number("max_idle", inf, whole=True)
    for name in ("min_idle", "min_size"):
        least = number(name, 0, whole=True)
        least = 0 if least == inf else least
        setattr(o, name, least)
        if o.maxsize and least > o.maxsize:
            raise ValueError(f"{where}{name} is {least}, more than maxsize {o.maxsize} allows")
        if least and o.factory is None:
            raise TypeError(f"{where}{name} needs a factory to refill from")
        if o.max_idle < least:
            raise ValueError(f"{where}max_idle is {o.max_idle}, less than {name} {least}")
    o.check_after = number("check_after", 0.5)
    o.keepalive = number("keepalive", inf, least=1e-3)
    if o.keepalive != inf and o.hooks.check is None:
        raise TypeError(f"{where}keepalive needs a check hook")
    ages = o.factory is not None  # a fixed set of items cannot be made anew
    o.idle_timeout = number("idle_timeout", 600.0 if ages else inf)
    o.max_lifetime = number("max_lifetime", 1800.0 if ages else inf)
    o.max_uses = number("max_uses", inf, least=1, whole=True, most=2**32 - 1)
    o.leak_after = number("leak_after", inf)
    rule = given.get("discard_on", unset)
    o.discard_on = errors_rule(where + "discard_on", "broken" if rule is unset else rule, o.broken)
    o.warn_unclosed = yes_or_no("warn_unclosed", True)
    o.budget = given.get("budget")
    if o.budget is not None:
        if isinstance(o.budget, str) or not hasattr(o.budget, "join"):
            raise TypeError(
                f"{where}budget must be a budget of fastpool.fleet or None, not {o.budget!r}; how "
                "many this pool may open is maxsize"
            )
        if o.factory is None:
            raise TypeError(f"{where}budget needs a factory: ready items are open already")
    o.clock = given.get("clock")
    return o


def _check_caller(where: str, o: Options, given: dict[str, Any]) -> None:
    """TypeError or ValueError unless borrowers can call the factory themselves."""
    if o.hooks.awaits:
        raise TypeError(
            f'{where}create_in="caller" is for plain factories: a coroutine function is awaited on '
            "the borrower's event loop anyway, by a task that outlives a borrower who is cancelled"
        )
    if given.get("on_create_error") == "wait":
        raise ValueError(
            f'{where}on_create_error="wait" is for create_in="worker": in the thread of a borrower '
            "the factory's exception is the borrower's own"
        )
    if given.get("create_timeout") is not None:
        raise ValueError(
            f'{where}create_timeout is for create_in="worker": in the borrower\'s thread nothing '
            "can end the factory but itself, so give it a timeout of its own"
        )


def _maxsize(where: str, maxsize: Any, unset: object, o: Options) -> int:
    if maxsize is unset:
        return 10 if o.factory is not None else len(o.items) if o.items is not None else 0
    if callable(maxsize):
        raise TypeError(f"{where}maxsize must be an int, not {maxsize!r}; say factory= for that")
    if isinstance(maxsize, bool) or not isinstance(maxsize, int):
        raise TypeError(f"{where}maxsize must be an int, not {maxsize!r}; 0 is no cap")
    if maxsize < 0:
        raise ValueError(f"{where}maxsize must be 0 (no cap) or more, not {maxsize!r}")
    if o.items is not None and maxsize and maxsize < len(o.items):
        raise ValueError(f"{where}maxsize is {maxsize}, but {len(o.items)} items were given")
    return maxsize


def bad_items(name: str, items: list[Any]) -> ValueError:
    return ValueError(
        f"{name}: items must be different objects, none of them None, not {items!r:.200}"
    )


def is_async(function: Any) -> bool:
    """Whether calling it makes a coroutine, without importing inspect."""
    function = getattr(function, "func", function)  # functools.partial
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", None)
    if code is None:
        call = getattr(type(function), "__call__", None)  # noqa: B004
        code = getattr(call, "__code__", None)
    return bool(code is not None and code.co_flags & _CO_COROUTINE)


def _hooks(where: str, factory: Any, given: dict[str, Any]) -> Hooks:
    hooks = Hooks()
    create = getattr(factory, "create", None)
    if create is None:
        create = factory
    elif not callable(create):
        raise TypeError(f"{where}factory.create must be callable, not {create!r}")
    if create is not None and not callable(create):
        raise TypeError(
            f"{where}factory must be callable or have a create() method, not {factory!r}: it is "
            "the function itself, not what it returns"
        )
    hooks.create = create
    has_create = create is not factory
    for name in ("close", "check", "reset"):
        hook = given.get(name)
        if hook is None and has_create:
            hook = getattr(factory, name, None)
        if hook is not None and not callable(hook):
            raise TypeError(f"{where}{name} must be callable, not {hook!r}")
        setattr(hooks, name, hook)
    hooks.awaits = create is not None and is_async(create)
    for name in ("close", "check", "reset"):
        if is_async(getattr(hooks, name)) and not hooks.awaits:
            raise TypeError(f"{where}{name} is a coroutine function, but the factory is not")
    return hooks


def errors_rule(option: str, rule: Any, broken: Any = None) -> Any:
    """Exception classes as a tuple, or a callable; ``broken``: what "broken" stands for."""
    if rule is None:
        return ()
    if callable(rule) and not isinstance(rule, type):
        return rule
    several = isinstance(rule, (tuple, list, set, frozenset))
    given = tuple(rule) if several else (rule,)
    classes: Any = tuple(kind for kind in given if kind != "broken" or not broken)
    for kind in classes:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeError(_bad_rule(option, kind, several, bool(broken)))
    if len(classes) == len(given):
        return classes
    return Rule(broken, classes) if classes else broken


def _bad_rule(option: str, given: Any, several: bool, broken: bool) -> str:
    word = '"broken" or ' if broken else ""
    if several:
        return f"{option} takes {word}exception classes, not {given!r}"
    return (
        f"{option} must be {word}exception classes or a callable (exc, resource) -> bool, "
        f"not {given!r}"
    )
