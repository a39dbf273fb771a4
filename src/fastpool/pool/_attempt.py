"""The records of creations: an attempt under way, and a call of ``warm`` that waits for some."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Attempt", "Warming"]


class Attempt:
    """One creation: who it is for, and what became of it."""

    __slots__ = ("failure", "given_up", "index", "started", "task", "ticket")

    def __init__(self, index: int) -> None:
        self.index = index
        self.ticket = 0
        self.started = 0.0
        self.given_up = False  # past its deadline: the permit is free, the slot still counted
        # where hooks are coroutine functions: it can be cancelled, and how it has failed
        self.task: Any = None
        self.failure: BaseException | None = None


class Warming:
    """A call of ``warm`` that waits, and what the factory has raised meanwhile."""

    __slots__ = ("failure",)

    def __init__(self) -> None:
        self.failure: BaseException | None = None
