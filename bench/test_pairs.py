"""P1 to P3 as pytest-benchmark cases: `pytest bench --benchmark-group-by=group`.

Same loops as `python -m bench`, timed by pytest-benchmark's own clock and not interleaved: good for
watching one number while working on it, not for ratios.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import pytest

from bench.adapter import SIZE, filled, pool_use, queue_use
from bench.cases.pairs import BLOCKING, NOWAIT
from bench.measure import UNROLLED, Case, NotRun, timed_loop

MAKERS = {
    "queue-use": queue_use,
    "pool-use": pool_use,
    "LifoQueue": lambda: filled(queue.LifoQueue(SIZE)),
    "SimpleQueue": lambda: filled(queue.SimpleQueue()),
}


@pytest.fixture(params=MAKERS)
def container(request: pytest.FixtureRequest) -> Iterator[Any]:
    try:
        made = MAKERS[request.param]()
    except NotRun as reason:
        pytest.skip(str(reason))
    yield made
    if hasattr(made, "close"):
        made.close()


@pytest.mark.parametrize("statement", [NOWAIT, BLOCKING], ids=["nowait", "blocking"])
def test_pair(benchmark: Any, container: Any, statement: str) -> None:
    loop = timed_loop(Case(statement, {"q": container}))
    turns = 500
    benchmark.group = f"P1-P3 {statement}"
    benchmark.extra_info["statements"] = turns * UNROLLED
    benchmark.pedantic(loop, args=(turns,), rounds=21, warmup_rounds=2)
    assert container.qsize() == SIZE
