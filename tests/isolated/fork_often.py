"""A fork at any moment of busy threads leaves the child with a pool and a queue that work."""

import os
import sys
import threading
import warnings

import fastpool
from support.helpers import ThreadRunner

warnings.filterwarnings("ignore", category=DeprecationWarning)  # 3.12+: fork with threads
sys.setswitchinterval(1e-5)

pool = fastpool.FastPool(2, factory=object, check=lambda resource: None, check_after=0)
items = fastpool.FastPool()
for item in range(3):
    items.put(item)
stop = threading.Event()
runner = ThreadRunner()


def busy(index):
    while not stop.is_set():
        with pool.lease() as resource:
            if index == 0:
                pool.discard(resource)
        items.put(items.get())


runner.together(3, busy)
for _ in range(40):
    child = os.fork()
    if not child:
        code = 1
        try:
            with pool.lease(timeout=10), pool.lease(timeout=10):
                pass
            # An item that a thread of the parent held at the fork is not here; no more are gone.
            count = 0
            while not items.empty():
                items.get_nowait()
                count += 1
            assert 0 <= count <= 3, count
            items.put("new")
            assert items.get(timeout=10) == "new"
            code = 0
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
stop.set()
runner.finish()
assert sorted(items.queue) == [0, 1, 2]
assert pool.close() is True
