"""What happened in a small run, one event after the other, and what may never happen.

``History`` is filled by those who act and by ``watched``, which looks over the shoulder of every
task that joins a line.  ``faults`` reads it: it knows no pool, only events.

| event | who | item | state |
|---|---|---|---|
| dial, fail | | | the factory was entered; it raised |
| make | | number | it returned |
| close, closed | | number | the resource's close was called; it has returned |
| ask | who | | a call that takes begins; ``state``: its name |
| give, back | who | number | somebody holds it from here; to here |
| join | who | | into a line; ``state``: front or end, how many it has now, which line (a pool with
async resources has one for each event loop) |
| leave | who | | out of it; ``state``: why, how many it has now, which line |
| quiet | | | nobody can run; ``state``: waiting, idle, room: what the pool says of itself |
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from fastpool import _core

GRANTED = ("fresh", "due")


class Event(NamedTuple):
    kind: str
    who: str = ""
    item: int = -1
    state: tuple[Any, ...] = ()

    def __str__(self) -> str:
        number = f" #{self.item}" if self.item >= 0 else ""
        return f"{self.kind:<6}{self.who}{number} {' '.join(map(str, self.state))}".rstrip()


class History:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def note(self, kind: str, who: str = "", item: int = -1, *state: Any) -> None:
        self.events.append(Event(kind, who, item, state))

    def __str__(self) -> str:
        return "\n".join(f"{n:>4} {event}" for n, event in enumerate(self.events))


def faults(events: list[Event], *, cap: float, fair: bool, over: bool = True) -> list[str]:
    """What is wrong, each with the number of the event that shows it.  ``over``: the pool was
    closed at the end, and all that was made must be closed too."""
    book = _Book(cap, fair)
    for number, event in enumerate(events):
        found = len(book.found)
        getattr(book, event.kind)(event)
        book.found[found:] = [f"event {number} ({event}): {text}" for text in book.found[found:]]
    if over:
        book.over()
    return book.found


class _Book:
    """One method for each kind of event."""

    def __init__(self, cap: float, fair: bool) -> None:
        self.cap, self.fair = cap, fair
        self.found: list[str] = []
        self.dialing = 0
        self.open: set[int] = set()  # until its close has returned
        self.closing: set[int] = set()  # from the call on
        self.holders: dict[int, str] = {}
        self.queues: dict[str, dict[str, set[str]]] = {}  # who joined, and who stands before them

    def fault_if(self, wrong: object, text: str) -> None:
        if wrong:
            self.found.append(text)

    def dial(self, event: Event) -> None:
        self.dialing += 1
        self.fault_if(
            self.dialing + len(self.open) > self.cap,
            f"{self.dialing} being made and {len(self.open)} open exceed the cap {self.cap}",
        )

    def fail(self, event: Event) -> None:
        self.dialing -= 1

    def make(self, event: Event) -> None:
        self.dialing -= 1
        self.fault_if(event.item in self.open | self.closing, "made twice")
        self.open.add(event.item)

    def close(self, event: Event) -> None:
        self.fault_if(event.item in self.closing, "closed twice")
        self.fault_if(event.item not in self.open | self.closing, "closed, but never made")
        holder = self.holders.get(event.item)
        self.fault_if(holder is not None, f"closed while {holder} holds it")
        self.closing.add(event.item)

    def closed(self, event: Event) -> None:
        self.fault_if(event.item not in self.closing, "its close has ended, but never begun")
        self.open.discard(event.item)

    def ask(self, event: Event) -> None:
        pass

    def give(self, event: Event) -> None:
        holder = self.holders.get(event.item)
        self.fault_if(holder is not None, f"given to two: {holder} holds it")
        self.fault_if(event.item in self.closing, "given after its close")
        self.fault_if(event.item not in self.open | self.closing, "given, but never made")
        self.holders[event.item] = event.who

    def back(self, event: Event) -> None:
        holder = self.holders.pop(event.item, None)
        self.fault_if(holder != event.who, f"given back, but {holder} holds it")

    def join(self, event: Event) -> None:
        """At the end: behind all that are in the queue.  In front: before all, if none of them has
        its grant already and does not know it; else nothing is said of their order."""
        end, waiting, which = event.state
        queue = self.queues.setdefault(which, {})
        self.fault_if(event.who in queue, "stands in the queue twice")
        self.fault_if(waiting > len(queue) + 1, f"{waiting} wait, and {len(queue) + 1} have joined")
        if end == "end":
            queue[event.who] = set(queue)
        else:
            if waiting == len(queue) + 1:
                for before in queue.values():
                    before.add(event.who)
            queue[event.who] = set()

    def leave(self, event: Event) -> None:
        """A grant is seen when its waiter runs, which may be late.  By then as many have got theirs
        as have joined and not left, less those that still stand in the queue; all that stood before
        this one are among them."""
        why, waiting, which = event.state
        queue = self.queues.get(which, {})
        if event.who not in queue:
            self.found.append("left a line in which it did not stand")
            return
        settled, before = len(queue) - waiting, queue.pop(event.who)
        for others in queue.values():
            others.discard(event.who)  # it may come back, to another slot
        self.fault_if(settled < 1, f"{waiting} wait still, of {len(queue)} that have joined")
        if self.fair and why in GRANTED:
            self.fault_if(
                len(before) >= settled,
                f"served before its turn: {sorted(before)} came first, and "
                f"{settled - 1} of them are served",
            )

    def quiet(self, event: Event) -> None:
        waiting, idle, capacity = event.state
        self.fault_if(waiting and idle, f"{waiting} wait beside {idle} idle")
        self.fault_if(
            waiting and capacity, f"{waiting} wait, and there is free capacity to open {capacity}"
        )

    def over(self) -> None:
        self.fault_if(self.open, f"at the end: never closed: {sorted(self.open)}")
        self.fault_if(self.dialing, f"at the end: {self.dialing} never made")
        self.fault_if(self.holders, f"at the end: still held: {self.holders}")
        queued = [who for queue in self.queues.values() for who in queue]
        self.fault_if(queued, f"at the end: still in the queue: {queued}")


# ---- Who joins a line, and who leaves it -------------------------------------------------------


def watched(history: History) -> Any:
    """A stand-in for the module ``fastpool._core`` as ``_aio/slow_paths.py`` sees it, whose
    waits tell."""

    queues: dict[int, str] = {}

    class Core:
        def __getattr__(self, name: str) -> Any:
            return getattr(_core, name)

    class Wait(_core.Wait):
        """A wait for a resource, and what the history is to know of it."""

        def __init__(self, core: Any, mailbox: Any) -> None:
            self.watched, self.its = core, mailbox
            self.which = queues.setdefault(id(core), f"line-{len(queues)}")
            task = asyncio.current_task()
            self.who = task.get_name() if task is not None else "?"

        def join_pool(self, guard: Any, task: int, timeout: Any, *, in_front: bool) -> Any:
            # the core would see by its own clock, not by the schedule's, that a time is over
            reason = super().join_pool(guard, task, None if timeout else timeout, in_front=in_front)
            if reason is None:
                if timeout is not None:
                    self.its.expire(self, timeout)
                self._note("join", "front" if in_front else "end")
            return reason

        def __await__(self) -> Any:
            try:
                yield from super().__await__()
            finally:  # cancelled, with what it waited for, or with the error of a creation
                self._note("leave", self.outcome or "nothing")

        def _note(self, kind: str, how: str) -> None:
            history.note(kind, self.who, -1, how, int(self.watched.waiting), self.which)

    core: Any = Core()
    core.Wait = Wait
    return core
