"""The loops whose instructions are counted: `python loops.py MARKS`, under callgrind.

MARKS is marks.c, compiled. Each loop runs `STATEMENTS` of its statement between two marks, and does
so `TIMES` times: what a thread of the pool's own may do meanwhile is counted too, and so is what
the allocator does where its page for objects of some size happens to be full at that moment: a
page more and a page less for each object, 95 instructions of a lease. So it finds another moment
each time, and the least is what the statement takes. Nothing is imported that is not needed; under
valgrind that takes seconds.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections import deque
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any

UNROLLED, TURNS, TIMES = 8, 100, 3
STATEMENTS = UNROLLED * TURNS

EMPTY, REFERENCE = "empty loop", "deque.append(pop())"
PAIR = "c.put(c.get())"

Loop = Callable[[Any, int], Any]


class Thing:
    """A resource that does nothing."""

    def close(self) -> None:
        pass


def loop_of(statement: str, kind: str = "def") -> Loop:
    lines = [f"{kind} loop(c, n):", "    for _ in repeat(None, n):"]
    lines += [f"        {statement}"] * UNROLLED
    scope: dict[str, Any] = {"repeat": repeat}
    exec("\n".join(lines), scope)
    return scope["loop"]


def grpc_call(pool_of: Callable[..., Any]) -> tuple[Callable[..., Any], Any]:
    """The callable that a method of a shared gRPC channel is, over a call that returns at once.

    All of it is what runs in earnest but for grpcio's own call, whose threads would make a figure
    of chance of it. The pool has to live as long.
    """
    from fastpool._core import CallConnection, ClosedFlag, UnaryCall

    class Connection(CallConnection):
        def close(self) -> None:
            pass

    def connect() -> Connection:
        connection = Connection()
        connection.set_call(0, abs)
        return connection

    pool = pool_of(connect, items=1, slots=10)
    with pool.lease():
        pass
    return UnaryCall(pool, ClosedFlag(), 0, None, None), pool


def loops() -> Iterator[tuple[str, Callable[[int], Any]]]:
    """Each by name, as a function of the number of turns."""
    from fastpool import FastPool, KeyedPool, ObjectCache, SharedPool, WeightedSemaphore

    queue = FastPool(10)
    for each in range(10):
        queue.put(each)
    pool = FastPool(10, factory=Thing)
    held = [pool.get() for _ in range(10)]
    for each in held:
        pool.put(each)
    call, connections = grpc_call(SharedPool)
    keyed = KeyedPool(lambda key: Thing())
    with keyed.lease("key"):
        pass

    for name, statement, container in (
        (EMPTY, "pass", None),
        (REFERENCE, "c.append(c.pop())", deque(range(10))),
        ("queue pair", PAIR, queue),
        ("pool pair", PAIR, pool),
        ("lease", "with c.lease(): pass", pool),
        ("shared lease", "with c.lease(): pass", connections),
        ("keyed lease", "with c.lease('key'): pass", keyed),
        ("semaphore", "c.acquire(); c.release()", WeightedSemaphore(4)),
        ("object cache", PAIR, ObjectCache(Thing)),
        ("gRPC call", "c(1)", call),
    ):
        loop = loop_of(statement)
        yield name, lambda n, loop=loop, container=container: loop(container, n)
    connections.close()
    keyed.close()

    import asyncio

    with asyncio.Runner() as runner:
        for name, statement in (
            ("empty coroutine", "pass"),
            ("async lease", "async with c.lease(): pass"),
        ):
            loop = loop_of(statement, "async def")
            yield name, lambda n, loop=loop: runner.run(loop(pool, n))
    pool.close()


def main() -> None:
    marks = ctypes.CDLL(sys.argv[1])
    gc.disable()
    kept = []
    for name, run in loops():
        run(40)  # the interpreter has specialised by then
        for _ in range(TIMES):
            kept.append([bytes(size) for size in range(0, 512, 8)])  # some of each size
            marks.begin()
            run(TURNS)
            marks.end(name.encode())


if __name__ == "__main__":
    main()
