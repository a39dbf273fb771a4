"""A signal handler that raises, at a moment of one's choice.

The interpreter runs handlers after calls of C functions and on entering Python functions. A test
makes the same call again and again, and interrupts it at the first such point, then at the second,
and so on until the call gets through.  `interrupt` knows the points inside fastpool, which most
handlers hit; `strike` knows all there are, and more, in the standard library too.
"""

from __future__ import annotations

import asyncio
import dis
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import fastpool

HOME = str(Path(fastpool.__file__).parent)


class Interrupted(BaseException):
    """What the handler raises; like KeyboardInterrupt no Exception."""


def _cannot_be(event: str, callee: object) -> bool:
    """From 3.15 on no handler runs between `__enter__` and the block (CPython's gh-148874)."""
    name = getattr(callee, "__name__", "")
    return event == "c_return" and name == "__enter__" and sys.version_info >= (3, 15)


def interrupt(point: int, call: Callable[[], Any], kept: list[BaseException] | None = None) -> bool:
    """Make the call and interrupt it at the given point; False if it has fewer points.  ``kept``:
    for the error, with every frame of the call."""
    passed = 0

    def profile(frame: FrameType, event: str, argument: object) -> None:
        nonlocal passed
        if event not in ("call", "c_return") or _cannot_be(event, argument):
            return
        if frame.f_code.co_filename.startswith(HOME):
            passed += 1
            if passed == point:
                sys.setprofile(None)
                raise Interrupted

    sys.setprofile(profile)
    try:
        _apart(call)
    except Interrupted as error:
        if kept is not None:
            kept.append(error)
        return True
    finally:
        sys.setprofile(None)
    return False


def _apart(call: Callable[[], Any]) -> None:
    """Make the call in a generator, whose state of exceptions is its own: what is raised just where
    a handler ends leaves the exception that was handled behind, as the context of all to follow."""

    def once() -> Iterator[None]:
        call()
        yield

    next(once())


class Struck(NamedTuple):
    """Where a strike has hit."""

    where: str
    raised: bool  # out of the call; else something in it has taken the exception in, as it may


def interrupted() -> None:
    """The handler that raises."""
    raise Interrupted


def strike(
    point: int, call: Callable[[], Any], handler: Callable[[], Any] = interrupted
) -> Struck | None:
    """Make the call and have the handler run at the given one of *all* its moments: before each
    instruction and after each call of a C function, of every frame that it begins, the standard
    library's included; None if it has fewer.  Frames of the tests are left out, and what is called
    by their hooks."""
    frames = Frames(sys._getframe())
    passed, where = 0, ""

    def moment(frame: FrameType) -> None:
        nonlocal passed, where
        if not where and frames.is_struck(frame):
            passed += 1
            if passed == point:
                where = shown(frame)
                handler()

    watch(moment)
    try:
        _apart(call)
    except BaseException:  # or what the standard library makes of it
        if not where:
            raise
        return Struck(where, True)
    finally:
        unwatch()
        frames.kinds.clear()  # they would keep alive what the call had
    return Struck(where, False) if where else None


def at_all(call: Callable[[], Any], handler: Callable[[FrameType], Any]) -> None:
    """Make the call, with the handler run at each of its moments."""
    frames = Frames(sys._getframe())
    busy = False

    def moment(frame: FrameType) -> None:
        nonlocal busy
        if not busy and frames.is_struck(frame):
            busy = True
            handler(frame)
            busy = False

    watch(moment)
    try:
        _apart(call)
    finally:
        unwatch()
        frames.kinds.clear()


def shown(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}"


class Frames:
    """Which frames a strike may hit.  "outer": the test; "inner": what it has called of ours, and
    what that has called; "hook": the tests' again, and what they call; "loop": an event loop that
    the test runs, until that calls the test or us, and where C code relies on it: a future that has
    it call who awaits, the heap of its timers.  Futures and loggers of the standard library count
    as hooks: whoever is struck in the middle of one has left it locked."""

    LOCKED = (str(Path("concurrent", "futures", "_base.py")), str(Path("logging", "__init__.py")))
    LOOPS = str(Path(asyncio.__file__).parent)

    def __init__(self, root: FrameType) -> None:
        self.home = str(Path(__file__).parents[1])
        self.kinds = {root: "outer"}

    def is_struck(self, frame: FrameType) -> bool:
        return self._kind(frame) == "inner"

    def _kind(self, frame: FrameType) -> str:
        kind = self.kinds.get(frame)
        if kind is None:
            assert frame.f_back is not None
            kind = self._kind(frame.f_back)
            name = frame.f_code.co_filename
            if name.startswith(self.home) or (kind == "inner" and name.endswith(self.LOCKED)):
                kind = "outer" if kind in ("outer", "loop") else "hook"
            elif kind == "outer":
                kind = "loop" if name.startswith(self.LOOPS) else "inner"
            elif kind == "loop" and name.startswith(HOME):
                kind = "inner"
            elif (
                kind == "inner"
                and name.startswith(self.LOOPS)
                and frame.f_code.co_name in ("call_soon", "__lt__")
                and frame.f_code.co_name not in frame.f_back.f_code.co_names
            ):
                kind = "loop"
            self.kinds[frame] = kind
        return kind


@cache
def _fillers(code: CodeType) -> frozenset[int]:
    found = dis.get_instructions(code)
    return frozenset(i.offset for i in found if i.opname in ("NOP", "NOT_TAKEN"))


def _is_filler(code: CodeType, offset: int) -> bool:
    """No handler runs there; a ``try`` may not cover those that stand in its block."""
    return offset in _fillers(code)


if sys.version_info >= (3, 12):
    monitoring, events = sys.monitoring, sys.monitoring.events
    TOOL = monitoring.PROFILER_ID

    def watch(moment: Callable[[FrameType], None]) -> None:
        """``moment(frame)`` before each instruction and after each call of a C function, in this
        thread; what it raises is raised there."""
        me = threading.get_ident()

        def before(code: CodeType, offset: int) -> None:
            if threading.get_ident() == me and not _is_filler(code, offset):
                moment(sys._getframe(1))

        def after(code: CodeType, offset: int, callee: object, argument: object) -> None:
            if threading.get_ident() == me and not _cannot_be("c_return", callee):
                moment(sys._getframe(1))

        monitoring.use_tool_id(TOOL, "strikes")
        monitoring.register_callback(TOOL, events.INSTRUCTION, before)
        monitoring.register_callback(TOOL, events.C_RETURN, after)
        monitoring.set_events(TOOL, events.INSTRUCTION | events.CALL)

    def unwatch() -> None:
        monitoring.set_events(TOOL, 0)
        monitoring.free_tool_id(TOOL)

else:

    def watch(moment: Callable[[FrameType], None]) -> None:
        """The same, where there is no ``sys.monitoring``."""

        def trace(frame: FrameType, event: str, argument: object) -> Any:
            if event == "call":
                frame.f_trace_opcodes, frame.f_trace_lines = True, False
            elif event == "opcode" and not _is_filler(frame.f_code, frame.f_lasti):
                moment(frame)
            return trace

        def profile(frame: FrameType, event: str, argument: object) -> None:
            if event == "c_return":
                moment(frame)

        sys.setprofile(profile)
        sys.settrace(trace)

    def unwatch() -> None:
        sys.settrace(None)
        sys.setprofile(None)
