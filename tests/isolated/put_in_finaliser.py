"""Finalisers that put and release inside gets, in many threads: no deadlock, nothing lost."""

import gc
import sys
import threading
from time import sleep as pause

import fastpool
import fastpool.queue
from support.helpers import QUICK, ThreadRunner, works

sys.setswitchinterval(1e-5)
gc.set_threshold(7)
ROUND_TRIPS = 300 if QUICK else 1000


class Returner:
    """Garbage whose finaliser gives back what it holds, wherever the collector happens to run."""

    def __init__(self, give_back):
        self.give_back = give_back
        self.me = self  # only the collector finds it

    def __del__(self):
        self.give_back()


for make in (fastpool.FastPool, fastpool.queue.Queue, fastpool.queue.LifoQueue):
    q = make()
    for item in range(6):
        q.put(item)

    def work(index, q=q):
        for _ in range(ROUND_TRIPS):
            item = q.get()
            Returner(lambda item=item: q.put(item))
            while q.empty():  # all six may be garbage: nobody would collect it while all wait
                gc.collect()  # at once nothing, while another thread is at it
                pause(0.0005)

    runner = ThreadRunner()
    runner.together(3, work)
    runner.finish()
    gc.collect()
    assert sorted(q.queue) == [0, 1, 2, 3, 4, 5], list(q.queue)

pool = fastpool.FastPool(4, factory=object)
done = threading.Event()


def collect():
    # A loop of collections without a pause keeps the world of a free-threaded build stopped: a
    # thread that wakes to attach finds the next one under way, and the others hardly ever run.
    while not done.wait(0.0005):
        gc.collect()


def hold(index):
    for _ in range(ROUND_TRIPS):
        Returner(pool.acquire(timeout=30).release)


runner = ThreadRunner()
collector = runner.start(collect)
for task in runner.together(3, hold):
    task.result(60)
done.set()
collector.result()
gc.collect()
works(pool, 4)
assert pool.close() is True
