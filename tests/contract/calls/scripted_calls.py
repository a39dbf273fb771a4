"""What the tests of the call layer share: a clock that stands still, calls by a script."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fastpool.calls import CallPolicy


class Pausing:
    """A clock that stands still; ``then`` is called in each pause between two tries."""

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self.now = 100.0
        self.pauses = 0
        self.then = then

    def advance(self, seconds: float) -> None:
        self.pauses += 1
        self.then()


def called(policy: CallPolicy, kind: str, script: Callable[[], Any], **options: Any) -> Any:
    """What ``script()`` returns or raises, as a plain function or a coroutine function."""
    options = {"idempotent": True, "name": "ask"} | options
    if kind == "thread":
        return policy(**options)(script)()

    async def ask() -> Any:
        return script()

    return asyncio.run(policy(**options)(ask)())


def failing(*errors: Exception) -> Callable[[], str]:
    """Raises these, one a call, then returns."""
    script = iter(errors)

    def ask() -> str:
        for error in script:
            raise error
        return "well"

    return ask


KINDS = pytest.mark.parametrize("kind", ["thread", "task"])
