"""Queue use when it must wait: lines of getters and putters, signals, finalisers."""

from __future__ import annotations

import gc
import queue
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from contract.queue.kinds import EVERY, OURS, Kind
from fastpool.queue import ShutDown
from support.callers import FastPool
from support.helpers import ThreadRunner

pytestmark = pytest.mark.usefixtures("caller_kind")

every = pytest.mark.parametrize("kind", EVERY, ids=repr)
ours = pytest.mark.parametrize("kind", OURS, ids=repr)
orders = pytest.mark.parametrize("order", ["lifo", "fifo"])


class TestGetters:
    @every
    def test_a_waiting_getter_receives_the_next_item(
        self, kind: Kind, runner: ThreadRunner
    ) -> None:
        """get waits for ever by default and returns what another thread puts."""
        q = kind.make()
        getter = runner.start(q.get).parked()
        q.put("item")
        assert getter.result() == "item"
        assert q.empty()

    @every
    def test_a_getter_with_a_timeout_receives_an_item_in_time(
        self, kind: Kind, runner: ThreadRunner
    ) -> None:
        """An item that comes before the timeout is returned, not Empty."""
        q = kind.make()
        getter = runner.start(q.get, True, 30).parked()
        q.put("item")
        assert getter.result() == "item"

    @every
    def test_as_many_getters_are_served_as_items_come(
        self, kind: Kind, runner: ThreadRunner
    ) -> None:
        """Each item wakes one getter; all items and all getters find each other."""
        q = kind.make()
        getters = [runner.start(q.get) for _ in range(5)]
        for item in range(5):
            q.put(item)
        assert sorted(getter.result() for getter in getters) == [0, 1, 2, 3, 4]

    @orders
    def test_fair_getters_are_served_in_the_order_of_their_arrival(
        self, order: Any, runner: ThreadRunner
    ) -> None:
        """With fairness="fair" the k-th waiting getter receives the k-th item."""
        q: Any = FastPool(order=order, fairness="fair")
        getters = [runner.start(q.get).parked() for _ in range(4)]
        for item in range(4):
            q.put(item)
        assert [getter.result() for getter in getters] == [0, 1, 2, 3]

    @orders
    def test_a_newcomer_does_not_overtake_in_fair_mode(
        self, order: Any, runner: ThreadRunner
    ) -> None:
        """An item put while somebody waits is already his: the putter itself finds it empty."""
        q: Any = FastPool(order=order, fairness="fair")
        for item in range(10):
            getter = runner.start(q.get).parked()
            q.put(item)
            with pytest.raises(queue.Empty):
                q.get_nowait()
            assert getter.result() == item

    @ours
    def test_a_getter_that_gave_up_takes_no_item_along(
        self, kind: Kind, runner: ThreadRunner
    ) -> None:
        """A timeout that races with a put either returns the item or leaves it in the queue."""
        q = kind.make()
        got = 0
        for item in range(200):
            getter = runner.start(self._get_or_none, q)
            q.put(item)
            got += getter.result() is not None
        assert got + q.qsize() == 200

    @staticmethod
    def _get_or_none(q: Any) -> Any:
        try:
            return (q.get(timeout=0.0001),)
        except queue.Empty:
            return None


class TestPutters:
    @every
    def test_a_waiting_putter_goes_on_when_there_is_capacity(
        self, kind: Kind, runner: ThreadRunner
    ) -> None:
        """put on a full queue waits, and its item is in the queue when it returns."""
        q = kind.make(1)
        q.put(1)
        putter = runner.start(q.put, 2).parked()
        assert q.get() == 1
        putter.result()
        assert q.get() == 2

    @ours
    def test_putters_wait_in_a_queue(self, kind: Kind, runner: ThreadRunner) -> None:
        """Items of waiting putters enter in the order in which their putters arrived."""
        q = kind.make(1)
        q.put(0)
        putters = [runner.start(q.put, item).parked() for item in (1, 2, 3)]
        taken = []
        for putter in putters:
            taken.append(q.get())
            putter.result()
        taken.append(q.get())
        assert taken == [0, 1, 2, 3]

    @ours
    def test_raising_maxsize_lets_waiting_putters_in(
        self, kind: Kind, runner: ThreadRunner
    ) -> None:
        """A waiting put does not sleep on beside free room."""
        q = kind.make(1)
        q.put(0)
        putters = [runner.start(q.put, item).parked() for item in (1, 2)]
        q.maxsize = 3
        for putter in putters:
            putter.result()
        assert list(q.queue) == [0, 1, 2]

    @ours
    def test_a_maxsize_of_zero_frees_all_putters(self, kind: Kind, runner: ThreadRunner) -> None:
        """A queue that becomes unbounded has room for everybody who waits."""
        q = kind.make(1)
        q.put(0)
        putters = [runner.start(q.put, item).parked() for item in (1, 2, 3)]
        q.maxsize = 0
        for putter in putters:
            putter.result()
        assert sorted(q.queue) == [0, 1, 2, 3]

    @ours
    def test_a_putter_that_gave_up_leaves_no_item(self, kind: Kind) -> None:
        """A put that raised Full has stored nothing."""
        q = kind.make(1)
        q.put("in")
        with pytest.raises(queue.Full):
            q.put("out", timeout=0.01)
        assert q.get() == "in" and q.empty()

    @every
    def test_all_items_pass_a_small_queue(self, kind: Kind, runner: ThreadRunner) -> None:
        """Two producers and two consumers on two places: each item arrives exactly once."""
        q = kind.make(2)
        producers = runner.together(2, lambda p: [q.put((p, i)) for i in range(500)])
        consumers = runner.together(2, lambda c: [q.get() for _ in range(500)])
        received = [item for consumer in consumers for item in consumer.result(30)]
        for producer in producers:
            producer.result()
        assert sorted(received) == [(p, i) for p in range(2) for i in range(500)]


@pytest.fixture
def alarm() -> Iterator[Callable[[Callable[[], Any]], None]]:
    """`alarm(act)` runs act once in a signal handler of the main thread, some 20 ms from now."""
    before = signal.getsignal(signal.SIGALRM)

    def set_alarm(act: Callable[[], Any]) -> None:
        due = [act]
        signal.signal(signal.SIGALRM, lambda *_: due.pop()() if due else None)
        # Again and again: a signal just before the thread sleeps is noticed with the next one.
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)

    yield set_alarm
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


class TestReentry:
    """A put from a finaliser or a signal handler inside a get. queue.Queue deadlocks on these."""

    @pytest.mark.threads_only("a signal handler runs in a wait of the main thread")
    @ours
    @pytest.mark.parametrize("immediate", [False, True])
    def test_a_signal_handler_may_put_shut_down_and_raise(
        self, kind: Kind, alarm: Any, runner: ThreadRunner, immediate: bool
    ) -> None:
        """What the handler raises ends the get. The item that was granted to it meanwhile goes
        back, or is dropped and counted as done with all others, if nothing is to be left."""
        q = kind.make()

        def act() -> None:
            q.put("granted")
            q.shutdown(immediate)
            raise LookupError("of the handler")

        alarm(act)
        with pytest.raises(LookupError, match="of the handler"):
            q.get()
        left = 0 if immediate else 1
        assert q.qsize() == left and q.unfinished_tasks == left
        if left:
            assert q.get() == "granted"
            q.task_done()
        with pytest.raises(ShutDown):
            q.get(timeout=0)
        runner.start(q.join).result(30)

    @pytest.mark.threads_only("a signal handler runs in a wait of the main thread")
    @ours
    def test_a_signal_handler_may_put_into_a_waiting_get(self, kind: Kind, alarm: Any) -> None:
        """The handler runs while the main thread waits, and the get returns what it put."""
        q = kind.make()
        alarm(lambda: q.put("from the handler"))
        assert q.get(timeout=10) == "from the handler"

    @pytest.mark.threads_only("a signal handler runs in a wait of the main thread")
    @ours
    def test_a_signal_handler_may_get_inside_a_waiting_put(self, kind: Kind, alarm: Any) -> None:
        """The room that the handler makes is the room that the put waits for."""
        q = kind.make(1)
        q.put("first")
        taken: list[str] = []
        alarm(lambda: taken.append(q.get_nowait()))
        q.put("second", timeout=10)
        assert taken == ["first"] and q.get() == "second"

    @pytest.mark.threads_only("a signal handler never raises inside a task")
    @ours
    def test_an_exception_of_a_handler_leaves_the_get(
        self, kind: Kind, alarm: Any, runner: ThreadRunner
    ) -> None:
        """A handler that raises ends the wait with its exception, and no later item is lost."""

        class Stop(Exception):
            pass

        def stop() -> None:
            raise Stop

        q = kind.make()
        alarm(stop)
        with pytest.raises(Stop):
            q.get(timeout=10)
        q.put("later")
        assert runner.start(q.get_nowait).result() == "later"

    @ours
    def test_a_finaliser_may_put(self, kind: Kind) -> None:
        """An item whose __del__ puts into the same queue does so whoever drops it, wherever."""
        q = kind.make()

        class Item:
            def __del__(self) -> None:
                q.put("echo")

        for _ in range(100):
            q.put(Item())
        for _ in range(200):
            q.get_nowait()
        assert q.qsize() == 0

    @ours
    def test_the_collector_may_put_during_any_call(self, kind: Kind) -> None:
        """Cycles whose finalisers put are collected in the middle of puts and gets."""
        q = kind.make()

        class Cycle:
            def __init__(self) -> None:
                self.me = self

            def __del__(self) -> None:
                q.put(1)

        before = gc.get_threshold()
        gc.set_threshold(5)
        try:
            for _ in range(2000):
                Cycle()
                q.put(0)
                q.get()
        finally:
            gc.set_threshold(*before)
        gc.collect()
        assert q.qsize() == 2000, "one item from each finaliser"

    @ours
    def test_shutdown_may_run_the_finalisers_of_the_items(self, kind: Kind) -> None:
        """Items dropped by an immediate shutdown may use the queue: they find it shut."""
        q = kind.make()
        met: list[str] = []

        class Item:
            def __del__(self) -> None:
                try:
                    q.put_nowait(1)
                except Exception as error:
                    met.append(type(error).__name__)

        for _ in range(3):
            q.put(Item())
        q.shutdown(immediate=True)
        assert met == ["ShutDown"] * 3 and q.empty()


def test_threads_that_wait_do_not_hold_up_the_collector(runner: ThreadRunner) -> None:
    """A waiting get is detached from the interpreter: gc and other threads run on."""
    q = FastPool()
    getters = [runner.start(q.get).parked() for _ in range(3)]
    gc.collect()
    assert all(getter.running for getter in getters)
    for _ in getters:
        q.put(1)
    runner.finish()
