"""After fork a cache keeps its objects in the child, which watches the time for itself."""

import gc
import os
import sys
import threading
import warnings

from fastpool import ObjectCache, _core, cache
from fastpool._runtime import scheduler
from support.helpers import ThreadRunner, eventually, wait_for_scheduler

warnings.filterwarnings("ignore", category=DeprecationWarning)  # 3.12+: fork with threads
gc.disable()


class Thing:
    pass


made, ended = [], []


def new():
    made.append(thing := Thing())
    return thing


things = ObjectCache(new)
mine, theirs = [Thing() for _ in range(5)], [Thing() for _ in range(5)]
runner, ready, done = ThreadRunner(), threading.Event(), threading.Event()


def put_and_wait():
    for thing in theirs:
        things.put(thing)
    ready.set()
    done.wait()


def busy():
    """Somebody is in the middle of something when the fork comes."""
    while not done.wait(0.001):
        for _ in range(500):
            one, other = things.get(), things.get()
            things.put(one)
            things.put(other)


runner.start(put_and_wait)
assert ready.wait(10)
for thing in mine:
    things.put(thing)
for _ in range(2):
    runner.start(busy)

for _ in range(5):
    child = os.fork()
    if not child:
        try:
            eventually(lambda: scheduler._schedulers)
            wait_for_scheduler()
            # What was not lent at that moment is here, put by threads that are gone or not.
            got = [things.get() for _ in range(30)]
            assert len({id(thing) for thing in got}) == 30
            here = {id(thing) for thing in got}
            assert sum(id(thing) in here for thing in mine + theirs) >= 6
            # New threads take the places of those that are gone.
            for thing in got:
                things.put(thing)
            for _ in range(5):
                ThreadRunner().start(lambda: things.put(Thing())).result()
            gc.collect()
            _core.advance_caches()
            _core.advance_caches()

            # The child's own worker lets go of what time has made old.
            class Last:
                def __del__(self):
                    ended.append(threading.current_thread().name)

            things.put(Last())
            _core.advance_caches()
            cache.EPOCH = 0.0
            cache.scheduler.call_soon(cache.due)
            eventually(lambda: ended)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

done.set()
runner.finish()
