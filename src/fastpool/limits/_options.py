"""The options of pools of threads and of tasks, checked."""

from __future__ import annotations

from typing import Any, Literal

__all__ = ["WhenFull", "look_ahead", "seconds", "waits", "whole"]

WhenFull = Literal["wait", "refuse"]


def whole(what: str, value: Any, least: int) -> int:
    """A number of things."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be a whole number, not {value!r}")
    if value < least:
        raise ValueError(f"{what} must be at least {least}, not {value}")
    return value


def look_ahead(buffersize: Any, permits: int) -> int:
    """How many tasks of one map are submitted and not yet taken; refused in Python 3.14's words."""
    if buffersize is None:
        return permits
    if isinstance(buffersize, bool) or not isinstance(buffersize, int):
        raise TypeError(f"buffersize must be an integer or None, not {buffersize!r}")
    if buffersize < 1:
        raise ValueError(f"buffersize must be None or > 0, not {buffersize}")
    return buffersize


def seconds(what: str, value: Any) -> float | None:
    """A span of time, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{what} must be a number of seconds or None, not {value!r}")
    if not value >= 0:
        raise ValueError(f"{what} must be at least 0 seconds, not {value}")
    return value


def waits(when_full: Any, submit_timeout: Any) -> float | None:
    """How long a submitter waits, from the two options that say so."""
    if when_full not in ("wait", "refuse"):
        raise ValueError(f'when_full must be "wait" or "refuse", not {when_full!r}')
    if when_full == "wait":
        return seconds("submit_timeout", submit_timeout)
    if submit_timeout is not None:
        raise ValueError('submit_timeout is for when_full="wait": who is refused does not wait')
    return 0
