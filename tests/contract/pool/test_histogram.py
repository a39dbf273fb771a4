"""Histograms: what ``stats()`` says of times, as numbers that can be worked out by hand."""

from __future__ import annotations

import pytest

from fastpool import FastPool
from fastpool.stats import Histogram
from support.helpers import ThreadRunner, eventually


def histogram(*buckets: tuple[int, int], longest: float, total: float = 0.0) -> Histogram:
    """So many in each of these: bucket i holds what took less than ``2**i`` microseconds."""
    counts = [0] * 32
    for i, n in buckets:
        counts[i] = n
    return Histogram(sum(counts), total, longest, tuple(counts))


def test_quantile_is_the_bound_of_the_bucket_where_the_share_is_reached() -> None:
    """90 below 8 us, 9 below 1024 us, one below 2**20 us: of 100, ordered by their time."""
    times = histogram((3, 90), (10, 9), (20, 1), longest=0.9)
    assert times.quantile(0) == times.quantile(0.5) == times.quantile(0.9) == 8e-6
    assert times.quantile(0.91) == times.quantile(0.99) == 1024e-6
    assert times.quantile(0.995) == times.quantile(1) == 0.9


def test_quantile_is_never_above_the_longest() -> None:
    assert histogram((20, 4), longest=0.6).quantile(0.5) == 0.6
    assert histogram((20, 4), longest=2.0).quantile(0.5) == 2.0**20 * 1e-6


def test_quantile_starts_where_anything_was_counted() -> None:
    assert histogram((0, 1), longest=1.0).quantile(0) == 1e-6
    assert histogram((5, 1), longest=1.0).quantile(0) == 32e-6


def test_quantile_of_nothing_is_zero() -> None:
    times = histogram(longest=0.0)
    assert (times.quantile(0), times.quantile(0.5), times.quantile(1), times.mean) == (0, 0, 0, 0)


@pytest.mark.parametrize("q", [-0.01, 1.01, float("nan")])
def test_quantile_of_what_is_no_share_is_refused(q: float) -> None:
    with pytest.raises(ValueError, match="q must be between 0 and 1, not"):
        histogram((3, 1), longest=1.0).quantile(q)


def test_mean_is_the_total_over_all_that_was_counted() -> None:
    assert histogram((3, 2), (9, 2), longest=1.0, total=6.0).mean == 1.5


def test_a_wait_and_a_creation_are_each_in_the_bucket_of_their_time(runner: ThreadRunner) -> None:
    """All that the histograms say of them agrees."""
    pool = FastPool(1, factory=object)
    resource = pool.get()
    waits = runner.start(pool.get)
    eventually(lambda: pool.stats().waiting == 1)
    pool.put(resource)
    pool.put(waits.result())
    stats = pool.stats()
    pool.close()
    assert stats.create_time.count == 1
    for times in (stats.wait_time, stats.create_time):
        assert times.longest <= times.total <= times.longest * times.count
        assert sum(times.counts) == times.count
        assert times.quantile(1) == times.longest > 0
        highest = max(i for i, n in enumerate(times.counts) if n)
        assert 2.0 ** (highest - 1) <= times.longest * 1e6 < 2.0**highest
