"""Slots that streams hold: which, and for how long."""

from __future__ import annotations

import logging
import time
from typing import Any

LONG = 10.0  # seconds after which a stream counts as one that is held


class OpenStream:
    """One stream's slot; called once, at its end."""

    __slots__ = ("_registry", "_lease", "begun")

    def __init__(self, registry: OpenStreams, lease: Any) -> None:
        self._registry = registry
        self._lease = lease
        self.begun = time.monotonic()

    def __call__(self) -> None:
        self._registry.open.pop(self, None)
        self._lease.release()


class OpenStreams:
    """Those of one channel, of threads or of tasks. A stream that is held long is nobody's fault
    and is left alone, but it takes the place of many calls, so it is shown apart.

    `slots`: how many there are; the log says once when half of them are held.
    """

    def __init__(self, target: str, slots: float) -> None:
        self.open: dict[OpenStream, None] = {}  # the oldest first; each change is one atomic step
        self._target = target
        self._slots = slots
        self._warned = False

    def begin(self, lease: Any) -> OpenStream:
        """`lease` has `release()`, which is called at the end."""
        stream = OpenStream(self, lease)
        self.open[stream] = None
        if not self._warned and 2 * len(self.open) > self._slots and 2 * self.long() > self._slots:
            self._warned = True
            logging.getLogger("fastpool").warning(
                "grpc %s: streams held for more than %g s fill half of the %g slots; more"
                " connections=, or a channel of their own, would give other calls room",
                self._target,
                LONG,
                self._slots,
            )
        return stream

    def long(self) -> int:
        """How many have been held for long."""
        before, found = time.monotonic() - LONG, 0
        for stream in list(self.open):
            if stream.begun > before:
                break
            found += 1
        return found
