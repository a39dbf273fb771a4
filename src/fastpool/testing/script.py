"""What a script may say: the outcomes of the calls of a hook, checked when they are written."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Any, Final

__all__ = ["OK", "Hang", "ScriptError"]

HOOKS = ("create", "check", "reset", "close")


class ScriptError(ValueError):
    """A script that makes no sense; the text names the hook, the place in its script, what stands
    there and what may."""


class _Ok:
    """The outcome of a call to which nothing special happens."""

    __name__ = "OK"

    def __repr__(self) -> str:
        return "OK"


OK: Final = _Ok()


class Hang:
    """An outcome: the call hangs until the test releases it, and then ends with the outcome
    ``then``.

    It may stand in a script more than once; one ``release`` is for all.  After ``limit`` seconds
    nobody will come any more, and the call ends with an AssertionError.  A ValueError if ``limit``
    is not a positive number.  Thread-safe.
    """

    def __init__(self, then: object = OK, *, limit: float = 60.0) -> None:
        if not 0 < limit <= threading.TIMEOUT_MAX:
            raise ValueError(f"limit must be a positive number of seconds, not {limit!r}")
        self.then = then
        self.limit = limit
        self._reached = threading.Event()
        self._released = threading.Event()

    def __repr__(self) -> str:
        return f"Hang({self.then!r})"

    def reached(self, timeout: float = 10.0) -> None:
        """Waits until a call hangs here, or has; AssertionError after ``timeout`` seconds."""
        if not self._reached.wait(timeout):
            raise AssertionError(f"no call came to {self!r} within {timeout:g} s")

    def release(self) -> None:
        """Lets the calls that hang here go on, and later ones pass.  Idempotent."""
        self._released.set()

    def pass_through(self) -> Any:
        """For the hook: hangs, and returns what follows."""
        self._reached.set()
        begun = time.monotonic()
        if not self._released.wait(self.limit):
            raise AssertionError(f"nobody released {self!r} in {time.monotonic() - begun:.3g} s")
        return self.then


def is_error(outcome: object) -> bool:
    """Whether it is to be raised."""
    return isinstance(outcome, BaseException) or (
        isinstance(outcome, type) and issubclass(outcome, BaseException)
    )


def checked(hook: str, entries: Iterable[object]) -> list[Any]:
    """The script of one hook as a list.  ScriptError says what is wrong with it."""
    if isinstance(entries, (str, bytes, dict)) or not isinstance(entries, Iterable):
        raise ScriptError(f"{hook}: a script is a list of outcomes, not {entries!r:.80}")
    script = list(entries)
    for position, entry in enumerate(script):
        outcome = last_of(entry)
        if not _allowed(hook, outcome):
            others = {"create": ", a resource", "check": ", True, False"}.get(hook, "")
            raise ScriptError(
                f"{hook}[{position}]: {outcome!r:.80} is no outcome of {hook}; "
                f"there are OK, an exception, Hang(){others}"
            )
    return script


def last_of(entry: object) -> object:
    """What an entry comes to when all its hangs are over."""
    while isinstance(entry, Hang):
        entry = entry.then
    return entry


def _allowed(hook: str, outcome: object) -> bool:
    if outcome is OK or is_error(outcome):
        return True
    if hook == "create":
        return outcome is not None
    return hook == "check" and isinstance(outcome, bool)
