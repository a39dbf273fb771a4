"""After fork a WorkerPool is empty in the child and works there: what was queued is the parent's to
do, also where the fork is one of its tasks."""

import os
import sys
import threading
import time
import warnings

from fastpool import WorkerPool

warnings.filterwarnings("ignore", category=DeprecationWarning)  # 3.12+: fork with threads

PATIENCE = 10
gate = threading.Event()
done = []


class Trace:
    """Its finaliser must not run in the child: it might speak to a server."""

    home = os.getpid()

    def __del__(self):
        if os.getpid() != self.home:
            print("finalised in the child", file=sys.stderr, flush=True)


def task(number, _trace=None):
    assert gate.wait(PATIENCE)
    done.append(number)
    return number


def in_child(pool):
    """0 if all is as it must be."""
    try:
        stats = pool.stats()
        assert (stats.threads, stats.running, stats.queued, stats.waiting) == (0, 0, 0, 0), stats
        gate.set()
        assert [pool.submit(abs, -n).result(PATIENCE) for n in range(5)] == list(range(5))
        assert list(pool.map(abs, range(20))) == list(range(20))
        assert not done, "the child did what its parent had been given to do"
        pool.shutdown()
        return 0
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        return 1


def fork(pool):
    child = os.fork()
    if not child:
        os._exit(in_child(pool))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


pool = WorkerPool(2, 2)
closed = WorkerPool(1, 0)
closed.shutdown()
futures = [pool.submit(task, number, Trace()) for number in range(4)]
waiting = threading.Thread(target=lambda: futures.append(pool.submit(task, 4)))
waiting.start()
deadline = time.monotonic() + PATIENCE
while pool.stats().waiting != 1:
    assert time.monotonic() < deadline
    time.sleep(0.001)
assert fork(pool) == 0

child = os.fork()
if not child:
    try:
        closed.submit(int)
    except RuntimeError:
        os._exit(0)
    os._exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

# The parent goes on as if nothing had happened.
gate.set()
waiting.join()
assert sorted(future.result(PATIENCE) for future in futures) == [0, 1, 2, 3, 4]
pool.shutdown()

# Forked by a task.
gate.clear()
done.clear()
other = WorkerPool(1, 3)
forked = other.submit(fork, other)
queued = [other.submit(task, number) for number in range(2)]
assert forked.result(PATIENCE) == 0
gate.set()
assert [future.result(PATIENCE) for future in queued] == [0, 1]
other.shutdown()
