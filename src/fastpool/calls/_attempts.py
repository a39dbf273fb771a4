"""One call under a policy: what is decided before, between and after its tries.

It waits for nothing and calls nothing: the functions in ``_functions.py`` and the channels in
``_grpc*.py`` do that, each in its own way, and all of them go by this.  The order is the same
everywhere: the budget first, then the breaker, then try by try the retry and the limit.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .._core import Lock
from ._breaker import BreakerStats, CircuitBreaker
from ._classify import cancelled, local
from ._deadline import CURRENT, inherited
from ._errors import CallError, CircuitOpen, DeadlineExceeded, Overloaded
from ._limit import Limit, LimitStats
from ._retry import Retry, RetryEvent
from ._retry_after import retry_after

__all__ = ["CallStats"]

NOTE = "fastpool.calls: "


@dataclass(frozen=True, slots=True)
class CallStats:
    """What a policy has seen end so far, over all functions and channels that it is applied to.

    ``calls`` is ``succeeded + failed + cancelled``.  Of the failed: ``refused`` by a breaker,
    ``overloaded``: turned away by the limit, ``expired``: out of time by the policy's own count.
    ``retries``: tries after the first; ``throttled``: calls that were not tried again because too
    much fails.  ``breakers``: each breaker by its name; ``limit``: None without one;
    ``limits``: those of single functions and methods, by their names.  Counters never go back.
    """

    __module__ = "fastpool.calls"

    name: str
    succeeded: int
    failed: int
    cancelled: int
    refused: int
    overloaded: int
    expired: int
    retries: int
    throttled: int
    breakers: dict[str, BreakerStats]
    limit: LimitStats | None
    limits: dict[str, LimitStats]

    @property
    def calls(self) -> int:
        """Calls that have ended."""
        return self.succeeded + self.failed + self.cancelled


class Counters:
    """The counters of a policy.  Exact on every build, so under a lock; it is re-entrant, since a
    finaliser may make a call of the same policy in the middle."""

    NAMES = (
        "succeeded", "failed", "cancelled", "refused", "overloaded", "expired", "retries",
        "throttled",
    )  # fmt: skip
    __slots__ = (*NAMES, "__weakref__", "lock")

    succeeded: int

    def __init__(self) -> None:
        self.lock = Lock()
        for name in self.NAMES:
            setattr(self, name, 0)
        _ledgers.add(self)

    def add(self, *names: str) -> None:
        with self.lock.hold():
            for name in names:
                setattr(self, name, getattr(self, name) + 1)

    def counts(self) -> dict[str, int]:
        with self.lock.hold():
            return {name: getattr(self, name) for name in self.NAMES}


_ledgers: weakref.WeakSet[Counters] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for ledger in list(_ledgers):  # the holder may be a thread that does not exist here
        ledger.lock = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


@dataclass(frozen=True, slots=True)
class ResolvedPolicy:
    """What holds for one function or method: the policy, seen from there."""

    name: str
    timeout: float | None
    retry: Retry | None
    breaker: CircuitBreaker | None
    limit: Limit | None
    idempotent: bool
    now: Callable[[], float]
    advance: Callable[[float], object] | None  # moves a clock that stands; None: real time
    ledger: Counters


class Call:
    """One call, from its begin to its end.  Belongs to one thread or task at a time.

    Begun, it ends by exactly one of ``succeeded``, ``cancelled``, and ``answered`` or ``failed``
    with a None for an answer; what raises in ``__init__`` never began.
    """

    __slots__ = (
        "asked", "attempts", "began", "ends", "last", "repeatable", "rules", "sent", "ticket",
        "why",
    )  # fmt: skip

    def __init__(self, rules: ResolvedPolicy, timeout: float | None = None) -> None:
        self.rules = rules
        self.attempts = 1
        self.repeatable = True  # whether the request is there to be sent a second time
        self.last: BaseException | None = None
        self.ticket = 0
        self.why = ""  # there is no other try
        self.sent: float | None = None  # when the last try was, where the breaker asks
        self.asked: float | None = None  # when a try was that the limit is to learn of
        self.began = began = rules.now()
        if rules.timeout is not None and (timeout is None or rules.timeout < timeout):
            timeout = rules.timeout
        if CURRENT.get() is not None:
            left = inherited(began, rules.now)
            if left is not None and (timeout is None or left < timeout):
                timeout = left
        self.ends: float | None = None
        if timeout is not None:
            self.ends = began + timeout
            if not timeout > 0:
                rules.ledger.add("failed", "expired")
                raise DeadlineExceeded(rules.name, "start", timeout, 0.0, 0)
        if rules.breaker is not None:
            try:
                self.ticket = rules.breaker.admit(rules.name)
            except CircuitOpen:
                rules.ledger.add("failed", "refused")
                raise

    # ---- time -----------------------------------------------------------------------------------

    def left(self) -> float | None:
        """Seconds for all that is still to come; DeadlineExceeded when there are none."""
        if self.ends is None:
            return None
        left = self.ends - self.rules.now()
        if left > 0:
            return left
        raise self.expired("limit") from self.last

    def still(self) -> None:
        """DeadlineExceeded if the time was over before the try that was to begin now."""
        if self.ends is not None and self.ends <= self.rules.now():
            self.attempts -= 1
            raise self.expired("start") from self.last

    def try_ends(self) -> float | None:
        """When the try that begins now has to be over; None: whenever."""
        if self.rules.breaker is not None:
            self.sent = self.rules.breaker.sent()
        if self.rules.limit is not None and self.rules.limit.adapts:
            self.asked = self.rules.now()
        retry = self.rules.retry
        if retry is not None and retry.attempt_timeout is not None:
            ends = self.rules.now() + retry.attempt_timeout
            return ends if self.ends is None or ends < self.ends else self.ends
        return self.ends

    def try_left(self) -> float | None:
        """Seconds for the try that begins now; None: no bound.  0 or less: none are left."""
        ends = self.try_ends()
        return None if ends is None else ends - self.rules.now()

    def expired(self, phase: str) -> DeadlineExceeded:
        """The error of a call whose time is over."""
        now, limit = self.rules.now(), self.rules.limit
        given = (self.ends if self.ends is not None else now) - self.began
        lacking = limit.shortage() if phase == "limit" and limit is not None else None
        if lacking is not None:
            phase = "budget"
        took = now - self.began
        error = DeadlineExceeded(self.rules.name, phase, given, took, self.attempts)
        error.budget = lacking
        return error

    def overloaded(self) -> Overloaded:
        """The error of a call that may not even wait."""
        limit = self.rules.limit
        assert limit is not None
        error = Overloaded(self.rules.name, limit.size, limit.max_waiting or 0)
        error.budget = limit.shortage()
        return error

    # ---- the end of a try -----------------------------------------------------------------------

    def answered(self, result: Any) -> float | None:
        """A try ended with this: the seconds until the next one, or None at the end of the call,
        when ``result`` is to be returned."""
        self._notify_limit(None)
        retry = self.rules.retry
        if retry is not None and retry.on_result is not None:
            if self.repeatable and self.rules.idempotent and retry.wants_after(result):
                pause = self._pause(retry, None)
                if pause is not None:
                    self.last = None
                    event = RetryEvent(self.rules.name, self.attempts, pause, None, result)
                    self._again(retry, event)
                    return pause
        self.succeeded()
        return None

    def succeeded(self) -> None:
        """It went well: the end of the call."""
        rules = self.rules
        self._notify_limit(None)
        if rules.breaker is not None and (ticket := self._take_ticket()):
            rules.breaker.succeeded(ticket, self.sent)
        if rules.retry is not None and rules.retry.throttle is not None:
            rules.retry.throttle.succeeded()
        ledger = rules.ledger
        with ledger.lock.hold():
            ledger.succeeded += 1

    def cancelled(self) -> None:
        """Whoever wanted it has gone: the end of the call."""
        self._end(GeneratorExit())

    def first_answer(self) -> None:
        """The first of several answers is there: the other side is well, and the call goes on."""
        self.repeatable = False
        self._notify_limit(None)
        if self.rules.breaker is not None and (ticket := self._take_ticket()):
            self.rules.breaker.succeeded(ticket, self.sent)

    def _notify_limit(self, error: BaseException | None) -> None:
        """How the try ended, once for each; None: well."""
        limit = self.rules.limit
        if limit is None or not limit.adapts or self.asked is None:
            return
        asked, self.asked = self.asked, None
        if error is None:
            limit.answered(asked, self.rules.now())
        elif not _unsent(error):
            limit.failed(error, asked, self.rules.now())

    def _take_ticket(self) -> int:
        """For whoever tells the breaker; 0: it has been told.  The first message of a stream may be
        taken just as another thread learns of its end."""
        with self.rules.ledger.lock.hold():
            ticket, self.ticket = self.ticket, 0
            return ticket

    def failed(self, error: BaseException) -> float | None:
        """A try ended with this: the seconds until the next one, or None at the end of the call,
        when ``error`` is to be raised."""
        self._notify_limit(error)
        retry = self.rules.retry
        if self.repeatable and retry is not None and isinstance(error, Exception):
            if (not _unsent(error) or local(error)) and retry.wants(error, self.rules.idempotent):
                pause = self._pause(retry, retry_after(error))
                if pause is not None:
                    self.last = error
                    self._again(retry, RetryEvent(self.rules.name, self.attempts, pause, error))
                    return pause
        self._end(error)
        return None

    def _again(self, retry: Retry, event: RetryEvent) -> None:
        self.attempts += 1
        self.rules.ledger.add("retries")
        retry.notify(event)

    def _pause(self, retry: Retry, given: float | None) -> float | None:
        """The seconds until another try, which would be worth it; None: there is none."""
        may = retry.throttle is None or retry.throttle.failed()
        if self.attempts >= retry.attempts:
            return None
        if not may:
            self.rules.ledger.add("throttled")
            self.why = "; not again, since too many calls fail (RetryThrottle)"
            return None
        breaker = self.rules.breaker
        if breaker is not None and breaker.refuses:  # others have seen enough meanwhile
            return None
        if given is not None and given < 0:
            self.why = "; not again, since the server asks not to"
            return None
        longest = retry.max_retry_after
        if given is not None and longest is not None and given > longest:
            self.why = (
                f"; not again, since the server asks to wait {given:.3g} s,"
                f" and max_retry_after is {longest:.3g} s"
            )
            return None
        pause = retry.pause(self.attempts) if given is None else given
        left = None if self.ends is None else self.ends - self.rules.now()
        if left is not None and pause >= left:
            self.why = f"; not again, since the {left:.3g} s left end before the next try"
            return None
        return pause

    def _end(self, error: BaseException) -> None:
        rules = self.rules
        if rules.breaker is not None and (ticket := self._take_ticket()):
            if _unsent(error) and self.last is not None:
                rules.breaker.failed(ticket, self.last)  # it speaks of the try before
            elif _unsent(error):
                rules.breaker.forget(ticket)
            else:
                rules.breaker.failed(ticket, error, self.sent)
        if self.attempts > 1 or self.why:
            times = "once" if self.attempts == 1 else f"{self.attempts} times"
            took = rules.now() - self.began
            _note(error, f"{rules.name} was tried {times} in {took:.3g} s{self.why}")
        if cancelled(error):
            rules.ledger.add("cancelled")
        elif isinstance(error, Overloaded) and error.call == rules.name:
            rules.ledger.add("failed", "overloaded")
        elif isinstance(error, DeadlineExceeded) and error.call == rules.name:
            rules.ledger.add("failed", "expired")
        else:
            rules.ledger.add("failed")


def _note(error: BaseException, text: str) -> None:
    """In place of an older note: an exception object may be raised more than once."""
    notes = [note for note in getattr(error, "__notes__", ()) if not note.startswith(NOTE)]
    error.__notes__ = [*notes, NOTE + text]


def _unsent(error: BaseException) -> bool:
    """Whether it is this side's own word that nothing was sent."""
    if local(error):
        return True
    if isinstance(error, DeadlineExceeded):
        return error.phase != "call"
    return isinstance(error, CallError)
