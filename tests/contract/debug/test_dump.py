"""``dump``: what all pools are at, as text, without a line of users' code."""

from __future__ import annotations

import io
import json
import threading
from typing import Any

import pytest

import fastpool
from fastpool import (
    FastPool,
    KeyedPool,
    PoolTimeout,
    SharedPool,
    TaskPool,
    WeightedSemaphore,
    WorkerPool,
)
from fastpool.debug._views import look, process
from support.helpers import ThreadRunner, eventually


class Shy:
    """No code of its own may run."""

    def __repr__(self) -> str:
        raise AssertionError("looked at by repr")

    def __hash__(self) -> int:
        return 7

    def __eq__(self, other: object) -> bool:
        return self is other


def section(name: str) -> list[str]:
    """The lines of one pool."""
    text = fastpool.dump()
    assert text is not None
    for part in text.split("\n\n"):
        if f"{name!r}" in part.split("\n")[0]:
            return part.rstrip("\n").split("\n")
    raise AssertionError(f"{name} is not in {text}")


def test_sizes_waiters_and_holders_are_written(runner: ThreadRunner) -> None:
    with FastPool(1, factory=Shy, name="small", leak_after=1000) as pool:
        with pytest.raises(PoolTimeout), pool.lease():
            pool.acquire(0)
        with pool.lease():
            waiter = runner.start(lambda: pool.acquire().release())
            eventually(lambda: pool.stats().waiting == 1)
            lines = section("small")
        waiter.result()
    assert lines[0] == "FastPool 'small': 1 of 1 leased, 0 idle, 1 waiting"
    assert "1 timeouts" in lines[1]
    assert any(" held for " in line and threading.current_thread().name in line for line in lines)
    assert any(f"{__file__}:" in line for line in lines), lines


def test_it_is_written_to_a_file() -> None:
    file = io.StringIO()
    assert fastpool.dump(file) is None  # type: ignore[func-returns-value]
    assert file.getvalue().startswith("fastpool ")


@pytest.mark.parametrize(
    ("make", "head"),
    [
        (lambda: FastPool(3, name="it"), "FastPool 'it': 0 of 3 items"),
        (lambda: FastPool(name="it"), "FastPool 'it': 0 of any number items"),
        (
            lambda: WeightedSemaphore(4, name="it"),
            "WeightedSemaphore 'it': 0 of 4 in use, 0 waiting",
        ),
        (
            lambda: WorkerPool(2, max_queue=3, thread_name_prefix="it"),
            "WorkerPool 'it': 0 running, 0 queued, 0 waiting",
        ),
        (lambda: TaskPool(2, name="it"), "TaskPool 'it': 0 running, 0 queued, 0 waiting"),
        (
            lambda: KeyedPool(lambda key: Shy(), max_total=5, name="it"),
            "KeyedPool 'it': 0 of 5 leased, 0 idle, 0 waiting",
        ),
        (
            lambda: SharedPool(Shy, items=(0, 8), name="it"),  # else it opens one at once
            "SharedPool 'it': 0 of 8 leased, 0 idle, 0 waiting",
        ),
    ],
    ids=["queue", "unbounded", "semaphore", "workers", "tasks", "keyed", "shared"],
)
def test_every_kind_has_its_line(make: Any, head: str) -> None:
    pool = make()
    assert section("it")[0] == head
    del pool


def test_keys_and_resources_are_shown_by_type() -> None:
    with KeyedPool(lambda key: Shy(), max_total=5, name="keys") as pool:
        with pool.lease(Shy()), pool.lease("plain"), pool.lease(("a", 1)):
            seen = look(pool, holders=True)
        json.dumps(seen)
        keys = seen["numbers"]["keys"]
        assert {"plain", "('a', 1)"} < set(keys)
        assert any(key.startswith("a Shy at ") for key in keys)
        assert {one["resource"] for one in seen["holders"]} == {f"{__name__}.Shy"}


def test_all_of_it_is_json() -> None:
    pools = [FastPool(factory=Shy), SharedPool(Shy), WeightedSemaphore(2)]
    seen = process(pools, holders=True)
    assert json.loads(json.dumps(seen)) == seen
    for pool in pools[:2]:
        pool.close()  # type: ignore[attr-defined]
