"""A factory that does as it is told, and remembers what it did."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, TypeVar, cast, overload

from .script import HOOKS, OK, Hang, ScriptError, checked, is_error, last_of

__all__ = ["Call", "Resource", "ScriptedFactory"]

T = TypeVar("T")


class Resource:
    """What a ``ScriptedFactory`` makes unless it is told otherwise: ``number`` counts from 0 in
    each factory, ``closed`` says whether ``close()`` was called."""

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self.closed = False

    def close(self) -> None:
        """Marks it as closed."""
        self.closed = True

    def __repr__(self) -> str:
        return f"<resource {self.number}{', closed' if self.closed else ''}>"


class Call(NamedTuple):
    """One call of a hook that has ended: the hook's name; the resource, None for a creation that
    failed; the outcome, which is OK, False for a bad check, or the exception raised."""

    hook: str
    resource: Any
    outcome: Any


class ScriptedFactory(Generic[T]):
    """A factory object whose calls end as its script says: ``FastPool(factory=it)``.

    ``make()`` gives a plain resource; without it they are ``Resource`` objects.  ``create``,
    ``check``, ``reset`` and ``close`` take a finite list each, one outcome a call, in order of the
    calls:

    - ``OK``: nothing special; a plain resource, a good check
    - an exception, or a class of one: raised
    - ``Hang(then)``: hangs until the test calls ``release()``
    - ``create`` only, any other object but None: is the resource made
    - ``check`` only, ``False``: the resource is no good

    A script that is used up goes on with ``OK``.  A ScriptError tells of a bad one at once.

    ``close`` calls the resource's own ``close()`` if it has one, as a pool without a close hook
    does.  Thread-safe.  Keeps every resource alive for as long as it lives itself.
    """

    @overload
    def __init__(
        self: ScriptedFactory[Resource],
        make: None = None,
        *,
        create: Iterable[object] = (),
        check: Iterable[object] = (),
        reset: Iterable[object] = (),
        close: Iterable[object] = (),
    ) -> None: ...
    @overload
    def __init__(
        self,
        make: Callable[[], T],
        *,
        create: Iterable[object] = (),
        check: Iterable[object] = (),
        reset: Iterable[object] = (),
        close: Iterable[object] = (),
    ) -> None: ...
    def __init__(
        self,
        make: Callable[[], Any] | None = None,
        *,
        create: Iterable[object] = (),
        check: Iterable[object] = (),
        reset: Iterable[object] = (),
        close: Iterable[object] = (),
    ) -> None:
        if make is not None and not callable(make):
            raise TypeError(f"make must be callable, not {make!r:.80}; scripts go by keyword")
        self._make = make
        self._state_changed = threading.Condition()
        self._script: dict[str, deque[Any]] = {hook: deque() for hook in HOOKS}
        self._scripted: list[object] = []  # resources in the script, which must differ
        self._plain = 0
        self._calls: list[Call] = []
        self._made: list[T] = []
        self._closings: Counter[int] = Counter()  # by id; every resource is kept alive
        self._now = self._peak = 0  # open
        self.extend(create=create, check=check, reset=reset, close=close)

    def extend(
        self,
        *,
        create: Iterable[object] = (),
        check: Iterable[object] = (),
        reset: Iterable[object] = (),
        close: Iterable[object] = (),
    ) -> None:
        """Adds to the end of the scripts, for faults that come later in a test.  ScriptError, and
        nothing added, if any of it is wrong."""
        given = dict(zip(HOOKS, (create, check, reset, close), strict=True))
        more = {hook: checked(hook, entries) for hook, entries in given.items()}
        with self._state_changed:
            scripted = list(self._scripted)
            for position, entry in enumerate(more["create"]):
                resource = last_of(entry)
                if resource is OK or is_error(resource):
                    continue
                if any(resource is other for other in scripted):
                    raise ScriptError(
                        f"create[{position}]: {resource!r:.80} stands in the script already; "
                        "a resource is made once"
                    )
                scripted.append(resource)
            self._scripted = scripted
            for hook, entries in more.items():
                self._script[hook].extend(entries)

    # ---- The hooks: what the pool calls --------------------------------------------------------

    def create(self) -> T:
        """A new resource, or what the script says."""
        try:
            outcome = self._next("create")
            resource = cast(T, self._plain_resource() if outcome is OK else outcome)
        except BaseException as error:
            self._note(Call("create", None, error))
            raise
        self._note(Call("create", resource, OK))
        return resource

    def check(self, resource: T) -> bool:
        """True, or what the script says."""
        return self._run("check", resource) is not False

    def reset(self, resource: T) -> None:
        """Nothing, or what the script says."""
        self._run("reset", resource)

    def close(self, resource: T) -> None:
        """Calls ``resource.close()`` if there is such a method, or what the script says."""
        self._run("close", resource, getattr(resource, "close", None))

    def _run(self, hook: str, resource: T, act: Callable[[], object] | None = None) -> object:
        try:
            outcome = self._next(hook)
            if act is not None:
                act()
        except BaseException as error:
            self._note(Call(hook, resource, error))
            raise
        self._note(Call(hook, resource, False if outcome is False else OK))
        return outcome

    def _next(self, hook: str) -> Any:
        """The outcome of this call; raises it if it is an exception."""
        with self._state_changed:
            script = self._script[hook]
            outcome = script.popleft() if script else OK
        while isinstance(outcome, Hang):
            outcome = outcome.pass_through()
        if is_error(outcome):
            raise cast(BaseException, outcome)
        return outcome

    def _plain_resource(self) -> Any:
        if self._make is not None:
            return self._make()
        with self._state_changed:
            self._plain += 1
            return Resource(self._plain - 1)

    def _note(self, call: Call) -> None:
        with self._state_changed:
            self._calls.append(call)
            if call.hook == "create" and call.outcome is OK:
                self._made.append(call.resource)
                self._now += 1
                self._peak = max(self._peak, self._now)
            elif call.hook == "close":  # a failed one counts: the pool will not come back to it
                self._closings[id(call.resource)] += 1
                self._now -= self._closings[id(call.resource)] == 1
            self._state_changed.notify_all()

    # ---- The accounts: what the test asks
    # ---------------------------------------------------------

    @property
    def calls(self) -> list[Call]:
        """All calls that have ended so far, in the order of their ends."""
        with self._state_changed:
            return list(self._calls)

    @property
    def made(self) -> list[T]:
        """The resources that were made."""
        with self._state_changed:
            return list(self._made)

    @property
    def checked(self) -> list[T]:
        """The resources that were checked, once for each check, whatever it said."""
        return self._given_to("check")

    @property
    def resets(self) -> list[T]:
        """The resources that were reset, once for each time, also if that failed."""
        return self._given_to("reset")

    @property
    def closed(self) -> list[T]:
        """The resources that were closed, once for each time, also if that failed."""
        return self._given_to("close")

    @property
    def open(self) -> list[T]:
        """The resources that were made and not closed."""
        with self._state_changed:
            return self._open()

    @property
    def peak(self) -> int:
        """How many were open at most at the same time, those being closed included."""
        with self._state_changed:
            return self._peak

    def _given_to(self, hook: str) -> list[T]:
        with self._state_changed:
            return [call.resource for call in self._calls if call.hook == hook]

    def _open(self) -> list[T]:
        return [resource for resource in self._made if not self._closings[id(resource)]]

    def assert_all_closed(self, within: float = 5.0) -> None:
        """Waits up to ``within`` seconds until all that was made is closed, since a pool closes
        some of it in the background.  AssertionError if something is open then, was closed twice,
        or was closed here but not made here."""
        deadline = time.monotonic() + within
        with self._state_changed:
            while self._open() and (left := deadline - time.monotonic()) > 0:
                self._state_changed.wait(left)
            closed = [call.resource for call in self._calls if call.hook == "close"]
            ours = {id(resource) for resource in self._made}
            faults = {
                "still open": self._open(),
                "closed twice": [one for one in self._made if self._closings[id(one)] > 1],
                "closed but not made here": [one for one in closed if id(one) not in ours],
            }
            made = len(self._made)
        problems = [
            f"{what}: {resources!r:.500}" for what, resources in faults.items() if resources
        ]
        if problems:
            raise AssertionError(f"of {made} resources made, " + "; ".join(problems))
