"""What has to be right after a signal handler has raised somewhere in a call.

A *scene* is how a pool is made, and a call to be struck; ``endure`` makes the call again and again,
strikes it at one moment after the other, and has another thread look at what is left: a lock that
the caller still held would be free for the caller alone.
"""

from __future__ import annotations

import gc
import os
import queue
import threading
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from fastpool._core import Lock
from support.helpers import PATIENCE, QUICK, eventually
from support.signal_injection import at_all, shown, strike

#: Of all moments, in the quick tiers; a prime, so that no loop of a call is always missed.
EVERY = int(os.environ.get("FASTPOOL_EVERY", 41 if QUICK else 1))

#: Of a module whose calls are struck at every moment, when they are.
AT_LENGTH = [pytest.mark.long, pytest.mark.timeout(1200)] if EVERY == 1 else []

#: Failures after which a scene is not looked at any further.
ENOUGH = 5


class Thing:
    def __init__(self, maker: Things) -> None:
        self.maker = maker

    def close(self) -> None:
        self.maker.closed.append(self)


class Things:
    """A factory, of keys too, and its books: no lock, since a strike may hit what calls it."""

    def __init__(self) -> None:
        self.made: list[Thing] = []
        self.closed: list[Thing] = []

    def __call__(self, key: object = None) -> Thing:
        thing = Thing(self)
        self.made.append(thing)
        return thing


class World:
    """A pool, and what its caller has of it.  After the strike the caller gives back what it has
    still (``settle``); then another thread looks (``look``)."""

    def __init__(self) -> None:
        self.maker = Things()
        self.pool: Any = None  # None: it is the constructor that is struck
        self.leases: list[Any] = []
        self.things: list[Any] = []  # taken by ``get``

    def settle(self) -> None:
        for lease in self.leases:
            if "held" in repr(lease):
                lease.release()
        for thing in self.things:
            try:
                self.pool.put(thing)
            except ValueError:  # it has come back
                pass
        self.leases.clear()
        self.things.clear()

    def reopen(self) -> None:
        """Undoes what the call may have done for good."""

    def acquire_all(self) -> list[Any]:
        """Leases of all slots at once."""
        return []

    def look(self) -> None:
        maker = self.maker
        if self.pool is None:
            gc.collect()
        else:
            if not self.pool.closed:
                self.reopen()
                for lease in self.acquire_all():
                    lease.release()
            assert self.pool.close(timeout=PATIENCE) is True
        eventually(lambda: len(maker.made) == len(maker.closed))
        assert len(set(maker.closed)) == len(maker.closed), "closed twice"


Make = Callable[[], Any]
Act = Callable[[Any], Any]
Scene = tuple[Make, Act]


def at_a_push(scenes: Iterable[str], chosen: set[str]) -> list[Any]:
    """Cases of a test: these at each push, the others in the long run."""
    return [
        name if name in chosen else pytest.param(name, marks=pytest.mark.long) for name in scenes
    ]


class Checker:
    """The other thread."""

    def __init__(self) -> None:
        self.inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while (look := self.inbox.get()) is not None:
            try:
                look()
                threading.Thread(target=int).start()  # the standard library has its locks back
                self.outbox.put(None)
            except BaseException as error:
                self.outbox.put(error)
            del look

    def ask(self, look: Callable[[], Any]) -> str:
        """What is wrong; "" if nothing is."""
        self.inbox.put(look)
        try:
            error = self.outbox.get(timeout=3 * PATIENCE)
        except queue.Empty:
            return "it hangs"
        return "" if error is None else f"{type(error).__name__}: {error}"


def endure(name: str, make: Make, act: Act) -> None:
    """Strike ``act(make())`` at its moments; AssertionError with what was wrong after which."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of leases that are dropped
        world = make()
        act(world)  # once in peace, for what is imported on first need
        world.settle()
        world.look()
        del world
        gc.collect()
        gc.disable()  # or what was left before would be struck in the middle of its finalisers
        try:
            strikes, wrong = _strike_all(make, act, 1 + sum(map(ord, name)) % EVERY)
        finally:
            gc.enable()
    print(f"{name}: {strikes} strikes")
    assert not wrong, "\n".join([f"{len(wrong)} of {strikes} strikes:", *wrong])


def attend(name: str, make: Make, act: Act, handler: Act) -> None:
    """A handler that raises nothing, at the moments of ``act(make())``: it gets through, and so
    does what it has interrupted."""
    checker, point, wrong = Checker(), 1 + sum(map(ord, name)) % EVERY, list[str]()
    handled = 0
    while len(wrong) < ENOUGH:
        world, failures = make(), list[BaseException]()

        def handle(world: Any = world, failures: list[BaseException] = failures) -> None:
            try:
                handler(world)
            except BaseException as error:
                failures.append(error)

        struck = strike(point, lambda world=world: act(world), handle)
        world.settle()
        found = checker.ask(world.look)
        if failures or found or (struck is not None and struck.raised):
            wrong.append(f"moment {point}, {struck}: {found or failures or 'the call has failed'}")
            if found:
                checker = Checker()
        if struck is None:
            break
        handled += 1
        point += EVERY
    checker.inbox.put(None)
    print(f"{name}: {handled} handlers")
    assert not wrong, "\n".join([f"{len(wrong)} of {handled} handlers:", *wrong])


def unlocked(make: Make, act: Act) -> None:
    """In ``act(make())`` no signal handler can run while its thread holds a lock of ours: others
    may want that for what the handler waits for."""
    world = make()
    locks = [lock for lock in gc.get_objects() if issubclass(type(lock), Lock)]
    found: dict[str, None] = {}

    def look(frame: Any) -> None:
        if any(lock.is_mine for lock in locks):
            found[shown(frame)] = None

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of leases that are dropped
        at_all(lambda: act(world), look)
        world.settle()
        world.look()
    assert not found, "a lock is held at\n" + "\n".join(found)


def _strike_all(make: Make, act: Act, point: int) -> tuple[int, list[str]]:
    """How many strikes there were, from this moment on, and what was wrong after them."""
    checker, strikes, wrong = Checker(), 0, list[str]()
    while len(wrong) < ENOUGH:
        world = make()
        struck = strike(point, lambda world=world: act(world))
        world.settle()
        if found := checker.ask(world.look):
            wrong.append(f"moment {point}, {struck and struck.where}: {found}")
            checker = Checker()
        if struck is None:
            break
        strikes += 1
        point += EVERY
    checker.inbox.put(None)
    return strikes, wrong
