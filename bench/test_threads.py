"""P10 and P13 as pytest-benchmark cases: a hand-off between two threads, a spike of fifty."""

from __future__ import annotations

import queue
from typing import Any

import pytest

from bench.adapter import fastpool
from bench.cases import handoff, spike
from bench.measure import NotRun


def package() -> Any:
    try:
        return fastpool()
    except NotRun as reason:
        pytest.skip(str(reason))


def test_hand_off(benchmark: Any) -> None:
    make = package().FastPool
    benchmark.group = "P10"
    wall, cpu = benchmark.pedantic(handoff.ping_pong, args=(make,), rounds=9, warmup_rounds=1)
    assert wall > 0 and cpu > 0


def test_hand_off_by_simple_queue(benchmark: Any) -> None:
    benchmark.group = "P10"
    arguments = (queue.SimpleQueue,)
    wall, cpu = benchmark.pedantic(handoff.ping_pong, args=arguments, rounds=9, warmup_rounds=1)
    assert wall > 0 and cpu > 0


@pytest.mark.parametrize("idle", [0, 5])
def test_spike(benchmark: Any, idle: int) -> None:
    package()
    benchmark.group = "P13"
    opened, _ = benchmark.pedantic(spike.ours, args=(idle,), rounds=3)
    assert idle <= opened <= spike.THREADS


def test_spike_without_a_pool(benchmark: Any) -> None:
    benchmark.group = "P13"
    assert benchmark.pedantic(spike.naive, rounds=3) >= spike.CONNECT
