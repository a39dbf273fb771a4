"""Fixtures of all tests: threads that re-raise, pools that are accounted for, a hard time limit."""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.helpers import GIL, LIMIT, Maker, ThreadRunner, eventually
from support.keyed_factories import KeyedMaker

pytest_plugins = ["support.delays", "support.tiers"]

#: The standard error of the run itself: while a test runs, descriptor 2 is a file of pytest's
#: which dies with the process.
stderr_of_the_run = 2


def pytest_configure(config: pytest.Config) -> None:
    global stderr_of_the_run
    stderr_of_the_run = os.dup(2)  # pytest does not capture now
    # A run started in the background inherits an ignored SIGINT, and so would the programs that the
    # tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "option(name): shows the effect of an option of FastPool")


def pytest_collection_finish() -> None:
    # What was imported and collected stays to the end.  Hundreds of tests run the garbage collector
    # to see what becomes of their own objects: it need not walk these each time.
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def keep_the_collector_quick() -> Iterator[None]:
    """pytest keeps some 20 objects for each test that has run.  Free-threaded builds walk what is
    frozen, too, and more often the less is not."""
    yield
    if GIL:
        with warnings.catch_warnings():
            # ours are heard; what a library leaves open with its loop is nothing of the last test
            warnings.filterwarnings("ignore", "(?!fastpool)", ResourceWarning)
            gc.collect()
        gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # what plugins import at the end may ask the collector who refers to what


@pytest.fixture(autouse=True)
def hard_limit(request: pytest.FixtureRequest) -> Iterator[None]:
    """pytest-timeout ends a test that waits; this ends the run if even that does not help."""
    marker = request.node.get_closest_marker("timeout")
    seconds = marker.args[0] if marker and marker.args else LIMIT
    faulthandler.dump_traceback_later(2 * seconds, exit=True, file=stderr_of_the_run)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def runner() -> Iterator[ThreadRunner]:
    """Start threads with `runner.start(f, *args)` or `runner.together(n, f)`; see
    `helpers.ThreadRunner`."""
    runner = ThreadRunner()
    yield runner
    runner.settle()


@pytest.fixture
def fast_switching() -> Iterator[None]:
    """Let the interpreter switch threads as often as it can, so that races come out."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def clock() -> Any:
    """A clock for `clock=`: `clock.advance(seconds)` alone moves it, and waits for what follows."""
    from fastpool.testing import ManualClock

    return ManualClock()


@pytest.fixture
def accounted() -> Iterator[Callable[..., tuple[Any, Maker]]]:
    """Make pools whose resources are counted: `pool, maker = accounted(maxsize, **options)`.

    At the end of the test each of them must agree with its factory: what was made is closed or
    still open, nothing was closed twice or in use, and the cap was never exceeded.
    """
    from support.callers import FastPool

    accounts: list[tuple[Any, Maker]] = []

    def make(maxsize: int | None = None, maker: Maker | None = None, **options: Any) -> Any:
        maker = maker or Maker()
        if maxsize is not None:
            options["maxsize"] = maxsize
            maker.cap = maxsize or float("inf")
        options.setdefault("factory", maker)
        pool = FastPool(**options)
        accounts.append((pool, maker))
        return pool, maker

    yield make
    for pool, maker in accounts:
        maker.gate.set()
        maker.close_gate.set()
        pool.close(timeout=0)
        eventually(lambda maker=maker: not maker.running)
        eventually(lambda pool=pool: pool.stats().open == pool.stats().leased)
        leased = pool.stats().leased
        eventually(lambda maker=maker, n=leased: maker.made == maker.closed + n)
        assert not maker.faults, maker.faults


@pytest.fixture
def shared() -> Iterator[Callable[..., tuple[Any, Maker]]]:
    """Make shared pools whose resources are counted: `pool, maker = shared((least, most), slots)`.

    At the end of the test every slot must be free, or held by the test's own doing, and what was
    made must be closed or still in use.  Twice the cap may be open: those that drain are extra.
    """
    from support.callers import SharedPool

    accounts: list[tuple[Any, Maker]] = []

    def make(items: Any = (1, 8), slots: int = 50, maker: Any = None, **options: Any) -> Any:
        maker = maker or Maker()
        most = items if isinstance(items, int) else items[1]
        maker.cap = 2 * most if most else float("inf")
        pool = SharedPool(maker, items=items, slots=slots, **options)
        accounts.append((pool, maker))
        return pool, maker

    yield make
    for pool, maker in accounts:
        maker.gate.set()
        maker.close_gate.set()
        pool.close(timeout=0)
        eventually(lambda maker=maker: not maker.running)
        eventually(lambda pool=pool: pool.stats().open == pool.stats().leased)
        stats = pool.stats()
        assert (stats.leases > 0) == (stats.leased > 0) and stats.leased == stats.draining, stats
        eventually(lambda maker=maker, n=stats.leased: maker.made == maker.closed + n)
        assert not maker.faults, maker.faults


@pytest.fixture
def keyed() -> Iterator[Callable[..., tuple[Any, KeyedMaker]]]:
    """Make keyed pools whose resources are counted: `pool, maker = keyed(total, per_key)`.

    At the end of the test what was made must be closed or still leased, and no cap exceeded.
    """
    from support.callers import KeyedPool

    accounts: list[tuple[Any, KeyedMaker]] = []

    def make(total: int | None = 100, per_key: int | None = None, **options: Any) -> Any:
        infinity = float("inf")
        maker = options.pop("maker", None) or KeyedMaker(total or infinity, per_key or infinity)
        options = {"max_total": total, "max_per_key": per_key} | options
        pool = KeyedPool(maker, **options)
        accounts.append((pool, maker))
        return pool, maker

    yield make
    for pool, maker in accounts:
        for gate in maker.gates.values():
            gate.set()
        pool.close(timeout=0)
        eventually(lambda pool=pool: pool.stats().open == pool.stats().leased)
        leased = pool.stats().leased
        eventually(lambda maker=maker, n=leased: maker.made == maker.closed + n)
        assert not maker.faults, maker.faults


@pytest.fixture
def collect() -> Callable[[], None]:
    """Run the garbage collector until nothing more falls out of it."""

    def run() -> None:
        while gc.collect():
            pass

    return run
