"""UnaryCall: arguments passed on untouched, and a slot taken and given back whatever happens."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from fastpool import SharedPool
from fastpool._core import CallConnection, ClosedFlag, UnaryCall
from support.helpers import Crew


class Closed(Exception):
    pass


class Method:
    """What stands behind a call, and keeps accounts."""

    def __init__(self) -> None:
        self.missed: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self.failures: list[tuple[Any, BaseException]] = []

    def closed(self) -> None:
        raise Closed

    def miss(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        self.missed.append((args, kwargs))
        return "missed"

    def failed(self, carrier: Any, error: BaseException) -> None:
        self.failures.append((carrier, error))

    def with_call(self, args: Any, kwargs: Any) -> Any:
        return "with_call", args, kwargs

    def future(self, args: Any, kwargs: Any) -> Any:
        return "future", args, kwargs


class Line(CallConnection):
    """A connection whose method 0 returns its arguments."""

    def __init__(self, call: Any = None) -> None:
        self.set_call(0, call or (lambda *args, **kwargs: (self, args, kwargs)))


class Scene:
    def __init__(self, *lines: Line, slots: int = 4, number: int = 0) -> None:
        self.pool: Any = SharedPool(Line, items=(0, max(1, len(lines))), slots=slots)
        for line in lines:
            self.pool.add(line)
        self.latch, self.method = ClosedFlag(), Method()
        self.call = UnaryCall(self.pool, self.latch, number, self.method, None)

    @property
    def leases(self) -> int:
        return int(self.pool.stats().leases)


@pytest.fixture
def scenes() -> Iterator[Any]:
    made: list[Scene] = []

    def make(*lines: Line, **options: Any) -> Scene:
        made.append(Scene(*lines, **options))
        return made[-1]

    yield make
    for scene in made:
        assert scene.leases == 0
        scene.pool.close(0)


def test_arguments_arrive_as_they_were_given(scenes: Any) -> None:
    line = Line()
    call = scenes(line).call
    assert call() == (line, (), {})
    assert call(1, 2, a=3) == (line, (1, 2), {"a": 3})
    assert call(*[1], timeout=5) == (line, (1,), {"timeout": 5})
    plain = type(call).__call__  # as those reach it who know no vectorcall
    assert plain(call, 1, a=2) == (line, (1,), {"a": 2})
    assert call.with_call(1, a=2) == ("with_call", (1,), {"a": 2})
    assert call.future(1, a=2) == ("future", (1,), {"a": 2})


def test_a_slot_is_held_during_the_call_and_no_longer(scenes: Any) -> None:
    seen: list[int] = []
    scene = scenes(Line(lambda: seen.append(scene.leases)))
    scene.call()
    assert seen == [1] and scene.leases == 0


def test_calls_go_to_the_line_that_carries_least(scenes: Any) -> None:
    inner: list[Any] = []

    def nest(depth: int) -> None:
        if depth:
            inner.append(scene.pool.stats().idle)
            scene.call(depth - 1)

    scene = scenes(Line(nest), Line(nest))
    scene.call(2)
    assert inner == [1, 0]  # the second call was on the other


def test_errors_are_told_and_go_on(scenes: Any) -> None:
    error = OSError("gone")

    def fail() -> None:
        raise error

    line = Line(fail)
    scene = scenes(line)
    with pytest.raises(OSError, match="gone") as caught:
        scene.call()
    assert caught.value is error and scene.method.failures == [(line, error)]
    assert scene.leases == 0


def test_what_cannot_be_called_at_once_is_missed(scenes: Any) -> None:
    """No free slot, no resource, a method that was not looked up; with all of its arguments."""
    scene = scenes(Line(), slots=1)
    with scene.pool.lease():
        assert scene.call(1, 2, a=3) == "missed"
    empty, other = scenes(), scenes(Line(), number=5)  # its pool is not asked to open one
    assert empty.call(4) == other.call(b=5) == "missed"
    line = Line()
    line.set_call(0, None)
    unknown = scenes(line)
    assert unknown.call() == "missed"
    assert [each.method.missed for each in (scene, empty, other, unknown)] == [
        [((1, 2), {"a": 3})],
        [((4,), {})],
        [((), {"b": 5})],
        [((), {})],
    ]


def test_a_shut_latch_refuses(scenes: Any) -> None:
    scene = scenes(Line())
    scene.latch.shut = True
    for use in (scene.call, scene.call.with_call, scene.call.future):
        with pytest.raises(Closed):
            use(1)
    assert not scene.method.missed


def test_the_resource_must_be_a_carrier() -> None:
    pool: Any = SharedPool(object, items=1)
    call = UnaryCall(pool, ClosedFlag(), 0, Method(), None)
    pool.warm(1)
    with pytest.raises(TypeError):
        call()
    assert pool.stats().leases == 0
    pool.close(0)
    with pytest.raises(TypeError):
        UnaryCall(None, ClosedFlag(), 0, Method(), None)  # type: ignore[arg-type]


def test_it_keeps_what_it_needs_and_nothing_after_it(scenes: Any) -> None:
    class Owner:
        pass

    owner = Owner()
    gone = weakref.ref(owner)
    scene = scenes(Line())
    call = UnaryCall(scene.pool, scene.latch, 0, scene.method, owner)
    del owner
    gc.collect()
    assert gone() is not None
    call(1)
    del call
    gc.collect()
    assert gone() is None


def test_references_do_not_grow(scenes: Any) -> None:
    marker, error = object(), ValueError("x")

    def sometimes(fail: bool, _: object) -> object:
        if fail:
            raise error
        return marker

    scene = scenes(Line(sometimes))
    for number in range(300):
        if number == 100:
            before = sys.getrefcount(marker)
        try:
            scene.call(number % 3 == 0, _=marker)
        except ValueError as caught:
            caught.__traceback__ = None
        scene.method.failures.clear()
    assert sys.getrefcount(marker) <= before + 2


def test_many_threads_lose_no_slot(scenes: Any, crew: Crew, fast_switching: None) -> None:
    """Half of the calls fail, and methods are looked up and forgotten meanwhile."""
    stop = threading.Event()

    def odd(number: int) -> int:
        if number % 2:
            raise LookupError
        return number

    lines = [Line(odd), Line(odd)]
    scene = scenes(*lines, slots=3)

    def churn() -> None:
        number = 1
        while not stop.is_set():
            for line in lines:
                line.set_call(number % 50 + 1, odd)
            number += 1

    churner = crew.start(churn)

    def work(_: int) -> int:
        made = 0
        for number in range(500):
            try:
                made += scene.call(number) in (number, "missed")
            except LookupError:
                made += 1
        return made

    workers = crew.together(6, work)
    assert [worker.result() for worker in workers] == [500] * 6
    stop.set()
    churner.result()
