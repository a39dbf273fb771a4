"""The thread of a budget: looks at its pools when one of them asks, and from time to time.

It starts with the first call of ``ask`` and ends when no pool is left.  ``ask`` sets a flag and
writes a byte to a socket that is never waited for, so any thread may call it anywhere.  In a forked
child nothing of it is left, and the pools there join anew.

When the interpreter ends the pools are closed, and what they had is given up at once: others would
have it only when a lease is over. That is waited for, ``AT_EXIT`` seconds at most.

A budget that nobody refers to has no pool with anything open.  It is collected, maybe together with
pools whose finalisers ask it once more: so its thread, if there is one then, closes what it uses.
"""

from __future__ import annotations

import os
import selectors
import socket
import time
import weakref

from .. import _reports
from .._runtime import scheduler, shutdown
from .._runtime.launch import launch
from ._member import Member

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..stats import BudgetStats
    from ._member import Share

__all__ = ["ThreadedBudget"]

LOOKS_APART = 0.01  # seconds between looks at least: many ask, one look serves them all
AFTER_FAILURE = 0.5  # seconds until an engine that has failed is tried again
AT_EXIT = 1.0  # seconds for which interpreter exit waits for engines

_budgets: weakref.WeakSet[ThreadedBudget] = weakref.WeakSet()
# Sockets of all budgets, until they are closed: one that is collected with its budget could come to
# its finaliser first, and would complain.
_sockets: set[socket.socket] = set()


def kept(*sockets: socket.socket) -> tuple[socket.socket, ...]:
    """Have sockets live, and not block, until ``close_kept``."""
    for each in sockets:
        each.setblocking(False)
        _sockets.add(each)
    return sockets


def close_kept(*sockets: socket.socket) -> None:
    """Close them, for good."""
    for each in sockets:
        _sockets.discard(each)
        each.close()


class _Membership:
    """A pool's handle: the account, and whom to ask."""

    __slots__ = ("budget", "member")

    def __init__(self, budget: ThreadedBudget, member: Member) -> None:
        self.budget, self.member = budget, member

    def ask(self) -> None:
        self.budget.ask()

    def stats(self) -> BudgetStats:
        return self.budget.stats_of(self.member)


class ThreadedBudget:
    """A budget whose engine is reached from one thread.  Subclasses give ``step`` and, for what is
    bound to a process, ``open_engine`` and ``drop_engine``."""

    name: str
    gone = False  # it was collected

    def __init__(self, name: str) -> None:
        self.name = name
        self.bind_to_process()
        _budgets.add(self)

    def bind_to_process(self) -> None:
        """Everything that is bound to this process; in a forked child no pool has joined yet."""
        self.pid = os.getpid()
        self.members: list[Member] = []
        self.stopped = [True]  # taken out by whoever starts the thread
        self.steps = 0  # that the thread has made
        self.stepping = False  # it makes one
        self._asked = False
        self.woken, self._waker = kept(*socket.socketpair())

    def join(self, share: Share) -> _Membership:
        """Enter a pool; see ``Budget.join``."""
        if self.pid != os.getpid():
            self.forked()
        member = Member(share)
        self.members.append(member)
        return _Membership(self, member)

    def __del__(self) -> None:
        self.gone = True
        try:
            self.stopped.pop()  # no thread is running, and none will be started
        except IndexError:
            self.wake()
        except AttributeError:  # the constructor has raised
            return
        else:
            self._let_go()

    def _let_go(self) -> None:
        """Close everything.  What is open of the engine is given up with it."""
        close_kept(self.woken, self._waker)
        self.drop_engine()

    def forked(self) -> None:
        """In a forked child: what is the parent's is left alone, and nothing of it kept open."""
        self._let_go()
        self.bind_to_process()

    def ask(self) -> None:
        """Have the thread look; see ``Membership.ask``."""
        if not self._asked:
            # a signal handler that raises before the next step leaves it to the next regular look
            self._asked = True
            self.wake()
        if self.stopped:
            scheduler.call_soon(self.start_thread)

    def wake(self) -> None:
        try:
            self._waker.send(b"!")
        except OSError:  # full of such bytes, or closed
            pass

    def start_thread(self) -> None:
        """On the scheduler's thread, where no signal handler runs between the two steps."""
        try:
            self.stopped.pop()
        except IndexError:  # another call was faster
            return
        try:
            launch(f"fastpool-budget-{self.name}", self._run)
        except RuntimeError:  # the interpreter ends
            self.stopped.append(True)

    def _run(self) -> None:
        if not self.gone:
            self._look_on()
        if self.gone:
            self._let_go()

    def _look_on(self) -> None:
        waits = selectors.DefaultSelector()
        try:
            waits.register(self.woken, selectors.EVENT_READ)
            engine: Any = None
            while not self.gone:
                if engine is None:
                    engine = self._try(self.open_engine, None)
                    if isinstance(engine, socket.socket):
                        waits.register(engine, selectors.EVENT_READ)
                pause = AFTER_FAILURE
                if engine is not None:
                    began = time.monotonic()
                    self._asked = False  # first: what comes from here on is looked at once more
                    self.stepping = True
                    pause = self._try(self.step, AFTER_FAILURE)
                    self.steps += 1
                    self.stepping = False
                    if not self.members and self._ends():
                        return
                    # whoever asks meanwhile is served by the next look
                    time.sleep(max(0.0, LOOKS_APART - (time.monotonic() - began)))
                for key, _ in waits.select(pause):
                    _drain(key.fileobj)
        finally:
            waits.close()

    def _ends(self) -> bool:
        """No pool is left: whether the thread may end.  A pool that joins meanwhile starts it
        anew, or has this one go on."""
        self.stopped.append(True)
        if not self.members and not self._asked:
            return True
        try:
            self.stopped.pop()
        except IndexError:  # another thread was started
            return True
        return False

    def _try(self, call: Any, otherwise: Any) -> Any:
        try:
            return call()
        except Exception as error:
            _reports.warn_and_go_on("budget %r: it is tried again", self.name, error=error)
            return otherwise

    # ---- for subclasses --------------------------------------------------------------------------

    def open_engine(self) -> Any:
        """In the thread: reach the engine.  Returned is a socket that is readable when the thread
        is wanted, or True where there is none: ``wake`` does as well."""
        raise NotImplementedError

    def drop_engine(self) -> None:
        """Close what is open of the engine; in a forked child that gives nothing up."""
        raise NotImplementedError

    def step(self) -> float:
        """In the thread: look at all pools, take and give up permits; seconds until the next."""
        raise NotImplementedError

    def stats_of(self, member: Member) -> BudgetStats:
        """What was seen last."""
        raise NotImplementedError

    def hurry(self) -> bool:
        """The process ends: give up at once what no pool uses.  Whether that is to be waited for:
        the engine sees by itself that a process has ended, unless this says so."""
        return False

    def has_given_up(self) -> bool:
        """Whether the engine has heard what this process uses still.  In any thread."""
        return True


def _give_up_all() -> None:
    """At interpreter exit, when the pools are closed: the end of a process is no lapse."""
    end = time.monotonic() + AT_EXIT
    there = [each for each in list(_budgets) if each.pid == os.getpid() and not each.stopped]
    # a step may be under way that has looked before
    left = [(budget, budget.steps + 2) for budget in there if budget.hurry()]
    while left and time.monotonic() < end:
        for budget, _ in left:
            budget.ask()
        time.sleep(0.002)
        left = [entry for entry in left if not _is_done(*entry)]


def _is_done(budget: ThreadedBudget, after: int) -> bool:
    """Whether it has given up what it could, and the engine has heard of that."""
    steps = budget.steps
    done = steps >= after and budget.has_given_up() and not budget.stepping
    return bool(budget.stopped) or (done and budget.steps == steps)  # none began meanwhile


shutdown.after_pools.append(_give_up_all)


def _drain(end: Any) -> None:
    try:
        while end.recv(4096):
            pass
    except OSError:  # BlockingIOError: it is empty
        pass


def _after_fork_in_child() -> None:
    for budget in list(_budgets):
        if budget.pid != os.getpid():
            budget.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
