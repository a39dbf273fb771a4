"""A plain call that waits where an event loop runs: that is said when it begins to wait."""

from __future__ import annotations

import asyncio
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastpool import (
    EventLoopWarning,
    FastPool,
    KeyedPool,
    PoolTimeout,
    SharedPool,
    WeightedSemaphore,
)
from fastpool.queue import LifoQueue, Queue
from support.helpers import PATIENCE, Maker, ThreadRunner, eventually, works

SOON = 0.02  # seconds; a timeout that is tested itself


def on_loop(call: Callable[[], Any]) -> Any:
    """What a plain call returns that is made by a task."""

    async def main() -> Any:
        return call()

    return asyncio.run(main())


def heard(call: Callable[[], Any]) -> list[warnings.WarningMessage]:
    """The warnings of a call in a task, which may raise PoolTimeout, Empty or Full; one for each
    place, as with the default filter: a call that is let out of the queue and back waits twice."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            on_loop(call)
        except Exception as error:
            noted = " ".join(getattr(error, "__notes__", []))
            assert "event loop of asyncio" in noted and "stood still" in noted, noted
    mine = [one for one in caught if one.category is EventLoopWarning]
    return list({(one.filename, one.lineno): one for one in mine}.values())


def _enter(lease: Any) -> None:
    with lease:
        pass


_held: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_is_held() -> Iterator[None]:
    """At the end what `_taken` took is given back."""
    yield
    while _held:
        pool, held = _held.pop()
        if held is None:
            pool.release()
        else:
            held.release()
            pool.close()


def _taken(pool: Any, *args: Any) -> Any:
    """The pool, with its only slot taken."""
    _held.append((pool, pool.acquire(*args)))
    return pool


# What waits: a thing with nothing left, and the call.
def _fast() -> Any:
    return _taken(FastPool(items=["one"], name="db"))


def _keyed() -> Any:
    return _taken(KeyedPool(lambda key: object(), max_per_key=1, name="db"), "a")


def _shared() -> Any:
    return _taken(SharedPool(object, items=(0, 1), slots=1, name="db"))


def _seats() -> Any:
    return _taken(WeightedSemaphore(1, name="db"))


def _full() -> Any:
    queue: Any = Queue(1)
    queue.put(1)
    return queue


WAITS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any], str]] = {
    "get": (_fast, lambda pool: pool.get(timeout=SOON), "pool.lease()"),
    "acquire": (_fast, lambda pool: pool.acquire(SOON), "pool.lease()"),
    "lease": (_fast, lambda pool: _enter(pool.lease(SOON)), "pool.lease()"),
    "keyed": (_keyed, lambda pool: _enter(pool.lease("a", SOON)), "pool.lease()"),
    "shared": (_shared, lambda pool: _enter(pool.lease(SOON)), "pool.lease()"),
    "units": (_seats, lambda seats: seats.acquire(timeout=SOON), "semaphore.hold()"),
    "hold": (_seats, lambda seats: _enter(seats.hold(timeout=SOON)), "semaphore.hold()"),
    "queue use": (FastPool, lambda pool: pool.get(timeout=SOON), "pool.aget()"),
    "Queue.get": (Queue, lambda queue: queue.get(timeout=SOON), "asyncio.Queue"),
    "LifoQueue.get": (LifoQueue, lambda queue: queue.get(timeout=SOON), "asyncio.Queue"),
    "Queue.put": (_full, lambda queue: queue.put(2, timeout=SOON), "asyncio.Queue"),
}


@pytest.mark.parametrize("what", WAITS)
def test_a_wait_on_an_event_loop_is_said_once(what: str) -> None:
    """With the place of the call, and what to write in its stead; and again in the timeout."""
    make, call, cure = WAITS[what]
    thing = make()
    (warning,) = heard(lambda: call(thing))
    assert warning.filename == __file__
    assert cure in str(warning.message)
    kinds = ("db: ", "db['a']: ", "a queue of fastpool: ", "a semaphore of fastpool: ")
    assert str(warning.message).startswith(kinds)


def _at_once(pool: Any) -> None:
    with pytest.raises(Exception) as caught:
        pool.get(timeout=0) if hasattr(pool, "get") else pool.acquire(timeout=0)
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize("make", [_fast, Queue, _seats], ids=["pool", "queue", "semaphore"])
@pytest.mark.filterwarnings("error::fastpool.EventLoopWarning")
def test_what_does_not_wait_says_nothing(make: Callable[[], Any]) -> None:
    """Neither a hit nor a call that is not to wait, on an event loop."""
    on_loop(lambda: _at_once(make()))
    with FastPool(items=["one"]) as pool:
        on_loop(lambda: pool.put(pool.get()))
        on_loop(lambda: _enter(pool.lease()))
        pool.put(on_loop(pool.get))


@pytest.mark.filterwarnings("error::fastpool.EventLoopWarning")
def test_a_thread_without_a_loop_says_nothing(runner: ThreadRunner) -> None:
    """Not even one that a task has sent there, with the task's context."""
    with FastPool(items=["one"]) as pool, pool.lease():

        async def main() -> None:
            with pytest.raises(PoolTimeout) as caught:
                await asyncio.to_thread(pool.get, timeout=SOON)
            assert not hasattr(caught.value, "__notes__")
            with pytest.raises(PoolTimeout) as caught:
                await pool.aget(SOON)
            assert not hasattr(caught.value, "__notes__")

        asyncio.run(main())
        with pytest.raises(PoolTimeout):
            runner.start(pool.get, True, SOON).result()


def test_a_creation_and_a_check_are_waited_for_too(accounted: Any) -> None:
    """That the pool is not exhausted does not matter to the loop."""
    maker = Maker()

    def make() -> Any:
        """Ends no sooner than the caller has begun to wait: it may be held up before that."""
        eventually(lambda: pool.stats().waiting)
        return maker()

    pool, _ = accounted(1, maker, factory=make, check=lambda resource: True, check_after=0)
    assert len(heard(lambda: pool.put(pool.get()))) == 1
    pool.put(pool.get())  # used more than once: a check is due
    assert len(heard(lambda: pool.put(pool.get()))) == 1
    works(pool, 1)


def test_warm_and_close_wait_too(accounted: Any) -> None:
    """They name their own twins."""
    pool, _ = accounted(1)
    (warning,) = heard(lambda: pool.warm(1))
    assert "pool.awarm" in str(warning.message)
    assert not heard(lambda: pool.warm(1))
    lease = threading.Thread(target=lambda: held.append(pool.acquire()))
    held: list[Any] = []
    lease.start()
    lease.join(PATIENCE)
    (warning,) = heard(lambda: pool.close(SOON))
    assert "pool.aclose" in str(warning.message)
    assert not heard(lambda: pool.close(0))
    held.pop().release()


@pytest.mark.filterwarnings("error::fastpool.EventLoopWarning")
@pytest.mark.parametrize("make", [FastPool, SharedPool, KeyedPool])
def test_closing_what_nobody_holds_says_nothing(make: Any) -> None:
    """Though on an event loop it is workers who close, for whom it waits a moment."""

    def call() -> None:
        pool = make(lambda *key: object()) if make is not FastPool else FastPool(factory=object)
        key = ("key",) if make is KeyedPool else ()
        pool.acquire(*key, timeout=PATIENCE).release()
        pool.close()

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*a plain call waits.*aacquire")
        on_loop(call)


@pytest.mark.filterwarnings("error::fastpool.EventLoopWarning")
def test_as_an_error_it_loses_nothing(accounted: Any) -> None:
    """``warnings.simplefilter("error", EventLoopWarning)``: the call raises in place of waiting."""
    pool, maker = accounted(2)
    for _ in range(3):
        maker.gate.clear()  # else one may be there before the call has to wait
        with pytest.raises(EventLoopWarning, match=r"pool\.lease"):
            on_loop(pool.get)  # a creation is under way for it
        maker.gate.set()
        eventually(lambda: pool.stats().creating == 0)
        pool.flush()
    works(pool, 2)
    held = [pool.get(), pool.get()]
    for _ in range(3):
        with pytest.raises(EventLoopWarning):
            on_loop(lambda: pool.get(timeout=PATIENCE))
    assert pool.stats().waiting == 0
    for resource in held:
        pool.put(resource)
    works(pool, 2)
    queue: Any = Queue(1)
    with pytest.raises(EventLoopWarning):
        on_loop(queue.get)
    queue.put("only")
    with pytest.raises(EventLoopWarning):
        on_loop(lambda: queue.put("second"))
    with pytest.raises(EventLoopWarning):
        on_loop(queue.join)
    assert queue.get_nowait() == "only" and queue.empty()
    seats = WeightedSemaphore(1)
    with seats.hold():
        with pytest.raises(EventLoopWarning):
            on_loop(seats.acquire)
        assert seats.waiting == 0 and seats.in_use == 1
    assert seats.try_acquire()


def test_what_is_granted_during_the_warning_is_received() -> None:
    """The warning runs code of the user, and that takes time."""
    with FastPool(items=["one"]) as pool:
        held = pool.get()

        def show(*args: Any, **options: Any) -> None:
            pool.put(held)

        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = show
            assert on_loop(lambda: pool.get(timeout=PATIENCE)) == "one"
        pool.put("one")


def test_a_warning_that_waits_itself_comes_to_an_end() -> None:
    """It may be shown by something that needs the pool, say a log in a database."""
    shown = []
    with FastPool(items=["one"]) as pool:
        held = pool.get()

        def show(*args: Any, **options: Any) -> None:
            shown.append(args)
            with pytest.raises(PoolTimeout):
                pool.get(timeout=SOON)

        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = show
            with pytest.raises(PoolTimeout):
                on_loop(lambda: pool.get(timeout=SOON))
        pool.put(held)
    assert len(shown) == 1


def test_a_notebook_hears_it_in_the_time_out_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """There every cell runs on a loop, and one that takes its time is usual."""
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    with FastPool(items=["one"]) as pool:
        held = pool.get()
        assert not heard(lambda: pool.get(timeout=SOON))
        pool.put(held)
