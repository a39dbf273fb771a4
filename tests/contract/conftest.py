"""The contract through every face: which tests run through which, see ``support/callers.py``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from contract.limits.worker_pools import Hall, accounted
from support import callers
from support.loops import KINDS, Run, new_loop, run_in


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "threads_only(reason): why a test of a module with faces has no twin for tasks"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Where ``pytestmark`` uses ``caller_kind``, a test runs through all that make a difference to
    it."""
    if not any(
        "caller_kind" in mark.args for mark in metafunc.definition.iter_markers("usefixtures")
    ):
        return
    chosen = [callers.THREADS]
    only = metafunc.definition.get_closest_marker("threads_only")
    if only is None:
        chosen += callers.TASKS
        if "runner" in metafunc.fixturenames:  # several callers
            chosen += callers.MIXED
    elif not only.args:
        raise pytest.UsageError(f"{metafunc.definition.nodeid}: threads_only wants a reason")
    # That uvloop and an interpreter go together is shown by the tests of `support.loops.KINDS`.
    kinds = [
        pytest.param(kind, marks=[pytest.mark.first] * (kind.loop == "uvloop")) for kind in chosen
    ]
    metafunc.parametrize("caller_kind", kinds, indirect=True, ids=str)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A queue that has no methods for tasks is for threads."""

    def can_be(item: pytest.Item) -> bool:
        params = getattr(getattr(item, "callspec", None), "params", {})
        if params.get("caller_kind", callers.THREADS) is callers.THREADS:
            return True
        return getattr(params.get("kind"), "for_tasks", True)

    items[:] = [item for item in items if can_be(item)]


@pytest.fixture
def caller_kind(request: pytest.FixtureRequest) -> Iterator[callers.CallerKind]:
    """Modules use it by ``pytestmark``; their pools are made by ``callers.FastPool``."""
    stage = callers.begin(request.param)
    yield request.param
    if stage is not None:
        callers.begin(callers.THREADS)
        stage.end()


@pytest.fixture(params=KINDS)
def loop_kind(request: pytest.FixtureRequest) -> str:
    """A make of event loop, for ``loops.run_in``."""
    new_loop(request.param).close()  # skips when it is not installed
    return str(request.param)


@pytest.fixture
def run(loop_kind: str) -> Run:
    """``asyncio.run`` with a deadline, on each make of loop."""
    return lambda main: run_in(loop_kind, main)


@pytest.fixture
def hall() -> Hall:
    """Where the tasks of a worker pool stay until they are let go."""
    return Hall()


@pytest.fixture
def worker_pool() -> Iterator[Any]:
    """Make one with ``worker_pool(workers, max_queue, ...)``."""
    with accounted() as make:
        yield make
