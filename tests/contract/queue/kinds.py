"""The queues that the contract suite runs on, the standard library's own as its control."""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import fastpool.queue
from support.callers import FastPool


@dataclass(frozen=True)
class Kind:
    """One face of queue use: how to make it, and what order it keeps."""

    name: str
    make: Callable[..., Any]
    lifo: bool
    control: bool = False  # the standard library's: proves that the test asks what it does
    for_tasks: bool = False  # has aget and aput: its tests run through every face

    def order(self, items: list[Any]) -> list[Any]:
        """The order in which items put one after the other come out."""
        return items[::-1] if self.lifo else items

    def __repr__(self) -> str:
        return self.name


def _fifo_pool(maxsize: int = 0) -> Any:
    return FastPool(maxsize, order="fifo")


OURS = [
    Kind("FastPool-lifo", FastPool, lifo=True, for_tasks=True),
    Kind("FastPool-fifo", _fifo_pool, lifo=False, for_tasks=True),
    Kind("fastpool.queue.LifoQueue", fastpool.queue.LifoQueue, lifo=True),
    Kind("fastpool.queue.Queue", fastpool.queue.Queue, lifo=False),
]
CONTROLS = [
    Kind("stdlib-LifoQueue", queue.LifoQueue, lifo=True, control=True),
    Kind("stdlib-Queue", queue.Queue, lifo=False, control=True),
]
EVERY = OURS + CONTROLS
#: Kinds that can be shut down: the standard library's only from 3.13 on.
CLOSABLE = OURS + [kind for kind in CONTROLS if hasattr(kind.make, "shutdown")]
