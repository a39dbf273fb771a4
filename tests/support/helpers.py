"""What the tests share: waits with a deadline, threads that re-raise, counted resources."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastpool import _core
from fastpool._runtime import scheduler

#: False on a free-threaded build that really runs without the GIL.
GIL: bool = getattr(sys, "_is_gil_enabled", lambda: True)()

#: Longest that a test waits for what must happen; reached only by a bug.  A machine that others
#: keep busy takes ten times as long as an idle one.
PATIENCE = 30.0

#: Seconds that one test may take, unless it carries @pytest.mark.timeout(n); see pyproject.toml.
LIMIT = 180

#: What FASTPOOL_STRESS_OPS asks of the tests in `stress/`; None: little of each.
STRESS_OPS: int | None = int(os.environ.get("FASTPOOL_STRESS_OPS", 0)) or None


def is_quick(tier: str) -> bool:
    """Whether a run of this tier is to answer quickly; see tiers.py."""
    return tier in ("fast", "full")


#: Whether this run is.  In a program that a test starts, the variable says it.
QUICK = is_quick(os.environ.get("FASTPOOL_TIER", "all"))


def stress_ops(default: int, share: float = 1.0) -> int:
    """How many operations a stress test makes: as many as are asked for, but of more than its
    default only a share where each takes long, so that a million of all ends within the hour.
    In the quick tiers a tenth of the default."""
    if STRESS_OPS is None:
        return default // 10 if QUICK else default
    return STRESS_OPS if default >= STRESS_OPS else max(default, int(STRESS_OPS * share))


def examples(default: int) -> int:
    """How many examples hypothesis tries; in the quick tiers a quarter."""
    return default // 4 if QUICK else default


@contextmanager
def all_warnings() -> Iterator[list[warnings.WarningMessage]]:
    """What is warned of in a block, but for what other tests have left to the collector."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        yield heard


#: Threads that act for those of the test; one that is parked waits for them to sleep as well.
helpers: set[threading.Thread] = set()


def eventually(condition: Callable[[], Any], within: float = PATIENCE) -> Any:
    """Poll until `condition()` is true and return its value; fail after `within` seconds."""
    deadline = time.monotonic() + within
    pause = 0.0002
    while not (value := condition()):
        assert time.monotonic() < deadline, f"still {value!r} after {within} s"
        time.sleep(pause)
        pause = min(2 * pause, 0.01)
    return value


def wait_for_scheduler() -> None:
    """Wait until the scheduler has done what it was told to before."""
    done = threading.Event()
    scheduler.call_soon(done.set)
    assert done.wait(PATIENCE), "the scheduler is stuck"


@contextmanager
def unattended() -> Iterator[None]:
    """The scheduler stands still: it hears of nothing until the block ends."""
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        go_on.wait(3 * PATIENCE)

    scheduler.call_soon(hold)
    assert held.wait(PATIENCE), "the scheduler is stuck"
    try:
        yield
    finally:
        go_on.set()


def settled(pool: Any) -> None:
    """Wait until the pool's own threads, and the scheduler, are through with what they began.

    A worker has something left to do when a resource is lent or a slot is free, and may look then
    whether more is wanted."""
    manager = _core.manager(getattr(pool, "_real", pool), "a test")  # a face stands for a pool
    workers = [*manager.workers(), manager.offload_threads]

    def quiet() -> bool:
        before = all(each.wait_idle(0) for each in workers)
        wait_for_scheduler()
        return before and all(each.wait_idle(0) for each in workers)

    eventually(quiet)


class Task:
    """One thread of a test, with its result or its exception."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._function, self._args = function, args
        self._outcome: Any = None
        self.error: BaseException | None = None
        self.seen = False  # somebody asked for the result, so its error is not lost
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._outcome = self._function(*self._args)
        except BaseException as error:
            self.error = error
        finally:
            del self._function, self._args  # a result must be the only reference that is left

    @property
    def running(self) -> bool:
        return self.thread.is_alive()

    def result(self, within: float = PATIENCE) -> Any:
        """Join; return what the function returned or raise what it raised."""
        self.thread.join(within)
        assert not self.running, f"still running after {within} s:\n{self.stack()}"
        self.seen = True
        if self.error is not None:
            raise self.error
        return self._outcome

    def parked(self) -> Task:
        """Wait until the thread sleeps and stays asleep: its context switches stand still."""
        threads = [self.thread, *helpers]
        statuses = [Path(f"/proc/self/task/{thread.native_id}/status") for thread in threads]
        if not statuses[-1].parent.parent.exists():  # not Linux: give it the time to get there
            time.sleep(0.05)
            return self
        last, steady = None, 0
        deadline = time.monotonic() + PATIENCE
        while steady < 3:
            assert self.running and time.monotonic() < deadline, "the thread did not wait"
            try:
                texts = [status.read_text() for status in statuses]
            except (FileNotFoundError, ProcessLookupError):
                raise AssertionError("the thread ended instead of waiting") from self.error
            switches = [text[text.index("voluntary_ctxt") :] for text in texts]
            asleep = all("State:\tS" in text for text in texts)
            steady = steady + 1 if asleep and switches == last else 0
            last = switches
            time.sleep(0.004)
        return self

    def stack(self) -> str:
        frame = sys._current_frames().get(self.thread.ident or 0)
        return "".join(traceback.format_stack(frame)) if frame else "(ended)"


class ThreadRunner:
    """The threads of one test. What one of them raises and nobody looked at fails the test."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []

    def start(self, function: Callable[..., Any], *args: Any) -> Task:
        task = Task(function, args)
        self.tasks.append(task)
        return task

    def together(self, n: int, function: Callable[[int], Any]) -> list[Task]:
        """Run `function(0) ... function(n - 1)` in n threads that set off at one barrier."""
        barrier = threading.Barrier(n)

        def run(index: int) -> Any:
            barrier.wait(PATIENCE)
            return function(index)

        return [self.start(run, index) for index in range(n)]

    def finish(self, within: float = 3 * PATIENCE) -> list[Any]:
        """Join all; return their results in order of start, or raise the first error."""
        return [task.result(within) for task in self.tasks]

    def settle(self) -> None:
        """At the end of a test: no thread may be left, no error unseen."""
        for task in self.tasks:
            if not task.seen:
                task.result(PATIENCE / 2)


class Resource:
    """A thing of a pool: it knows its number, whether it is closed, and who holds it."""

    __slots__ = ("__weakref__", "closed", "healthy", "holder", "maker", "number")

    def __init__(self, maker: Maker, number: int) -> None:
        self.maker, self.number = maker, number
        self.closed, self.healthy = False, True
        self.holder: object = None

    def close(self) -> None:
        self.maker.note_closed(self)

    def __repr__(self) -> str:
        return f"<resource {self.number}{' closed' if self.closed else ''}>"


class Maker:
    """A factory that keeps accounts. It can be told to fail, or to hang at its gate.

    `script` holds what the next calls do: an exception is raised, anything else is returned.
    While `broken` is an exception class every call raises one.
    """

    def __init__(self, cap: float = float("inf")) -> None:
        self.cap = cap
        self.all: list[Resource] = []
        self.closings: list[Resource] = []
        self.script: deque[Any] = deque()
        self.broken: type[BaseException] | None = None
        self.calls = 0
        self.faults: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.close_gate = threading.Event()
        self.close_gate.set()
        self.running = self.peak = 0
        self._lock = threading.Lock()

    def __call__(self) -> Any:
        with self._lock:
            self.calls += 1
            self.running += 1
            self.peak = max(self.peak, self.running)
            # A slot is taken from the moment when the factory is entered.
            if self.running + self.open > self.cap:
                self.faults.append(f"{self.running} + {self.open} exceed the cap {self.cap}")
        opened = self.gate.wait(3 * PATIENCE)
        with self._lock:  # the call ends and the resource is there: one step for those who count
            self.running -= 1
            if not opened:
                raise AssertionError("nobody opened the gate of the factory")
            if self.broken is not None:
                raise self.broken(f"call {self.calls}")
            if self.script:
                told = self.script.popleft()
                if isinstance(told, BaseException):
                    raise told
                return told
            resource = Resource(self, len(self.all))
            self.all.append(resource)
            return resource

    def note_closed(self, resource: Resource) -> None:
        if not self.close_gate.wait(3 * PATIENCE):
            self.faults.append("nobody opened the gate of close")
        with self._lock:
            if resource.closed:
                self.faults.append(f"{resource} closed twice")
            if resource.holder is not None:
                self.faults.append(f"{resource} closed while {resource.holder} holds it")
            resource.closed = True
            self.closings.append(resource)

    @property
    def made(self) -> int:
        return len(self.all)

    @property
    def closed(self) -> int:
        return len(self.closings)

    @property
    def open(self) -> int:
        return len(self.all) - len(self.closings)


class Flaky(Maker):
    """One call in ten fails."""

    class Failure(Exception):
        pass

    def __call__(self) -> Any:
        if self.calls % 10 == 7:
            self.script.append(self.Failure())
        return super().__call__()


def ailing(resource: Resource) -> None:
    """A check: one resource in seven fails it, always."""
    assert not resource.closed and resource.holder is None
    if resource.number % 7 == 3:
        raise OSError


def unresettable(resource: Resource) -> None:
    """A reset: one resource in eleven fails it, always."""
    assert not resource.closed
    if resource.number % 11 == 5:
        raise OSError


def told(error: BaseException) -> str:
    """All that a traceback says of the error itself: its text and its notes."""
    return "\n".join([str(error), *getattr(error, "__notes__", [])])


def states(pool: Any) -> dict[str, int]:
    """The sizes of a pool that are not 0, by state; for comparing in one line."""
    stats = pool.stats()
    names = ("idle", "leased", "creating", "checking", "closing")
    return {name: getattr(stats, name) for name in names if getattr(stats, name)}


def consistent(stats: Any) -> bool:
    """The identity that holds in every snapshot."""
    parts = stats.idle + stats.leased + stats.creating + stats.checking + stats.closing
    return parts == stats.open and (stats.maxsize == 0 or stats.open <= stats.maxsize)


def works(pool: Any, slots: int) -> None:
    """Prove that nothing was lost: `slots` leases at once are given, no more, all come back."""
    leases = [pool.acquire(timeout=PATIENCE) for _ in range(slots)]
    assert len({id(lease.resource) for lease in leases}) == slots
    stats = pool.stats()
    assert stats.leased == slots and consistent(stats), stats
    for lease in leases:
        lease.release()
    assert pool.stats().leased == 0
