"""One thread at a time, and chance decides which: a run that can be repeated from its seed.

Inside ``with Schedule(seed) as schedule`` what fastpool's Python modules know as ``threading``,
``time.monotonic`` and ``SimpleQueue`` is made here.  Workers, the scheduler and the loops of
``loop.py`` are *actors*: real threads, of which only the one with the baton runs.  It hands
the baton on where it would block, and now and then before it takes a lock.  Time is virtual: it
jumps to the next deadline when no actor can go on, and sometimes a little sooner.  When none can go
on and there is no deadline, or only the maintenance of somebody who waits for ever, the run is
stuck, and an error says who waits for what.

What the schedule cannot see is the core's own locks: no actor may park there.  Tasks may wait; a
thread asks with ``timeout=0``.  Nor does it rule the core's own clock: whether "throughput" hands
over at once or never, instead of after 1 ms, is for the dice to say once a run, and whether a loop
has had nothing for long each time.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import sys
import threading
import time
import traceback
from _queue import Empty, SimpleQueue
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import Context
from functools import partial
from typing import Any

from fastpool import _core, pool
from fastpool._aio import loop, slow_paths
from fastpool._runtime import launch, scheduler
from fastpool.pool import _loop_capacity, _per_loop, _policy
from support.helpers import eventually

NEVER = 2**60  # ns
INF = float("inf")
ROUND_TRIPS = 100_000  # a small world has some hundreds
HASTE = 0.01  # seconds that time may jump ahead while somebody could still run


class Stuck(AssertionError):
    """Nobody can go on."""


class Over(SystemExit):
    """Raised in an actor that is still there when the schedule ends."""


class Actor:
    """A thread, and what it waits for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.go = threading.Semaphore(0)
        self.ident = 0
        self.ready: Callable[[], Any] = bool  # not begun; see ``Schedule.spawn``
        self.deadline = INF
        self.over = False
        self.thread: threading.Thread | None = None

    def where_it_is(self) -> str:
        frame: Any = sys._current_frames().get(self.ident)
        while frame is not None and frame.f_globals.get("__name__") in (__name__, "threading"):
            frame = frame.f_back
        return "(not begun)" if frame is None else traceback.format_stack(frame, 1)[0].strip()


class Schedule:
    """``switch``: how often a lock gives the turn away; ``haste``: how often time jumps ahead."""

    def __init__(self, seed: object, *, switch: float = 0.2, haste: float = 0.02) -> None:
        self.dice = random.Random(f"schedule {seed}")
        self.switch, self.haste = switch, haste
        self.now = 1000.0
        self.horizon = self.now + 200.0
        self.actors: list[Actor] = []
        self.turns = 0
        self.on_quiet: list[Callable[[], object]] = []  # called when no actor can go on
        self.on_time: list[Callable[[float], object]] = []  # called with the seconds of a jump
        self.errors: list[BaseException] = []  # that have ended an actor
        self._stuck: Stuck | None = None
        self._ending = self.ended = False
        self._undo = contextlib.ExitStack()

    # ---- turns -----------------------------------------------------------------------------------

    def here(self) -> bool:
        """Whether the caller is the actor with the baton, and no thread from outside."""
        return self.current.ident == threading.get_ident()

    def pause(self, ready: Callable[[], Any], deadline: float = INF) -> Any:
        """Lets others run until ``ready()`` is true or the time has come; what ``ready()`` says."""
        me = self.current
        if me.over:
            raise Over
        me.ready, me.deadline = ready, deadline
        chosen = self._choose()
        if chosen is not me:
            self._pass_to(chosen)
            me.go.acquire()
            if me.over:
                raise Over
        if me is self.main and self._stuck is not None:
            stuck, self._stuck = self._stuck, None
            raise stuck
        return ready()

    def sleep(self, seconds: float) -> None:
        self.pause(lambda: False, self.now + seconds)

    def until(self, condition: Callable[[], Any], within: float = 60.0) -> None:
        """Lets the others run until that is true; AssertionError after so many virtual seconds."""
        assert self.pause(condition, self.now + within), f"not within {within} s"

    def maybe(self) -> None:
        """A slot where another may come in between."""
        if not self._ending and self.dice.random() < self.switch:
            self.pause(lambda: True)

    def _pass_to(self, actor: Actor) -> None:
        self.current = actor
        actor.go.release()

    def _choose(self) -> Actor:
        """Whose turn it is.  With the baton."""
        self.turns += 1
        while True:
            able = [a for a in self.actors if a.deadline <= self.now or a.ready()]
            if not able:
                for call in self.on_quiet:
                    call()
            next_at = min((a.deadline for a in self.actors if a.deadline > self.now), default=INF)
            if (not able and next_at > self.horizon) or self.turns > ROUND_TRIPS:
                positions = "\n".join(f"{a.name}: {a.where_it_is()}" for a in self.actors)
                what = "nobody can go on" if not able else "they go round and round"
                self._stuck = Stuck(
                    f"{what} after {self.turns} turns, at {self.now:.3f}:\n{positions}"
                )
                self.turns = 0
                return self.main
            if not able or (next_at <= self.now + HASTE and self.dice.random() < self.haste):
                self._jump(next_at)
            else:
                return self.dice.choice(able)

    def _jump(self, to: float) -> None:
        seconds, self.now = to - self.now, to
        for call in self.on_time:
            call(seconds)

    # ---- actors ----------------------------------------------------------------------------------

    def spawn(self, target: Callable[..., Any], *args: Any, name: str = "actor") -> Actor:
        """A new actor; it may begin when others give their turn away."""
        actor = Actor(name)
        actor.ready = lambda: True

        def run() -> None:
            actor.go.acquire()
            actor.ident = threading.get_ident()
            try:
                if not actor.over:
                    target(*args)
            except Over:
                pass
            except BaseException as error:
                self.errors.append(error)
            finally:
                self.actors.remove(actor)
                self._pass_to(self.main if self._ending else self._choose())

        actor.thread = threading.Thread(target=run, name=name, daemon=True)
        actor.thread.start()
        self.actors.append(actor)
        return actor

    def __enter__(self) -> Schedule:
        self.main = self.current = Actor("main")
        self.main.ident = threading.get_ident()
        self.actors.append(self.main)
        gc.disable()  # it would run at other points in the second run
        self._undo.callback(gc.enable)
        self._share_a_core()
        self._install()
        return self

    def _share_a_core(self) -> None:
        """For this thread and those that it begins.  One of them runs at a time, and to wake
        another core for it costs more than what it does there."""
        if hasattr(os, "sched_setaffinity"):
            cores = os.sched_getaffinity(0)
            self._undo.callback(os.sched_setaffinity, 0, cores)
            os.sched_setaffinity(0, {random.choice(sorted(cores))})

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._ending = True
        for actor in [a for a in self.actors if a is not self.main]:
            actor.over = True
            self._pass_to(actor)
            self.main.go.acquire()
            assert actor.thread is not None
            actor.thread.join()
        self.current = Actor("nobody")  # who comes now, in a finaliser perhaps, is no actor
        self.current.over = self.ended = True
        self._undo.close()
        if kind is None and self.errors:
            raise self.errors[0]

    # ---- what fastpool finds in place of the standard library's --------------------------------

    def _install(self) -> None:
        assert _per_loop and slow_paths  # imported on first need, which would be too late
        eventually(
            lambda: not _core.is_watching()
        )  # by the real scheduler, for tests before this one
        outside = scheduler._inbox
        inbox = Queue(self, outside)

        def made(fake: Callable[..., Any], real: Callable[..., Any]) -> Callable[..., Any]:
            return lambda *a, **k: (fake if self.here() else real)(*a, **k)

        fakes: dict[str, tuple[Any, Any]] = {
            "threading": (
                threading,
                Names(
                    threading,
                    Thread=made(lambda **k: Thread(self, **k), threading.Thread),
                ),
            ),
            "time": (time, Names(time, monotonic=made(lambda: self.now, time.monotonic))),
            "SimpleQueue": (SimpleQueue, made(lambda: Queue(self), SimpleQueue)),
        }
        for name, module in list(sys.modules.items()):
            if name.startswith("fastpool.") and not name.startswith("fastpool.cli"):
                for attribute, (real, fake) in fakes.items():
                    if vars(module).get(attribute) is real:
                        self.put_in(module, attribute, fake)
        # First: no thread from outside starts a scheduler in between, which would be a real one, on
        # the inbox of the actors.  What it says goes to the real one.
        self.put_in(scheduler, "start", made(scheduler.start, lambda: None))
        self.put_in(scheduler, "_inbox", inbox)
        self.put_in(scheduler, "_schedulers", {})
        now = made(lambda call, args: call(*args), launch.start_new_thread)
        self.put_in(launch, "start_new_thread", now)
        for name, fake in (("Lock", Lock), ("Condition", Condition), ("Event", Event)):
            self.put_in(_core, name, made(partial(fake, self), getattr(_core, name)))
        self.put_in(_policy, "_random", random.Random(self.dice.random()))
        self.put_in(loop, "_loops", {})
        long_or_not = made(lambda: self.dice.choice([INF, -INF]), time.monotonic)
        self.put_in(_per_loop, "time", Names(time, monotonic=long_or_not))
        self.put_in(_loop_capacity, "time", Names(time, monotonic=long_or_not))
        self._undo.callback(_core.set_patience, _core.set_patience(self.dice.choice([0, NEVER])))
        self._undo.callback(_core.set_watching, False)
        self._undo.callback(_core.bind, pool.configure, outside.put)
        _core.bind(pool.configure, inbox.put)

    def put_in(self, owner: Any, name: str, value: Any) -> None:
        """Until the end of the schedule."""
        self._undo.callback(setattr, owner, name, getattr(owner, name))
        setattr(owner, name, value)


# ---- The standard library's, for actors --------------------------------------------------------


class Names:
    """Stands for a module, some of whose names mean something else."""

    def __init__(self, real: Any, **fakes: Any) -> None:
        self.__dict__.update(fakes)
        self.__dict__["_real"] = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class Lock:
    """Others may come in before it is taken, never while it is given back.  When the schedule has
    ended it is a real one, for finalisers and the scheduler may come at the same time."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.holder: Actor | None = None
        self.times = 0
        self.real = threading.RLock()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        schedule = self.schedule
        if schedule.ended:
            return self.real.acquire(blocking, timeout)
        if self.holder is not schedule.current:
            if blocking:
                schedule.maybe()
            if self.holder is not None:
                deadline = schedule.now + timeout if timeout >= 0 else INF
                if not blocking or not schedule.pause(lambda: self.holder is None, deadline):
                    return False
        self.holder = schedule.current
        self.times += 1
        return True

    def release(self) -> None:
        if self.schedule.ended:
            self.real.release()
            return
        if self.holder is not self.schedule.current:
            raise RuntimeError("released by who does not hold it")
        self.times -= 1
        if not self.times:
            self.holder = None

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        self.acquire()
        try:
            yield
        finally:
            self.release()

    @contextlib.contextmanager
    def try_hold(self) -> Iterator[bool]:
        held = self.holder is not self.schedule.current and self.acquire(blocking=False)
        try:
            yield held
        finally:
            if held:
                self.release()

    def run(self, call: Callable[..., Any], *args: Any) -> Any:
        with self.hold():
            return call(*args)


class Condition:
    def __init__(self, schedule: Schedule) -> None:
        self.schedule, self.told = schedule, 0

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        schedule = self.schedule
        deadline = INF if timeout is None else schedule.now + timeout
        while True:
            told = self.told
            if (found := predicate()) or schedule.now >= deadline:
                return found
            schedule.pause(lambda told=told: self.told > told, deadline)

    def notify_all(self) -> None:
        self.told += 1


class Event:
    def __init__(self, schedule: Schedule) -> None:
        self.schedule, self.told = schedule, False

    def is_set(self) -> bool:
        return self.told

    def set(self) -> None:
        self.told = True

    def wait(self, timeout: float | None = None) -> bool:
        schedule = self.schedule
        deadline = INF if timeout is None else schedule.now + timeout
        return bool(self.told or schedule.pause(self.is_set, deadline))


class Queue:
    """As ``queue.SimpleQueue``.  What threads put that are no actors goes to ``outside``."""

    def __init__(self, schedule: Schedule, outside: Any = None) -> None:
        self.schedule, self.outside = schedule, outside
        self.items: deque[Any] = deque()

    def put(self, item: Any) -> None:
        if self.outside is not None and not self.schedule.here():
            self.outside.put(item)
        else:
            self.items.append(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        schedule = self.schedule
        if not self.items and block and not schedule.ended:
            deadline = INF if timeout is None else schedule.now + timeout
            schedule.pause(lambda: self.items, deadline)
        if not self.items:
            raise Empty
        return self.items.popleft()


class Thread:
    """What is started of it is an actor."""

    def __init__(
        self,
        schedule: Schedule,
        target: Callable[..., Any],
        args: tuple[Any, ...] = (),
        name: str = "thread",
        daemon: bool | None = None,
        context: Context | None = None,
    ) -> None:
        self.schedule, self.call, self.name = schedule, (target, args), name
        self.context = context
        self.ident: int | None = None

    def start(self) -> None:
        target, args = self.call
        del self.call
        call = target if self.context is None else partial(self.context.run, target)
        self.ident = self.schedule.spawn(call, *args, name=self.name).thread.ident
