"""`CircuitBreaker` beyond a share of failures: what is ignored, several probes, other trips."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from fastpool.calls import CallPolicy, CircuitBreaker, CircuitOpen, Retry
from fastpool.testing import ManualClock
from support.helpers import PATIENCE, ThreadRunner

KINDS = pytest.mark.parametrize("kind", ["thread", "task"])


class Remote:
    """A service under a breaker, called by a thread or by tasks, that does as it is told."""

    def __init__(self, kind: str, clock: ManualClock, **options: Any) -> None:
        self.breaker = CircuitBreaker("db", **{"min_calls": 4, "clock": clock, **options})
        self.clock = clock
        policy = CallPolicy(breaker=self.breaker, clock=clock)
        self.ask: Callable[..., Any] = policy(self._answer)
        if kind == "task":

            @policy
            async def answer(error: BaseException | None = None, takes: float = 0.0) -> None:
                self._answer(error, takes)

            self.ask = lambda *args: asyncio.run(answer(*args))

    def _answer(self, error: BaseException | None = None, takes: float = 0.0) -> None:
        if takes:
            self.clock.advance(takes)
        if error is not None:
            raise error

    def fail(self, times: int = 1, error: BaseException | None = None) -> None:
        error = ConnectionError("down") if error is None else error
        for _ in range(times):
            with pytest.raises(type(error)):
                self.ask(error)

    def refuses(self) -> CircuitOpen:
        with pytest.raises(CircuitOpen) as caught:
            self.ask()
        return caught.value


# ---- what says nothing --------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("ignore", [KeyError, (KeyError, IndexError), lambda error: True])
def test_ignored_failures_count_as_neither(kind: str, clock: ManualClock, ignore: Any) -> None:
    remote = Remote(kind, clock, ignore=ignore)
    remote.fail(9, KeyError("no such key"))
    stats = remote.breaker.stats()
    assert (stats.calls, stats.failures) == (0, 0)


@KINDS
def test_ignored_failure_decides_no_probe(kind: str, clock: ManualClock) -> None:
    """The next call is the probe."""
    remote = Remote(kind, clock, ignore=KeyError)
    remote.breaker.trip()
    clock.advance(5)
    remote.fail(1, KeyError("no such key"))
    assert remote.breaker.state == "half-open"
    remote.ask()
    assert remote.breaker.state == "closed"


@pytest.mark.parametrize("wrong", [5, "KeyError", [KeyError, 5], asyncio.CancelledError])
def test_ignore_takes_what_failures_takes(wrong: Any) -> None:
    with pytest.raises(TypeError, match="ignore"):
        CircuitBreaker(ignore=wrong)


# ---- several probes -----------------------------------------------------------------------------


@KINDS
def test_breaker_closes_when_all_probes_went_well(kind: str, clock: ManualClock) -> None:
    """However long they are apart."""
    remote = Remote(kind, clock, probes=3)
    remote.breaker.trip()
    clock.advance(5)
    for _ in range(2):
        remote.ask()
        assert remote.breaker.state == "half-open"
        clock.advance(60)
    remote.ask()
    assert remote.breaker.state == "closed"


@KINDS
def test_one_probe_that_fails_opens_it_again(kind: str, clock: ManualClock) -> None:
    """And the probes that went well before are forgotten."""
    remote = Remote(kind, clock, probes=3)
    remote.breaker.trip()
    clock.advance(5)
    remote.ask()
    remote.ask()
    remote.fail()
    assert remote.breaker.state == "open"
    assert remote.refuses().retry_after == 5.0
    clock.advance(5)
    remote.ask()
    remote.ask()
    assert remote.breaker.state == "half-open"
    remote.ask()
    assert remote.breaker.state == "closed"


def test_no_more_calls_than_probes_go_through_at_once(
    clock: ManualClock, runner: ThreadRunner
) -> None:
    """Of many threads three; the others are refused."""
    breaker = CircuitBreaker(probes=3, clock=clock)
    breaker.trip()
    clock.advance(5)
    start = threading.Barrier(16)
    refused, all_refused = [], threading.Event()

    @CallPolicy(breaker=breaker)
    def probe() -> None:
        assert all_refused.wait(PATIENCE)

    def call() -> str:
        start.wait(PATIENCE)
        try:
            probe()
        except CircuitOpen:
            refused.append(1)
            if len(refused) == 13:
                all_refused.set()
            return "refused"
        return "well"

    ended = [task.result() for task in [runner.start(call) for _ in range(16)]]
    assert ended.count("well") == 3
    assert breaker.state == "closed"


def test_cancelled_probe_frees_capacity_for_another(clock: ManualClock) -> None:
    async def main() -> None:
        breaker = CircuitBreaker(probes=2, clock=clock)
        policy = CallPolicy(breaker=breaker)
        breaker.trip()
        clock.advance(5)
        hang = [asyncio.ensure_future(policy(asyncio.Event().wait)()) for _ in range(2)]
        await asyncio.sleep(0)
        assert breaker.stats().retry_after == 5.0
        hang.pop().cancel()
        await asyncio.sleep(0)
        assert breaker.stats().retry_after == 0.0
        await policy(asyncio.sleep)(0)
        assert breaker.state == "half-open"  # the other one is still under way
        hang[0].cancel()
        await asyncio.sleep(0)
        await policy(asyncio.sleep)(0)
        assert breaker.state == "closed"

    asyncio.run(main())


@KINDS
def test_probes_that_hang_are_replaced_by_another_round(kind: str, clock: ManualClock) -> None:
    remote = Remote(kind, clock, probes=2)
    breaker = remote.breaker
    breaker.trip()
    clock.advance(5)
    late = [breaker.admit("hangs"), breaker.admit("hangs")]
    with pytest.raises(CircuitOpen):
        breaker.admit("another")
    clock.advance(5)
    remote.ask()
    for ticket in late:
        breaker.succeeded(ticket)
    assert breaker.state == "half-open"
    remote.ask()
    assert breaker.state == "closed"


def test_probe_that_went_well_frees_capacity_for_none(clock: ManualClock) -> None:
    """With three probes and two of them begun one more call goes through, and no fourth."""
    breaker = CircuitBreaker(probes=3, clock=clock)
    breaker.trip()
    clock.advance(5)
    first, _ = breaker.admit("goes well"), breaker.admit("hangs")
    breaker.succeeded(first)
    breaker.admit("the third")
    with pytest.raises(CircuitOpen):
        breaker.admit("a fourth")


def test_round_of_probes_begins_anew_after_one_that_is_stuck(clock: ManualClock) -> None:
    """Half of the round before went well, which is no part of the next one."""
    breaker = CircuitBreaker(probes=2, clock=clock)
    breaker.trip()
    clock.advance(5)
    first, _ = breaker.admit("goes well"), breaker.admit("hangs")
    breaker.succeeded(first)
    clock.advance(5)
    breaker.succeeded(breaker.admit("the first of the next round"))
    assert breaker.state == "half-open"
    breaker.succeeded(breaker.admit("the second"))
    assert breaker.state == "closed"


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True])
def test_probes_are_counted(wrong: Any) -> None:
    with pytest.raises(ValueError, match="probes must be a whole number of at least 1"):
        CircuitBreaker(probes=wrong)


# ---- what opens it ------------------------------------------------------------------------------


@KINDS
def test_breaker_opens_after_failures_in_a_row(kind: str, clock: ManualClock) -> None:
    """However rare they are; a success in between begins the row anew."""
    remote = Remote(kind, clock, failure_ratio=None, consecutive_failures=3)
    for _ in range(5):
        remote.fail(2)
        remote.ask()
    assert remote.breaker.state == "closed"
    for _ in range(3):
        assert remote.breaker.state == "closed"
        clock.advance(3600)
        remote.fail()
    assert remote.breaker.state == "open"
    assert "3 calls in a row failed" in str(remote.refuses())


@KINDS
def test_breaker_opens_after_a_number_of_failures(kind: str, clock: ManualClock) -> None:
    """In the window, however many calls went well."""
    remote = Remote(kind, clock, failure_count=3, window=10.0)
    for _ in range(97):
        remote.ask()
    remote.fail(2)
    clock.advance(11)
    for _ in range(20):
        remote.ask()
    remote.fail(2)
    assert remote.breaker.state == "closed"
    remote.fail()
    assert remote.breaker.state == "open"
    assert "3 calls failed" in str(remote.refuses())


@KINDS
def test_breaker_without_a_ratio_does_not_open_for_one(kind: str, clock: ManualClock) -> None:
    remote = Remote(kind, clock, failure_ratio=None, failure_count=100)
    remote.fail(99)
    assert remote.breaker.state == "closed"


@KINDS
def test_row_of_failures_begins_anew_when_it_closes(kind: str, clock: ManualClock) -> None:
    remote = Remote(kind, clock, failure_ratio=None, consecutive_failures=2)
    remote.fail(2)
    clock.advance(5)
    remote.ask()
    remote.fail()
    assert remote.breaker.state == "closed"


@pytest.mark.parametrize("option", ["failure_count", "consecutive_failures"])
@pytest.mark.parametrize("wrong", [0, -1, 1.5, True])
def test_trips_are_counted(option: str, wrong: Any) -> None:
    options: dict[str, Any] = {option: wrong}
    with pytest.raises(ValueError, match=f"{option} must be a whole number of at least 1"):
        CircuitBreaker(**options)


# ---- slow calls ---------------------------------------------------------------------------------


@KINDS
def test_breaker_opens_for_slow_calls(kind: str, clock: ManualClock) -> None:
    """Those that went well, were answered with an error, and failed, alike."""
    remote = Remote(kind, clock, slow_after=1.0, slow_ratio=0.75, failure_ratio=None)
    remote.ask(None, 1.0)
    remote.ask(None, 1.25)
    with pytest.raises(KeyError):
        remote.ask(KeyError("no such key"), 1.25)
    assert (remote.breaker.stats().calls, remote.breaker.stats().slow) == (3, 2)
    assert remote.breaker.state == "closed"
    with pytest.raises(ConnectionError):
        remote.ask(ConnectionError("down"), 1.25)
    assert remote.breaker.state == "open"
    assert "3 of 4 calls were slow" in str(remote.refuses())


@KINDS
def test_slow_probe_opens_it_again(kind: str, clock: ManualClock) -> None:
    remote = Remote(kind, clock, slow_after=1.0)
    remote.breaker.trip()
    clock.advance(5)
    remote.ask(None, 2.0)
    assert remote.breaker.state == "open"
    assert "the probe was slow" in str(remote.refuses())


@KINDS
def test_slow_calls_leave_the_window(kind: str, clock: ManualClock) -> None:
    remote = Remote(kind, clock, slow_after=1.0, window=10.0, min_calls=100)
    remote.ask(None, 2.0)
    assert remote.breaker.stats().slow == 1
    clock.advance(11)
    assert remote.breaker.stats().slow == 0


@KINDS
def test_pauses_and_tries_before_make_no_call_slow(kind: str, clock: ManualClock) -> None:
    """Only the last try says how fast the other side is."""
    breaker = CircuitBreaker(min_calls=1, slow_after=1.0, clock=clock)
    policy = CallPolicy(breaker=breaker, retry=Retry(2, backoff=60, max_backoff=60), clock=clock)
    fails: list[Any] = [ConnectionRefusedError()]

    def call() -> None:
        if fails:
            clock.advance(2)
            raise fails.pop()

    async def acall() -> None:
        call()

    if kind == "thread":
        policy(call)()
    else:
        asyncio.run(policy(acall)())  # type: ignore[arg-type]
    assert (breaker.stats().calls, breaker.stats().slow) == (1, 0)


@pytest.mark.parametrize("wrong", [{"slow_after": 0}, {"slow_ratio": 0}, {"slow_ratio": 1.5}])
def test_bad_options_of_slow_calls_are_named(wrong: Any) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        CircuitBreaker(**wrong)


# ---- by hand ------------------------------------------------------------------------------------


@KINDS
def test_forced_open_refuses_until_it_is_reset(kind: str, clock: ManualClock) -> None:
    """There is no probe."""
    remote = Remote(kind, clock)
    remote.breaker.force_open()
    clock.advance(3600)
    error = remote.refuses()
    assert error.retry_after == float("inf")
    assert str(error) == (
        f"{error.call}: not tried: circuit breaker 'db' is open (forced open by hand);"
        " no probe before its reset(); see docs/errors/calls.md#circuitopen"
    )
    stats = remote.breaker.stats()
    assert (stats.state, stats.retry_after, stats.refused) == ("forced-open", float("inf"), 1)
    remote.breaker.reset()
    remote.ask()
    assert remote.breaker.state == "closed"


@KINDS
def test_disabled_counts_nothing_until_it_is_reset(kind: str, clock: ManualClock) -> None:
    """Whatever state it was in."""
    remote = Remote(kind, clock)
    remote.breaker.trip()
    remote.breaker.disable()
    remote.fail(99)
    stats = remote.breaker.stats()
    assert (stats.state, stats.calls, stats.retry_after) == ("disabled", 0, 0.0)
    remote.breaker.reset()
    remote.fail(3)
    assert remote.breaker.state == "closed"
    remote.fail()
    assert remote.breaker.state == "open"


@pytest.mark.parametrize("force", ["force_open", "disable"])
def test_forced_state_ends_by_a_trip(force: str, clock: ManualClock) -> None:
    remote = Remote("thread", clock)
    getattr(remote.breaker, force)()
    remote.breaker.trip()
    assert remote.refuses().retry_after == 5.0
    clock.advance(5)
    remote.ask()
    assert remote.breaker.state == "closed"


@pytest.mark.parametrize("force", ["force_open", "disable"])
@pytest.mark.parametrize("before", ["closed", "half-open", "disabled"])
@pytest.mark.parametrize("fails", [False, True])
def test_calls_under_way_do_not_end_a_forced_state(
    force: str, before: str, fails: bool, clock: ManualClock
) -> None:
    breaker = CircuitBreaker(min_calls=1, clock=clock)
    if before == "half-open":
        breaker.trip()
        clock.advance(5)
    elif before == "disabled":
        breaker.disable()
    ticket = breaker.admit("under way")
    assert breaker.state == before
    getattr(breaker, force)()
    forced = breaker.state
    if fails:
        breaker.failed(ticket, ConnectionError())
    else:
        breaker.succeeded(ticket)
    breaker.forget(ticket)
    assert breaker.state == forced == {"force_open": "forced-open", "disable": "disabled"}[force]


def test_no_try_follows_when_it_is_forced_open_meanwhile(clock: ManualClock) -> None:
    breaker = CircuitBreaker(clock=clock)
    tries = []

    @CallPolicy(breaker=breaker, retry=Retry(3), clock=clock)
    def call() -> None:
        tries.append(1)
        breaker.force_open()
        raise ConnectionRefusedError

    with pytest.raises(ConnectionRefusedError):
        call()
    assert len(tries) == 1


def test_forced_states_are_told_once(clock: ManualClock) -> None:
    told = []
    breaker = CircuitBreaker(clock=clock, on_change=lambda *change: told.append(change[1:]))
    breaker.force_open()
    breaker.force_open()
    breaker.disable()
    breaker.disable()
    breaker.reset()
    assert told == [
        ("closed", "forced-open"),
        ("forced-open", "disabled"),
        ("disabled", "closed"),
    ]
    assert breaker.stats().opened == 1
