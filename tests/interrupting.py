"""A signal handler that raises, at a moment of one's choice.

The interpreter runs handlers after calls of C functions and on entering Python functions. A test
makes the same call again and again, and interrupts it at the first such point inside fastpool, then
at the second, and so on until the call gets through.

Not at the return of the `__enter__` of a `with` statement: up to 3.13 a profiler does not see it,
and from 3.15 on no handler runs before the block is entered.  3.14 does run one there and leaves
the lock held (CPython's gh-148874): not struck yet, since the code around the core does not survive
it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import fastpool

HOME = str(Path(fastpool.__file__).parent)


class Interrupted(BaseException):
    """What the handler raises; like KeyboardInterrupt no Exception."""


def interrupt(point: int, call: Callable[[], Any], kept: list[BaseException] | None = None) -> bool:
    """Make the call and interrupt it at the given point; False if it has fewer points.  ``kept``:
    for the error, with every frame of the call."""
    passed = 0

    def profile(frame: FrameType, event: str, argument: object) -> None:
        nonlocal passed
        entered = event == "c_return" and getattr(argument, "__name__", "") == "__enter__"
        if event not in ("call", "c_return") or entered:
            return
        if frame.f_code.co_filename.startswith(HOME):
            passed += 1
            if passed == point:
                sys.setprofile(None)
                raise Interrupted

    sys.setprofile(profile)
    try:
        call()
    except Interrupted as error:
        if kept is not None:
            kept.append(error)
        return True
    finally:
        sys.setprofile(None)
    return False
