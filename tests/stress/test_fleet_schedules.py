"""RedisBudget, and LocalBudget with it as its parent, in virtual time, with faults by dice: see
`simulation/fleet.py`.

A seed that fails fails again: `World(seed)`, and `step()` until it does.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing

import pytest

from simulation import mini_redis
from simulation.fleet import FAULTS, World
from simulation.machine import Machine, greenlet, system
from simulation.mini_redis import lua51
from simulation.weakened import SCRIPTS, weaken_besides, weaken_machine, weaken_member
from support.helpers import stress_ops

pytestmark = [
    pytest.mark.once,  # what the Lua script and its members agree on
    pytest.mark.stress,
    pytest.mark.skipif(lua51 is None, reason="lupa is not installed: pip install lupa"),
]
STEPS = 200
GROUPS = 8  # half of them with a fence besides
EACH = 84  # schedules of each: 1,008 at a push
SHARE = 0.0084  # of a million: 100,800 at length
EACH_WITH_MACHINES = 12  # in half as many groups: 48 at a push, since each takes five times as long
SHARE_WITH_MACHINES = 0.0004  # 1,600 at length

#: What is hard for a machine: its leader is replaced, its lease ends.
HARD = FAULTS | {"cut_off": 0.05, "held_up": 0.05, "leader_stopped": 0.03}

needs_greenlet = pytest.mark.skipif(greenlet is None, reason="greenlet is not installed")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Without the log lines of thousands of outages."""
    logger = logging.getLogger("fastpool")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)


def run(world: World, calm: bool = False) -> None:
    """A schedule; then, if asked for, everybody gets its share of the whole, and the processes of
    a machine have what it has."""
    with closing(world):
        for _ in range(STEPS):
            world.step()
        if calm:
            world.calm_down()
            shares = world.shares()
            even = sum(shares) == world.limit and shares[-1] - shares[0] <= 1
            assert even, world.told(str(shares))
            for member in world.wanting:
                if isinstance(member, Machine):
                    assert member.held == member.permits, world.told(f"{member.held} are held")


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("group", range(GROUPS))
def test_no_schedule_has_more_in_use_than_the_limit(group: int) -> None:
    """Whatever is lost, late, doubled, paused, killed, emptied, failed over or set to another time;
    and when all that is over the permits are all in use, shared evenly."""
    for i in range(stress_ops(EACH, SHARE)):
        seed = group + GROUPS * i
        run(World(seed, members=3 + seed % 5), calm=i % 16 == 0)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("group", range(GROUPS // 2))
def test_with_a_fence_the_server_has_never_more_than_the_limit(group: int) -> None:
    """Paused and killed members keep their sessions until somebody has seen to them."""
    for i in range(stress_ops(EACH, SHARE)):
        seed = 1_000_000 + group + GROUPS * i
        run(World(seed, members=3 + seed % 5, fenced=True), calm=i % 16 == 0)


def test_schedules_are_the_same_in_the_lua_of_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """LuaJIT runs them elsewhere, if it is there."""

    def states() -> list[object]:
        mini_redis.runtime.cache_clear()
        mini_redis.function.cache_clear()
        found: list[object] = []
        for seed in range(8):
            world = World(seed, fenced=seed % 2 == 0)
            for _ in range(STEPS):
                world.step()
                found.append([(member.permits, member.usable) for member in world.members])
        return found

    before = states()
    with monkeypatch.context() as patch:
        patch.setattr(mini_redis, "lua", lua51)
        other = states()
    mini_redis.runtime.cache_clear()
    mini_redis.function.cache_clear()
    assert other == before


@needs_greenlet
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("group", range(GROUPS // 2))
def test_processes_of_a_machine_have_never_more_than_it_has(group: int) -> None:
    """They are stopped and killed between any two calls that lock, the one that leads too, while
    the machine gets permits, gives up some, and loses its lease.  Every second one with a fence."""
    with system():
        for i in range(stress_ops(EACH_WITH_MACHINES, SHARE_WITH_MACHINES)):
            seed = 2_000_000 + group + GROUPS * i
            world = World(
                seed, members=3 + seed % 5, machines=1 + i % 2, fenced=group % 2 == 0,
                faults=HARD if i % 3 == 0 else FAULTS,
            )  # fmt: skip
            run(world, calm=i % 4 == 0)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("fault", SCRIPTS)
def test_schedules_find_a_weaker_script(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof is proved: without one of its cures the script fails within some schedules."""
    if fault in weaken_besides:
        weaken_besides[fault](monkeypatch)
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


@pytest.mark.long
@needs_greenlet
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("fault", weaken_machine)
def test_schedules_find_a_weaker_machine(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    weaken_machine[fault](monkeypatch)
    with system(), pytest.raises(AssertionError):
        for seed in range(400):
            run(World(seed, members=4, machines=2, faults=HARD))
