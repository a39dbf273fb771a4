"""``queue.queue``: a live view of the items, as hosts use the deque of the standard library."""

from __future__ import annotations

import asyncio
import pickle
import queue
from collections import deque
from typing import Any

import pytest

import fastpool
from contract.queue.kinds import EVERY, OURS, Kind
from fastpool import _core
from fastpool.queue import ShutDown
from support import loops
from support.helpers import PATIENCE, Maker, ThreadRunner, eventually

kinds = pytest.mark.parametrize("kind", EVERY, ids=repr)
ours = pytest.mark.parametrize("kind", OURS, ids=repr)


def filled(kind: Kind, items: Any = "abc", maxsize: int = 0) -> Any:
    q = kind.make(maxsize)
    for item in items:
        q.put(item)
    return q


class TestReading:
    @kinds
    def test_it_is_live(self, kind: Kind) -> None:
        q = kind.make()
        view = q.queue
        assert len(view) == 0 and not view and list(view) == []
        q.put("a")
        assert len(view) == 1 and view and "a" in view and view[0] == view[-1] == "a"
        q.get()
        assert not view and "a" not in view

    @kinds
    def test_the_oldest_is_first(self, kind: Kind) -> None:
        view = filled(kind).queue
        assert list(view) == ["a", "b", "c"] and list(reversed(view)) == ["c", "b", "a"]
        assert view[0] == "a" and view[2] == view[-1] == "c" and view[-3] == "a"
        for index in (3, -4):
            with pytest.raises(IndexError):
                view[index]
        with pytest.raises(TypeError):
            view["a"]

    @ours
    def test_it_equals_what_has_the_same_items(self, kind: Kind) -> None:
        view = filled(kind).queue
        assert view == ["a", "b", "c"] == view and view == deque("abc")
        assert view == filled(kind).queue and view != ["a"] and view != ("a", "b", "c")
        assert view[1:] == ["b", "c"] and view.copy() == ["a", "b", "c"]
        assert repr(view) == "QueueView(['a', 'b', 'c'])"
        with pytest.raises(TypeError):
            hash(view)
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            pickle.dumps(view)
        with pytest.raises(TypeError, match="what queue is"):
            _core.QueueView()

    @kinds
    def test_it_may_change_while_it_is_walked(self, kind: Kind) -> None:
        """What a list shows then is another thing; a deque refuses.  Here: what was there."""
        if kind.control:
            pytest.skip("the standard library has others")
        q = filled(kind)
        seen = []
        for item in q.queue:
            seen.append(item)
            q.put(item)
        assert seen == ["a", "b", "c"]

    def test_in_pool_use_it_is_a_list_of_what_is_idle(self) -> None:
        with fastpool.FastPool(2, factory=Maker()) as pool:
            pool.warm(1)
            assert isinstance(pool.queue, list) and len(pool.queue) == 1


class TestChanging:
    @kinds
    def test_pop_takes_the_item_put_last(self, kind: Kind) -> None:
        q = filled(kind)
        assert q.queue.pop() == "c" and list(q.queue) == ["a", "b"] and q.qsize() == 2
        q.queue.pop()
        q.queue.pop()
        with pytest.raises(IndexError):
            q.queue.pop()

    @ours
    def test_pop_of_any(self, kind: Kind) -> None:
        view = filled(kind, "abcde").queue
        assert view.pop(1) == "b" and view.pop(-2) == "d" and view.pop(0) == "a"
        assert view == ["c", "e"]
        with pytest.raises(IndexError):
            view.pop(2)

    @ours
    def test_both_ends(self, kind: Kind) -> None:
        view = filled(kind).queue
        assert view.popleft() == "a"
        view.appendleft("z")
        view.append("d")
        assert view == ["z", "b", "c", "d"]
        for _ in range(4):
            view.popleft()
        with pytest.raises(IndexError):
            view.popleft()

    @ours
    def test_many(self, kind: Kind) -> None:
        """The ring grows and shrinks at either end."""
        view = kind.make().queue
        model: deque[int] = deque()
        for turn in range(2000):
            if turn % 3 == 2 and turn % 200 > 100:
                assert view.pop(len(model) // 2) == model[len(model) // 2]
                del model[len(model) // 2]
            elif turn % 2:
                view.appendleft(turn)
                model.appendleft(turn)
            else:
                view.append(turn)
                model.append(turn)
        assert view == model
        while model:
            assert view.popleft() == model.popleft() and len(view) == len(model)

    @kinds
    def test_clear(self, kind: Kind) -> None:
        q = filled(kind)
        q.queue.clear()
        assert q.empty() and list(q.queue) == []

    @kinds
    def test_it_goes_round_the_queue(self, kind: Kind) -> None:
        """As ever: no bound, and nothing to be done for ``join``."""
        q = filled(kind, "ab", maxsize=2)
        q.queue.append("c")
        assert q.qsize() == 3 and q.full() and q.unfinished_tasks == 2
        assert q.get() == ("c" if kind.lifo else "a")

    @kinds
    def test_what_kombu_does(self, kind: Kind) -> None:
        """It fills a pool up to its limit, and empties it when it is shrunk or closed: on a copy
        neither would end."""
        q = kind.make()
        limit = 5
        while len(q.queue) < limit:
            q.put_nowait(object())
        assert q.qsize() == limit
        closed = 0
        while True:
            try:
                q.queue.pop()
            except IndexError:
                break
            closed += 1
        assert closed == limit and q.empty()

    @ours
    def test_nothing_is_added_after_shutdown(self, kind: Kind) -> None:
        for immediate in (False, True):
            q = filled(kind)
            q.shutdown(immediate)
            with pytest.raises(ShutDown):
                q.queue.append("d")
            assert list(q.queue) == ([] if immediate else ["a", "b", "c"])
            if not immediate:
                assert q.queue.pop() == "c"
            q.queue.clear()

    @ours
    def test_an_item_goes_with_its_last_reference(self, kind: Kind, collect: Any) -> None:
        gone: list[int] = []

        class Item:
            def __del__(self) -> None:
                gone.append(1)

        q = kind.make()
        q.queue.append(Item())
        q.queue.appendleft(Item())
        q.queue.pop()
        collect()
        assert len(gone) == 1
        q.queue.clear()
        collect()
        assert len(gone) == 2
        view = q.queue
        view.append(Item())
        del q, view
        collect()
        assert len(gone) == 3


class TestWaiting:
    """The standard library's would let them sleep on."""

    @ours
    def test_who_waits_for_an_item_gets_it(self, kind: Kind, runner: ThreadRunner) -> None:
        q = kind.make()
        getter = runner.start(q.get, True, PATIENCE).parked()
        q.queue.append("a")
        assert getter.result() == "a" and q.empty()

    @ours
    def test_who_waits_for_capacity_puts(self, kind: Kind, runner: ThreadRunner) -> None:
        q = filled(kind, "a", maxsize=1)
        putter = runner.start(q.put, "b", True, PATIENCE).parked()
        assert q.queue.pop() == "a"
        putter.result()
        assert list(q.queue) == ["b"]
        putter = runner.start(q.put, "c", True, PATIENCE).parked()
        q.queue.clear()
        putter.result()

    @ours
    def test_a_shutdown_queue_that_is_emptied_refuses(
        self, kind: Kind, runner: ThreadRunner
    ) -> None:
        q = filled(kind, "a")
        q.shutdown()
        q.queue.clear()
        with pytest.raises(ShutDown):
            q.get()

    def test_a_task_that_waits(self) -> None:
        async def main() -> None:
            q: Any = fastpool.FastPool()
            getter = asyncio.ensure_future(q.aget())
            await asyncio.sleep(0)
            await loops.eventually(lambda: loops.queued_up(q) == 1)
            q.queue.append("a")
            assert await getter == "a"

        asyncio.run(main())

    @ours
    def test_many_at_once_lose_nothing(self, kind: Kind, runner: ThreadRunner) -> None:
        q = kind.make()
        view, n = q.queue, 500
        got: list[list[int]] = [[], []]

        def add(number: int) -> None:
            for i in range(n):
                (view.append if i % 2 else q.put)(2 * i + number)

        def take(number: int) -> None:
            while len(got[number]) < n:
                try:
                    got[number].append(view.popleft() if number else q.get_nowait())
                except (IndexError, queue.Empty):
                    eventually(lambda: len(view) or not any(t.running for t in adders))

        adders = runner.together(2, add)
        for task in runner.together(2, take):
            task.result()
        assert sorted(got[0] + got[1]) == list(range(2 * n)) and q.empty()
