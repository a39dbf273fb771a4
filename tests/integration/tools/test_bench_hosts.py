"""The measurements of hosts: their table fits, and divides by the host's own figures."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench.hosts import outage, plot, turns
from bench.report import WIDTH


def test_the_table_is_80_columns_wide_and_compares_round_by_round() -> None:
    slow, fast = turns.Turns(1e5, 1, 99_999, 1.0, 2.0), turns.Turns(3e5, 20_000, 99_999, 1.0, 2.0)
    row = turns.row(16, 'ours, fairness="throughput"', [fast, slow, fast], [slow, slow, fast])
    assert max(map(len, [row, *turns.head().splitlines()])) <= WIDTH
    assert row.split()[-3:] == ["1.00", "20000/99999", "1,000.0"]


def test_each_thread_counts_its_own_turns() -> None:
    seen = set()

    def turn() -> None:
        seen.add(threading.get_ident())

    found = turns.by_threads(turn, callers=3, seconds=0.05)
    assert 0 <= found.least <= found.most
    assert found.rate > 0 and seen


# ---- the picture -------------------------------------------------------------------------------


def test_the_picture_is_that_of_the_pages() -> None:
    """`python -m bench.hosts.plot` draws it anew."""
    assert plot.PICTURE.read_text("utf-8") == plot.of_pages()


def test_a_page_without_its_table_is_an_error() -> None:
    with pytest.raises(ValueError, match="no row of 8 threads"):
        plot.rows_of("GET by threads, 4 connections\n\nnothing\n")


def test_rows_of_other_callers_and_of_tasks_are_left_out() -> None:
    page = (
        "GET by threads, 4 connections\n"
        "      4 theirs          9,408    1.00      903/980     1.9\n"
        "      8 theirs          6,188    1.00        1/694   401.0\n"
        "      8 ours, fair      8,761    1.42      429/445     2.1\n\n"
        "GET by tasks, 4 connections\n"
        "      8 theirs          8,172    1.00        1/819   400.4\n"
    )
    assert plot.rows_of(page) == [("theirs", 1.0, 1, 694), ("ours, fair", 1.42, 429, 445)]


# ---- a server that is killed -------------------------------------------------------------------


def test_what_fails_and_what_is_served_after_an_outage() -> None:
    """Errors begun before its end and after its return are told apart."""
    up, failing = threading.Event(), threading.Event()

    @contextmanager
    def start() -> Iterator[None]:
        up.set()
        yield
        up.clear()

    def turn() -> None:
        if not up.is_set() or failing.is_set():
            raise OSError

    well = outage.outage(start, turn, before=0.05, down=0.3, after=0.5)
    assert well.failed > 0 and well.failed_after == 0
    assert well.first is not None and well.all is not None and well.first <= well.all
    failing.set()
    ill = outage.outage(start, turn, before=0.05, down=0.3, after=0.5)
    assert ill.failed_after > 0 and ill.first is None and ill.all is None
    assert str(ill).split()[-2:] == ["never", "never"]
