"""A program ends at once and silently although daemon threads wait in queues and pools."""

import atexit
import threading

threads = []


def look():
    """Registered before fastpool is imported, so it runs after all that fastpool does at exit: a
    thread that was woken has the time to die of it, and to say so."""
    for thread in threads:
        thread.join(0.02)


atexit.register(look)

import fastpool  # noqa: E402
import fastpool.queue  # noqa: E402

waiting = threading.Barrier(9)


def wait(call, *args):
    waiting.wait()
    call(*args)


empty = fastpool.FastPool()
full = fastpool.queue.Queue(1)
full.put(1)
unfinished = fastpool.queue.LifoQueue()
unfinished.put(1)
pool = fastpool.FastPool(1, factory=object)
held = pool.get()
calls = [(empty.get,), (empty.get, True, 3600), (full.put, 2), (full.put, 2, True, 3600)]
calls += [(unfinished.join,), (pool.get,), (pool.acquire, 3600), (pool.lease().__enter__,)]
for call in calls:
    threads.append(threading.Thread(target=wait, args=call, daemon=True))
    threads[-1].start()
waiting.wait()
while pool.stats().waiting < 3:
    pass
