"""The pools under test, made the way the suite means them. One place to read what is compared.

Queue use: no factory, filled with `size` items. Pool use: a factory, every default of the
documentation left as it is (lifetime, idle time, counters on; leak tracking off), then warmed.
"""

from __future__ import annotations

import threading
from typing import Any

from bench.measure import NotRun

SIZE = 10  # of every pool and queue of the one-thread rows


class Thing:
    """A resource that does nothing, about as big as a small connection object.

    Its size keeps the reference counts of two of them out of one cache line, where they would make
    threads slow each other down that have nothing to do with each other.
    """

    __slots__ = ("__weakref__", "a", "b", "c", "d", "e", "f", "g", "h")

    def close(self) -> None:
        pass


def fastpool() -> Any:
    """The package, or NotRun when it is not built for this interpreter."""
    try:
        import fastpool as package
    except ImportError:
        raise NotRun("fastpool is not built for this interpreter (make build)") from None
    return package


def queue_use(size: int = SIZE, **options: Any) -> Any:
    """A FastPool without a factory that holds `size` items."""
    pool = fastpool().FastPool(size, **options)
    for _ in range(size):
        pool.put_nowait(Thing())
    return pool


def pool_use(size: int = SIZE, **options: Any) -> Any:
    """A FastPool with a factory and `size` idle resources. Close it when done."""
    options.setdefault("factory", Thing)
    pool = fastpool().FastPool(size, **options)
    held = [pool.get() for _ in range(size)]
    for each in held:
        pool.put(each)
    return pool


def filled(queue: Any, size: int = SIZE) -> Any:
    """A queue of the standard library with `size` items in it."""
    for _ in range(size):
        queue.put(Thing())
    return queue


def in_threads(count: int, work: Any) -> None:
    """Run work(i) in `count` threads that start together; the first exception is raised here."""
    together = threading.Barrier(count)
    errors: list[BaseException] = []

    def thread(i: int) -> None:
        try:
            together.wait()
            work(i)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=thread, args=(i,)) for i in range(count)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    if errors:
        raise errors[0]
