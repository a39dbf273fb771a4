"""Random delays in every thread but the test's: the plugin behind `--slow` (`make slow`).

A test that takes a fast machine for granted asserts what a pool's own thread, a worker or another
thread of the test has usually done by then.  Here each function that such a thread enters may sleep
for a moment first, so that "usually" becomes "sometimes".  The delays are drawn by dice whose seed
is printed; the threads take them in an order of their own, so a seed makes a failure likely to come
again, not certain.
"""

from __future__ import annotations

import os
import random
import threading
import time
from types import FrameType
from typing import Any

import pytest

#: One call in so many sleeps, for up to so many seconds.
ONE_IN, LONGEST = 40, 0.004

_sleep = time.sleep  # tests put their own in its place


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fastpool")
    group.addoption("--slow", action="store_true", help="delay every thread but the test's")


def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("slow"):
        return
    seed = os.environ.setdefault("FASTPOOL_SLOW_SEED", str(random.randrange(2**32)))
    dice = random.Random(seed)
    threading.setprofile(lambda frame, event, argument: _delay(dice, frame, event))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if config.getoption("slow"):
        seed = os.environ["FASTPOOL_SLOW_SEED"]
        terminalreporter.write_line(f"other threads were delayed: FASTPOOL_SLOW_SEED={seed}")


def pytest_unconfigure() -> None:
    threading.setprofile(None)  # type: ignore[arg-type]


def _delay(dice: random.Random, frame: FrameType, event: str) -> None:
    if event == "call" and dice.randrange(ONE_IN) == 0:
        _sleep(dice.random() * LONGEST)
