"""The registry behind `shared()`: which channels are open, and how many handles each has.

One lock guards the table and every reference count. Nothing of grpc and nothing of the user's runs
under it: channels are made before it is taken and closed after it is let go. A collected handle may
be finalised in the middle of any of this, on the very thread that holds the lock, so `drop` never
waits for it: it leaves a note, and whoever lets go of the lock next settles the notes.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import Any, NamedTuple

import grpc


class Key(NamedTuple):
    """What makes two requests the same channel. Credentials compare by identity, and the key keeps
    them alive: grpc, too, shares a TLS connection only between users of one credentials object."""

    target: str
    credentials: grpc.ChannelCredentials | None
    options: tuple[tuple[str, Any], ...]
    compression: grpc.Compression | None

    def dial(self) -> grpc.Channel:
        """Make the channel. By attribute of `grpc`, so that tools which patch it take part."""
        # grpc lets equal channels share connections, and in a forked child even with channels of
        # the parent. An argument of no meaning to grpc makes the child's unequal to those.
        options = (*self.options, ("fastpool.forks", _forks)) if _forks else self.options
        if self.credentials is None:
            return grpc.insecure_channel(self.target, options, self.compression)
        return grpc.secure_channel(self.target, self.credentials, options, self.compression)


class ChannelStats(NamedTuple):
    """One shared channel, as `stats()` saw it."""

    target: str
    kind: str
    """"insecure" or "secure"."""
    references: int
    """Handles not yet released."""
    opened: bool
    """False in a forked child until the channel is first used there."""


class Entry:
    """One channel and the number of its handles.

    `references` and `channel` are written under the registry's lock. Calls read `channel` without
    it, for which a late look is as good as an early one: they only ask whether it is still the
    channel that they were made on. `binding` is held while a method is looked up, since grpc's
    table of registered methods is not thread-safe; no other lock is taken inside it.
    """

    __slots__ = ("key", "channel", "references", "binding")

    def __init__(self, key: Key, channel: grpc.Channel) -> None:
        self.key = key
        self.channel: grpc.Channel | None = channel
        self.references = 0
        self.binding = threading.Lock()

    def open(self) -> grpc.Channel:
        """The live channel, made now if this process has none yet (after a fork)."""
        channel = self.channel
        if channel is not None:
            return channel
        fresh = self.key.dial()
        with _lock:
            if self.channel is None and self.references:
                self.channel = fresh
            channel = self.channel
        _settle()
        if channel is not fresh:  # another thread was first, or the last handle has gone
            fresh.close()
        if channel is None:
            raise closed_error()
        return channel


def closed_error() -> ValueError:
    """The error that a closed grpc channel raises, word for word."""
    return ValueError("Cannot invoke RPC on closed channel!")


_lock = threading.Lock()
_entries: dict[Key, Entry] = {}
_dropped: deque[Entry] = deque()
_forks = 0  # how many forks lie between this process and the first one
# Channels of the process that we were forked from. Kept so that nothing of theirs is finalised
# here: their sockets are still the parent's, and a farewell on them would end its calls.
_inherited: list[grpc.Channel] = []


def acquire(key: Key) -> Entry:
    """Count one more handle on the channel for `key`, making the channel if there is none."""
    spare: grpc.Channel | None = None
    while True:
        with _lock:
            entry = _entries.get(key)
            if entry is None and spare is not None:
                entry = _entries[key] = Entry(key, spare)
                spare = None
            if entry is not None:
                entry.references += 1
                break
        spare = key.dial()
    _settle()
    if spare is not None:  # another thread was first
        spare.close()
    return entry


def release(entry: Entry) -> None:
    """Give back one handle; the last one closes the channel, in the calling thread."""
    with _lock:
        channel = _forget_one(entry)
    _settle()
    if channel is not None:
        channel.close()


def drop(entry: Entry) -> None:
    """Give back a handle that was collected unreleased. Callable from a finaliser at any point.

    The last one does not close the channel but lets go of it. grpc then closes the connection as
    soon as no call uses it any more, so a stream that outlives its stub runs on, as it does on a
    plain channel.
    """
    _dropped.append(entry)
    _settle()


def _settle() -> None:
    """Count the dropped handles. Called after every letting go of the lock, so that no note stays:
    who cannot have the lock here leaves its notes to the holder, who comes by afterwards."""
    gone = []  # emptied after the lock is let go, as destroying a channel runs grpc's code
    while _dropped and _lock.acquire(blocking=False):
        try:
            while _dropped:
                entry = _dropped.popleft()
                gone.append((entry, _forget_one(entry)))
        finally:
            _lock.release()


def _forget_one(entry: Entry) -> grpc.Channel | None:
    """Under the lock: one reference less; the channel to let go of if it was the last."""
    entry.references -= 1
    if entry.references:
        return None
    del _entries[entry.key]
    channel, entry.channel = entry.channel, None
    return channel


def stats() -> tuple[ChannelStats, ...]:
    """Every shared channel of this process, oldest first. Thread-safe; reads counters only."""
    with _lock:
        snapshot = tuple(
            ChannelStats(
                entry.key.target,
                "insecure" if entry.key.credentials is None else "secure",
                entry.references,
                entry.channel is not None,
            )
            for entry in _entries.values()
        )
    _settle()
    return snapshot


def _unlock_after_fork() -> None:
    _lock.release()
    _settle()


def _start_afresh() -> None:
    """In a forked child: the counts stay, since the handles were inherited too; the channels go."""
    global _forks
    _forks += 1
    for entry in _entries.values():
        if entry.channel is not None:
            _inherited.append(entry.channel)
            entry.channel = None
        entry.binding = threading.Lock()  # its holder may be a thread that does not exist here
    _unlock_after_fork()


if hasattr(os, "register_at_fork"):
    # The lock is held across the fork, so that the child never sees a half-done change.
    os.register_at_fork(
        before=_lock.acquire,
        after_in_parent=_unlock_after_fork,
        after_in_child=_start_afresh,
    )
