"""Forked while threads wait for it, make and close its resources, a pool works in the child."""

import os
import sys
import threading
import warnings

from fastpool import FastPool, PoolTimeout
from support.helpers import Maker, ThreadRunner, eventually, states, works

warnings.filterwarnings("ignore", category=DeprecationWarning)  # 3.12+: fork with threads

maker = Maker()
pool = FastPool(3, factory=maker)
held = pool.get()
runner = ThreadRunner()
maker.close_gate.clear()
closing = runner.start(pool.discard, pool.get())  # one closing,
eventually(lambda: pool.stats().closing == 1)
maker.gate.clear()
waiters = [runner.start(pool.get) for _ in range(3)]  # one creating, and more wait
eventually(lambda: pool.stats().creating == 1)
for waiter in waiters:
    waiter.parked()

child = os.fork()
if not child:
    try:
        # Nobody may hang on what the parent's threads held: in the child they are gone.
        maker.gate, maker.close_gate = threading.Event(), threading.Event()
        maker.gate.set()
        maker.close_gate.set()
        maker._lock = threading.Lock()
        assert pool.stats().waiting == 0 and states(pool) == {}
        works(pool, 3)
        taken = [pool.get() for _ in range(3)]
        try:
            pool.get(timeout=0.01)
        except PoolTimeout:
            pass
        else:
            raise AssertionError("more than the cap")
        mine = ThreadRunner()
        waiter = mine.start(pool.get)
        eventually(lambda: pool.stats().waiting == 1)
        pool.put(taken[0])
        assert waiter.result() is taken[0]
        for resource in taken:
            pool.put(resource)
        assert pool.close() is True
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

maker.gate.set()
maker.close_gate.set()
pool.put(held)
for waiter in waiters:
    pool.put(waiter.result())
runner.finish()
works(pool, 3)
assert pool.close() is True and maker.made == maker.closed and not maker.faults, maker.faults
