"""gevent: patched threads are refused at construction, real threads are served.

Each program patches a process of its own.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from textwrap import dedent

import pytest

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(
        importlib.util.find_spec("gevent") is None, reason="gevent is not installed"
    ),
]

MAKERS = [
    "fastpool.FastPool()",
    "fastpool.FastPool(1, factory=object)",
    "fastpool.FastPool(items=[object()])",
    "queue.Queue()",
    "queue.LifoQueue()",
    "type('Mine', (queue.Queue,), {})()",
]

PATCH = "from gevent import monkey; monkey.patch_{}"
IMPORT = "import fastpool, fastpool.queue as queue"
PATCHED_FIRST, IMPORTED_FIRST = f"{PATCH}; {IMPORT}", f"{IMPORT}; {PATCH}"


def run(program: str, *arguments: str) -> str:
    """What the program prints; it ends well, without a word on stderr."""
    command = [sys.executable, "-W", "error", "-c", dedent(program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


def outcomes(start: str) -> list[str]:
    """For each maker: what it raised, or "made"."""
    program = f"""
        import sys
        {start}
        for maker in sys.argv[1:]:
            try:
                made = eval(maker)
            except RuntimeError as error:
                print(error)
            else:
                print("made")
                made.shutdown()
        """
    return run(program, *MAKERS).splitlines()


@pytest.mark.parametrize("start", [PATCHED_FIRST, IMPORTED_FIRST], ids=["before", "after"])
@pytest.mark.parametrize("patch", ["all()", "thread()", "thread(threading=False)"])
def test_no_pool_is_made_where_threads_are_greenlets(start: str, patch: str) -> None:
    """Whichever was imported first; the import itself works, and the error says what to do."""
    said = outcomes(start.format(patch))
    assert [line.partition(" ")[0] for line in said] == [
        *3 * ["FastPool"],
        *["Queue", "LifoQueue", "Mine"],
    ]
    for line in said:
        assert "gevent has patched" in line and "patch_all(thread=False)" in line


@pytest.mark.parametrize("patch", ["all(thread=False)", "socket()"])
def test_other_patches_do_not_matter(patch: str) -> None:
    assert outcomes(PATCHED_FIRST.format(patch)) == ["made"] * len(MAKERS)


def test_real_threads_wait_beside_a_hub_that_runs() -> None:
    """What the error advises: pools in the threads of gevent's thread pool."""
    printed = run(
        """
        from gevent import monkey
        monkey.patch_all(thread=False)
        import threading
        import fastpool, gevent

        ticks, come = 0, threading.Event()

        def tick():
            global ticks
            while True:
                ticks += 1
                gevent.sleep(0.001)

        def borrow(number):
            with pool.lease(timeout=10):
                assert come.wait(10)
                return number

        ticker, threads = gevent.spawn(tick), gevent.get_hub().threadpool
        with fastpool.FastPool(1, factory=object) as pool:
            jobs = [threads.spawn(borrow, number) for number in range(4)]
            while pool.stats().waiting < 3:
                gevent.sleep(0.001)
            before = ticks
            while ticks < before + 3:  # the hub runs while threads wait
                gevent.sleep(0.001)
            come.set()
            print(*[job.get() for job in jobs])
        ticker.kill()
        """
    )
    assert printed == "0 1 2 3\n"


def test_a_greenlet_that_waits_in_a_pool_is_told() -> None:
    """It stops the hub; a thread of the hub's pool does not, nor does the main greenlet alone."""
    printed = run(
        """
        import gevent, fastpool, warnings
        pool = fastpool.FastPool(items=["one"])
        held = pool.get()

        def wait():
            try:
                pool.get(timeout=0.01)
            except (fastpool.EventLoopWarning, fastpool.PoolTimeout) as error:
                return type(error).__name__, len(getattr(error, "__notes__", []))

        print(wait(), gevent.spawn(wait).get(), gevent.get_hub().threadpool.apply(wait))
        warnings.simplefilter("ignore")
        print(gevent.spawn(wait).get())
        pool.put(held)
        pool.close()
        """
    )
    told = [("PoolTimeout", 0), ("EventLoopWarning", 0), ("PoolTimeout", 0)]
    assert printed == f"{' '.join(map(str, told))}\n{('PoolTimeout', 1)}\n"
