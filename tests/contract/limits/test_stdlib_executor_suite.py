"""CPython's own tests of `concurrent.futures`, from the running interpreter, on a WorkerPool.

All of its classes for any executor and for the one of threads are run, none of their tests is left
out.  One that a later Python adds fails `test_every_class_of_the_suite_is_run`.
"""

from __future__ import annotations

import concurrent.futures
import importlib
import types
import unittest
from pathlib import Path
from typing import Any

import pytest

from contract.limits.executor_adapter import ThreadPoolExecutor

PARTS = ("test_as_completed", "test_init", "test_shutdown", "test_thread_pool", "test_wait")


def _suite() -> dict[str, Any] | None:
    """The modules by name: a package from 3.12 on, one file before."""
    try:
        package = importlib.import_module("test.test_concurrent_futures")
    except ImportError:  # Debian, for one, packs the tests apart
        return None
    if not hasattr(package, "__path__"):
        return dict.fromkeys((*PARTS, "util"), package)
    found = (*PARTS, "util")
    return {name: importlib.import_module(f"{package.__name__}.{name}") for name in found}


suite = _suite()

NAMES = unittest.defaultTestLoader.getTestCaseNames

needs_suite = pytest.mark.skipif(
    suite is None,
    reason="this Python comes without its `test` package (Debian: libpython3-testsuite)",
)

#: Where the programs of the suite get the executor from instead.
TESTS = str(Path(__file__).parents[2])
IMPORT = "from concurrent.futures import ThreadPoolExecutor"


class Futures(types.SimpleNamespace):
    """The module `concurrent.futures` with another ThreadPoolExecutor."""

    def __getattr__(self, name: str) -> Any:
        return getattr(concurrent.futures, name)


FUTURES = Futures(ThreadPoolExecutor=ThreadPoolExecutor)


def programs(run: Any) -> Any:
    """The suite's way to run a program, which then imports our executor under the same name."""

    def run_ours(*args: str, **env: str) -> Any:
        assert IMPORT in args[-1]
        ours = "import sys; sys.path[:0] = {}; "  # one line: the program has an indentation
        ours += "from contract.limits.executor_adapter import ThreadPoolExecutor"
        path = [TESTS, str(Path(importlib.import_module("fastpool").__file__ or "").parent.parent)]
        return run(*args[:-1], args[-1].replace(IMPORT, ours.format(path)), **env)

    return run_ours


if suite is not None:
    _util: Any = suite["util"]

    class OnWorkerPool(_util.ExecutorMixin):
        """In place of the suite's ThreadPoolMixin."""

        executor_type = ThreadPoolExecutor

        @pytest.fixture(autouse=True)
        def _ours(self, monkeypatch: pytest.MonkeyPatch) -> None:
            assert suite is not None
            for module in set(suite.values()):
                monkeypatch.setattr(module, "futures", FUTURES, raising=False)
                if hasattr(module, "assert_python_ok"):
                    ran = programs(module.assert_python_ok)
                    monkeypatch.setattr(module, "assert_python_ok", ran)

    class TestExecutor(OnWorkerPool, suite["test_thread_pool"].ThreadPoolExecutorTest):
        """Any executor, and ThreadPoolExecutor's own."""

    class TestShutdown(OnWorkerPool, suite["test_shutdown"].ThreadPoolShutdownTest):
        """Likewise, its end."""

    class TestWait(OnWorkerPool, suite["test_wait"].ThreadPoolWaitTests):
        """``concurrent.futures.wait``"""

    class TestAsCompleted(
        OnWorkerPool, suite["test_as_completed"].AsCompletedTests, _util.BaseTestCase
    ):
        """``concurrent.futures.as_completed``"""

    class TestInitializer(OnWorkerPool, suite["test_init"].InitializerMixin, _util.BaseTestCase):
        """An initialiser of the threads"""

    class TestFailingInitializer(
        OnWorkerPool, suite["test_init"].FailingInitializerMixin, _util.BaseTestCase
    ):
        """One that fails"""

    RUN = (TestExecutor, TestShutdown, TestWait, TestAsCompleted, TestInitializer)
    RUN += (TestFailingInitializer,)


@needs_suite
def test_every_class_of_the_suite_is_run() -> None:
    """No class for any executor, or for that of threads, escapes."""
    assert suite is not None
    ran = {base for case in RUN for base in case.__mro__}
    for part in PARTS:
        for name, value in vars(suite[part]).items():
            if not isinstance(value, type) or not NAMES(value):
                continue
            ours = not name.startswith(("ProcessPool", "FailingInitializerResources"))
            generated = name.startswith("ThreadPool") and any(
                base in ran for base in value.__bases__ if base is not unittest.TestCase
            )
            assert value in ran or generated or not ours, f"{part}.{name}"
