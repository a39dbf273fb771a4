"""A bit that is set in the gates of many cores: on for all at once, off one by one.

The gates that a return reads are the keys' own, and there may be thousands.  A bit that is on and
of no use costs a return some time, so it is taken away when its key is next heard of; what has not
been off since does not have to be turned on again.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["LazyFlag"]


class LazyFlag:
    """``set_bit(member, on)``.  Under the lock of whoever holds the members."""

    def __init__(self, set_bit: Callable[[Any, bool], object]) -> None:
        self.set_bit = set_bit
        self.on = False
        self.off_at: dict[Any, None] = {}  # whose bit is not set

    def add(self, member: Any) -> None:
        if self.on:
            self.set_bit(member, True)
        else:
            self.off_at[member] = None

    def remove(self, member: Any) -> None:
        self.off_at.pop(member, None)

    def switch_on(self) -> None:
        self.on = True
        while self.off_at:
            self.set_bit(self.off_at.popitem()[0], True)

    def switch_off(self) -> None:
        """From the next time on that each is heard of."""
        self.on = False

    def is_synced(self, member: Any) -> bool:
        """Whether it may stay as it is when it is heard of."""
        return self.on or member in self.off_at

    def sync(self, member: Any) -> None:
        """It has just been heard of."""
        if not self.on and member not in self.off_at:
            self.off_at[member] = None
            self.set_bit(member, False)
