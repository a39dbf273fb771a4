"""ObjectCache: the contract of Go's sync.Pool, and what is better than there."""

from __future__ import annotations

import asyncio
import copy
import gc
import logging
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from fastpool import ObjectCache, _core, cache
from fastpool._runtime import launch, scheduler, threads
from support.helpers import GIL, ThreadRunner, eventually, wait_for_scheduler


class Thing:
    """What a cache keeps here."""


class Maker:
    """A `new` that counts."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self) -> Thing:
        self.made += 1
        return Thing()


@pytest.fixture
def new() -> Maker:
    return Maker()


@pytest.fixture
def by_hand() -> Iterator[None]:
    """No collection but those that the test asks for: each would be an epoch, or half of one."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def in_thread(function: Callable[..., Any], *args: Any) -> Any:
    """What the function returns in a thread of its own, which has ended by then."""
    runner = ThreadRunner()
    return runner.start(function, *args).result()


# ---- Get and Put --------------------------------------------------------------------------------


def test_get_calls_new_when_nothing_is_kept(new: Maker) -> None:
    things = ObjectCache(new)
    assert things.get() is not things.get()
    assert new.made == 2


def test_get_returns_what_was_put(new: Maker, by_hand: None) -> None:
    things = ObjectCache(new)
    thing = things.get()
    things.put(thing)
    assert things.get() is thing
    assert new.made == 1


def test_put_of_nil_is_ignored(new: Maker) -> None:
    things = ObjectCache(new)
    things.put(None)
    assert isinstance(things.get(), Thing)


def test_put_never_refuses_and_there_is_no_bound(new: Maker, by_hand: None) -> None:
    things = ObjectCache(new)
    many = [Thing() for _ in range(50_000)]
    for thing in many:
        things.put(thing)
    assert {id(things.get()) for _ in many} == {id(thing) for thing in many}
    assert new.made == 0


def test_any_object_will_do(by_hand: None) -> None:
    """Not only those that `new` made."""
    things: ObjectCache[Any] = ObjectCache(object)
    for odd in (0, "", (), Thing, things):
        things.put(odd)
        assert things.get() is odd


def test_the_own_thread_first_the_last_one_first(new: Maker, by_hand: None) -> None:
    """Own private slot, then the head of the own deque."""
    things = ObjectCache(new)
    mine = [Thing() for _ in range(20)]
    for thing in mine:
        things.put(thing)
    in_thread(things.put, Thing())
    assert [things.get() for _ in mine] == mine[::-1]


def test_a_thread_steals_from_others_the_oldest_first(new: Maker, by_hand: None) -> None:
    things = ObjectCache(new)
    theirs = [Thing() for _ in range(20)]

    def put_all() -> None:
        for thing in theirs:
            things.put(thing)

    done = threading.Event()
    ready = threading.Event()
    runner = ThreadRunner()
    runner.start(lambda: (put_all(), ready.set(), done.wait()))
    assert ready.wait(10)
    assert [things.get() for _ in theirs] == theirs
    done.set()
    runner.finish()
    assert new.made == 0


def test_the_private_object_of_an_idle_thread_is_found(new: Maker, by_hand: None) -> None:
    """In Go nobody else gets what a P keeps in its private place."""
    things = ObjectCache(new)
    thing = Thing()
    done, ready = threading.Event(), threading.Event()
    runner = ThreadRunner()
    runner.start(lambda: (things.put(thing), ready.set(), done.wait()))
    assert ready.wait(10)
    assert things.get() is thing
    done.set()
    runner.finish()


def test_what_ended_threads_have_put_is_found(new: Maker, by_hand: None) -> None:
    things = ObjectCache(new)
    left = [Thing() for _ in range(100)]
    for thing in left:
        in_thread(things.put, thing)
    assert {id(things.get()) for _ in left} == {id(thing) for thing in left}
    assert new.made == 0


def test_new_is_not_called_while_anything_is_kept(
    new: Maker, by_hand: None, runner: ThreadRunner
) -> None:
    """One at a time, by many threads: one object is enough."""
    things = ObjectCache(new)
    turn = threading.Lock()

    def borrow(_: int) -> None:
        for _ in range(200):
            with turn:
                things.put(things.get())

    runner.together(8, borrow)
    runner.finish()
    assert new.made == 1


def test_two_puts_running_of_one_object_keep_it_once(new: Maker, by_hand: None) -> None:
    """A double put, which in Go lends one object to two."""
    things = ObjectCache(new)
    thing = things.get()
    references = sys.getrefcount(thing)
    for _ in range(3):
        things.put(thing)
    assert sys.getrefcount(thing) == references + 1
    assert things.get() is thing and things.get() is not thing


# ---- Epochs -------------------------------------------------------------------------------------


def stocked(things: ObjectCache[Thing], count: int) -> list[weakref.ref[Thing]]:
    """As many objects put by this thread and as many by one that has ended."""
    references = []

    def put() -> None:
        for _ in range(count):
            thing = Thing()
            references.append(weakref.ref(thing))
            things.put(thing)

    put()
    in_thread(put)
    return references


def alive(references: list[weakref.ref[Thing]]) -> int:
    return sum(reference() is not None for reference in references)


def test_what_is_unused_for_two_collections_is_dropped(new: Maker, by_hand: None) -> None:
    things = ObjectCache(new)
    references = stocked(things, 10)
    gc.collect()
    assert alive(references) == 20
    gc.collect()
    assert alive(references) == 0
    assert isinstance(things.get(), Thing) and new.made == 1


def test_a_victim_that_is_used_lives_on(new: Maker, by_hand: None) -> None:
    things = ObjectCache(new)
    thing = things.get()
    for _ in range(5):
        things.put(thing)
        gc.collect()
        assert things.get() is thing
    assert new.made == 1


def test_the_new_generation_is_asked_before_the_victims(new: Maker, by_hand: None) -> None:
    """So that victims age out."""
    things = ObjectCache(new)
    old, theirs = Thing(), Thing()
    things.put(old)
    gc.collect()
    in_thread(lambda: (things.put(theirs), things.put(Thing())))
    assert things.get() is theirs


@pytest.mark.skipif(not GIL, reason="every collection of a free-threaded build is a full one")
def test_a_collection_of_young_objects_is_no_epoch(new: Maker, by_hand: None) -> None:
    things = ObjectCache(new)
    references = stocked(things, 3)
    for generation in (0, 1) * 3:
        gc.collect(generation)
    assert alive(references) == 6


@pytest.mark.skipif(GIL, reason="there are generations with the GIL")
def test_every_collection_of_a_free_threaded_build_is_an_epoch(new: Maker, by_hand: None) -> None:
    things = ObjectCache(new)
    references = stocked(things, 3)
    gc.collect(0)
    gc.collect(0)
    assert alive(references) == 0


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Has the scheduler look after the caches, so many seconds from now."""
    monkeypatch.setattr(cache, "scheduler", SimpleNamespace(call_at=lambda at, call: None))

    def look(seconds: float) -> None:
        now = time.monotonic() + seconds
        monkeypatch.setattr(cache, "time", SimpleNamespace(monotonic=lambda: now))
        scheduler.call_soon(cache.due)
        wait_for_scheduler()

    return look


def test_without_collections_it_takes_two_minutes(
    new: Maker, by_hand: None, at: Callable[[float], None]
) -> None:
    things = ObjectCache(new)
    references = stocked(things, 10)
    at(59)
    at(61)
    assert alive(references) == 20
    at(122)
    eventually(lambda: alive(references) == 0)
    assert isinstance(things.get(), Thing)


def test_a_collection_puts_the_minute_off(
    new: Maker, by_hand: None, at: Callable[[float], None]
) -> None:
    things = ObjectCache(new)
    references = stocked(things, 10)
    gc.collect()
    for seconds in (10, 30, 59):
        at(seconds)
    assert alive(references) == 20
    gc.collect()
    assert alive(references) == 0


def test_the_scheduler_runs_no_finaliser(
    new: Maker, by_hand: None, at: Callable[[float], None]
) -> None:
    ended_by: list[str] = []

    class Noisy:
        def __del__(self) -> None:
            ended_by.append(threading.current_thread().name)

    things: ObjectCache[Any] = ObjectCache(Noisy)
    things.put(Noisy())
    at(61)
    at(122)
    eventually(lambda: ended_by)
    # A free-threaded build may leave it to the thread that made the object.
    assert ended_by == ["fastpool-cache"] if GIL else ended_by != ["fastpool-scheduler"]


def test_without_a_thread_to_be_had_it_is_let_go_later(
    new: Maker, by_hand: None, at: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finalisers are users' code, which the scheduler does not run."""
    wait_for_scheduler()

    def refuse(*args: Any) -> None:
        raise RuntimeError("can't start new thread")

    things = ObjectCache(new)
    references = stocked(things, 3)
    monkeypatch.setattr(threads, "_shared", {})
    with monkeypatch.context() as patch:
        patch.setattr(launch, "start_new_thread", refuse)
        at(61)
        at(122)
        assert alive(references) == len(references)
    eventually(lambda: alive(references) == 0)
    assert isinstance(things.get(), Thing)


def test_time_is_watched_while_a_cache_is_in_use(
    new: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    gc.collect()
    watched: list[Any] = []
    scheduler_stand_in = SimpleNamespace(call_at=lambda at, call: watched.append(call))
    monkeypatch.setattr(cache, "scheduler", scheduler_stand_in)
    hour = SimpleNamespace(monotonic=lambda: time.monotonic() + 3600)
    monkeypatch.setattr(cache, "time", hour)
    cache.due()  # nobody has one any more
    assert not _core.caches_watched(), "a cache outlives its test"
    del watched[:]
    things = ObjectCache(new)
    things.get()
    assert watched == []  # not before something is kept
    things.put(Thing())
    other = ObjectCache(new)
    other.put(Thing())
    assert watched == [cache.due]  # once
    cache.due()
    assert watched == [cache.due] * 2
    del things, other
    cache.due()
    assert watched == [cache.due] * 2
    assert not _core.caches_watched()


def test_the_next_look_is_a_minute_later(
    new: Maker, by_hand: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first object that is kept, and after each look that ended a generation."""
    gc.collect()
    now = time.monotonic() + 3600
    watched: list[float] = []
    monkeypatch.setattr(cache, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(
        cache, "scheduler", SimpleNamespace(call_at=lambda at, _: watched.append(at))
    )
    cache.due()  # nobody has one any more
    del watched[:]
    things = ObjectCache(new)
    things.put(Thing())
    assert watched == [now + 60]
    now += 3600
    cache.due()
    assert watched[1:] == [now + 60]
    del things
    cache.due()


# ---- The hooks ----------------------------------------------------------------------------------


def test_reset_is_called_by_put(by_hand: None) -> None:
    buffers: ObjectCache[list[int]] = ObjectCache(list, reset=list.clear)
    buffer = buffers.get()
    buffer.append(1)
    buffers.put(buffer)
    assert buffer == []
    assert buffers.get() is buffer


def test_an_object_whose_reset_fails_is_logged_and_dropped(
    new: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(thing: Thing) -> None:
        raise ValueError("cannot be used again")

    things = ObjectCache(new, reset=fail)
    with caplog.at_level(logging.WARNING, "fastpool"):
        things.put(things.get())
    assert "reset failed; the object is dropped" in caplog.text
    assert "cannot be used again" in caplog.text
    things.get()
    assert new.made == 2


def test_what_is_not_an_exception_leaves_put(new: Maker) -> None:
    def interrupted(thing: Thing) -> None:
        raise KeyboardInterrupt

    things = ObjectCache(new, reset=interrupted)
    with pytest.raises(KeyboardInterrupt):
        things.put(things.get())
    things.get()
    assert new.made == 2


def test_what_new_raises_is_raised(by_hand: None) -> None:
    answers: list[Any] = [ValueError("no memory"), Thing()]

    def make() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    things = ObjectCache(make)
    with pytest.raises(ValueError, match="no memory"):
        things.get()
    assert isinstance(things.get(), Thing)


def test_new_has_to_make_an_object() -> None:
    """Go's Get returns nil where there is no New."""
    with pytest.raises(TypeError, match="returned None"):
        ObjectCache(lambda: None).get()


async def coroutine(*args: Any) -> None:
    pass


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((42,), {}, "new must be a callable that makes an object, not 42"),
        ((None,), {}, "new must be a callable"),
        ((list,), {"reset": 42}, "reset must be a callable of one object, not 42"),
        ((coroutine,), {}, "new is a coroutine function, and get.. and put.. await nothing"),
        ((list,), {"reset": coroutine}, "reset is a coroutine function"),
        ((), {}, "new must be a callable that makes an object, not None"),
        ((list, list.clear), {}, "takes one argument by position, new, and was given 2"),
        ((list,), {"size": 3}, "unexpected keyword argument 'size'"),
    ],
)
def test_bad_arguments(arguments: Any, options: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        ObjectCache(*arguments, **options)


def test_a_subclass_that_forgets_to_initialise_is_told(by_hand: None) -> None:
    class Forgetful(ObjectCache[Thing]):
        def __init__(self) -> None:
            pass

    things = Forgetful()
    with pytest.raises(ReferenceError, match="was not initialised"):
        things.get()
    things.put(thing := Thing())
    assert things.get() is thing


def test_it_is_initialised_once_and_not_copied() -> None:
    things = ObjectCache(Thing)
    with pytest.raises(RuntimeError, match="initialised once"):
        things.__init__(list)  # type: ignore[misc]
    with pytest.raises(TypeError):
        copy.copy(things)


def test_what_it_says_of_itself() -> None:
    assert repr(ObjectCache(Thing)) == "<ObjectCache of Thing>"
    assert ObjectCache[Thing].__origin__ is ObjectCache
    assert weakref.ref(things := ObjectCache(Thing))() is things


# ---- Re-entrancy --------------------------------------------------------------------------------


def test_new_may_use_the_cache_itself(by_hand: None) -> None:
    def make() -> Any:
        things.put(other)
        return Thing()

    other = Thing()
    things = ObjectCache(make)
    assert things.get() is not other
    assert things.get() is other


def test_put_in_a_finaliser_inside_get(new: Maker) -> None:
    """`new` runs the collector, whose finalisers give back to the very cache, epochs included."""

    class Holder:
        def __init__(self) -> None:
            self.thing = Thing()
            self.me = self

        def __del__(self) -> None:
            things.put(self.thing)

    def make() -> Thing:
        Holder()
        gc.collect()
        gc.collect()
        return Thing()

    things = ObjectCache(make)
    for _ in range(10):
        held = [things.get() for _ in range(10)]
        assert len({id(thing) for thing in held}) == 10
        for thing in held:
            things.put(thing)


def test_get_and_put_in_a_callback_of_the_collector(new: Maker) -> None:
    things = ObjectCache(new)

    def callback(phase: str, info: Any) -> None:
        one, other = things.get(), things.get()
        things.put(one)
        things.put(other)

    gc.callbacks.insert(0, callback)
    gc.callbacks.append(callback)
    try:
        for _ in range(20):
            held = [things.get() for _ in range(5)]
            for thing in held:
                things.put(thing)
            gc.collect()
    finally:
        gc.callbacks.remove(callback)
        gc.callbacks.remove(callback)


def test_an_object_that_is_dropped_may_use_the_cache(new: Maker, by_hand: None) -> None:
    kept: list[Thing] = []

    class Last:
        def __del__(self) -> None:
            things.put(thing := Thing())
            kept.append(thing)

    things: ObjectCache[Any] = ObjectCache(new)
    things.put(Last())
    gc.collect()
    gc.collect()
    assert len(kept) == 1
    assert things.get() is kept[0]


def test_a_cache_may_end_while_it_is_emptied(by_hand: None) -> None:
    """What an epoch drops holds the last reference to caches that are not empty either."""

    class Owner:
        def __init__(self) -> None:
            self.caches = [ObjectCache(Thing) for _ in range(5)]
            for one in self.caches:
                one.put(Thing())

    def build() -> list[weakref.ref[Any]]:
        owner = Owner()
        outer.put(owner)
        return [weakref.ref(one) for one in owner.caches]

    outer: ObjectCache[Any] = ObjectCache(Thing)
    references = build()
    gc.collect()
    assert all(reference() is not None for reference in references)
    gc.collect()
    assert [reference() for reference in references] == [None] * 5


# ---- Collection ---------------------------------------------------------------------------------


def test_a_cache_lets_go_of_all_when_it_ends(new: Maker, by_hand: None) -> None:
    things = ObjectCache(new)
    references = stocked(things, 10)
    gc.collect()
    references += stocked(things, 10)
    del things
    assert alive(references) == 0


@pytest.fixture
def no_epochs(by_hand: None) -> Iterator[None]:
    """Collections drop nothing: what they free is what they have found."""
    ObjectCache(Thing)
    gc.callbacks.remove(_core.collected)
    yield
    gc.callbacks.append(_core.collected)


@pytest.mark.parametrize("where", ["last", "recent", "old", "other thread", "new", "reset"])
def test_a_cache_in_a_cycle_is_collected(no_epochs: None, where: str) -> None:
    """A tuple cannot be cleared, so that the cache has to see it and to let go of it."""

    def cycle() -> weakref.ref[Any]:
        if where in ("new", "reset"):
            box: list[Any] = []
            hook = partial(print, box)
            hooks: dict[str, Any] = {"new": Thing, "reset": None, where: hook}
            box.append(ObjectCache(**hooks))
            return weakref.ref(box[0])
        things: ObjectCache[Any] = ObjectCache(Thing)
        held = (things,)
        if where == "other thread":
            in_thread(things.put, held)
        else:
            things.put(held)
        if where in ("recent", "old"):
            things.put(Thing())
        if where == "old":
            _core.advance_caches()
        return weakref.ref(things)

    def count() -> int:  # weak references are dead before anything is let go
        return sum(type(one) is ObjectCache for one in gc.get_objects())

    before = count()
    reference = cycle()
    assert reference() is not None
    gc.collect()
    assert reference() is None
    assert count() == before


def test_a_service_that_makes_its_own_objects_is_collected(no_epochs: None) -> None:
    """`new=self.make`, and what is kept refers to the cache."""

    class Service:
        def __init__(self) -> None:
            self.things = ObjectCache(self.make, reset=self.reset)

        def make(self) -> Thing:
            thing = Thing()
            thing.service = self  # type: ignore[attr-defined]
            return thing

        def reset(self, thing: Thing) -> None:
            pass

    def used() -> weakref.ref[Any]:
        service = Service()
        held = [service.things.get() for _ in range(5)]
        for thing in held:
            service.things.put(thing)
        return weakref.ref(service)

    reference = used()
    gc.collect()
    assert reference() is None


def test_what_only_a_cache_refers_to_is_not_collected(new: Maker, by_hand: None) -> None:
    """The collector is told the truth: a missing visit would free too much, a double one too."""
    things = ObjectCache(new)
    for _ in range(3):
        thing = Thing()
        thing.me = [thing]  # type: ignore[attr-defined]
        things.put(thing)
    del thing
    gc.collect()
    held = [things.get() for _ in range(3)]
    assert new.made == 0
    assert all(thing.me[0] is thing for thing in held)  # type: ignore[attr-defined]


def test_many_caches(by_hand: None) -> None:
    caches = [ObjectCache(Thing) for _ in range(2000)]
    things = [one.get() for one in caches]
    for one, thing in zip(caches, things):
        one.put(thing)
    gc.collect()
    assert all(one.get() is thing for one, thing in zip(caches, things))
    references = [weakref.ref(thing) for thing in things]
    for one, thing in zip(caches, things):
        one.put(thing)
    del caches, one, things, thing
    assert alive(references) == 0


def test_references_are_balanced(by_hand: None) -> None:
    things: ObjectCache[Any] = ObjectCache(object)
    marks = [Thing() for _ in range(4)]

    def counts() -> list[int]:
        return [sys.getrefcount(marks[index]) for index in range(4)]

    def put_all() -> None:
        for index in range(4):
            things.put(marks[index])

    before = counts()
    for _ in range(20):
        put_all()
        gc.collect()
        assert [things.get() for _ in marks] == marks[::-1]
        in_thread(put_all)
        assert [things.get() for _ in marks] == marks
    assert counts() == before


# ---- Threads and tasks --------------------------------------------------------------------------


class Owned:
    """Is with one owner at a time, or says so."""

    def __init__(self) -> None:
        self.owner: object = None


def borrow(things: ObjectCache[Owned], rounds: int) -> None:
    me = object()
    for number in range(rounds):
        held = [things.get() for _ in range(number % 4 + 1)]
        for one in held:
            assert one.owner is None, "with two"
            one.owner = me
        for one in held:
            assert one.owner is me, "with two"
            one.owner = None
            things.put(one)


def test_no_object_is_with_two(runner: ThreadRunner, fast_switching: None) -> None:
    """TestPoolStress: threads that come and go, on several caches, while epochs end."""
    caches = [ObjectCache(Owned) for _ in range(3)]
    over = threading.Event()

    def come_and_go(index: int) -> None:
        for _ in range(15):
            in_thread(borrow, caches[index % 3], 100)

    def turn() -> None:
        while not over.is_set():
            _core.advance_caches()
            ObjectCache(Owned).put(Owned())
            time.sleep(0.0005)

    turner = runner.start(turn)
    workers = runner.together(6, come_and_go)
    for worker in workers:
        worker.result(30)
    over.set()
    turner.result()


def test_tasks_share_with_threads(runner: ThreadRunner, by_hand: None) -> None:
    """It never waits, so that it needs no other face."""
    things = ObjectCache(Owned)

    async def main() -> None:
        async def task() -> None:
            for _ in range(50):
                one = things.get()
                assert one.owner is None
                one.owner = asyncio.current_task()
                await asyncio.sleep(0)
                assert one.owner is asyncio.current_task()
                one.owner = None
                things.put(one)

        await asyncio.gather(*(task() for _ in range(20)))

    runner.start(asyncio.run, main())
    runner.start(asyncio.run, main())
    runner.start(borrow, things, 500)
    runner.finish()
