"""Hooks that hang: what their deadline does, although nobody can stop them.

Past ``hook_timeout`` a hook costs its slot and nothing else: whatever waits for a worker goes on,
and ``stats().overdue`` counts the hook until it returns.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastpool import PoolTimeout
from support.helpers import PATIENCE, ThreadRunner, eventually, states

pytestmark = pytest.mark.usefixtures("caller_kind")

option = pytest.mark.option

SHORT = 0.02  # a deadline that is to be missed
LONG = 3600.0  # one that is not


class Gate:
    """A hook that hangs the first ``most`` times, until it is opened."""

    def __init__(self, most: float = float("inf")) -> None:
        self.most = most
        self.inside: list[Any] = []
        self.opened = threading.Event()
        self._lock = threading.Lock()

    def __call__(self, resource: Any) -> None:
        with self._lock:
            self.inside.append(resource)
            hangs = len(self.inside) <= self.most
        if hangs:
            assert self.opened.wait(3 * PATIENCE), "nobody opened the gate"


@pytest.fixture
def gates(accounted: Any) -> Iterator[Callable[..., Gate]]:
    """Makes gates that are open when the test is over, before the accounts are closed."""
    made: list[Gate] = []

    def make(*args: float) -> Gate:
        made.append(Gate(*args))
        return made[-1]

    yield make
    for gate in made:
        gate.opened.set()


def closing(gate: Gate) -> Any:
    """A close hook that goes through the gate, and keeps the factory's accounts."""
    return lambda resource: (gate(resource), resource.close())


def fill(pool: Any, n: int) -> list[Any]:
    """Have ``n`` resources idle."""
    taken = [pool.get() for _ in range(n)]
    for resource in taken:
        pool.put(resource)
    return taken


@option("hook_timeout")
def test_hung_closes_do_not_stop_other_closes(clock: Any, accounted: Any, gates: Any) -> None:
    """More of them than there are threads for closing: past their deadline, others take over."""
    gate = gates(5)
    pool, maker = accounted(
        6, close=closing(gate), hook_timeout=SHORT, idle_timeout=100, clock=clock
    )
    fill(pool, 6)
    clock.advance(101, settle=0)
    eventually(lambda: maker.closed == 1)
    eventually(lambda: pool.stats().overdue == 5 and states(pool) == {"closing": 5})
    gate.opened.set()
    eventually(lambda: pool.stats().overdue == 0)
    eventually(lambda: states(pool) == {})


@option("hook_timeout")
def test_a_hung_keepalive_check_does_not_stop_other_checks(
    clock: Any, accounted: Any, gates: Any
) -> None:
    """With one worker for checks, and that one stuck, the next check runs on another."""
    gate = gates(1)
    pool, _ = accounted(
        2, check=gate, check_after=1000, keepalive=60, hook_timeout=SHORT, max_creating=1,
        idle_timeout=None, max_lifetime=None, clock=clock,
    )  # fmt: skip
    fill(pool, 2)
    clock.advance(65, settle=0)
    eventually(lambda: len(gate.inside) == 1)
    eventually(lambda: pool.stats().overdue == 1)

    def goes_on() -> bool:  # once the scheduler has seen that, and lets another worker in
        clock.advance(65, settle=0)
        return len(gate.inside) >= 2

    eventually(goes_on)
    eventually(lambda: states(pool) == {"idle": 1, "checking": 1})
    assert pool.stats().overdue == 1
    gate.opened.set()
    eventually(lambda: states(pool) == {"idle": 2} and pool.stats().overdue == 0)


@option("hook_timeout")
def test_a_hung_close_does_not_stop_creations(accounted: Any, gates: Any) -> None:
    """A new resource that was flushed before it arrived is closed, which may take what it likes."""
    gate = gates(1)
    pool, maker = accounted(
        2, factory=lambda: (maker(), maker.made == 1 and pool.flush())[0], close=closing(gate),
        hook_timeout=SHORT, max_creating=1, timeout=PATIENCE,
    )  # fmt: skip
    resource = pool.get()
    assert resource is maker.all[1] and gate.inside == maker.all[:1]
    eventually(lambda: pool.stats().overdue == 1)
    gate.opened.set()
    eventually(lambda: pool.stats().overdue == 0)
    pool.put(resource)


@option("hook_timeout")
@pytest.mark.parametrize("timeout", [LONG, None, SHORT])
@pytest.mark.parametrize("hook", ["reset", "close", "close on a worker", "keepalive", "check"])
def test_a_hook_is_overdue_from_its_deadline_until_it_returns(
    clock: Any, accounted: Any, gates: Any, runner: ThreadRunner, hook: str, timeout: float | None
) -> None:
    """Wherever it runs; before its deadline it does not count."""
    gate = gates()
    options: dict[str, Any] = {"hook_timeout": timeout, "clock": clock, "idle_timeout": None}
    if hook == "reset":
        options |= {"reset": gate}
    elif hook.startswith("close"):
        options |= {"close": closing(gate), "idle_timeout": 100}
    else:
        options |= {"check": gate, "check_after": 50, "keepalive": 60}
    pool, maker = accounted(1, **options)
    resource = pool.get()
    if hook == "reset":
        runner.start(pool.put, resource)
    elif hook == "close":
        runner.start(pool.discard, resource)
    else:
        pool.put(resource)
        clock.advance(55 if hook == "check" else 101, settle=0)
        if hook == "check":
            runner.start(lambda: pool.put(pool.get())).seen = True
    eventually(lambda: gate.inside == [resource])
    if timeout == SHORT:
        eventually(lambda: pool.stats().overdue == 1)
    else:
        assert pool.stats().overdue == 0
    gate.opened.set()
    eventually(lambda: states(pool) in ({}, {"idle": 1}) and pool.stats().overdue == 0)


@option("hook_timeout")
def test_a_check_left_by_its_borrower_counts_from_then_on(
    accounted: Any, gates: Any, clock: Any
) -> None:
    """The deadline of a check at borrow is the borrower's, if that comes first: there is a worker
    for the next borrower, and there are no more of them than before when the hook has returned."""
    gate = gates(1)
    pool, _ = accounted(
        2, check=gate, check_after=0, clock=clock, hook_timeout=LONG, max_creating=1
    )
    fill(pool, 2)
    with pytest.raises(PoolTimeout) as caught:
        pool.get(timeout=SHORT)
    assert caught.value.phase == "check" and pool.stats().overdue == 1
    eventually(lambda: gate.inside)  # its worker may be late, and only the first one hangs
    pool.put(pool.get(timeout=PATIENCE))
    assert len(gate.inside) == 2
    gate.opened.set()
    eventually(lambda: states(pool) == {"idle": 2} and pool.stats().overdue == 0)


@option("hook_timeout")
def test_a_check_that_has_no_worker_counts_when_it_is_given_up(
    accounted: Any, gates: Any, runner: ThreadRunner, clock: Any
) -> None:
    """Its borrower is told all the same; then it is run by another, and its slot is not free
    before."""
    gate = gates()
    pool, _ = accounted(
        2, check=gate, check_after=0, clock=clock, hook_timeout=LONG, max_creating=1
    )
    fill(pool, 2)
    first = runner.start(lambda: pool.put(pool.get()))
    eventually(lambda: len(gate.inside) == 1)
    with pytest.raises(PoolTimeout) as caught:
        pool.get(timeout=SHORT)
    assert caught.value.phase == "check"
    assert pool.stats().overdue == 1 and states(pool) == {"checking": 2}
    eventually(lambda: len(gate.inside) == 2)
    gate.opened.set()
    first.result()
    eventually(lambda: states(pool) == {"idle": 2} and pool.stats().overdue == 0)


@pytest.mark.threads_only("a signal handler never raises inside a task")
@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signal to a thread here")
def test_an_interrupted_check_leaves_no_trace(accounted: Any, gates: Any, clock: Any) -> None:
    """Its borrower is gone before the deadline: nothing is overdue, and no worker is missed."""
    main = threading.get_ident()
    gate = gates()

    struck: list[int] = []

    def strike(number: int, _: object) -> None:
        if not struck:
            struck.append(number)
            raise InterruptedError

    def check(resource: Any) -> None:
        while not struck:  # one that comes just before a sleep is noticed with the next
            signal.pthread_kill(main, signal.SIGUSR1)
            time.sleep(0.001)
        gate(resource)

    pool, _ = accounted(
        1, check=check, check_after=0, clock=clock, max_creating=1, hook_timeout=LONG
    )
    fill(pool, 1)
    before = signal.signal(signal.SIGUSR1, strike)
    try:
        with pytest.raises(InterruptedError):
            pool.get(timeout=None)
        eventually(lambda: len(gate.inside) == 1)  # so none is on its way any more
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert pool.stats().overdue == 0
    gate.opened.set()
    eventually(lambda: states(pool) == {"idle": 1} and pool.stats().overdue == 0)
    for _ in range(3):
        pool.put(pool.get(timeout=PATIENCE))
