"""At interpreter exit what was submitted is done, whoever waits for a slot is told, and nothing
hangs: pools in use, dropped, shut down without waiting, with idle threads, in daemon threads."""

import atexit
import threading
import time

from fastpool import WorkerPool

done = []


def slow(number):
    time.sleep(0.05)
    done.append(number)


def submit_for_ever(pool):
    try:
        while True:
            pool.submit(slow, "more")
    except RuntimeError as error:
        done.append(str(error))


pools = [WorkerPool(2, 10) for _ in range(3)]
idle = WorkerPool(3, 0)
idle.submit(int).result()
for number, pool in enumerate(pools):
    for k in range(4):
        pool.submit(slow, (number, k))
pools[1].shutdown(wait=False)
del pools[2]

full = WorkerPool(1, 0)
threading.Thread(target=submit_for_ever, args=(full,), daemon=True).start()
while full.stats().waiting == 0:
    time.sleep(0.001)


@atexit.register
def last():
    assert {(number, k) for number in range(3) for k in range(4)} <= set(done), done
    assert "cannot schedule new futures after interpreter shutdown" in done, done
    try:
        idle.submit(int)
    except RuntimeError as error:
        assert "interpreter shutdown" in str(error), error
    else:
        raise AssertionError("submitted after the end")
    assert not [thread for thread in threading.enumerate() if "WorkerPool" in thread.name]
