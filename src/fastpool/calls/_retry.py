"""When to try again, and after how long; and what keeps retries from multiplying an outage."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Collection
from dataclasses import dataclass
from inspect import iscoroutinefunction
from random import random  # of the module's own generator, which is seeded anew after a fork
from typing import Any, Literal

from .._core import Lock
from ._classify import TRANSPORT, Classifying, Failing, Failures, asked, never_sent
from ._clock import named, seconds

__all__ = ["Retry", "RetryEvent", "RetryThrottle"]

_all: weakref.WeakSet[RetryThrottle] = weakref.WeakSet()


@dataclass(frozen=True, slots=True)
class RetryEvent:
    """What ``Retry(on_retry=)`` is told before the pause.

    ``call``: what is called; ``tries``: how often it was tried until now; ``pause``: seconds until
    the next try; ``error``: how the last one failed, None where ``on_result`` wants another one;
    ``result``: what it returned then.
    """

    __module__ = "fastpool.calls"

    call: str
    tries: int
    pause: float
    error: Exception | None
    result: Any = None


class RetryThrottle:
    """Stops retrying while much fails: gRPC's retryThrottling, for all that shares the object.

    It holds ``tokens`` at first and at most.  Each failed try that could be retried takes one, each
    call that goes well gives ``ratio`` of one back, and there are retries only while more than half
    are left.  So in a lasting outage some ``ratio`` of the calls is retried once, whatever
    ``attempts`` says.  Thread-safe; costs nothing while nothing fails.
    """

    __module__ = "fastpool.calls"

    def __init__(self, tokens: float = 10.0, ratio: float = 0.1) -> None:
        if not 0 < tokens <= 1000:
            raise ValueError(f"tokens must be above 0 and at most 1000, not {tokens!r}")
        if not ratio > 0:
            raise ValueError(f"ratio must be above 0, not {ratio!r}")
        self._most = float(tokens)
        self._ratio = float(ratio)
        # Written under the lock.  A late look at it costs one retry too many or too few.
        self._left = self._most
        self._lock = Lock()  # a finaliser may call something that goes through here
        _all.add(self)

    def __repr__(self) -> str:
        return f"<RetryThrottle: {self._left:.3g} of {self._most:.3g} tokens left>"

    @property
    def tokens(self) -> float:
        """How many are left."""
        return self._left

    def succeeded(self) -> None:
        """A call went well."""
        if self._left < self._most:
            with self._lock.hold():
                self._left = min(self._most, self._left + self._ratio)

    def failed(self) -> bool:
        """A try failed in a way that could be retried; whether it may be."""
        with self._lock.hold():
            self._left = max(0.0, self._left - 1)
            return self._left > self._most / 2


class Retry:
    """How often and when a call is tried again.

    Only what is idempotent is: what the user has named so (``policy(idempotent=True)``,
    ``policy.wrap(channel, idempotent=[...])``).  Of anything else, a try is repeated only after an
    error of ``refused``, which says that the other side never saw it, or after one by which gRPC
    says that it could not connect.

    ``attempts``: tries in all, the first one included.  ``backoff``: seconds; the pause before try
    n + 1 is drawn between 0 and ``backoff * multiplier ** (n - 1)``, at most ``max_backoff``: full
    jitter, so that callers who failed together do not come back together; with ``jitter=False`` it
    is that length, with ``multiplier=1`` as well it is constant, and with ``backoff=0`` there is no
    pause.  A pause for which the time left
    does not suffice is not begun: the failure is raised at once.  What the server asks for takes
    the place of the pause: gRPC's pushback, RetryInfo among the details of gRPC's status, HTTP's
    Retry-After; where that is longer than ``max_retry_after`` seconds (None: however long), there
    is no further try.  ``attempt_timeout``: seconds for one try, so that a hanging one leaves
    time for another; it bounds what `CallPolicy` bounds.  ``on`` (exception classes, or a callable)
    and ``codes`` (names of gRPC status codes): which failures are worth another try.
    ``classify(error)`` is asked first, about gRPC's errors too, whose ``details()`` and
    ``trailing_metadata()`` it may look at: True: worth it, False: not, None: as ``on`` and
    ``codes`` have it.
    ``throttle``: stops retries while much fails; "own": a new RetryThrottle, None: nothing does.
    ``on_result(result)``: whether what an idempotent call returned is worth another try, as "not
    ready yet" is; the last result is returned as it is.  It is not asked of streams.
    ``on_retry(event)`` is told of each further try, by a RetryEvent before its pause, under no
    lock.  What these callables raise is logged, and they have said nothing.

    One object may serve any number of policies, which then share its throttle.
    """

    __module__ = "fastpool.calls"

    def __init__(
        self,
        attempts: int = 3,
        *,
        backoff: float = 0.1,
        max_backoff: float = 5.0,
        multiplier: float = 2.0,
        jitter: bool = True,
        max_retry_after: float | None = 60.0,
        attempt_timeout: float | None = None,
        on: Failing = TRANSPORT,
        codes: Collection[str] = ("UNAVAILABLE",),
        classify: Classifying | None = None,
        refused: Failing = ConnectionRefusedError,
        throttle: RetryThrottle | Literal["own"] | None = "own",
        on_result: Callable[[Any], bool] | None = None,
        on_retry: Callable[[RetryEvent], object] | None = None,
    ) -> None:
        for what, given in (("on_result", on_result), ("on_retry", on_retry)):
            if not (given is None or callable(given)):
                raise TypeError(f"{what} must be a callable or None, not {given!r}")
            if iscoroutinefunction(given):
                raise TypeError(f"{what} must be a plain callable: nobody would await {given!r}")
        if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
            raise ValueError(f"attempts must be a whole number of at least 1, not {attempts!r}")
        if throttle == "own":
            throttle = RetryThrottle()
        if not (throttle is None or isinstance(throttle, RetryThrottle)):
            raise TypeError(f'throttle must be a RetryThrottle, "own" or None, not {throttle!r}')
        self.attempts = attempts
        if not 1 <= multiplier <= 100:
            raise ValueError(f"multiplier must be at least 1 and at most 100, not {multiplier!r}")
        self.backoff = named(backoff, "backoff", zero=True)
        self.multiplier = multiplier
        self.jitter = bool(jitter)
        self.max_retry_after = seconds(max_retry_after, "max_retry_after", zero=True)
        self.max_backoff = named(max_backoff, "max_backoff")
        self.attempt_timeout = seconds(attempt_timeout, "attempt_timeout")
        self.throttle = throttle
        self.on_result = on_result
        self.on_retry = on_retry
        self._on = Failures("on", on, codes, classify)
        self._refused = Failures("refused", refused, ())

    def __repr__(self) -> str:
        return f"<Retry: {self.attempts} attempts>"

    def wants(self, error: BaseException, idempotent: bool) -> bool:
        """Whether the failure is worth another try, and safe to try again."""
        if idempotent and self._on.match(error):
            return True
        return self._refused.match(error) or never_sent(error)

    def wants_after(self, result: Any) -> bool:
        """Whether the result is worth another try."""
        return self.on_result is not None and bool(asked(self.on_result, result))

    def notify(self, event: RetryEvent) -> None:
        """Tells the user of another try."""
        if self.on_retry is not None:
            asked(self.on_retry, event)

    def pause(self, failed: int) -> float:
        """Seconds before the next try after so many that failed."""
        # The exponent is bounded: no float holds 2 ** 1024.
        grown = self.backoff * float(self.multiplier) ** min(failed - 1, 64)
        longest = min(self.max_backoff, grown)
        return random() * longest if self.jitter else longest


def _after_fork_in_child() -> None:
    for throttle in list(_all):  # the holder may be a thread that does not exist here
        throttle._lock = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
