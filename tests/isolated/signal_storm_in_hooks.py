"""With a handler that raises every millisecond, the main thread borrows from pools with hooks, for
which others wait: nobody hangs, and no slot is lost."""

import signal
import sys
import time
import warnings

import fastpool
from support.helpers import PATIENCE, Maker, ThreadRunner, works
from support.keyed_factories import KeyedMaker


class Storm(BaseException):
    pass


def strike(*_):
    global armed, strikes
    if armed:
        armed = False
        strikes += 1
        raise Storm


# A strike between the end of `__enter__` and the block skips `__exit__`, on 3.14 for certain
# (CPython's gh-148874): the lease says so when it is collected, and closes its resource.
warnings.filterwarnings("ignore", ".*a lease was collected unreleased", ResourceWarning)
sys.unraisablehook = lambda unraisable: None  # of a finaliser that was struck

armed, strikes = False, 0
signal.signal(signal.SIGALRM, strike)


def besieged(lease, times):
    """The main thread and two others want the leases of a pool that has one place fewer."""
    runner, turns, running = ThreadRunner(), [0, 0], [True]

    def compete(index):
        while running:
            with lease():
                turns[index] += 1

    def borrow():
        """Until a strike ends it, or has come in a finaliser, which keeps it to itself."""
        global armed
        try:
            armed = True
            while armed:
                with lease():
                    pass
        except Storm:
            pass

    runner.together(2, compete)
    for _ in range(times):
        before = sum(turns)
        try:
            borrow()
        except Storm:  # it came with the step out of the `try` there
            pass
        deadline = time.monotonic() + PATIENCE
        while sum(turns) == before:
            assert time.monotonic() < deadline, f"nobody is served any more after {strikes} strikes"
            time.sleep(0.0001)
    running.clear()
    runner.finish()


def reset(resource):
    assert not resource.closed


def pool_with_reset(times):
    maker = Maker(2)
    pool = fastpool.FastPool(2, factory=maker, reset=reset, check=reset, check_after=0)
    besieged(lambda: pool.lease(timeout=PATIENCE), times)
    works(pool, 2)
    assert pool.close(timeout=PATIENCE) is True
    assert maker.made == maker.closed and not maker.faults, maker.faults


def keyed_pool(times):
    maker = KeyedMaker(2, 2)
    pool = fastpool.KeyedPool(maker, max_total=2, max_per_key=2, reset=reset)
    keys = [0]

    def lease():
        keys[0] += 1
        return pool.lease("abc"[keys[0] % 3], timeout=PATIENCE)

    besieged(lease, times)
    leases = [pool.acquire(key, timeout=PATIENCE) for key in "ab"]
    for one in leases:
        one.release()
    assert pool.close(timeout=PATIENCE) is True
    assert maker.made == maker.closed and not maker.faults, maker.faults


signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
pool_with_reset(300)
keyed_pool(300)
signal.setitimer(signal.ITIMER_REAL, 0)
assert strikes == 600, strikes
