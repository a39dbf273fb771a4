"""The circuit breaker: after too many failures, calls are refused without a try for a while.

States, as in Nygard's "Release It!": closed, open, half-open.  Failures are counted in a window
that slides in steps, as resilience4j's and gobreaker's do.  The lock guards counting alone: it is
never held during a call, a callback or a log record.  It is re-entrant, since a finaliser may run
in the middle and call something that goes through this very breaker; each step below is whole
before the next begins.
"""

from __future__ import annotations

import os
import weakref
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from .._core import Lock
from ._classify import CHANNEL_CODES, TRANSPORT, Classifying, Failing, Failures, Ignored, cancelled
from ._clock import named, reader, seconds
from ._errors import CircuitOpen
from ._window import Window

if TYPE_CHECKING:
    from ._clock import Clock

__all__ = ["BreakerStats", "CircuitBreaker"]

State: TypeAlias = Literal["closed", "open", "half-open", "forced-open", "disabled"]
REFUSING = ("open", "forced-open")

UNCOUNTED = -1
"""The ticket of calls through a disabled breaker: no generation has this number."""

_numbers = count(1)
_all: weakref.WeakSet[CircuitBreaker] = weakref.WeakSet()


@dataclass(frozen=True, slots=True)
class BreakerStats:
    """One breaker at one moment.

    ``calls``, ``failures`` and ``slow``: in the window, as long as it is closed; ``retry_after``:
    seconds until the next probe, 0 when closed, infinite when forced open; ``opened``: how often it
    opened; ``refused``: calls refused so far.
    """

    __module__ = "fastpool.calls"

    name: str
    state: State
    calls: int
    failures: int
    slow: int
    retry_after: float
    opened: int
    refused: int


class CircuitBreaker:
    """Stops calls to what does not answer.

    **closed**: calls go through.  When ``failure_ratio`` of the calls of the last ``window``
    seconds have failed, and those were ``min_calls`` at least, it opens; it also opens after
    ``failure_count`` failures in the window, and after ``consecutive_failures`` in a row, however
    many calls there were; and when ``slow_ratio`` of at least ``min_calls`` were slow, which is
    that the last try took more than ``slow_after`` seconds, whatever came of it.  None: not for
    this reason.  **open**: every call is
    refused with CircuitOpen for ``open_for`` seconds.  **half-open**: then ``probes`` calls (one by
    default), and no more, go through.  If all go well the breaker closes with an empty window, and
    if one fails or is slow it opens again; one that is cancelled makes room for the next call, and
    after another ``open_for`` seconds without a decision the next call begins anew with the probes.
    What was begun in an earlier state changes nothing.  By hand only: **forced-open**, in which
    every call is refused, and **disabled**, in which every call goes through and none counts;
    `reset` ends both.

    ``failures`` (exception classes, or a callable) and ``codes`` (names of gRPC status codes) say
    which exceptions count: by default broken connections and timeouts, and the codes UNAVAILABLE,
    DEADLINE_EXCEEDED and RESOURCE_EXHAUSTED.  Any other exception is an answer, so it counts as
    success.  Cancelling counts as neither.  ``classify(error)`` is asked first, about gRPC's errors
    too, whose ``details()`` and ``trailing_metadata()`` it may look at: True: it counts, False: it
    is an answer, None: as ``failures`` and ``codes`` have it.  What a callable raises is logged.
    ``ignore`` (exception classes, or a callable, gRPC's errors included): what counts as neither,
    and decides no probe.

    ``on_change(breaker, before, after)`` is told each change of state, in order, in the thread
    whose call caused it, under no lock; each is logged as well, on the logger ``fastpool``.  What
    it raises is logged.

    One object may serve any number of policies, threads and event loops: they share its state.  A
    call through a closed breaker costs some 0.3 us.  ``clock`` is for tests.
    """

    __module__ = "fastpool.calls"

    def __init__(
        self,
        name: str | None = None,
        *,
        failure_ratio: float | None = 0.5,
        min_calls: int = 10,
        failure_count: int | None = None,
        consecutive_failures: int | None = None,
        slow_after: float | None = None,
        slow_ratio: float = 0.5,
        window: float = 30.0,
        open_for: float = 5.0,
        probes: int = 1,
        failures: Failing = TRANSPORT,
        codes: Collection[str] = CHANNEL_CODES,
        classify: Classifying | None = None,
        ignore: Failing = (),
        on_change: Callable[[CircuitBreaker, State, State], object] | None = None,
        clock: Clock | None = None,
    ) -> None:
        _ratio("failure_ratio", failure_ratio)
        if not min_calls >= 1:
            raise ValueError(f"min_calls must be at least 1, not {min_calls!r}")
        _ratio("slow_ratio", slow_ratio)
        _number("probes", probes)
        _number("failure_count", 1 if failure_count is None else failure_count)
        _number("consecutive_failures", 1 if consecutive_failures is None else consecutive_failures)
        if on_change is not None and not callable(on_change):
            raise TypeError(f"on_change must be a callable or None, not {on_change!r}")
        self._name = f"breaker-{next(_numbers)}" if name is None else name
        self._ratio = failure_ratio
        self._least = min_calls
        self._count = failure_count
        self._in_a_row = consecutive_failures
        self._slow_after = seconds(slow_after, "slow_after")
        self._slow_ratio = slow_ratio
        self._most_probes = probes
        span = named(window, "window")
        self._open_for = named(open_for, "open_for")
        self._ignored = Ignored("ignore", ignore)
        self._failures = Failures("failures", failures, codes, classify)
        self._on_change = on_change
        self._now = reader(clock)
        # All below is written under the lock.
        self._lock = Lock()
        self._state: State = "closed"
        # Each change of state, and each round of probes, begins a new generation.  Who is admitted
        # gets its number as a ticket, and an outcome with an older number is of another time.
        self._generation = 1
        # The generation while closed, UNCOUNTED while disabled, else 0; read without the lock, in
        # one step.
        self._open_ticket = 1
        self._until = 0.0  # open: when a probe may start; half-open: when another round may
        self._probing = self._probed = 0  # of this round: under way, gone well
        self._opened = self._refused = 0
        self._why = ""
        self._window = Window(span, self._now())
        # Changes not told yet; whoever gets hold of the baton tells them, without waiting for it.
        self._changes: deque[tuple[State, State, str]] = deque()
        self._baton = Lock()
        _all.add(self)

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self._name!r}: {self._state}>"

    @property
    def name(self) -> str:
        """As in errors and logs; "breaker-N" where none was given."""
        return self._name

    @property
    def state(self) -> State:
        """ "closed", "open", "half-open", "forced-open" or "disabled".  An open breaker whose time
        is over is open until a call comes, which is the probe."""
        return self._state

    def stats(self) -> BreakerStats:
        """An immutable snapshot."""
        now = self._now()
        with self._lock.hold():
            self._window.roll(now)
            return BreakerStats(
                name=self._name,
                state=self._state,
                calls=self._window.calls,
                failures=self._window.failed,
                slow=self._window.slow,
                retry_after=0.0 if self._open_ticket else self._wait(now),
                opened=self._opened,
                refused=self._refused,
            )

    def trip(self) -> None:
        """Opens it now, for ``open_for`` seconds from now."""
        now = self._now()
        with self._lock.hold():
            self._open(now, "tripped by hand")
        self._notify()

    def force_open(self) -> None:
        """Refuses every call from now on, without probes, until `reset` or `trip` is called."""
        with self._lock.hold():
            if self._state != "forced-open":
                self._open(self._now(), "forced open by hand", "forced-open")
                self._until = float("inf")
        self._notify()

    def disable(self) -> None:
        """Lets every call through and counts none, until `reset` or `trip` is called."""
        with self._lock.hold():
            self._leave(self._now())
            self._become("disabled", "disabled by hand")
            self._open_ticket = UNCOUNTED
        self._notify()

    def reset(self) -> None:
        """Closes it now and forgets what it has counted in the window."""
        now = self._now()
        with self._lock.hold():
            self._close(now, "reset by hand")
        self._notify()

    # ---- a call: admitted, then over ------------------------------------------------------------

    def admit(self, call: str) -> int:
        """A ticket for one call, to be handed to ``record`` or ``forget`` once; or CircuitOpen."""
        ticket = self._open_ticket
        if ticket:
            return ticket
        now = self._now()
        with self._lock.hold():
            if self._open_ticket:
                return self._open_ticket
            wait = self._wait(now)
            if wait > 0:
                self._refused += 1
                raise CircuitOpen(call, self._name, wait, self._why)
            ticket = self._probe(now)
        self._notify()
        return ticket

    @property
    def refuses(self) -> bool:
        """Whether it is open: a call that failed had better not be tried again."""
        return self._state in REFUSING

    def sent(self) -> float | None:
        """The time, when a try begins, for what counts its end; None: nobody asks."""
        return None if self._slow_after is None else self._now()

    def succeeded(self, ticket: int, sent: float | None = None) -> None:
        """The call went well, or was answered with an error that does not count."""
        now = self._now()
        slow = self._is_slow(now, sent)
        with self._lock.hold():
            if ticket != self._generation:
                return
            if self._open_ticket:
                self._window.add(now, False, slow)
                if not self._window.failed and not self._window.slow:
                    return
                self._decide(now)  # it may be the call without which there were too few
            elif self._state == "half-open":
                if slow:
                    self._open(now, "the probe was slow")
                else:
                    self._probing -= 1
                    self._probed += 1
                    if self._probed < self._most_probes:
                        return
                    self._close(now, "the probe went well")
        self._notify()

    def failed(self, ticket: int, error: BaseException, sent: float | None = None) -> None:
        """The call ended with this exception."""
        if cancelled(error) or self._ignored.match(error):
            self.forget(ticket)
        elif self._failures.match(error):
            self._count_failure(ticket, error, sent)
        else:
            self.succeeded(ticket, sent)

    def forget(self, ticket: int) -> None:
        """The call ended in a way that says nothing: cancelled, or never sent."""
        with self._lock.hold():
            if ticket == self._generation and self._state == "half-open":
                self._probing -= 1  # the next call is a probe

    def _count_failure(self, ticket: int, error: BaseException, sent: float | None) -> None:
        now = self._now()
        with self._lock.hold():
            if ticket != self._generation:
                return
            if self._state == "half-open":
                self._open(now, f"the probe failed: {type(error).__name__}")
            elif self._open_ticket:
                self._window.add(now, True, self._is_slow(now, sent))
                self._decide(now)
        self._notify()

    def _is_slow(self, now: float, sent: float | None) -> bool:
        return sent is not None and self._slow_after is not None and now - sent > self._slow_after

    # ---- under the lock -------------------------------------------------------------------------

    def _decide(self, now: float) -> None:
        """After each call that counted."""
        window = self._window
        calls, failed = window.calls, window.failed
        if self._ratio is not None and calls >= self._least and failed / calls >= self._ratio:
            self._open(now, f"{failed} of {calls} calls failed")
        elif self._count is not None and failed >= self._count:
            self._open(now, f"{failed} calls failed")
        elif self._in_a_row is not None and window.streak >= self._in_a_row:
            self._open(now, f"{window.streak} calls in a row failed")
        elif window.slow and calls >= self._least and window.slow / calls >= self._slow_ratio:
            self._open(now, f"{window.slow} of {calls} calls were slow")

    def _wait(self, now: float) -> float:
        """Seconds until a call may be a probe."""
        if self._state == "half-open" and self._probing + self._probed < self._most_probes:
            return 0.0
        return max(0.0, self._until - now)

    def _probe(self, now: float) -> int:
        """A ticket for a probe: of the round under way if it has room, else of a new one."""
        if self._state != "half-open" or self._probing + self._probed >= self._most_probes:
            self._generation += 1
            self._probing = self._probed = 0
        self._probing += 1
        self._until = now + self._open_for
        self._become("half-open", "a probe is under way")
        return self._generation

    def _leave(self, now: float) -> None:
        """What was begun until now changes nothing any more."""
        self._generation += 1
        self._window.clear(now)

    def _open(self, now: float, why: str, state: State = "open") -> None:
        self._leave(now)
        self._open_ticket = 0
        self._until = now + self._open_for
        self._opened += 1
        self._become(state, why)

    def _close(self, now: float, why: str) -> None:
        self._leave(now)
        self._become("closed", why)
        self._open_ticket = self._generation

    def _become(self, state: State, why: str) -> None:
        before, self._state, self._why = self._state, state, why
        if before != state:
            self._changes.append((before, state, why))

    # ---- told under no lock ---------------------------------------------------------------------

    def _notify(self) -> None:
        """Each change once and in order: one thread at a time tells, and none waits to."""
        while self._changes:
            with self._baton.try_hold() as mine:
                if not mine:
                    return
                while self._changes:
                    self._notify_one(*self._changes.popleft())

    def _notify_one(self, before: State, after: State, why: str) -> None:
        import logging

        log = logging.getLogger("fastpool")
        level = logging.WARNING if after in REFUSING else logging.INFO
        log.log(level, "circuit breaker %s: %s -> %s, %s", self._name, before, after, why)
        if self._on_change is not None:
            try:
                self._on_change(self, before, after)
            except Exception:
                log.exception("circuit breaker %s: on_change failed", self._name)


def _ratio(what: str, value: float | None) -> None:
    if value is not None and not 0 < value <= 1:
        raise ValueError(f"{what} must be above 0 and at most 1, not {value!r}")


def _number(what: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{what} must be a whole number of at least 1, not {value!r}")


def _after_fork_in_child() -> None:
    """Whoever held a lock, or was the probe, may be a thread that does not exist here."""
    for breaker in list(_all):
        breaker._lock = Lock()
        breaker._baton = Lock()
        if breaker._state == "half-open":
            breaker._generation += 1
            breaker._probing = breaker._probed = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
