"""CallPolicy: time, retries, a breaker and a limit for calls of whatever kind."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from itertools import count
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, cast, overload

from ._attempts import CallStats, Counters, ResolvedPolicy
from ._breaker import CircuitBreaker
from ._clock import reader, seconds
from ._limit import Limit
from ._retry import Retry

if TYPE_CHECKING:
    from ..fleet import Budget
    from ._clock import Clock

__all__ = ["CallPolicy"]

_P = ParamSpec("_P")
_R = TypeVar("_R")
_C = TypeVar("_C")

_numbers = count(1)


class Decorator(Protocol):
    """Gives a function back with its own signature."""

    def __call__(self, function: Callable[_P, _R], /) -> Callable[_P, _R]: ...


class CallPolicy:
    """How calls are made: a decorator for functions and coroutine functions, ``wrap`` for channels.

    All parts are optional, and they apply in this order, outermost first:

    ``timeout``: seconds for the whole call, its retries, pauses and waits included.  A call inside
    a call has what is left of the outer one if that is less (see `budget`, `remaining`).  A
    coroutine function is cancelled when they are over, and a gRPC call ended.  A plain function
    cannot be interrupted: no try is begun or waited for beyond them, and it can read
    ``remaining()``, or be given the seconds by ``timeout_arg``.
    ``breaker``: a CircuitBreaker, which all that the policy is applied to shares; or a callable
    such as the class itself, which is called with a name and makes one for each function or method.
    ``retry``: a Retry.  ``limit``: a Limit, or a callable (name) that makes one for each function
    or method; each try takes a permit of its own.  Or a budget of ``fastpool.fleet``, which is
    short for ``Limit(budget=budget)``: so many calls at once in all processes that share it.

    ``name`` is for ``stats()``; ``clock`` for tests.  TypeError or ValueError for parts that are
    not what they should be.  Immutable; safe in any number of threads and event loops at once.
    """

    __module__ = "fastpool.calls"

    def __init__(
        self,
        *,
        timeout: float | None = None,
        retry: Retry | None = None,
        breaker: CircuitBreaker | Callable[[str], CircuitBreaker] | None = None,
        limit: Limit | Budget | Callable[[str], Limit] | None = None,
        name: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        if not (retry is None or isinstance(retry, Retry)):
            raise TypeError(f"retry must be a Retry or None, not {retry!r}")
        self._name = f"policy-{next(_numbers)}" if name is None else name
        if hasattr(limit, "join") and not isinstance(limit, str):
            limit = Limit(budget=cast("Budget", limit), name=self._name)
        makes = callable(limit) and not isinstance(limit, type)  # a class wants a size, not a name
        if not (limit is None or isinstance(limit, Limit) or makes):
            raise TypeError(
                "limit must be a Limit, a callable (name) that makes one, a budget of "
                f"fastpool.fleet, or None, not {limit!r}"
            )
        if not (breaker is None or isinstance(breaker, CircuitBreaker) or callable(breaker)):
            raise TypeError(
                f"breaker must be a CircuitBreaker, a callable that makes one, or None,"
                f" not {breaker!r}"
            )
        self._timeout = seconds(timeout, "timeout")
        self._retry = retry
        self._breaker = breaker
        self._limit: Limit | Callable[[str], Limit] | None = limit  # pyright: ignore
        self._advance = None if clock is None else clock.advance
        self._now = reader(clock)
        self._ledger = Counters()
        # Those that callables made, by name; under the lock of the ledger.
        self._breakers: dict[str, CircuitBreaker] = {}
        self._limits: dict[str, Limit] = {}

    def __repr__(self) -> str:
        parts = ("timeout", self._timeout), ("retry", self._retry), ("breaker", self._breaker)
        given = [f"{what}={part!r}" for what, part in (*parts, ("limit", self._limit)) if part]
        return f"<CallPolicy {self._name!r}: {', '.join(given) or 'nothing'}>"

    @property
    def name(self) -> str:
        """The name; "policy-N" where none was given."""
        return self._name

    @overload
    def __call__(self, function: Callable[_P, _R], /) -> Callable[_P, _R]: ...
    @overload
    def __call__(
        self,
        /,
        *,
        idempotent: bool = False,
        timeout_arg: str | None = None,
        name: str | None = None,
        fallback: None = None,
    ) -> Decorator: ...
    @overload
    def __call__(
        self,
        /,
        *,
        idempotent: bool = False,
        timeout_arg: str | None = None,
        name: str | None = None,
        fallback: Callable[_P, _R],
    ) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]: ...
    def __call__(
        self,
        function: Callable[_P, _R] | None = None,
        /,
        *,
        idempotent: bool = False,
        timeout_arg: str | None = None,
        name: str | None = None,
        fallback: Callable[..., Any] | None = None,
    ) -> Any:
        """``@policy`` or ``@policy(...)``: the function under this policy, of its own kind and with
        its own signature.

        ``idempotent``: that it does no harm to call it again, without which only what was refused
        before it was sent is tried again.  ``timeout_arg``: the name of a keyword of the function
        that is given the seconds left for each try; a caller's own value for it counts as a
        timeout for the whole call.  ``name`` is for errors (default: the function's own).
        ``fallback``: called with the arguments of the call in place of a CircuitOpen, that of this
        policy's breaker or of one inside; what it returns or raises is what the caller gets.  Of a
        coroutine function it may be one, too.

        TypeError for generator functions, and when a function returns something to be awaited: of
        those a policy cannot tell when the call is over.
        """
        if function is None:
            return lambda function: self._around(function, idempotent, timeout_arg, name, fallback)
        return self._around(function, idempotent, timeout_arg, name, fallback)

    def _around(
        self,
        function: Any,
        idempotent: bool,
        timeout_arg: str | None,
        name: str | None,
        fallback: Any,
    ) -> Any:
        from ._fallback import with_fallback
        from ._functions import wrapped

        if not callable(function):
            raise TypeError(f"a policy is put on a function, not on {function!r}")
        named: str = name or getattr(function, "__qualname__", None) or repr(function)
        under = wrapped(function, self.rules(named, idempotent), timeout_arg)
        return under if fallback is None else with_fallback(under, fallback)

    def wrap(
        self,
        channel: _C,
        *,
        idempotent: bool | Collection[str] = (),
        methods: Mapping[str, CallPolicy] | None = None,
    ) -> _C:
        """A gRPC channel whose calls go by this policy, for stubs as the channel itself: a
        ``grpc.Channel`` for one, a ``grpc.aio.Channel`` for the other.

        ``idempotent``: the methods that may be tried again, "/package.Service/Method" or
        "package.Service" for all of one; True: every method.  ``methods``: policies of some methods
        or services, in place of this one; ``CallPolicy()`` is none at all.  A call's own
        ``timeout`` counts where it is less.  What this side refuses is raised as an RpcError, too,
        with a status code: CircuitOpen as UNAVAILABLE, Overloaded as RESOURCE_EXHAUSTED,
        DeadlineExceeded as its namesake.

        A stream of answers holds its permit until it ends, and is told to the breaker by its first
        message or its end; it is tried again only before its first message.  Calls that send a
        stream are made once.  So are sync calls by ``.future()``, which also wait for their permit
        before they return.  Closing the wrapped channel closes the one inside.
        """
        from ._grpc.wrap import wrapped

        if methods is None:
            methods = {}
        elif not isinstance(methods, Mapping):
            raise TypeError(f"methods must be a mapping of methods to policies, not {methods!r}")
        for name, policy in methods.items():
            if not isinstance(policy, CallPolicy):
                raise TypeError(f"methods[{name!r}] must be a CallPolicy, not {policy!r}")
        return wrapped(self, channel, idempotent, methods)  # type: ignore[no-any-return]

    def stats(self) -> CallStats:
        """An immutable snapshot."""
        with self._ledger.lock.hold():
            breakers = list(self._breakers.values())
            limits = dict(self._limits)
        if isinstance(self._breaker, CircuitBreaker):
            breakers = [self._breaker]
        return CallStats(
            name=self._name,
            **self._ledger.counts(),
            breakers={breaker.name: breaker.stats() for breaker in breakers},
            limit=self._limit.stats() if isinstance(self._limit, Limit) else None,
            limits={name: limit.stats() for name, limit in limits.items()},
        )

    def rules(self, name: str, idempotent: bool) -> ResolvedPolicy:
        """The policy, as it holds for what has this name."""
        return ResolvedPolicy(
            name=name,
            timeout=self._timeout,
            retry=self._retry,
            breaker=self._breaker_of(name),
            limit=self._limit_of(name),
            idempotent=idempotent,
            now=self._now,
            advance=self._advance,
            ledger=self._ledger,
        )

    def _breaker_of(self, name: str) -> CircuitBreaker | None:
        if self._breaker is None or isinstance(self._breaker, CircuitBreaker):
            return self._breaker
        with self._ledger.lock.hold():
            breaker = self._breakers.get(name)
        if breaker is None:
            made = self._breaker(name)
            if not isinstance(made, CircuitBreaker):
                raise TypeError(f"breaker({name!r}) must return a CircuitBreaker, not {made!r}")
            with self._ledger.lock.hold():
                breaker = self._breakers.setdefault(name, made)
        return breaker

    def _limit_of(self, name: str) -> Limit | None:
        if self._limit is None or isinstance(self._limit, Limit):
            return self._limit
        with self._ledger.lock.hold():
            limit = self._limits.get(name)
        if limit is None:
            made = self._limit(name)
            if not isinstance(made, Limit):
                raise TypeError(f"limit({name!r}) must return a Limit, not {made!r}")
            with self._ledger.lock.hold():
                limit = self._limits.setdefault(name, made)
        return limit
