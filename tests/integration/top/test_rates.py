"""Rows: what follows from two looks at real pools; figures in few characters."""

from __future__ import annotations

from typing import Any

import pytest

from fastpool import FastPool, PoolTimeout, TaskPool, WeightedSemaphore, debug
from fastpool.cli.top import plain
from fastpool.cli.top.figures import clean, decimal, shorten, span, sparkline, tail, whole
from fastpool.cli.top.rates import Row, row_of
from fastpool.cli.top.watch import WINDOW, Watch
from support.budgets import ScriptedBudget
from support.helpers import ThreadRunner

pytestmark = pytest.mark.once  # what a command makes of answers; `contract/debug` is tried on each


class Clock:
    """Seconds, as the test says."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watch(clock: Clock, tmp_path: Any) -> Any:
    with debug.serve("tcp:127.0.0.1:0", token="t") as server:
        with debug.connect(server.address, token="t") as process:
            yield Watch(process, clock)


def row(watch: Watch, name: str) -> Row:
    (found,) = (row for row in watch.look().rows if row.name == name)
    return found


def waited(runner: ThreadRunner, pool: Any, times: int) -> None:
    """So many callers wait for the only resource."""
    for _ in range(times):
        with pool.lease():
            task = runner.start(lambda: pool.acquire().release())
            task.parked()
        task.result()


# ---- two looks ---------------------------------------------------------------------------------


def test_the_first_look_knows_no_rates(watch: Watch) -> None:
    with FastPool(1, factory=object, name="rates") as pool, pool.lease():
        seen = row(watch, "rates")
    assert (seen.used, seen.max, seen.idle, seen.waiting, seen.timeouts) == (1, 1, 0, 0, 0)
    assert seen.seconds is seen.wait_p50 is seen.wait_p99 is seen.creates_per_s is None


def test_rates_are_of_the_time_between_two_looks(watch: Watch, clock: Clock) -> None:
    with FastPool(4, factory=object, name="rates") as pool:
        pool.acquire().discard()
        row(watch, "rates")
        for _ in range(3):
            pool.acquire().discard()
        with pool.lease(), pool.lease(), pool.lease(), pool.lease(), pytest.raises(PoolTimeout):
            pool.acquire(0)
        clock.now += 2
        seen = row(watch, "rates")
        created = pool.stats().created
    assert seen.creates_per_s == (created - 1) / 2 and seen.seconds == 2
    assert (seen.timeouts, seen.new_timeouts) == (1, 1)


def test_waits_are_of_the_time_between_two_looks(
    watch: Watch, clock: Clock, runner: ThreadRunner
) -> None:
    with FastPool(1, factory=object, name="waits") as pool:
        with pool.lease():
            pass
        row(watch, "waits")
        clock.now += 1
        assert row(watch, "waits").wait_p50 is None  # the creation was before
        waited(runner, pool, 3)
        clock.now += 1
        seen = row(watch, "waits")
        longest = pool.stats().wait_time.longest
        assert seen.wait_p50 is not None and seen.wait_p99 is not None
        assert 0 < seen.wait_p50 <= seen.wait_p99 <= longest
        clock.now += WINDOW - 2
        assert row(watch, "waits").wait_p50 is not None
        clock.now += 2
        assert row(watch, "waits").wait_p50 is None


def test_the_looks_are_kept_for_the_window(watch: Watch, clock: Clock) -> None:
    with FastPool(1, factory=object, name="window"):
        for _ in range(3 * int(WINDOW)):
            seen = row(watch, "window")
            clock.now += 1
        assert seen.seconds == WINDOW


def test_another_pool_at_the_same_address_begins_anew() -> None:
    numbers = {"maxsize": 1, "leased": 0, "created": 7, "timeouts": 3}
    pool = {"kind": "FastPool", "name": "p", "id": 1, "numbers": numbers}
    assert row_of(pool, numbers | {"created": 9}, 1.0).creates_per_s is None
    assert row_of(pool, numbers | {"created": 5}, 1.0).creates_per_s == 2.0


def test_a_budget_has_a_line_below_the_table(watch: Watch) -> None:
    pool = FastPool(9, factory=object, name="orders", budget=ScriptedBudget())
    seen = row(watch, "orders")
    assert seen.budget is not None and seen.budget["allowance"] == 0
    line = "orders: 0 of 60 permits of budget by hand (60 in force, 9 members), wants 7"
    assert line in plain.table(watch.look())
    pool.close()


def test_what_a_kind_has_not_is_none(watch: Watch, clock: Clock) -> None:
    semaphore, tasks = WeightedSemaphore(5, name="units"), TaskPool(2, name="tasks")
    queue = FastPool(3, name="queue")
    queue.put("item")
    watch.look()
    clock.now += 1
    rows = {row.name: row for row in watch.look().rows}
    with semaphore.hold(2):
        rows = {row.name: row for row in watch.look().rows}
    units, running, items = rows["units"], rows["tasks"], rows["queue"]
    assert (units.used, units.max, units.idle, units.waiting) == (2, 5, None, 0)
    assert units.creates_per_s is units.timeouts is units.oldest is None
    assert (running.used, running.max) == (0, None)
    assert (items.used, items.max, items.waiting) == (1, 3, None)
    del tasks


def test_a_pool_has_a_series(watch: Watch) -> None:
    with FastPool(2, factory=object, name="series") as pool:
        watch.look()
        with pool.lease(), pool.lease():
            watch.look()
        view = watch.look()
        (key,) = (row.key for row in view.rows if row.name == "series")
        assert view.series[key] == ([0, 2, 0], [0, 0, 0])
    del pool


def test_a_pool_is_looked_at_closely(watch: Watch) -> None:
    with FastPool(3, factory=object, name="close", leak_after=1000) as pool:
        held = [pool.acquire() for _ in range(2)]
        with pool.lease():
            detail = watch.closely(id(pool))
        assert detail is not None
        assert len(detail.holders) == 3
        ages = [holder.age for holder in detail.holders]
        assert ages == sorted(ages, reverse=True)
        first, second = detail.places
        assert (first.count, second.count) == (2, 1) and __file__ in first.place
        assert detail.counters["leased"] == 3
        assert watch.closely(1) is None
        for lease in held:
            lease.release()


# ---- figures -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0, "0us"),
        (0.000512, "512us"),
        (0.0012, "1.2ms"),
        (0.26, "260ms"),
        (0.99999, "1.0s"),
        (1.26, "1.3s"),
        (9.96, "10s"),
        (119.4, "119s"),
        (120, "2m"),
        (7199, "119m"),
        (7200, "2h"),
        (172800, "2d"),
    ],
)
def test_a_span_has_five_characters(seconds: float | None, text: str) -> None:
    assert span(seconds) == text and len(text) <= 5


@pytest.mark.parametrize(
    ("number", "text"),
    [(None, "-"), (0, "0"), (9999, "9999"), (12_345, "12k"), (10**6, "1M"), (3 * 10**9, "3G")],
)
def test_a_number_has_four_characters(number: int | None, text: str) -> None:
    assert whole(number) == text


def test_a_rate_has_a_decimal_while_it_is_small() -> None:
    assert [decimal(x) for x in (None, 0.04, 3.25, 99.9, 123.4)] == [
        "-",
        "0.0",
        "3.2",
        "99.9",
        "123",
    ]


def test_what_a_terminal_would_obey_is_not_shown() -> None:
    assert clean("a\x1b[2Jb\r\n\u202ec\udc80é") == "a?[2Jb???c?é"


def test_long_texts_are_cut_where_they_say_least() -> None:
    assert shorten("orders", 6) == "orders" and shorten("connections", 6) == "conne~"
    assert tail("/long/path/app.py:12", 10) == "~app.py:12"


def test_a_sparkline_shows_the_last_values() -> None:
    assert sparkline([9, 0, 1, 4, 8], 4) == " ▁▄█"
    assert sparkline([1, 2], 4, top=100) == "▁▁"
    assert sparkline([0, 0], 4) == "  "


def test_many_pools_of_any_name_keep_to_80_columns(watch: Watch) -> None:
    with FastPool(10**6, factory=object, name="x" * 200) as pool, pool.lease():
        lines = plain.table(watch.look()).splitlines()
    assert max(map(len, lines)) <= 80
