"""Forks while threads fight for a pool's lock: neither the parent nor a child waits for ever."""

import os
import threading
import warnings

import fastpool
from support.helpers import QUICK, ThreadRunner

warnings.filterwarnings("ignore", category=DeprecationWarning)  # 3.12+: fork with threads

pool = fastpool.FastPool(2, factory=object)
stop = threading.Event()


def busy(index):
    while not stop.is_set():
        with pool.lease():
            pass


runner = ThreadRunner()
runner.together(6, busy)
for _ in range(60 if QUICK else 200):
    child = os.fork()
    if not child:
        code = 1
        try:
            with pool.lease(timeout=10), pool.lease(timeout=10):
                code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
stop.set()
runner.finish()
assert pool.close() is True
