"""fork() inside a hook, which then returns in the child as well.

What the call is about is the parent's, so in the child nothing is done with it: a return is over, a
borrower gets another resource or an error, and the pool of the child works. A hook that a worker of
the pool runs leaves the child with that worker alone, which ends. The parent notices nothing.
"""

import faulthandler
import os
import sys
import time
import warnings

from fastpool import FastPool, KeyedPool, PoolError, SharedPool

warnings.filterwarnings("ignore", category=DeprecationWarning)  # 3.12+: fork with threads

PARENT = os.getpid()
forked = []  # the children; in a child: 0
reader, writer = os.pipe()


def fork(*_):
    """Once in a case; True, so that it serves as any hook."""
    if armed and not forked:
        child = os.fork()
        forked.append(child)
        if not child:
            faulthandler.dump_traceback_later(100, exit=True)
    return True


class Resource:
    def __init__(self, key=None):
        self.made_in = os.getpid()


def fork_and_make(key=None):
    fork()
    return Resource()


def turn(pool, *args):
    with pool.lease(*args, timeout=60):
        pass


def twice(pool, *args):
    turn(pool, *args)
    turn(pool, *args)


def flushed(pool, *args):
    turn(pool, *args)
    pool.flush()


def discarded(pool, *args):
    pool.acquire(*args, timeout=60).discard()


def failed(pool, *args):
    try:
        with pool.lease(*args, timeout=60):
            raise ValueError
    except ValueError:
        pass


def by_task(pool, *args):
    import asyncio

    async def main():
        async with pool.lease(*args, timeout=60):
            pass

    asyncio.run(main())


KINDS = {
    "pool": (lambda **o: FastPool(2, **({"factory": Resource} | o)), ()),
    "keyed": (lambda **o: KeyedPool(o.pop("factory", Resource), max_total=2, **o), ("key",)),
    "shared": (lambda **o: SharedPool(o.pop("factory", Resource), items=(0, 2), **o), ()),
}
CASES = [
    ("reset", {"reset": fork}, twice, ("pool", "keyed")),
    ("close", {"close": fork}, flushed, ("pool", "keyed", "shared")),
    ("close, discarded", {"close": fork}, discarded, ("pool", "keyed", "shared")),
    ("discard_on", {"discard_on": lambda *_: not fork()}, failed, ("pool", "keyed", "shared")),
    ("check", {"check": fork, "check_after": 0}, twice, ("pool", "keyed", "shared")),
    ("factory", {"factory": fork_and_make}, turn, ("pool", "keyed", "shared")),
    ("reset of a task", {"reset": fork}, by_task, ("pool", "keyed")),
]


def in_child(pool, args):
    """What the child can do with the pool, whatever has become of the call."""
    for _ in range(2):
        with pool.lease(*args, timeout=60) as resource:
            assert resource.made_in == os.getpid(), "the parent's was lent"
    assert pool.stats().open in (0, 1, 2), pool.stats()
    assert pool.close(timeout=60) is True


def over(child):
    """How it has ended; by a signal if it hangs."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return "hangs"


for name, options, act, kinds in CASES:
    for kind in kinds:
        make, args = KINDS[kind]
        forked.clear()
        armed = False
        pool = make(**options)
        armed = True
        code = 0
        try:
            act(pool, *args)
        except PoolError as error:
            if os.getpid() == PARENT:
                raise
            assert "forked off" in str(error), error
        except BaseException as error:
            if os.getpid() == PARENT:
                raise
            print(f"{name}, {kind}, in the child: {error!r}", file=sys.stderr, flush=True)
            code = 1
        if os.getpid() != PARENT:
            try:
                in_child(pool, args)
            except BaseException as error:
                print(f"{name}, {kind}, after: {error!r}", file=sys.stderr, flush=True)
                code = 1
            os._exit(code)
        assert forked, f"{name}, {kind}: the hook was not called"
        assert over(forked[0]) == 0, f"{name}, {kind}: the child"
        armed = False
        for _ in range(3):
            turn(pool, *args)
        assert pool.close(timeout=60) is True, f"{name}, {kind}"
