"""What an exception says of the other side: that it cannot be reached, or nothing of the kind."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from typing import Any, TypeAlias, TypeVar

from ..errors import PoolError
from ._errors import CallError, DeadlineExceeded

Matching: TypeAlias = type[BaseException] | Collection[type[BaseException]]
Failing: TypeAlias = Matching | Callable[[Exception], bool]
Classifying: TypeAlias = Callable[[Exception], bool | None]

_A = TypeVar("_A")
_T = TypeVar("_T")

#: The connection broke or did not answer.  Narrower than OSError, to which a missing file belongs.
TRANSPORT: tuple[type[BaseException], ...] = (ConnectionError, TimeoutError, EOFError)

#: Of these an application has no part in: what they mean is that the channel failed.
CHANNEL_CODES = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED")

CODES = frozenset({
    "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
    "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
})  # fmt: skip


class Failures:
    """Which exceptions count: by class or by a callable, and gRPC's by the name of their code.

    A PoolError or a CallError says what this side did, so none counts unless its class is named;
    but a DeadlineExceeded that cut off a call under way counts as the TimeoutError that it is.
    ``classify`` is asked before all of them, and says True, False, or None to leave it to them.
    What is no Exception (a cancelled task, Ctrl-C) never counts: it is the caller who ends, and
    neither another try nor a closed breaker may keep it from that.  So to name such a class is a
    TypeError.
    """

    def __init__(
        self,
        what: str,
        on: Failing,
        codes: Collection[str] | str,
        classify: Classifying | None = None,
    ) -> None:
        if not (classify is None or callable(classify)):
            raise TypeError(f"classify must be a callable or None, not {classify!r}")
        self.classify = classify
        self.codes = frozenset((codes,) if isinstance(codes, str) else codes)
        if unknown := sorted(map(str, self.codes - CODES)):
            raise ValueError(f"{what}: no gRPC status code is called {', '.join(unknown)}")
        self.classes, self.asks = _taken_apart(what, on)
        self.ours = tuple(one for one in self.classes if issubclass(one, (PoolError, CallError)))

    def match(self, error: BaseException) -> bool:
        if not isinstance(error, Exception) or cancelled(error):
            return False
        if self.classify is not None:
            said = asked(self.classify, error)
            if said is not None:
                return bool(said)
        code = code_of(error)
        if code is not None and not isinstance(error, CallError):
            return code in self.codes
        if self.asks is not None:
            return bool(asked(self.asks, error))
        if isinstance(error, (PoolError, CallError)):
            timed_out = isinstance(error, DeadlineExceeded) and error.phase == "call"
            return isinstance(error, self.classes if timed_out else self.ours)
        return isinstance(error, self.classes)


class Ignored:
    """Which exceptions say nothing at all, of this side or the other: by class or by a callable,
    gRPC's and this side's own included."""

    def __init__(self, what: str, on: Failing) -> None:
        self.classes, self.asks = _taken_apart(what, on)

    def match(self, error: BaseException) -> bool:
        if not isinstance(error, Exception):
            return False
        if self.asks is not None:
            return bool(asked(self.asks, error))
        return isinstance(error, self.classes)


def _taken_apart(
    what: str, on: Failing
) -> tuple[tuple[type[BaseException], ...], Callable[[Exception], bool] | None]:
    """The classes, or the callable."""
    if isinstance(on, type) and issubclass(on, BaseException):
        on = (on,)
    if isinstance(on, Collection) and all(_is_class(one) for one in on):
        classes = tuple(on)
        _refuse_what_never_counts(what, classes)
        return classes, None
    if callable(on) and not isinstance(on, type):
        return (), on
    raise TypeError(
        f"{what} must be an exception class, a collection of them, or a callable"
        f" (error) -> bool, not {on!r}"
    )


def asked(question: Callable[[_A], _T], about: _A) -> _T | None:
    """What the user's callable says of the end of a try, which it must not replace: what it raises
    itself is logged, and it has said nothing."""
    try:
        return question(about)
    except Exception:
        import logging

        logging.getLogger("fastpool").exception(
            "%r failed, which was asked about a %s", question, type(about).__name__
        )
        return None


def _is_class(one: Any) -> bool:
    return isinstance(one, type) and issubclass(one, BaseException)


def _refuse_what_never_counts(what: str, classes: Collection[type[BaseException]]) -> None:
    for one in classes:
        # these two are bases of what counts, so naming them has an effect
        if one in (BaseException, BaseExceptionGroup):
            continue
        if not issubclass(one, Exception) or _is_cancelling(one):
            raise TypeError(
                f"{what}: {one.__qualname__} says that the caller gives up, nothing about the other"
                " side, so it never counts; name classes of Exception"
            )


def _is_cancelling(kind: type[BaseException]) -> bool:
    futures = _loaded("concurrent.futures")
    return futures is not None and issubclass(kind, futures.CancelledError)


def _loaded(name: str) -> Any:
    """The module, if somebody has imported it.  Not by ``get``, which locks the dict without a
    GIL: if another thread holds that lock at a fork, it stays locked in the child.
    """
    try:
        return sys.modules[name]
    except KeyError:
        return None


def cancelled(error: BaseException) -> bool:
    """Whether it says that somebody here has given up: never a word about the other side."""
    if not isinstance(error, Exception) or _is_cancelling(type(error)):
        return True
    return code_of(error) == "CANCELLED"


def code_of(error: BaseException) -> str | None:
    """The name of the status code of an exception of gRPC; None for any other."""
    grpc = _loaded("grpc")  # whoever raised it has imported it
    if grpc is None or not isinstance(error, getattr(grpc, "RpcError", ())):
        return None
    code = getattr(error, "code", None)
    status = code() if callable(code) else None
    return getattr(status, "name", "UNKNOWN")


def local(error: BaseException) -> bool:
    """Whether a shared gRPC channel refused the call, or let it expire in its queue: the other side
    never heard of it."""
    return code_of(error) is not None and getattr(error, "local", False) is True


def never_sent(error: BaseException) -> bool:
    """Whether gRPC says that there was no connection to send the call on, or a shared channel that
    it had no room for it.  gRPC has no code of its own for that; its text is as old as its public
    releases."""
    if local(error) and code_of(error) == "RESOURCE_EXHAUSTED":
        return True  # in a while there may be free capacity
    details = getattr(error, "details", None)
    if code_of(error) != "UNAVAILABLE" or not callable(details):
        return False
    return str(details()).startswith("failed to connect to all addresses")
