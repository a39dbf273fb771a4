"""What a pool says beside doing its work: log lines, notes on exceptions, the names of objects.

Users' code runs in all three: a handler of ``logging``, an exception class, a ``repr``.  None of
that is necessary, so whatever an ``Exception`` of theirs says ends here, and the place, the worker
or the answer that is waited for behind it is not lost.  Call it after what is necessary all the
same: what is no ``Exception`` (Ctrl-C, in a caller's thread) goes on.
"""

from __future__ import annotations

__all__ = ["note", "shown", "warn", "warn_and_go_on", "without_frames"]


WARNING, ERROR = 30, 40  # as in logging, which is imported on first need


def warn(
    text: str, *args: object, error: BaseException | None = None, level: int = WARNING
) -> None:
    """Log to the logger ``fastpool``, with the traceback of ``error`` if there is one."""
    try:
        import logging

        logging.getLogger("fastpool").log(level, text, *args, exc_info=error)
    except Exception:
        return


def warn_and_go_on(text: str, *args: object, error: BaseException, level: int = WARNING) -> None:
    """The same in a thread of a pool's own, which goes on whatever a handler raises."""
    try:
        warn(text, *args, error=error, level=level)
    except BaseException:  # SystemExit, say; no signal handler runs in such a thread
        return


def note(error: BaseException, text: str) -> None:
    """Add a note to an exception, once, if its class takes notes."""
    try:
        if text not in getattr(error, "__notes__", ()):
            error.add_note(text)
    except Exception:
        return


def without_frames(error: BaseException) -> BaseException:
    """A copy of an exception to be kept, and of its cause, without the traceback, which keeps alive
    what the functions had that it went through.  Where it cannot be copied: another one that says
    the same."""
    try:
        from copy import copy

        copied = copy(error)
        if type(copied) is not type(error):
            raise TypeError
        cause = error.__cause__
        copied.__traceback__ = copied.__context__ = None
        copied.__cause__ = None if cause is None else without_frames(cause)
    except BaseException:  # of its class, in a thread of a pool's own
        return RuntimeError(f"{type(error).__name__}: {_text(error)}")
    return copied


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return shown(error, 200)


def shown(value: object, most: int) -> str:
    """The ``repr`` of an object, at most so many characters of it; its type if that raises."""
    try:
        return repr(value)[:most]
    except Exception as error:
        return f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"
