"""RedisBudget in virtual time, with faults by dice: see `simulation/fleet.py`.

A seed that fails fails again: `World(seed)`, and `step()` until it does.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from simulation.fleet import World
from simulation.mini_redis import lua51
from simulation.weakened import SCRIPTS, weaken_member
from support.helpers import stress_ops

pytestmark = [
    pytest.mark.once,  # what the Lua script and its members agree on
    pytest.mark.stress,
    pytest.mark.skipif(lua51 is None, reason="lupa is not installed: pip install lupa"),
]
STEPS = 200
GROUPS = 8  # half of them with a fence besides
EACH = 34  # schedules of each: 408 at a push
SHARE = 0.0012  # of a million: 14,400 at length


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Without the log lines of thousands of outages."""
    logger = logging.getLogger("fastpool")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)


def run(world: World, calm: bool = False) -> None:
    """A schedule; then, if asked for, everybody gets its share of the whole."""
    for _ in range(STEPS):
        world.step()
    if calm:
        world.calm_down()
        shares = world.shares()
        assert sum(shares) == world.limit and shares[-1] - shares[0] <= 1, world.told(str(shares))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("group", range(GROUPS))
def test_no_schedule_has_more_in_use_than_the_limit(group: int) -> None:
    """Whatever is lost, late, doubled, paused, killed, emptied, failed over or set to another time;
    and when all that is over the permits are all in use, shared evenly."""
    for i in range(stress_ops(EACH, SHARE)):
        seed = group + GROUPS * i
        run(World(seed, members=3 + seed % 5), calm=seed % 8 == 0)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("group", range(GROUPS // 2))
def test_with_a_fence_the_server_has_never_more_than_the_limit(group: int) -> None:
    """Paused and killed members keep their sessions until somebody has seen to them."""
    for i in range(stress_ops(EACH, SHARE)):
        seed = 1_000_000 + group + GROUPS * i
        run(World(seed, members=3 + seed % 5, fenced=True), calm=seed % 8 == 0)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("fault", SCRIPTS)
def test_schedules_find_a_weaker_script(fault: str) -> None:
    """The proof is proved: without one of its cures the script fails within some schedules."""
    with pytest.raises(AssertionError):
        for seed in range(400):
            run(World(seed, text=SCRIPTS[fault]))


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("fault", weaken_member)
def test_schedules_find_a_weaker_member(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    weaken_member[fault](monkeypatch)
    with pytest.raises(AssertionError):
        for seed in range(400):
            run(World(seed))
