"""After fork all of a semaphore is free in the child, its queue is empty, and holds of the parent
do nothing there."""

import os
import sys
import warnings

import fastpool
from fastpool.calls import Limit
from support.helpers import ThreadRunner

warnings.filterwarnings("ignore", category=DeprecationWarning)  # 3.12+: fork with threads

runner = ThreadRunner()
semaphore = fastpool.WeightedSemaphore(5)
closed = fastpool.WeightedSemaphore(1)
closed.close()
limit = Limit(1)
permit = limit.take_nowait()
assert permit is not None
hold = semaphore.hold(3)
with hold:
    semaphore.acquire(2)
    for _ in range(2):
        runner.start(semaphore.acquire, 2).parked()
    child = os.fork()
    if not child:
        try:
            assert semaphore.in_use == 0 and semaphore.waiting == 0
            assert semaphore.try_acquire(5)  # nobody of the parent is in the queue
            mine = ThreadRunner()
            waiter = mine.start(semaphore.acquire, 4).parked()
            hold.__exit__(None, None, None)  # the parent's
            assert semaphore.in_use == 5 and semaphore.waiting == 1
            semaphore.release(5)
            waiter.result()
            semaphore.release(4)
            assert semaphore.in_use == 0
            try:
                semaphore.release(2)  # of the parent's acquire
            except ValueError:
                pass
            else:
                raise AssertionError("a release too many")
            assert closed.closed and not closed.try_acquire()
            again = limit.take_nowait()
            assert again is not None and limit.take_nowait() is None
            permit.release()
            assert limit.stats().in_use == 1
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

# The parent goes on as if nothing had happened: what the hold gave back went to the first in the
# queue.
runner.tasks[0].result()
semaphore.release(4)
runner.finish()
semaphore.release(2)
assert semaphore.in_use == 0
