"""FastPool without a factory, Queue and LifoQueue: what a user of `queue` relies on."""

from __future__ import annotations

import queue
import time
import weakref
from typing import Any

import pytest

import fastpool
from contract.queue.kinds import CLOSABLE, EVERY, OURS, Kind
from support.callers import FastPool
from support.helpers import ThreadRunner, eventually

pytestmark = pytest.mark.usefixtures("caller_kind")

every = pytest.mark.parametrize("kind", EVERY, ids=repr)
ours = pytest.mark.parametrize("kind", OURS, ids=repr)
closable = pytest.mark.parametrize("kind", CLOSABLE, ids=repr)


class TestItems:
    @every
    def test_items_leave_in_the_order_of_the_class(self, kind: Kind) -> None:
        """Last in first out or first in first out, exactly, over several refills."""
        q = kind.make()
        for size in (1, 2, 7, 100, 1000):
            for item in range(size):
                q.put(item)
            assert [q.get() for _ in range(size)] == kind.order(list(range(size)))

    @every
    def test_order_holds_when_puts_and_gets_alternate(self, kind: Kind) -> None:
        """A ring that wraps around while it holds items keeps their order."""
        q = kind.make(5)
        expected: list[int] = []
        for item in range(200):
            q.put(item)
            expected.append(item)
            if len(expected) >= 3:
                assert q.get() == expected.pop(-1 if kind.lifo else 0)
        assert list(q.queue) == expected

    @every
    @pytest.mark.parametrize(
        "item", [None, 0, "", float("nan"), (), NotImplemented], ids=lambda item: repr(item)
    )
    def test_any_object_is_an_item(self, kind: Kind, item: object) -> None:
        """None and every falsy or odd object comes out as the same object."""
        q = kind.make(1)
        q.put(item)
        assert q.get() is item

    @every
    def test_the_same_object_may_be_in_it_many_times(self, kind: Kind) -> None:
        """A queue is no set: equal and identical items are all kept."""
        q = kind.make()
        for _ in range(10):
            q.put(None)
        assert [q.get() for _ in range(10)] == [None] * 10

    @every
    def test_every_argument_can_be_given_by_name(self, kind: Kind) -> None:
        """The names of the parameters are the standard library's."""
        q = kind.make(maxsize=2)
        q.put(item=1, block=True, timeout=None)
        q.put_nowait(2)  # by position only: the price of its speed
        assert q.get(block=True, timeout=None) == kind.order([1, 2])[0]
        assert q.get(block=False) == kind.order([1, 2])[1]

    @every
    def test_a_taken_item_is_forgotten(self, kind: Kind) -> None:
        """After get the queue holds no reference to the item."""

        class Item:
            pass

        q = kind.make()
        q.put(Item())
        gone = weakref.ref(q.get())
        assert gone() is None

    @every
    def test_a_queue_that_holds_itself_is_collected(self, kind: Kind, collect: Any) -> None:
        """Items take part in garbage collection, so a cycle through a queue is no leak."""

        class Item:
            pass

        q, item = kind.make(), Item()
        item.queue = q
        q.put(item)
        gone = weakref.ref(item)
        del q, item
        collect()
        assert gone() is None

    @pytest.mark.threads_only("about the type")
    @every
    def test_an_empty_queue_is_true_and_can_be_weakly_referenced(self, kind: Kind) -> None:
        """`queue or default` picks the queue, and finalisers can watch it."""
        q = kind.make()
        assert q
        assert weakref.ref(q)() is q


class TestSizes:
    @every
    def test_qsize_empty_and_full_follow_each_operation(self, kind: Kind) -> None:
        """The three questions give the exact answer when nobody else is at work."""
        q = kind.make(3)
        for size in range(3):
            assert (q.qsize(), q.empty(), q.full()) == (size, size == 0, False)
            q.put(size)
        assert (q.qsize(), q.empty(), q.full()) == (3, False, True)

    @every
    def test_zero_means_no_bound(self, kind: Kind) -> None:
        """maxsize 0, the default, takes any number of items and is never full."""
        q = kind.make()
        assert q.maxsize == 0
        for item in range(10_000):
            q.put_nowait(item)
        assert q.qsize() == 10_000 and not q.full()

    @every
    def test_maxsize_can_be_raised(self, kind: Kind) -> None:
        """A higher maxsize counts from the next put on."""
        q = kind.make(1)
        q.put(1)
        q.maxsize = 2
        q.put_nowait(2)
        with pytest.raises(queue.Full):
            q.put_nowait(3)
        assert q.maxsize == 2 and q.full()

    @every
    def test_maxsize_below_what_is_in_it_keeps_the_items(self, kind: Kind) -> None:
        """A lower maxsize refuses new items until enough have left, and loses none."""
        q = kind.make(4)
        for item in range(4):
            q.put(item)
        q.maxsize = 2
        assert q.full() and q.qsize() == 4
        taken = [q.get() for _ in range(2)]
        with pytest.raises(queue.Full):
            q.put_nowait("no")
        taken.append(q.get())
        q.put_nowait("yes")
        assert taken == kind.order(list(range(4)))[:3]

    @every
    def test_queue_lists_the_items_oldest_first(self, kind: Kind) -> None:
        """`.queue` can be iterated, as redis and kombu do."""
        q = kind.make()
        for item in "abc":
            q.put(item)
        assert list(q.queue) == ["a", "b", "c"]


class TestRefusals:
    @every
    def test_an_empty_queue_raises_empty(self, kind: Kind) -> None:
        """Each form of a get that does not wait raises exactly queue.Empty."""
        q = kind.make()
        forms = [
            q.get_nowait,
            lambda: q.get(False),
            lambda: q.get(block=False),
            lambda: q.get(timeout=0),
            lambda: q.get(True, 0.001),
        ]
        for form in forms:
            with pytest.raises(queue.Empty) as caught:
                form()
            assert caught.type is queue.Empty

    @every
    def test_a_full_queue_raises_full(self, kind: Kind) -> None:
        """Each form of a put that does not wait raises exactly queue.Full and keeps nothing."""
        q = kind.make(1)
        q.put(1)
        forms = [
            lambda: q.put_nowait(2),
            lambda: q.put(2, False),
            lambda: q.put(2, block=False),
            lambda: q.put(2, timeout=0),
            lambda: q.put(2, True, 0.001),
        ]
        for form in forms:
            with pytest.raises(queue.Full) as caught:
                form()
            assert caught.type is queue.Full
        assert list(q.queue) == [1]

    @ours
    def test_the_exceptions_are_looked_up_when_raised(
        self, kind: Kind, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever replaces queue.Empty or queue.Full afterwards, as urllib3's users do, gets it."""

        class OwnEmpty(Exception):
            pass

        class OwnFull(Exception):
            pass

        q = kind.make(1)
        monkeypatch.setattr(queue, "Empty", OwnEmpty)
        monkeypatch.setattr(queue, "Full", OwnFull)
        with pytest.raises(OwnEmpty):
            q.get_nowait()
        q.put(1)
        with pytest.raises(OwnFull):
            q.put_nowait(2)

    @every
    def test_a_negative_timeout_is_an_error(self, kind: Kind) -> None:
        """A negative timeout is a ValueError, before anything is taken or stored."""
        q = kind.make(2)
        with pytest.raises(ValueError, match="timeout"):
            q.put(1, timeout=-1)
        assert q.empty()
        q.put(1)
        with pytest.raises(ValueError, match="timeout"):
            q.get(timeout=-0.5)
        assert q.qsize() == 1

    @every
    def test_a_timeout_is_waited_for(self, kind: Kind) -> None:
        """A get with a timeout does not give up before it is over."""
        q = kind.make()
        start = time.monotonic()
        with pytest.raises(queue.Empty):
            q.get(timeout=0.05)
        assert time.monotonic() - start >= 0.049

    @pytest.mark.threads_only("about the type")
    @ours
    @pytest.mark.parametrize("name", ["mutex", "not_empty", "not_full", "all_tasks_done", "_put"])
    def test_internals_of_the_standard_class_say_why_they_are_missing(
        self, kind: Kind, name: str
    ) -> None:
        """The AttributeError names what was asked for and says that there is no such lock."""
        with pytest.raises(AttributeError, match=name) as caught:
            getattr(kind.make(), name)
        assert len(str(caught.value)) > len(f"'FastPool' object has no attribute '{name}'")

    @pytest.mark.threads_only("about the type")
    @ours
    def test_overriding_the_hooks_of_the_standard_class_is_refused(self, kind: Kind) -> None:
        """A subclass with a _put of its own would never be asked: it cannot be made or used."""
        base = type(kind.make())
        with pytest.raises((TypeError, AttributeError)):
            type("Own", (base,), {"_put": lambda self, item: None})()

    @pytest.mark.threads_only("about the type")
    @ours
    def test_a_queue_cannot_be_pickled(self, kind: Kind) -> None:
        """A queue lives in one process, as the standard library's."""
        import copy
        import pickle

        for act in (pickle.dumps, copy.copy):
            with pytest.raises(TypeError):
                act(kind.make())


@pytest.mark.threads_only("about the type")
def test_fastpool_can_be_subscripted() -> None:
    """FastPool[T] is usable in annotations and calls at run time."""
    assert fastpool.FastPool[int] is not None
    q: Any = fastpool.FastPool[int](1)
    q.put(1)
    assert q.get() == 1


@pytest.mark.threads_only("threads race for the items; tasks of a loop take turns")
def test_empty_is_never_said_while_an_item_is_there(
    runner: ThreadRunner, fast_switching: None
) -> None:
    """Four threads with one item each at most never find four items gone."""
    for make in (FastPool, OURS[1].make):
        q = make()
        for item in range(4):
            q.put(item)

        def turn(index: int, q: Any = q) -> None:
            for _ in range(5_000):
                q.put_nowait(q.get_nowait())

        for task in runner.together(4, turn):
            task.result(30)
        assert sorted(q.queue) == [0, 1, 2, 3]
        eventually(lambda q=q: q.qsize() == 4)
