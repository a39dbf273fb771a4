"""Queue use at its end: task_done and join, shutdown, close."""

from __future__ import annotations

import weakref

import pytest

from contract.queue.kinds import CLOSABLE, EVERY, Kind
from fastpool.queue import ShutDown
from support.callers import FastPool
from support.helpers import ThreadRunner

pytestmark = pytest.mark.usefixtures("caller_kind")

every = pytest.mark.parametrize("kind", EVERY, ids=repr)
closable = pytest.mark.parametrize("kind", CLOSABLE, ids=repr)


class TestTasks:
    @every
    def test_each_put_is_an_unfinished_task(self, kind: Kind) -> None:
        """unfinished_tasks rises with put and falls with task_done, not with get."""
        q = kind.make()
        q.put(1)
        q.put(2)
        q.get()
        assert q.unfinished_tasks == 2
        q.task_done()
        assert q.unfinished_tasks == 1

    @every
    def test_task_done_too_often_is_an_error(self, kind: Kind) -> None:
        """More calls of task_done than there were puts are a ValueError that changes nothing."""
        q = kind.make()
        with pytest.raises(ValueError):
            q.task_done()
        q.put(1)
        q.task_done()
        with pytest.raises(ValueError):
            q.task_done()
        assert q.unfinished_tasks == 0 and q.qsize() == 1

    @every
    def test_join_returns_at_once_when_nothing_is_unfinished(self, kind: Kind) -> None:
        """A fresh queue has nothing to wait for."""
        kind.make().join()

    @every
    def test_join_waits_for_the_last_task_done(self, kind: Kind, runner: ThreadRunner) -> None:
        """All joiners wait until the count is 0, and all of them wake."""
        q = kind.make()
        q.put(1)
        q.put(2)
        joiners = [runner.start(q.join).parked() for _ in range(2)]
        q.get(), q.get()
        q.task_done()
        assert all(joiner.parked().running for joiner in joiners)
        q.task_done()
        runner.finish()


class TestShutdown:
    @closable
    def test_after_shutdown_the_items_can_still_be_taken(self, kind: Kind) -> None:
        """shutdown() refuses puts at once, and gets as soon as the queue is empty."""
        q = kind.make()
        q.put(1)
        assert not q.is_shutdown
        q.shutdown()
        assert q.is_shutdown
        with pytest.raises(ShutDown):
            q.put(2)
        with pytest.raises(ShutDown):
            q.put_nowait(2)
        assert q.get() == 1
        for take in (q.get, q.get_nowait, lambda: q.get(timeout=5)):
            with pytest.raises(ShutDown):
                take()

    @closable
    def test_immediate_shutdown_drops_the_items(self, kind: Kind) -> None:
        """shutdown(immediate=True) empties the queue and settles its unfinished tasks."""
        q = kind.make()
        q.put(1)
        q.put(2)
        q.shutdown(immediate=True)
        assert q.qsize() == 0 and q.unfinished_tasks == 0
        with pytest.raises(ShutDown):
            q.get()
        q.join()

    @closable
    @pytest.mark.parametrize("first", [True, False])
    def test_immediate_is_asked_once(self, kind: Kind, first: bool) -> None:
        """Whatever it would say later: the items are in the queue still, or are let go."""

        class Item:
            pass

        class Answers(list[bool]):
            def __bool__(self) -> bool:
                return self.pop(0)

        q, item = kind.make(), Item()
        q.put(item)
        seen = weakref.ref(item)
        del item
        q.shutdown(Answers([first, not first]))
        assert q.qsize() == (0 if first else 1) and (seen() is None) is first

    @closable
    def test_shutdown_can_be_sharpened_and_repeated(self, kind: Kind) -> None:
        """A gentle shutdown can be followed by an immediate one, never the other way round."""
        q = kind.make()
        q.put(1)
        q.shutdown()
        q.shutdown(True)
        q.shutdown()
        assert q.is_shutdown and q.empty()

    @closable
    @pytest.mark.parametrize("immediate", [False, True])
    def test_shutdown_wakes_getters(
        self, kind: Kind, immediate: bool, runner: ThreadRunner
    ) -> None:
        """Every thread that waits in get leaves it with ShutDown."""
        q = kind.make()
        getters = [runner.start(q.get).parked() for _ in range(3)]
        q.shutdown(immediate)
        for getter in getters:
            with pytest.raises(ShutDown):
                getter.result()

    @closable
    @pytest.mark.parametrize("immediate", [False, True])
    def test_shutdown_wakes_putters(
        self, kind: Kind, immediate: bool, runner: ThreadRunner
    ) -> None:
        """Every thread that waits in put leaves it with ShutDown, and its item is not kept."""
        q = kind.make(1)
        q.put("in")
        putters = [runner.start(q.put, "out").parked() for _ in range(3)]
        q.shutdown(immediate)
        for putter in putters:
            with pytest.raises(ShutDown):
                putter.result()
        assert list(q.queue) == ([] if immediate else ["in"])

    @closable
    def test_immediate_shutdown_wakes_joiners(self, kind: Kind, runner: ThreadRunner) -> None:
        """What was dropped needs no task_done, so join returns."""
        q = kind.make()
        q.put(1)
        joiner = runner.start(q.join).parked()
        q.shutdown(immediate=True)
        joiner.result()

    def test_close_is_immediate_shutdown(self) -> None:
        """close() on a FastPool in queue use drops the items and refuses everything after."""
        q = FastPool(2)
        q.put(1)
        assert q.close() is True
        assert q.is_shutdown and q.qsize() == 0
        with pytest.raises(ShutDown):
            q.get_nowait()

    def test_leaving_the_with_block_closes(self) -> None:
        """`with FastPool() as q` ends in close()."""
        with FastPool() as q:
            q.put(1)
        assert q.is_shutdown
