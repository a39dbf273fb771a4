"""Shares are max-min fair, and no more is recalled than others lack."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fastpool.fleet._fairness import level, recalls, targets

TABLES = st.dictionaries(
    st.integers(0, 20), st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=12
)


def test_everybody_has_what_it_wants_while_there_is_enough() -> None:
    assert level(60, [10, 20, 30]) == 60
    assert targets(60, {1: (0, 10), 2: (0, 20)}) == {1: 10, 2: 20}


def test_who_wants_little_gets_it_and_the_others_the_same_each() -> None:
    assert level(60, [5, 40, 40]) == 27
    assert level(60, [20] * 8) == 7


def test_what_is_left_over_is_one_more_each() -> None:
    """60 of eight members are 7 each and 4 odd ones, which stay where they are."""
    members = dict.fromkeys(range(8), (7, 20))
    assert sorted(targets(60, members).values()) == [7] * 4 + [8] * 4
    members |= {6: (8, 20), 7: (8, 20)}
    assert targets(60, members)[6] == targets(60, members)[7] == 8


def test_more_than_one_odd_permit_is_recalled_for_others() -> None:
    members = dict.fromkeys(range(6), (7, 20)) | {6: (9, 20), 7: (9, 20)}
    assert recalls(60, members) == {6: 1, 7: 1}


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
def test_targets_fit_and_are_at_most_one_above_the_level(
    limit: int, members: dict[int, tuple[int, int]]
) -> None:
    due = targets(limit, members)
    most = level(limit, [want for _, want in members.values()])
    assert sum(due.values()) <= limit
    for key, (_, want) in members.items():
        assert min(want, most) <= due[key] <= min(want, most + 1)


@given(st.integers(1, 60), TABLES)
def test_recalls_are_what_is_lacking_and_leave_everybody_its_due(
    limit: int, members: dict[int, tuple[int, int]]
) -> None:
    due = targets(limit, members)
    given_up = recalls(limit, members)
    lacking = sum(max(0, due[key] - have) for key, (have, _) in members.items())
    free = limit - sum(have for have, _ in members.values())
    assert sum(given_up.values()) == max(0, lacking - free)
    for key, n in given_up.items():
        assert 0 < n <= members[key][0] - due[key]
