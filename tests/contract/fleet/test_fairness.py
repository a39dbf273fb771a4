"""Shares are max-min fair, and no more is recalled than others lack."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fastpool.fleet._fairness import allowed, level, recalls

TABLES = st.dictionaries(
    st.integers(0, 20), st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=12
)


def test_everybody_has_what_it_wants_while_there_is_enough() -> None:
    assert level(60, [10, 20, 30]) == 60
    assert allowed(60, {1: (0, 10), 2: (0, 20)}, 2) == 20


def test_who_wants_little_gets_it_and_the_others_the_same_each() -> None:
    assert level(60, [5, 40, 40]) == 27
    assert level(60, [20] * 8) == 7


def test_what_is_left_over_goes_to_nobody_who_is_at_the_level_while_another_is_below() -> None:
    """60 of eight members are 7 each and 4 odd ones."""
    members = dict.fromkeys(range(7), (7, 20)) | {7: (4, 20)}
    assert allowed(60, members, 0) == 7
    members[7] = (7, 20)
    assert allowed(60, members, 0) == 8


def test_odd_permit_is_recalled_for_one_below_the_level() -> None:
    members = dict.fromkeys(range(7), (8, 20)) | {7: (4, 20)}
    assert sum(recalls(60, members).values()) == 3


def test_idle_permits_are_recalled_first() -> None:
    assert recalls(10, {1: (6, 0), 2: (4, 9)}) == {1: 5}


def test_nothing_is_recalled_while_enough_is_free() -> None:
    assert recalls(20, {1: (6, 0), 2: (4, 9)}) == {}


def test_a_smaller_limit_recalls_what_is_beyond_it() -> None:
    assert recalls(4, {1: (5, 5), 2: (5, 5)}) == {1: 3, 2: 3}


@given(st.integers(1, 60), st.lists(st.integers(0, 40), max_size=12))
def test_level_is_max_min_fair(limit: int, wants: list[int]) -> None:
    """What it gives fits, and one more for each that wants more would not."""
    most = level(limit, wants)
    assert sum(min(want, most) for want in wants) <= limit
    if any(want > most for want in wants):
        assert sum(min(want, most + 1) for want in wants) > limit


@given(st.integers(1, 60), TABLES)
def test_recalls_are_what_is_lacking_and_leave_everybody_its_due(
    limit: int, members: dict[int, tuple[int, int]]
) -> None:
    most = level(limit, [want for _, want in members.values()])
    due = recalls(limit, members)
    lacking = sum(max(0, min(want, most) - have) for have, want in members.values())
    free = limit - sum(have for have, _ in members.values())
    assert sum(due.values()) == max(0, lacking - free)
    for key, n in due.items():
        have, want = members[key]
        assert 0 < n <= have - min(want, most)
