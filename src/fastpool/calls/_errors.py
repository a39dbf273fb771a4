"""What the call layer raises of its own.  All of it pickles."""

from __future__ import annotations

from ..errors import with_page

__all__ = ["CallError", "CircuitOpen", "DeadlineExceeded", "Overloaded"]


class CallError(Exception):
    """Base of the errors that a policy raises by itself; ``.call`` is the name of what was called.

    What the called function raises is passed on as it is.  ``.page`` is the place in the
    documentation that explains it; its text ends with that.
    """

    __module__ = "fastpool.calls"

    page = "docs/errors/calls.md"

    def __init__(self, call: str, text: str) -> None:
        super().__init__(call, text)
        self.call = call
        self.text = text

    def __str__(self) -> str:
        return with_page(f"{self.call}: {self.text}", self.page)


class DeadlineExceeded(CallError, TimeoutError):
    """The time for the call was over.

    ``.phase`` is where it ended: "start" (it was over before this try was begun), "limit" (in the
    queue for a permit), "budget" (in that queue, and only a permit of its budget was lacking:
    ``.budget`` says who has them), or "call" (the call itself was cut off, or a wait inside it).
    After all but the last nothing was sent by this try.  ``.timeout``: the seconds that the call
    was given in all; ``.elapsed``: how many it took; ``.attempts``: tries begun.  ``__cause__``:
    the failure of the last try before, if there was one.
    """

    __module__ = "fastpool.calls"

    page = "docs/errors/calls.md#deadlineexceeded"

    def __init__(
        self, call: str, phase: str, timeout: float, elapsed: float, attempts: int = 1
    ) -> None:
        Exception.__init__(self, call, phase, timeout, elapsed, attempts)
        self.call = call
        self.phase = phase
        self.timeout = timeout
        self.elapsed = elapsed
        self.attempts = attempts
        self.budget: object = None  # a BudgetStats, with the phase of that name

    @property
    def text(self) -> str:  # type: ignore[override]
        """The message without the name of the call."""
        given = f"{max(self.timeout, 0):.3g} s"
        if self.phase == "start":
            return f"not begun: no time was left (of {given})"
        if self.phase == "limit":
            return (
                f"{given} were over after {self.elapsed:.3g} s in the queue for a "
                "permit of its limit"
                f" (try {self.attempts}); raise the limit, or send less at once"
            )
        if self.phase == "budget":
            return (
                f"{given} were over after {self.elapsed:.3g} s in the queue for a permit of its "
                f"budget (try {self.attempts})\n  {self.budget}"
            )
        return f"{given} were over after {self.elapsed:.3g} s (try {self.attempts})"


class CircuitOpen(CallError):
    """Refused without a try: the circuit breaker is open.

    ``.retry_after``: seconds until a probe is let through, 0 when it may be at any moment, infinite
    when the breaker was forced open;
    ``.breaker``: its name.
    """

    __module__ = "fastpool.calls"

    page = "docs/errors/calls.md#circuitopen"

    def __init__(self, call: str, breaker: str, retry_after: float, why: str = "") -> None:
        Exception.__init__(self, call, breaker, retry_after, why)
        self.call = call
        self.breaker = breaker
        self.retry_after = retry_after
        self.why = why

    @property
    def text(self) -> str:  # type: ignore[override]
        """The message without the name of the call."""
        why = f" ({self.why})" if self.why else ""
        until = f"the next probe in {self.retry_after:.3g} s"
        if self.retry_after == float("inf"):
            until = "no probe before its reset()"
        return f"not tried: circuit breaker {self.breaker!r} is open{why}; {until}"


class Overloaded(CallError):
    """Refused without a try: as many callers wait for a permit of the limit as may.

    ``.size``: calls at once; ``.max_waiting``: callers in the queue; ``.budget``: who has the
    permits, where only one of a budget was lacking.
    """

    __module__ = "fastpool.calls"

    page = "docs/errors/calls.md#overloaded"

    def __init__(self, call: str, size: int, max_waiting: int) -> None:
        Exception.__init__(self, call, size, max_waiting)
        self.call = call
        self.size = size
        self.max_waiting = max_waiting
        self.budget: object = None  # a BudgetStats

    @property
    def text(self) -> str:  # type: ignore[override]
        """The message without the name of the call."""
        text = (
            f"not tried: {self.size} calls are under way and {self.max_waiting} wait in the queue,"
            " which is all that its limit allows; try again later, or raise max_waiting"
        )
        return text if self.budget is None else f"{text}\n  {self.budget}"
