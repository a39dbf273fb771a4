"""How long a reply may be, whatever it says of itself."""

from __future__ import annotations

from typing import Any

from ._deadline import Deadline
from ._errors import BadReply

__all__ = ["MAX_REPLY", "PIECE", "Bounds", "bounded"]

MAX_REPLY = 64 << 20
"""Bytes, decompressed: the default."""

PIECE = 1 << 16
"""Bytes that are read, or decompressed, at a time."""


def bounded(value: Any) -> int | None:
    """``max_reply``, if it is a number of bytes or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"max_reply must be a number of bytes or None, not {value!r}")
    if value < 1:
        raise ValueError(f"max_reply must be at least 1 byte or None, not {value!r}")
    return value


class Bounds:
    """Of one reply, which is counted as it comes, decompressed."""

    def __init__(self, most: int | None, deadline: Deadline, name: str) -> None:
        self._most = most
        self._deadline = deadline
        self._name = name
        self._received = 0

    def announced(self, length: str | None) -> None:
        """What its head says: BadReply if it is too long already."""
        if self._most is not None and length is not None and length.strip().isdecimal():
            if int(length) > self._most:
                raise BadReply(f"{self._name}: a reply of {int(length)} bytes; {self._limit}")

    def add(self, piece: bytes) -> bytes:
        """A piece of it, decompressed, within the deadline."""
        self._received += len(piece)
        if self._most is not None and self._received > self._most:
            raise BadReply(f"{self._name}: the reply does not end; {self._limit}")
        if self._deadline.left() == 0:
            raise self._deadline.missed(self._name)
        return piece

    @property
    def _limit(self) -> str:
        return f"max_reply is {self._most}"
