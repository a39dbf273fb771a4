"""Forked while threads call through policies, a child has free locks, free slots and a probe."""

import logging
import os
import sys
import threading
import warnings

from fastpool.calls import CallPolicy, CircuitBreaker, Limit, Retry
from fastpool.testing import ManualClock
from support.helpers import GIL, PATIENCE, ThreadRunner, eventually

warnings.filterwarnings("ignore", category=DeprecationWarning)  # 3.12+: fork with threads
logging.getLogger("fastpool").setLevel(logging.ERROR)  # the breaker reports that it opens
sys.setswitchinterval(1e-6)

limit, breaker = Limit(2), CircuitBreaker(min_calls=10**9)
policy = CallPolicy(timeout=60, breaker=breaker, retry=Retry(2, backoff=1e-9), limit=limit)
clock = ManualClock()
probed = CircuitBreaker(clock=clock)
full = Limit(1)
stop, go_on = threading.Event(), threading.Event()


@policy(idempotent=True)
def call(n: int) -> int:
    if n % 5 == 0:
        raise ConnectionError
    return n


def busy() -> None:
    n = 0
    while not stop.is_set():
        n += 1
        try:
            call(n)
        except ConnectionError:
            pass


@CallPolicy(breaker=probed, limit=full)
def probe() -> None:
    assert go_on.wait(PATIENCE)


def child() -> None:
    for n in range(1, 30):
        try:
            assert call(n) == n
        except ConnectionError:
            assert n % 5 == 0
    assert (limit.stats().in_use, limit.stats().waiting) == (0, 0)
    policy.stats()
    go_on.set()
    assert probed.state == "half-open"  # the probe is not under way here
    probe()
    assert probed.state == "closed" and full.stats().in_use == 0


runner = ThreadRunner()
probed.trip()
clock.advance(5)
probing = runner.start(probe)
eventually(lambda: full.stats().in_use == 1)
waiting = runner.start(CallPolicy(limit=full)(len), "ab")
eventually(lambda: full.stats().waiting == 1)
# CPython 3.13 without the GIL forks with the locks of single objects as they are (a dict's, while
# `get` is in it): one that a busy thread holds is never free in the child, whoever wrote the code.
for _ in range(6 if GIL else 0):
    runner.start(busy)
for _ in range(25):
    pid = os.fork()
    if not pid:
        code = 1
        try:
            import faulthandler

            faulthandler.dump_traceback_later(10, exit=True)
            child()
            code = 0
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
stop.set()
go_on.set()
runner.finish()
assert waiting.result() == 2 and probed.state == "closed"
assert (limit.stats().in_use, full.stats().in_use) == (0, 0)
