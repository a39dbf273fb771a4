"""Wrong use, and the message that names the cure.

Imported when something is wrong.  Who comes from another pool writes its words: ``RENAMED`` and
``ADVICE`` know those of psycopg_pool, SQLAlchemy, redis-py, asyncpg, DBUtils, HikariCP, aiomysql,
PyMongo, httpx, Apache Commons Pool and Go's ``database/sql``.
"""

from __future__ import annotations

from . import _reports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

__all__ = [
    "ADVICE",
    "RENAMED",
    "ask_resource",
    "asked_of_lease",
    "extra_arguments",
    "uncopied",
    "unknown_option",
]

#: Another pool's option, in lower case and without underscores: ours of the same meaning.
RENAMED = {
    "acquiretimeout": "timeout",
    "capacity": "maxsize",
    "connectfactory": "factory",
    "connecttimeout": "create_timeout",
    "connectioncreator": "factory",
    "connectionfactory": "factory",
    "connectiontestquery": "check",
    "connectiontimeout": "timeout",
    "connmaxidletime": "idle_timeout",
    "connmaxlifetime": "max_lifetime",
    "create": "factory",
    "creator": "factory",
    "healthcheck": "check",
    "healthcheckinterval": "keepalive",
    "idletime": "idle_timeout",
    "initialsize": "min_idle",
    "keepaliveexpiry": "idle_timeout",
    "keepalivetime": "keepalive",
    "leakdetectionthreshold": "leak_after",
    "lifetime": "max_lifetime",
    "limit": "maxsize",
    "loggingname": "name",
    "maxage": "max_lifetime",
    "maxcached": "max_idle",
    "maxconnecting": "max_creating",
    "maxconnections": "maxsize",
    "maxconns": "maxsize",
    "maxidleconns": "max_idle",
    "maxidletime": "idle_timeout",
    "maxidletimems": "idle_timeout",
    "maximumpoolsize": "maxsize",
    "maxinactiveconnectionlifetime": "idle_timeout",
    "maxkeepaliveconnections": "max_idle",
    "maxopenconns": "maxsize",
    "maxpoolsize": "maxsize",
    "maxqueries": "max_uses",
    "maxtotal": "maxsize",
    "maxusage": "max_uses",
    "maxwait": "timeout",
    "maxwaitmillis": "timeout",
    "mincached": "min_idle",
    "minconnections": "min_size",
    "minidleconns": "min_idle",
    "minimumidle": "min_idle",
    "minpoolsize": "min_size",
    "numworkers": "max_creating",
    "onclose": "close",
    "onrelease": "reset",
    "ping": "check",
    "poolname": "name",
    "poolrecycle": "max_lifetime",
    "poolresetonreturn": "reset",
    "poolresetsession": "reset",
    "poolsize": "maxsize",
    "pooltimeout": "timeout",
    "queueclass": "order",
    "recycle": "max_lifetime",
    "resetonreturn": "reset",
    "size": "maxsize",
    "testonborrow": "check",
    "ttl": "max_lifetime",
    "validate": "check",
    "value": "size",
    "validationquery": "check",
    "validationtimeout": "hook_timeout",
    "waitqueuetimeoutms": "timeout",
}

_MAKE = "the factory makes the resource, and passes on what that needs"
_ONCE = "the factory does once what a new resource needs"

#: The same of options that mean nothing here by themselves: what to do instead.
ADVICE = {
    "block": "a call says get(block=False), or get(timeout=0)",
    "blocking": "a call says get(timeout=0); max_waiting=0 is for all of them",
    "blockwhenexhausted": "a call says get(timeout=0); max_waiting=0 is for all of them",
    "configure": _ONCE,
    "connectionclass": _MAKE,
    "connectioninitsql": _ONCE,
    "connectionkwargs": _MAKE,
    "conninfo": _MAKE,
    "dsn": _MAKE,
    "echo": "what there is to be said goes to the logger 'fastpool'",
    "failures": "discard_on= names the exceptions that close a resource",
    "init": _ONCE,
    "initializationfailtimeout": "warm(n) opens resources, waits for them and raises what failed",
    "kwargs": _MAKE,
    "limitperhost": "KeyedPool(factory, max_per_key=...) has a limit for each key",
    "maxoverflow": "maxsize= is the cap on all, pool_size + max_overflow there, and max_idle= what "
    "is kept of them, pool_size there",
    "maxshared": "SharedPool lends one resource to several",
    "poolclass": "fairness= and order= choose how it lends",
    "poolpreping": "check= is called before a resource is lent, with check_after=0 each time",
    "pooluselifo": 'say order="lifo", the default, or order="fifo"',
    "preping": "check= is called before a resource is lent, with check_after=0 each time",
    "reconnectfailed": "a failure is raised to who waits, and tried again by itself",
    "reconnecttimeout": "a failure is raised to who waits, and tried again by itself",
    "setsession": _ONCE,
    "setup": "reset= is called when a resource is given back, check= before it is lent",
    "uselifo": 'say order="lifo", the default, or order="fifo"',
}

_IN_SECONDS = frozenset(
    ("timeout", "create_timeout", "hook_timeout", "keepalive", "idle_timeout", "max_lifetime",
     "leak_after")
)  # fmt: skip


def unknown_option(
    who: str, kind: str, name: str, names: Iterable[str], instead: Mapping[str, str] | None = None
) -> TypeError:
    """Build the error for an option that this kind of pool has not; ``names``: those it has;
    ``instead``: what to say for options that only FastPool has."""
    names = list(names)
    hint = _hint(name, names, instead or {})
    listed = ", ".join(names)
    return TypeError(f"{who}: {kind} has no option {name!r}{hint} Options: {listed}")


def _hint(name: str, names: list[str], instead: Mapping[str, str]) -> str:
    plain = name.lower().replace("_", "")
    ours = {other.replace("_", ""): other for other in (*names, *instead)}.get(plain)
    ours = ours or RENAMED.get(plain)
    if ours is not None and ours in instead:
        return f": {instead[ours]}."
    if ours is not None and ours in names:
        unit = ", in seconds" if ours in _IN_SECONDS else ""
        return f"; did you mean {ours!r}{unit}?"
    if plain in ADVICE:
        return f": {ADVICE[plain]}."
    from difflib import get_close_matches

    near = get_close_matches(name, names, 1)
    return f"; did you mean {near[0]!r}?" if near else "."


def extra_arguments(kind: str, first: str, given: tuple[Any, ...]) -> TypeError:
    """Build the error for a constructor that was given more by position than its first argument:
    ``first`` is the name of that, ``given`` all of them."""
    shown = [
        getattr(one, "__name__", None) or _reports.shown(one, 40)
        for one in sorted(given, key=callable, reverse=first != "maxsize")
    ]
    second = {"maxsize": "factory=", "factory": "name=", "new": "reset="}.get(first, "name=")
    example = f"{kind}({shown[0]}, {second}...)"
    if first == "maxsize" and callable(given[0]) != callable(given[1]):
        example = f"{kind}({shown[0]}, factory={shown[1]})"
    return TypeError(
        f"{kind} takes one argument by position, {first}, and was given {len(given)}: name the "
        f"others, as in {example}"
    )


def ask_resource(act: str, resource: object) -> str | None:
    """Say what to do with an object that was given back in place of a resource, or None."""
    kind = type(resource)
    if kind.__name__ in ("Lease", "SharedLease", "KeyedLease") and hasattr(resource, "release"):
        how = "lease.discard() closes it" if act == "discard" else "lease.release() does"
        return (
            f"{act}() takes the resource, and this is its lease, {_reports.shown(resource, 200)}: "
            f"the end of the lease's block gives it back, or {how}"
        )
    if hasattr(kind, "__await__"):
        return f"{act}() takes the resource, and this is an awaitable {kind.__name__}: await it"
    return None


def asked_of_lease(lease: object, kind: type, name: str) -> AttributeError:
    """Build the error for an attribute of resources that a lease, or its type, was asked for."""
    if lease is None:
        return AttributeError(f"type object {kind.__name__!r} has no attribute {name!r}")
    return AttributeError(
        f"{_reports.shown(lease, 200)} has no attribute {name!r}: it is the right to a resource. "
        "The resource is what `with pool.lease() as resource:` gives, and `lease.resource` after "
        "acquire()"
    )


def uncopied(thing: object, name: str | None) -> TypeError:
    """Build the error for who would pickle or copy a pool, a lease or the like."""
    kind = type(thing).__name__
    what = kind if name is None else f"{name}: {kind}"
    if kind in ("Queue", "LifoQueue"):
        how = "hand on the queue itself to threads; between processes use multiprocessing.Queue"
    elif "Lease" in kind or "Hold" in kind:
        how = "it is the right of one holder; hand on the object itself, and release it once"
    else:
        how = (
            "what it has is of this process; hand on the object itself to threads and tasks, and "
            "make one in each process, at the top of a module or in the initializer of its workers"
        )
    return TypeError(f"{what} cannot be pickled or copied: {how}")
