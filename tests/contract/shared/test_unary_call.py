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
from support.helpers import ThreadRunner


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

    def failed(self, connection: Any, error: BaseException) -> None:
        self.failures.append((connection, error))

    def with_call(self, args: Any, kwargs: Any) -> Any:
        return "with_call", args, kwargs

    def future(self, args: Any, kwargs: Any) -> Any:
        return "future", args, kwargs


class Connection(CallConnection):
    """A connection whose method 0 returns its arguments."""

    def __init__(self, call: Any = None) -> None:
        self.set_call(0, call or (lambda *args, **kwargs: (self, args, kwargs)))


class Scene:
    def __init__(self, *lines: Connection, slots: int = 4, number: int = 0) -> None:
        self.pool: Any = SharedPool(Connection, items=(0, max(1, len(lines))), slots=slots)
        for connection in lines:
            self.pool.add(connection)
        self.closed_flag, self.method = ClosedFlag(), Method()
        self.call = UnaryCall(self.pool, self.closed_flag, number, self.method, None)

    @property
    def leases(self) -> int:
        return int(self.pool.stats().leases)


@pytest.fixture
def scenes() -> Iterator[Any]:
    made: list[Scene] = []

    def make(*lines: Connection, **options: Any) -> Scene:
        made.append(Scene(*lines, **options))
        return made[-1]

    yield make
    for scene in made:
        assert scene.leases == 0
        scene.pool.close(0)


def test_arguments_arrive_as_they_were_given(scenes: Any) -> None:
    connection = Connection()
    call = scenes(connection).call
    assert call() == (connection, (), {})
    assert call(1, 2, a=3) == (connection, (1, 2), {"a": 3})
    assert call(*[1], timeout=5) == (connection, (1,), {"timeout": 5})
    plain = type(call).__call__  # as those reach it who know no vectorcall
    assert plain(call, 1, a=2) == (connection, (1,), {"a": 2})
    assert call.with_call(1, a=2) == ("with_call", (1,), {"a": 2})
    assert call.future(1, a=2) == ("future", (1,), {"a": 2})


def test_a_slot_is_held_during_the_call_and_no_longer(scenes: Any) -> None:
    seen: list[int] = []
    scene = scenes(Connection(lambda: seen.append(scene.leases)))
    scene.call()
    assert seen == [1] and scene.leases == 0


def test_calls_go_to_the_connection_that_carries_least(scenes: Any) -> None:
    inner: list[Any] = []

    def nest(depth: int) -> None:
        if depth:
            inner.append(scene.pool.stats().idle)
            scene.call(depth - 1)

    scene = scenes(Connection(nest), Connection(nest))
    scene.call(2)
    assert inner == [1, 0]  # the second call was on the other


def test_errors_are_told_and_go_on(scenes: Any) -> None:
    error = OSError("gone")

    def fail() -> None:
        raise error

    connection = Connection(fail)
    scene = scenes(connection)
    with pytest.raises(OSError, match="gone") as caught:
        scene.call()
    assert caught.value is error and scene.method.failures == [(connection, error)]
    assert scene.leases == 0


def test_what_cannot_be_called_at_once_is_missed(scenes: Any) -> None:
    """No free slot, no resource, a method that was not looked up; with all of its arguments."""
    scene = scenes(Connection(), slots=1)
    with scene.pool.lease():
        assert scene.call(1, 2, a=3) == "missed"
    empty, other = scenes(), scenes(Connection(), number=5)  # its pool is not asked to open one
    assert empty.call(4) == other.call(b=5) == "missed"
    connection = Connection()
    connection.set_call(0, None)
    unknown = scenes(connection)
    assert unknown.call() == "missed"
    assert [each.method.missed for each in (scene, empty, other, unknown)] == [
        [((1, 2), {"a": 3})],
        [((4,), {})],
        [((), {"b": 5})],
        [((), {})],
    ]


def test_a_shut_flag_refuses(scenes: Any) -> None:
    scene = scenes(Connection())
    scene.closed_flag.shut = True
    for use in (scene.call, scene.call.with_call, scene.call.future):
        with pytest.raises(Closed):
            use(1)
    assert not scene.method.missed


def test_the_resource_must_be_a_connection() -> None:
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
    scene = scenes(Connection())
    call = UnaryCall(scene.pool, scene.closed_flag, 0, scene.method, owner)
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

    scene = scenes(Connection(sometimes))
    for number in range(300):
        if number == 100:
            before = sys.getrefcount(marker)
        try:
            scene.call(number % 3 == 0, _=marker)
        except ValueError as caught:
            caught.__traceback__ = None
        scene.method.failures.clear()
    assert sys.getrefcount(marker) <= before + 2


def test_many_threads_lose_no_slot(scenes: Any, runner: ThreadRunner, fast_switching: None) -> None:
    """Half of the calls fail, and methods are looked up and forgotten meanwhile."""
    stop = threading.Event()

    def odd(number: int) -> int:
        if number % 2:
            raise LookupError
        return number

    lines = [Connection(odd), Connection(odd)]
    scene = scenes(*lines, slots=3)

    def churn() -> None:
        number = 1
        while not stop.is_set():
            for connection in lines:
                connection.set_call(number % 50 + 1, odd)
            number += 1

    churner = runner.start(churn)

    def work(_: int) -> int:
        made = 0
        for number in range(500):
            try:
                made += scene.call(number) in (number, "missed")
            except LookupError:
                made += 1
        return made

    workers = runner.together(6, work)
    assert [worker.result() for worker in workers] == [500] * 6
    stop.set()
    churner.result()
