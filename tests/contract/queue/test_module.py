"""`import fastpool.queue as queue` is a one-line change."""

from __future__ import annotations

import logging
import logging.handlers
import queue
from concurrent.futures import Future
from typing import Any

import pytest

import fastpool
import fastpool.queue
from support.helpers import ThreadRunner


def test_it_has_every_public_name_of_the_standard_module() -> None:
    """Whoever swaps the import finds all that queue.__all__ promises."""
    assert set(queue.__all__) <= set(fastpool.queue.__all__)
    assert all(hasattr(fastpool.queue, name) for name in fastpool.queue.__all__)


def test_its_exceptions_are_the_standard_ones() -> None:
    """`except queue.Empty` written against the standard module catches ours."""
    assert fastpool.queue.Empty is queue.Empty
    assert fastpool.queue.Full is queue.Full
    assert issubclass(fastpool.queue.ShutDown, Exception)
    assert fastpool.queue.ShutDown is getattr(queue, "ShutDown", fastpool.queue.ShutDown)


def test_priority_and_simple_queue_are_the_standard_ones() -> None:
    """What fastpool does not make faster it passes on."""
    assert fastpool.queue.PriorityQueue is queue.PriorityQueue
    assert fastpool.queue.SimpleQueue is queue.SimpleQueue


@pytest.mark.parametrize("name", ["Queue", "LifoQueue"])
@pytest.mark.parametrize("maxsize", [0, -1, -100])
def test_sizes_below_one_are_unbounded_here(name: str, maxsize: int) -> None:
    """As in the standard module; FastPool itself refuses negative sizes."""
    q = getattr(fastpool.queue, name)(maxsize)
    for item in range(100):
        q.put_nowait(item)
    assert not q.full() and q.qsize() == 100
    assert q.maxsize == maxsize
    if maxsize < 0:
        with pytest.raises(ValueError):
            fastpool.FastPool(maxsize)


@pytest.mark.parametrize("name", ["Queue", "LifoQueue"])
def test_maxsize_may_become_negative_too(name: str) -> None:
    """Assigning a maxsize below one lifts the bound, as in the standard module."""
    q = getattr(fastpool.queue, name)(1)
    q.put(1)
    q.maxsize = -1
    q.put_nowait(2)
    assert q.qsize() == 2 and not q.full()


@pytest.mark.parametrize("name", ["Queue", "LifoQueue"])
def test_a_timeout_counts_only_when_blocking(name: str) -> None:
    """block=False ignores the timeout altogether, even a negative one."""
    q = getattr(fastpool.queue, name)(1)
    with pytest.raises(queue.Empty):
        q.get(False, -1)
    q.put(1, False, -1)
    with pytest.raises(queue.Full):
        q.put(2, block=False, timeout=-1)


@pytest.mark.parametrize("name", ["Queue", "LifoQueue"])
def test_the_classes_can_be_subscripted(name: str) -> None:
    """Queue[int] is usable in annotations, as the standard class is."""
    assert getattr(fastpool.queue, name)[int] is not None


@pytest.mark.parametrize("name", ["Queue", "LifoQueue"])
def test_instances_say_what_they_are(name: str) -> None:
    """The class names are those of the standard module, as tools that print them expect."""
    kind = getattr(fastpool.queue, name)
    assert kind.__name__ == name
    assert name in repr(kind())


def test_the_logging_listener_runs_on_it() -> None:
    """A user of the standard class that calls get, put_nowait and task_done by itself."""
    records: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record.getMessage())

    q: Any = fastpool.queue.Queue(-1)
    listener = logging.handlers.QueueListener(q, Keep())
    listener.start()
    logger = logging.Logger("fastpool.test")
    logger.addHandler(logging.handlers.QueueHandler(q))
    for number in range(100):
        logger.warning("record %d", number)
    listener.stop()
    assert records == [f"record {number}" for number in range(100)]
    assert q.unfinished_tasks == 0


def test_a_worker_loop_written_for_the_standard_module_runs_on_it(runner: ThreadRunner) -> None:
    """The example of the standard documentation: workers, task_done, join."""
    q: Any = fastpool.queue.Queue()
    done: list[Future[int]] = []

    def worker() -> None:
        while (item := q.get()) is not None:
            item.set_result(1)
            q.task_done()
        q.task_done()

    workers = [runner.start(worker) for _ in range(3)]
    for _ in range(50):
        done.append(Future())
        q.put(done[-1])
    q.join()
    assert sum(future.result(0) for future in done) == 50
    for _ in workers:
        q.put(None)
    runner.finish()
