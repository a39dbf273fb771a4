"""With a handler that raises every millisecond, blocking gets and puts lose nothing."""

import signal
import sys
import time
import warnings

import fastpool
import fastpool.queue
from support.helpers import Maker, ThreadRunner, works


class Storm(Exception):
    pass


def strike(*_):
    global armed, strikes
    if armed:
        armed = False
        strikes += 1
        raise Storm


if sys.version_info[:2] == (3, 14):
    # There a handler may run after the `__enter__` of a `with` statement and before its block
    # (CPython's gh-148874), so that `__exit__` is never called.  The lease says so when it is
    # collected, and closes its resource: no slot is lost, which is what is tested.
    warnings.filterwarnings("ignore", ".*a lease was collected unreleased", ResourceWarning)

armed, strikes = False, 0
signal.signal(signal.SIGALRM, strike)


def under_fire(act):
    """Run act until a strike ends it. The first one disarms the others, so the rest is in peace."""
    global armed
    try:
        armed = True
        act()
        time.sleep(10)  # act ended by itself: let the strike come here
    except Storm:
        return
    raise AssertionError("the signal did not come")


def gets(make):
    """What a get that was struck had been granted goes back: every item is still there.

    The calls run from C, list.extend over a callable iterator, so that a strike can only end a get,
    never hit between its return and the storing of what it returned.
    """
    there, back = make(), make()
    for item in range(3):
        back.put(item)

    def echo():
        while (item := back.get()) is not None:
            there.put(item)

    partner = ThreadRunner().start(echo)
    got = 0
    for _ in range(300):
        taken = []
        under_fire(lambda taken=taken: taken.extend(iter(there.get, None)))
        got += len(taken)
        for item in taken:
            back.put(item)
    back.put(None)
    partner.result()
    rest = sorted([*there.queue, *(item for item in back.queue if item is not None)])
    assert rest == [0, 1, 2], rest
    assert got > 300


def puts(make):
    """No item is left out, and none comes out twice but by a put that had gone well."""
    q = make(1)

    def drain():
        return list(iter(q.get, None))

    partner = ThreadRunner().start(drain)
    sent = 0

    def send():
        nonlocal sent
        while True:
            q.put(sent, True, 10)
            sent += 1  # a strike before this is a put whose success nobody noticed

    for _ in range(300):
        under_fire(send)
    q.put(None)
    seen = partner.result()
    # Such an item was put again, so it came out twice; none was left out.
    assert sorted(set(seen)) == list(range(len(set(seen)))) and len(set(seen)) >= sent
    assert len(seen) - len(set(seen)) <= 300


def leases():
    """Wherever a strike comes, a lease either was never taken or is ended: the cap stays right."""
    maker = Maker(2)
    pool = fastpool.FastPool(2, factory=maker)
    runner = ThreadRunner()
    running = [True]

    def compete(index):
        while running:
            with pool.lease():
                pass

    runner.together(2, compete)

    def lease():
        while True:
            with pool.lease(timeout=10):
                pass

    for _ in range(1000):
        under_fire(lease)
    running.clear()
    runner.finish()
    works(pool, 2)
    assert pool.close() is True
    assert maker.made == maker.closed and not maker.faults, maker.faults


signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
for queue_kind in (fastpool.FastPool, fastpool.queue.Queue, fastpool.queue.LifoQueue):
    gets(queue_kind)
    puts(queue_kind)
leases()
signal.setitimer(signal.ITIMER_REAL, 0)
assert strikes >= 2000, strikes
