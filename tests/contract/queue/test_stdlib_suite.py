"""CPython's own tests of `queue`, from the running interpreter, on fastpool's classes.

What is left out stands in LEFT_OUT with its reason; a test class that a later Python adds and
that is neither run nor listed fails `test_every_class_of_the_suite_is_run_or_explained`.
"""

from __future__ import annotations

import queue
import types
import unittest
from typing import Any

import pytest

import fastpool
import fastpool.queue

try:
    from test import test_queue as suite
except ImportError:  # Debian, for one, packs the tests apart
    suite = None  # type: ignore[assignment]

needs_suite = pytest.mark.skipif(
    suite is None,
    reason="this Python comes without its `test` package (Debian: libpython3-testsuite)",
)

#: Classes of test.test_queue that are not run here, and why.
LEFT_OUT = {
    "FailingQueueTest": "overrides the private _put and _get",
    "PriorityQueueTest": "fastpool.queue re-exports the standard library's own class",
    "BaseSimpleQueueTest": "fastpool.queue re-exports the standard library's own class",
}
RUN = {"QueueTest", "LifoQueueTest"}


class _Kind:
    """A FastPool under the class name by which the suite looks up the order it expects."""

    order: str

    def __init__(self, maxsize: int = 0) -> None:
        object.__setattr__(self, "_pool", fastpool.FastPool(maxsize, order=self.order))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._pool, name, value)


class Queue(_Kind):
    order = "fifo"


class LifoQueue(_Kind):
    order = "lifo"


FASTPOOL = types.SimpleNamespace(
    Queue=Queue,
    LifoQueue=LifoQueue,
    Empty=queue.Empty,
    Full=queue.Full,
    ShutDown=fastpool.queue.ShutDown,
)

if suite is not None:

    class TestQueue(suite.QueueTest, unittest.TestCase):
        """fastpool.queue.Queue"""

        queue = fastpool.queue

    class TestLifoQueue(suite.LifoQueueTest, unittest.TestCase):
        """fastpool.queue.LifoQueue"""

        queue = fastpool.queue

    class TestFastPoolFifo(suite.QueueTest, unittest.TestCase):
        """FastPool(order="fifo")"""

        queue = FASTPOOL

    class TestFastPoolLifo(suite.LifoQueueTest, unittest.TestCase):
        """FastPool(order="lifo")"""

        queue = FASTPOOL


@needs_suite
def test_every_class_of_the_suite_is_run_or_explained() -> None:
    """No class with tests escapes: each is run or left out by name, or derives from such a one."""
    known = tuple(getattr(suite, name) for name in {*RUN, *LEFT_OUT})
    for name, value in vars(suite).items():
        if isinstance(value, type) and unittest.defaultTestLoader.getTestCaseNames(value):
            assert issubclass(value, known) or value is suite.BaseQueueTestMixin, name
    for kind in (TestQueue, TestLifoQueue, TestFastPoolFifo, TestFastPoolLifo):
        assert unittest.defaultTestLoader.getTestCaseNames(kind)


@needs_suite
def test_what_is_left_out_exists() -> None:
    """The table of exceptions does not outlive what it is about."""
    assert all(hasattr(suite, name) for name in LEFT_OUT)
