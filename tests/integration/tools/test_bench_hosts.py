"""The measurements of hosts: their table fits, and divides by the host's own figures."""

from __future__ import annotations

import threading

from bench.hosts import turns
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
