"""The table of tiers in README.md is what `support/tiers.py` does."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from support import tiers


def wanted(marks: str, tier: str, first: bool = True, measures: str = "yes") -> bool:
    item: Any = SimpleNamespace(get_closest_marker=lambda name: name in marks.split() or None)
    options = {"tier": tier, "not_first": not first, "measures": measures}
    config: Any = SimpleNamespace(getoption=options.__getitem__)
    return bool(tiers.is_wanted(item, config))


@pytest.mark.parametrize(
    ("marks", "runs_in"),
    [
        ("", "fast full all"),
        ("process", "full rest all"),
        ("servers", "full rest all"),
        ("costly", "full rest all"),
        ("long", "all"),
        ("process light", "fast full all"),
        ("measures", "fast full all"),
        ("stress", "fast full rest all"),
        ("process once", "full rest all"),
    ],
)
def test_needs_decide_the_tier(marks: str, runs_in: str) -> None:
    assert [tier for tier in tiers.TIERS if wanted(marks, tier)] == runs_in.split()


def test_fast_and_rest_are_full_and_share_stress_alone() -> None:
    for marks in ("", "process", "servers", "costly", "long", "process light", "measures"):
        fast, rest, full = (wanted(marks, tier) for tier in ("fast", "rest", "full"))
        assert fast + rest == full, marks


def test_what_does_not_depend_on_the_interpreter_runs_on_the_first() -> None:
    assert wanted("once", "full") and not wanted("once", "full", first=False)
    assert wanted("", "full", first=False)


def test_what_is_costly_runs_on_the_first_but_for_verify() -> None:
    assert wanted("costly", "full") and not wanted("costly", "full", first=False)
    assert wanted("costly", "all", first=False)


def test_what_tells_little_elsewhere_runs_on_the_first_but_for_verify() -> None:
    assert wanted("first", "fast") and not wanted("first", "full", first=False)
    assert wanted("first", "all", first=False)


@pytest.mark.parametrize(
    ("text", "need", "once"),
    [
        ("pytestmark = [pytest.mark.process, pytest.mark.once]\n", True, True),
        ("pytestmark = [\n    pytest.mark.servers,\n    pytest.mark.once,  # why\n]\n", True, True),
        ("pytestmark = pytest.mark.once  # reads sources\n", False, True),
        ("@pytest.mark.once\n@pytest.mark.costly\ndef test(): ...\n", True, False),
        ("pytestmark = [pytest.mark.stress]\nx = [pytest.mark.once]\n", True, False),
        ("def test_nothing_is_stuck_at_length(): ...\n", False, False),
    ],
)
def test_files_that_have_no_test_of_a_run_are_told_by_their_text(
    text: str, need: bool, once: bool
) -> None:
    """What is not read cannot run: a word too many costs time, one too few costs tests."""
    assert (bool(tiers.SAYS_NEED.search(text)), bool(tiers.SAYS_ONCE.search(text))) == (need, once)


def test_what_measures_runs_alone() -> None:
    assert not wanted("measures", "fast", measures="no") and wanted("", "fast", measures="no")
    assert wanted("measures", "fast", measures="only") and not wanted("", "fast", measures="only")


def test_every_marker_that_decides_is_registered(pytestconfig: pytest.Config) -> None:
    named = {line.partition(":")[0] for line in pytestconfig.getini("markers")}
    assert {*tiers.NEEDS, "light", "once", "first", "measures", "stress"} <= named


def test_the_longest_files_come_first() -> None:
    """Whole, and each in its own order: its servers are started once."""
    fast = [item("many.py", "") for _ in range(60)]
    slow = [item("servers.py", "servers") for _ in range(2)]
    few = [item("few.py", "") for _ in range(3)]
    assert tiers.longest_first([*few, *fast, *slow]) == [*slow, *fast, *few]


def item(path: str, marks: str) -> Any:
    return SimpleNamespace(path=path, get_closest_marker=lambda name: name in marks.split() or None)
