"""The registry behind `shared()` and `aio_shared()`: which channels are open, and how many handles
each has.

One lock guards the table and every reference count. Nothing of grpc and nothing of the user's runs
under it: channels are made before it is taken and closed after it is let go. A collected handle may
be finalised in the middle of any of this, on the very thread that holds the lock, so `drop` never
waits for it: it leaves a note, and whoever lets go of the lock next settles the notes.
"""

from __future__ import annotations

import os
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from .._core import Lock
from ._channel_key import Key


class Usage(NamedTuple):
    """What is in use of a channel; see ChannelStats."""

    connections: int
    in_use: int
    waiting: int
    streams: int
    long_streams: int
    hedged: int


class Shareable(Protocol):
    """What handles share: the connections of one channel."""

    key: Key

    @property
    def opened(self) -> bool: ...
    def usage(self) -> Usage: ...
    def close(self, grace: float | None) -> None: ...
    def close_nowait(self) -> None: ...
    def forked(self) -> list[Any]: ...


T = TypeVar("T", bound=Shareable)


class ChannelStats(NamedTuple):
    """One shared channel, as `stats()` saw it."""

    target: str
    kind: str
    """"insecure" or "secure"."""
    references: int
    """Handles not yet released."""
    opened: bool
    """False in a forked child until the channel is first used there."""
    connections: int
    """Those that are open, draining ones included."""
    in_use: int
    """Slots that calls hold."""
    waiting: int
    """Calls in the queue for a slot."""
    streams: int
    """Of the slots in use, those that streams hold."""
    long_streams: int
    """Of the streams, those that have been open for more than 10 s."""
    hedged: int
    """Calls that were sent a second time so far, as `hedge` says."""


class Entry(Generic[T]):
    """One channel and the number of its handles, which is written under the registry's lock."""

    __slots__ = ("key", "connections", "references", "__weakref__")

    def __init__(self, key: Key, connections: T) -> None:
        self.key = key
        self.connections = connections
        self.references = 0
        _all.add(self)


_lock = Lock()
_entries: dict[Key, Entry[Any]] = {}
_dropped: deque[Entry[Any]] = deque()
_all: weakref.WeakSet[Entry[Any]] = weakref.WeakSet()
# Of the process that we were forked from. Kept so that nothing of theirs is finalised here: their
# sockets are still the parent's, and a farewell on them would end its calls.
_inherited: list[Any] = []


def acquire(key: Key, make: Callable[[Key], T]) -> Entry[T]:
    """Count one more handle on the channel for `key`, making it if there is none."""
    spare: T | None = None
    while True:
        with _lock.hold():
            entry = _entries.get(key)
            if entry is None and spare is not None:
                entry = _entries[key] = Entry(key, spare)
                spare = None
            if entry is not None:
                entry.references += 1
                break
        spare = make(key)
    _apply_dropped()
    if spare is not None:  # another thread was first
        spare.close(None)
    return entry


def again(entry: Entry[T]) -> Entry[T]:
    """Count one more handle on a channel of which the caller has one."""
    with _lock.hold():
        entry.references += 1
    _apply_dropped()
    return entry


def release(entry: Entry[T]) -> T | None:
    """Give back one handle; what is to be closed if it was the last one."""
    with _lock.hold():
        last = _forget_one(entry)
    _apply_dropped()
    return last


def drop(entry: Entry[Any]) -> None:
    """Give back a handle that was collected unreleased. Callable from a finaliser at any point.

    The last one does not close the channel but lets go of it: a stream that outlives its stub runs
    on, as it does on a plain channel, and the connection is closed when it ends.
    """
    _dropped.append(entry)
    _apply_dropped()


def _apply_dropped() -> None:
    """Count the dropped handles. Called after every letting go of the lock, so that no note stays:
    who cannot have the lock here leaves its notes to the holder, who comes by afterwards."""
    gone = []  # emptied after the lock is let go
    while _dropped:
        with _lock.try_hold() as held:
            if not held:
                break
            while _dropped:
                entry = _dropped.popleft()
                gone.append((entry, _forget_one(entry)))
    for _, last in gone:
        if last is not None:
            last.close_nowait()


def _forget_one(entry: Entry[T]) -> T | None:
    """Under the lock: one reference less; what is to be closed if it was the last."""
    entry.references -= 1
    if entry.references:
        return None
    del _entries[entry.key]
    return entry.connections


def stats() -> tuple[ChannelStats, ...]:
    """Every shared channel of this process, oldest first. Thread-safe; reads counters only."""
    with _lock.hold():
        entries = [(entry, entry.references) for entry in _entries.values()]
    _apply_dropped()
    return tuple(
        ChannelStats(
            entry.key.target,
            "insecure" if entry.key.credentials is None else "secure",
            references,
            entry.connections.opened,
            *entry.connections.usage(),
        )
        for entry, references in entries
    )


def _start_afresh() -> None:
    """In a forked child: the counts stay, since the handles were inherited too; the connections
    go."""
    for entry in list(_all):
        _inherited.append(entry.connections.forked())


if hasattr(os, "register_at_fork"):
    # The lock is held across the fork, so that the child never sees a half-done change.
    os.register_at_fork(after_in_child=_start_afresh)
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
    )
    os.register_at_fork(after_in_parent=_apply_dropped, after_in_child=_apply_dropped)
