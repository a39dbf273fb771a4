"""After fork a queue keeps its items in the child and forgets the threads that waited."""

import os
import queue
import sys
import warnings

import fastpool
import fastpool.queue
from support.helpers import ThreadRunner

warnings.filterwarnings("ignore", category=DeprecationWarning)  # 3.12+: fork with threads

for make in (fastpool.FastPool, fastpool.queue.Queue, fastpool.queue.LifoQueue):
    runner = ThreadRunner()
    full, empty = make(3), make()
    for item in range(3):
        full.put(item)
    getters = [runner.start(empty.get).parked() for _ in range(2)]
    putters = [runner.start(full.put, "late").parked() for _ in range(2)]

    child = os.fork()
    if not child:
        try:
            # The getters of the parent are no more: what is put stays, in both directions.
            empty.put("kept")
            assert empty.qsize() == 1 and empty.get_nowait() == "kept"
            # So are its putters: nothing but the three items comes out.
            assert sorted(full.get_nowait() for _ in range(3)) == [0, 1, 2]
            try:
                full.get_nowait()
            except queue.Empty:
                pass
            else:
                raise AssertionError("an item of a putter that is gone")
            # Waiting works again, with threads of the child.
            mine = ThreadRunner()
            getter = mine.start(empty.get).parked()
            empty.put("again")
            assert getter.result() == "again"
            for item in range(3):
                full.put(item)
            putter = mine.start(full.put, 3).parked()
            full.get()
            putter.result()
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    # The parent goes on as if nothing had happened.
    assert full.qsize() == 3 and empty.empty()
    for _ in getters:
        empty.put("for the parent")
    for _ in putters:
        full.get()
    runner.finish()
