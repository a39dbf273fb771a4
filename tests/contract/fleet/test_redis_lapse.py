"""When a lease has ended and nothing may be over: RedisBudget's ``on_lapse="close"``, step by step,
in virtual time. Borrowers never give back by themselves what they have.

The script and the member are those that are shipped: `simulation/fleet.py`.
"""

from __future__ import annotations

from typing import Any

import pytest

from fastpool.fleet._redis import RedisBudget
from fastpool.fleet._sockets import end_socket
from simulation.fleet import LEASE, NAME, Member, Pool, World
from simulation.mini_redis import function, lua51

pytestmark = pytest.mark.skipif(lua51 is None, reason="lupa is not installed: pip install lupa")
LIMIT = 10


class Holding(Pool):
    """Everything is lent, as long as it is open; what ends comes back at once."""

    def __init__(self) -> None:
        super().__init__("holding", LIMIT)
        self.by_dice = False
        self.ways: list[object] = []

    def use_all(self) -> None:
        self.open = max(self.open, min(self.demand, self.allowance))
        self.leased = self.sessions = self.open

    def terminate(self, how: object) -> None:
        self.ways.append(how)
        self.open = self.leased = self.sessions = self.allowance


def world_of(members: int, **options: Any) -> tuple[World, list[Holding]]:
    world = World(1, members=0, limit=LIMIT, faults={}, **options)
    world.pace = 0.05
    pools = [Holding() for _ in range(members)]
    for n, pool in enumerate(pools):
        world.members.append(Member(world, f"m{n}", [pool]))
    return world, pools


def go_on(world: World, seconds: float) -> int:
    """The most that was open at the server meanwhile."""
    end, most = world.now + seconds, 0
    while world.now < end:
        world.step()
        for member in world.members:
            for pool in member.pools:
                pool.use_all()
        most = max(most, sum(pool.sessions for m in world.members for pool in m.pools))
    return most


def cut_off(**options: Any) -> tuple[int, Holding, Holding]:
    """One has 8 of 10, all lent, and cannot reach the engine any more; another one wants all."""
    world, (cut, well) = world_of(2, **options)
    cut.demand = 8
    go_on(world, 3)
    assert cut.open == 8
    well.demand = LIMIT
    world.members[0].cut_off = 1e9
    return go_on(world, 2 * LEASE), cut, well


def test_nothing_is_over_whatever_borrowers_do() -> None:
    most, cut, well = cut_off(on_lapse="close")
    assert most == LIMIT and (cut.open, well.open) == (0, LIMIT)
    assert set(cut.ways) == {end_socket} and not well.ways


def test_what_is_guaranteed_goes_on() -> None:
    """Though the engine has forgotten who has it."""
    most, cut, well = cut_off(on_lapse="close", guaranteed=2)
    assert most == LIMIT + 2 and (cut.open, well.open) == (2, LIMIT)


def test_function_of_the_user_is_the_way() -> None:
    _, cut, _ = cut_off(on_lapse="close", terminate=print)
    assert set(cut.ways) == {print}


@pytest.mark.parametrize("options", [{}, {"on_lapse": "shrink"}, {"strict": True}])
def test_without_it_they_would_be_over(options: dict[str, Any]) -> None:
    most, cut, _ = cut_off(**options)
    assert most == LIMIT + 8 and not cut.ways


def test_it_ends_before_the_engine_gives_it_to_others() -> None:
    """At the end of its own lease, which is the earlier one by ``grace``."""
    world, (cut,) = world_of(1, on_lapse="close")
    cut.demand = 8
    go_on(world, 3)
    world.members[0].cut_off = 1e9
    claim = world.members[0].budget.claim
    while cut.open:
        world.step()
        assert world.now < claim.until + 0.2
    assert world.now >= claim.until


FORGET = """
local row = redis.call('HGET', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
local meta = redis.call('HMGET', KEYS[1], 'members', 'total')
local total = meta[2] - string.match(row, '%d+')
redis.call('HSET', KEYS[1], 'members', meta[1] - 1, 'total', total)
return {0}
"""


def test_lease_that_the_engine_has_lost_ends_what_is_over() -> None:
    """The engine loses one member alone, and others have its permits before it hears of that."""
    world, (one, other) = world_of(2, on_lapse="close")
    one.demand = 8
    go_on(world, 3)
    budget: RedisBudget = world.members[0].budget
    engine, shipped = world.engine, world.engine.script
    engine.script = function(FORGET)
    engine.run(NAME, "m0")
    engine.script = shipped
    other.demand = LIMIT
    world.check_sum = lambda: None  # type: ignore[method-assign]  # more may be used than there is
    budget._next_at = world.now + 3  # its lease goes on
    go_on(world, 4)
    assert budget.claim.lapses == 1 and one.ways and one.open + other.open <= LIMIT


def test_paused_member_ends_it_when_it_goes_on() -> None:
    world, (paused, other) = world_of(2, on_lapse="close")
    paused.demand = 8
    go_on(world, 3)
    other.demand = LIMIT
    member = world.members[0]
    member.asleep = member.look_at = world.now + 2 * LEASE
    assert go_on(world, 2 * LEASE - 1) > LIMIT  # as without a fence: see the page
    go_on(world, 2)
    assert paused.ways and paused.open + other.open <= LIMIT


def test_all_is_open_again_once_the_engine_answers() -> None:
    world, (cut,) = world_of(1, on_lapse="close", guaranteed=1)
    cut.demand = 8
    go_on(world, 3)
    world.members[0].cut_off = world.now + 2 * LEASE
    go_on(world, 2 * LEASE - 1)
    assert cut.open == 1
    go_on(world, 3)
    assert cut.open == 8
    ended = len(cut.ways)
    go_on(world, LEASE)
    assert len(cut.ways) == ended
