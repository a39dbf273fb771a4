"""``on_signal``: the dump on a signal, also while the main thread waits for a pool."""

from __future__ import annotations

import io
import signal
import sys
import threading
from collections.abc import Iterator

import pytest

from fastpool import FastPool, debug
from support.helpers import ThreadRunner, eventually

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGUSR2"), reason="this system has no SIGUSR2")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = signal.getsignal(signal.SIGUSR2)
    yield
    signal.signal(signal.SIGUSR2, before)


def test_all_pools_are_written_and_the_old_handler_is_called() -> None:
    calls: list[int] = []
    before = lambda number, frame: calls.append(number)  # noqa: E731
    signal.signal(signal.SIGUSR2, before)
    file = io.StringIO()
    assert debug.on_signal(signal.SIGUSR2, file) is before
    with FastPool(1, factory=object, name="seen") as pool, pool.lease():
        signal.raise_signal(signal.SIGUSR2)
        eventually(lambda: "FastPool 'seen': 1 of 1 leased" in file.getvalue())
    assert calls == [signal.SIGUSR2]


def test_a_main_thread_that_waits_is_seen_waiting(runner: ThreadRunner) -> None:
    file = io.StringIO()
    debug.on_signal(signal.SIGUSR2, file)
    main = threading.get_ident()
    with FastPool(1, factory=object, name="full") as pool:
        lease = pool.acquire()

        def send() -> None:
            eventually(lambda: pool.stats().waiting == 1)
            signal.pthread_kill(main, signal.SIGUSR2)  # `kill` prefers it, too
            eventually(lambda: "1 of 1 leased, 0 idle, 1 waiting" in file.getvalue())
            lease.release()

        sender = runner.start(send)
        pool.acquire(60).release()
        sender.result()


def test_the_standard_error_is_that_of_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    debug.on_signal(signal.SIGUSR2)
    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    signal.raise_signal(signal.SIGUSR2)
    eventually(lambda: file.getvalue().startswith("fastpool "))
