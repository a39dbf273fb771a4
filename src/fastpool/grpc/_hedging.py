"""Hedging: an idempotent call that goes unanswered is sent once more, and the first answer counts.

What both kinds of channels decide alike; who waits for the answers is in `_sync/hedging.py` and
`_aio/hedging.py`. The second call takes a free slot or is not made: it never waits in the queue.
"""

from __future__ import annotations

from typing import Any

import grpc

from .._core import Lock

MOST_TOKENS = 10.0  # second calls in a row, where all calls go unanswered
RATIO = 0.1  # second calls for each call, in the long run

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


class HedgeBudget:
    """How many second calls a channel may send: a tenth of its calls, so that a server that is slow
    since it has too much to do does not get twice as much. Thread-safe."""

    def __init__(self) -> None:
        self.sent = 0
        self._tokens = MOST_TOKENS
        self._lock = Lock()

    def note_call(self) -> None:
        """A call begins that may be hedged."""
        with self._lock.hold():
            self._tokens = min(MOST_TOKENS, self._tokens + RATIO)

    def spend(self) -> bool:
        """Whether a second call may be sent, which is counted then."""
        with self._lock.hold():
            if self._tokens < 1:
                return False
            self._tokens -= 1
            self.sent += 1
            return True


def decides(code: Any) -> bool:
    """Whether a call that ends so is the answer although the other one is still under way."""
    return code is not UNAVAILABLE
