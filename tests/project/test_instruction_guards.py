"""A slow creep fails the build: the hot paths, counted in instructions.

What `bench/instructions` counts is compared with what is recorded for this interpreter and this
compiler. The counts do not depend on the machine or its mood, so 3 % is a change of ours. Where it
is meant, `make record-instructions` writes the new figures, and the diff shows them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import instructions
from bench.measure import NotRun
from fastpool import _core

ROOT = Path(__file__).parents[2]


@pytest.mark.process
@pytest.mark.light  # no load changes a count, so it needs no idle machine
def test_no_hot_path_takes_more_instructions_than_recorded() -> None:
    if ROOT / "src" not in Path(_core.__file__).parents:
        pytest.skip("the figures are those of the build in place, not of a debug build")
    before = instructions.recorded().get(instructions.built_with())
    if before is None:
        pytest.skip(f"nothing recorded for {instructions.built_with()}: make record-instructions")
    try:
        now = instructions.ratios(instructions.count())
    except NotRun as reason:
        pytest.skip(str(reason))
    crept = instructions.crept(now, before)
    assert not crept, "; ".join(crept)


def test_more_than_the_slack_is_a_creep_and_less_is_none() -> None:
    before = {"lease": 5.0, "pool pair": 1.5}
    assert not instructions.crept({"lease": 5.14, "pool pair": 1.0}, before)
    (crept,) = instructions.crept({"lease": 5.16, "pool pair": 1.5}, before)
    assert "lease: 5.160 of the reference, recorded 5.000 (+3.2%)" in crept


def test_what_is_recorded_is_what_is_counted() -> None:
    for where, figures in instructions.recorded().items():
        assert figures.keys() == instructions.FIGURES.keys(), where
