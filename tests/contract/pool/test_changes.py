"""A change of a whole pool is made by the scheduler's thread, for a caller who waits for it."""

from __future__ import annotations

import threading

import pytest

from fastpool._runtime import scheduler
from support.helpers import PATIENCE, wait_for_scheduler


def test_its_caller_has_what_it_returns_or_raises() -> None:
    assert scheduler.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        scheduler.run(divmod, 7, 0)
    assert scheduler.run(threading.current_thread) is not threading.current_thread()


def test_a_change_may_be_part_of_another() -> None:
    """The thread does not wait for itself."""
    threads = scheduler.run(lambda: {scheduler.run(threading.get_ident), threading.get_ident()})
    assert len(threads) == 1


def test_a_change_that_does_not_end_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not made twice, and not waited for without end."""
    monkeypatch.setattr(scheduler, "AT_ONCE", 0.01)
    begun: list[None] = []
    gate = threading.Event()

    def change() -> None:
        begun.append(None)
        gate.wait(PATIENCE)

    with pytest.raises(RuntimeError, match="stuck in this change, and may make it yet"):
        scheduler.run(change)
    gate.set()
    wait_for_scheduler()
    assert len(begun) == 1
