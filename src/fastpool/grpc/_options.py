"""The parameters of shared channels, and how they are checked: for threads and for tasks alike.

`Options` is hashable: two requests for the same options share a channel. What grpc itself is told
of them is in `_channel_args.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from typing import Any, NamedTuple, TypedDict, TypeVar, Unpack

import grpc

from ._queue_order import ORDERS

NATIVE = "native"
PICKS = ("pick_first", "round_robin")
# Seconds between pings. Servers at their defaults accept one in 300 s, by when they come in,
# and close the connection of who pings more often (too_many_pings): 299 s was too little.
KEEPALIVE = 310.0
LEAST_KEEPALIVE = 10.0

SCHEMES = ("dns", "ipv4", "ipv6", "unix", "unix-abstract", "vsock", "xds", "passthrough")
LOCAL = ("unix", "unix-abstract", "vsock")

Pairs = tuple[tuple[str, Any], ...]


class ChannelOptions(TypedDict, total=False):
    """The keyword parameters of `shared` and `aio_shared`, for annotations of what passes them on:
    `**parameters: Unpack[ChannelOptions]`. Seconds; None = no limit or off."""

    credentials: grpc.ChannelCredentials | None
    options: Iterable[tuple[str, Any]]
    compression: grpc.Compression | None
    connections: int | tuple[int, int] | str
    """Open at once: so many, (fewest, most), or "native"."""
    streams_per_connection: int | None
    """Calls at once on one connection."""
    queue_timeout: float | None
    """How long a call may wait in the queue; None: up to its own deadline."""
    max_queue: int | None
    """Calls in the queue; one more fails at once."""
    queue_order: str
    """Who is next: "arrival" or "deadline"."""
    bulk: Iterable[str]
    """Names of methods that have a connection of their own."""
    shrink_after: float | None
    """A connection is closed when for so long the others would have done."""
    max_age: float | None
    """Then a connection is replaced."""
    drain_timeout: float | None
    """What calls on a replaced connection have."""
    reconnect_backoff: tuple[float, float]
    """First and longest pause between attempts to connect."""
    keepalive: float | None
    """Between pings while calls run."""
    keepalive_timeout: float
    """What does not answer a ping for so long is closed."""
    retry: Iterable[str]
    """Names of idempotent methods, tried again when the server is not there."""
    hedge: Mapping[str, float] | None
    """Names of idempotent methods: after so long without an answer their calls are sent again."""
    health: str | None
    """The service that each connection is watched for, with `grpc.health.v1`."""
    load_balancing: str
    """"pick_first" or "round_robin"."""
    warm_up: Callable[[Any], object] | None
    """Called with the channel of a connection that is opened beside others or in their place."""
    affinity: str | None
    """A metadata key: calls with the same value of it go to the same connection."""


HINTS = ChannelOptions.__annotations__
DEFAULTS: ChannelOptions = {
    "credentials": None,
    "options": (),
    "compression": None,
    "connections": (1, 8),
    "streams_per_connection": 50,
    "queue_timeout": None,
    "max_queue": None,
    "queue_order": "arrival",
    "bulk": (),
    "shrink_after": 60.0,
    "max_age": None,
    "drain_timeout": 30.0,
    "reconnect_backoff": (0.1, 5.0),
    "keepalive": KEEPALIVE,
    "keepalive_timeout": 20.0,
    "retry": (),
    "hedge": None,
    "health": None,
    "load_balancing": "pick_first",
    "warm_up": None,
    "affinity": None,
}
F = TypeVar("F", bound=Callable[..., Any])


class Options(NamedTuple):
    """Checked; times in seconds, None = no limit or off."""

    least: int  # connections
    most: int
    native: bool
    streams: int | None  # of one connection
    queue_timeout: float | None
    max_queue: int | None
    bulk: frozenset[str]
    shrink_after: float | None
    max_age: float | None
    drain_timeout: float | None
    reconnect_backoff: tuple[float, float]
    keepalive: float | None
    keepalive_timeout: float
    retry: frozenset[str]
    hedge: tuple[tuple[str, float], ...]
    health: str | None
    load_balancing: str
    warm_up: Callable[[Any], object] | None = None
    affinity: str | None = None
    queue_order: str = "arrival"

    @property
    def several(self) -> bool:
        """Whether there may be more than one connection at a time."""
        return self.most > 1 or bool(self.bulk) or self.max_age is not None

    def hedge_after(self, path: str) -> float | None:
        """Seconds after which a call of this method is sent again; None: it is not."""
        known = dict(self.hedge)
        return known.get(path, known.get(path.rpartition("/")[0] + "/*"))


def takes_options(function: F) -> F:
    """Decorate a function of `**parameters: Unpack[ChannelOptions]`: `inspect.signature` and `help`
    show each option with its default."""
    signature = inspect.signature(function)
    types = {name: getattr(kind, "__forward_arg__", kind) for name, kind in HINTS.items()}
    named = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for (name, default), kind in zip(DEFAULTS.items(), types.values(), strict=True)
    ]
    own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    whole = signature.replace(parameters=[*own, *named])
    function.__signature__ = whole  # type: ignore[attr-defined]
    return function


def complete(who: str, given: ChannelOptions) -> dict[str, Any]:
    """The options with the defaults of those that were not given; TypeError for unknown names."""
    for name in given:
        if name not in DEFAULTS:
            from difflib import get_close_matches

            near = get_close_matches(name, DEFAULTS, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"{who} got an unexpected keyword argument {name!r}{hint}")
    return {**DEFAULTS, **given}


def parse(who: str, **given: Unpack[ChannelOptions]) -> Options:
    """All but grpc's own parameters. `who`: begins the message of each error, a TypeError or a
    ValueError."""
    o = complete(who, given)
    least, most = _connections(who, o["connections"])
    native = o["connections"] == NATIVE
    streams_per_connection = o["streams_per_connection"]
    if native and streams_per_connection is not None:
        streams_per_connection = None  # grpc's own connections are not ours to count on
    first, longest = _backoff(who, o["reconnect_backoff"])
    patience = seconds(who, "keepalive_timeout", o["keepalive_timeout"], 0.1)
    if patience is None:
        raise TypeError(f"{who} keepalive_timeout must be a number of seconds, not None")
    health = o["health"]
    if not (health is None or isinstance(health, str)):
        raise TypeError(
            f"{who} health must be the name of a service ('' is the server as a whole) or None,"
            f" not {health!r}"
        )
    return Options(
        least=least,
        most=most,
        native=native,
        streams=_whole(who, "streams_per_connection", streams_per_connection, 1),
        queue_timeout=seconds(who, "queue_timeout", o["queue_timeout"], 0),
        max_queue=_whole(who, "max_queue", o["max_queue"], 0),
        bulk=_methods(who, "bulk", o["bulk"]),
        shrink_after=seconds(who, "shrink_after", o["shrink_after"], 0.001),
        max_age=seconds(who, "max_age", o["max_age"], 0.001),
        drain_timeout=seconds(who, "drain_timeout", o["drain_timeout"], 0),
        reconnect_backoff=(first, longest),
        keepalive=seconds(who, "keepalive", o["keepalive"], LEAST_KEEPALIVE),
        keepalive_timeout=patience,
        retry=_methods(who, "retry", o["retry"], services=True),
        hedge=_hedge(who, o["hedge"]),
        health=health,
        load_balancing=_one_of(who, "load_balancing", o["load_balancing"], PICKS),
        warm_up=o["warm_up"],
        affinity=_affinity(who, o["affinity"]),
        queue_order=_one_of(who, "queue_order", o["queue_order"], ORDERS),
    )


def _connections(who: str, given: Any) -> tuple[int, int]:
    if given == NATIVE:
        if _version() < (1, 84):
            raise ValueError(
                f"{who} connections='native' needs grpcio 1.84 or newer, and this is"
                f" {grpc.__version__}"
            )
        return 1, 1
    least: Any
    most: Any
    least, most = given if isinstance(given, tuple) and len(given) == 2 else (given, given)
    if any(isinstance(n, bool) or not isinstance(n, int) for n in (least, most)):
        raise TypeError(
            f"{who} connections must be a number, (fewest, most) or 'native', not {given!r}"
        )
    if not 0 <= least <= most or not most:
        raise ValueError(f"{who} connections must be 0 <= fewest <= most, 1 <= most, not {given!r}")
    return least, most


def _version() -> tuple[int, ...]:
    return tuple(int(part) for part in grpc.__version__.split(".")[:2])


def _one_of(who: str, name: str, value: Any, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ValueError(f"{who} {name} must be one of {known}, not {value!r}")
    return str(value)


def _whole(who: str, name: str, value: Any, least: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{who} {name} must be an int or None, not {value!r}")
    if value < least:
        raise ValueError(f"{who} {name} must be at least {least} or None, not {value!r}")
    return value


def seconds(who: str, name: str, value: Any, least: float) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{who} {name} must be a number of seconds or None, not {value!r}")
    if not least <= value or not isfinite(value):
        raise ValueError(f"{who} {name} must be at least {least:g} s or None, not {value!r}")
    return float(value)


def _backoff(who: str, given: Any) -> tuple[float, float]:
    pair = given if isinstance(given, tuple) and len(given) == 2 else (None, None)
    first, longest = (seconds(who, "reconnect_backoff", each, 0.001) for each in pair)
    if first is None or longest is None:
        raise TypeError(
            f"{who} reconnect_backoff must be (first, longest) in seconds, not {given!r}"
        )
    if first > longest:
        raise ValueError(f"{who} reconnect_backoff must be first <= longest, not {given!r}")
    return first, longest


def _methods(who: str, name: str, given: Any, services: bool = False) -> frozenset[str]:
    """Names of methods as stubs have them, "/package.Service/Method"; with `services` also all of
    a service, "/package.Service/*"."""
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise TypeError(f"{who} {name} must be several names of methods, not {given!r}")
    names = frozenset(given)
    for each in names:
        if not isinstance(each, str):
            raise TypeError(f"{who} {name} must be names of methods, not {each!r}")
        root, _, method = each.rpartition("/")
        if not (root.startswith("/") and len(root) > 1 and method) or (
            method == "*" and not services
        ):
            raise ValueError(f"{who} {name} must be like '/package.Service/Method', not {each!r}")
    return names


def _hedge(who: str, given: Any) -> tuple[tuple[str, float], ...]:
    if given is None:
        return ()
    if not isinstance(given, Mapping):
        raise TypeError(
            f"{who} hedge must be a mapping of methods to seconds, such as"
            f" {{'/package.Service/Method': 0.1}}, or None, not {given!r}"
        )
    pairs = []
    for name in sorted(_methods(who, "hedge", given, services=True)):
        after = seconds(who, f"hedge[{name!r}]", given[name], 0)
        if after is None:
            raise TypeError(f"{who} hedge[{name!r}] must be a number of seconds, not None")
        pairs.append((name, after))
    return tuple(pairs)


def _affinity(who: str, given: Any) -> str | None:
    if given is not None and not isinstance(given, str):
        raise TypeError(f"{who} affinity must be a metadata key or None, not {given!r}")
    if given is not None and (not given or given != given.lower()):
        raise ValueError(
            f"{who} affinity must be a metadata key as gRPC sends it, in lower case, not {given!r}"
        )
    return given


def checked_target(who: str, target: Any) -> str:
    if not isinstance(target, str):
        raise TypeError(f"{who}() target must be a str such as 'host:port', not {target!r}")
    if not target:
        raise ValueError(f"{who}() target is empty; give it a target such as 'host:port'")
    scheme, marks, rest = target.partition("://")
    if marks and scheme.lower() in ("http", "https"):
        host = rest.partition("/")[0] or "host:port"
        raise ValueError(
            f"{who}() target {target!r} is an address of the web; give it {host!r}, and"
            " credentials=grpc.ssl_channel_credentials() for TLS"
        )
    return target


# Where calls are not encrypted and need not be: nobody else is on the way.
NEAR = ("localhost", "127.", "[::1]", "::1", "[::ffff:127.")
_said: set[str] = set()


def say_if_unprotected(target: str) -> None:
    """Once a target, in the log, for a channel without credentials."""
    scheme, colon, rest = target.partition(":")
    if not colon or scheme not in SCHEMES:
        rest = target
    hosts = [host.lstrip("/") for host in rest.split(",")]
    if scheme in LOCAL or target in _said or all(host.startswith(NEAR) for host in hosts):
        return
    _said.add(target)
    import logging

    logging.getLogger("fastpool").warning(
        "grpc %s: calls are not encrypted, since no credentials were given; for TLS give"
        " credentials=grpc.ssl_channel_credentials()",
        target,
    )


def checked_basics(
    who: str, credentials: Any, options: Iterable[tuple[str, Any]], compression: Any
) -> Pairs:
    """grpc's own parameters; the options as a tuple of pairs."""
    if not (credentials is None or isinstance(credentials, grpc.ChannelCredentials)):
        raise TypeError(
            f"{who} credentials must be grpc.ChannelCredentials or None, not {credentials!r}"
        )
    if not (compression is None or isinstance(compression, grpc.Compression)):
        raise TypeError(
            f"{who} compression must be a grpc.Compression or None, not {compression!r}"
        )
    problem = None
    try:
        pairs = tuple((name, value) for name, value in options)
        hash(pairs)
        if all(isinstance(name, str) for name, _ in pairs):
            return pairs
    except (TypeError, ValueError) as error:
        problem = error
    raise TypeError(
        f"{who} options must be (name, value) pairs, names str and values hashable, not {options!r}"
    ) from problem
