"""What RedisBudget's protocol does, step by step, in virtual time; and the faults that prototypes
of it had, each of which comes back when its cure is taken out.

The script and the member are those that are shipped: `simulation/fleet.py`.
"""

from __future__ import annotations

from typing import Any

import pytest

from fastpool.fleet import _member
from fastpool.fleet._claim import Claim
from fastpool.fleet._redis import RedisBudget
from simulation.fleet import GRACE, LEASE, NAME, TTL, Member, Pool, World
from simulation.mini_redis import lua51
from simulation.weakened import without

pytestmark = pytest.mark.skipif(lua51 is None, reason="lupa is not installed: pip install lupa")


def calm(seed: int, members: int, limit: int, **options: Any) -> World:
    """Members with one large pool each, and no fault."""
    world = World(seed, members=0, limit=limit, faults={}, **options)
    world.pace = 0.05
    for _ in range(members):
        add(world)
    return world


def add(world: World) -> Member:
    member = world.birth()
    for pool in member.pools:
        pool.maxsize, pool.by_dice = 1000, False
    return member


def wants(member: Member, n: int) -> None:
    member.pools[0].demand = n


def permits(world: World) -> list[int]:
    return [member.budget.claim.permits for member in world.members]


def watch(pool: Pool, allowed: list[int]) -> None:
    """Keep what the pool is told from here on."""
    allow = pool.allow

    def watched(n: int, close: bool = True) -> int:
        if close:
            allowed.append(n)
        return allow(n, close)

    pool.allow = watched  # type: ignore[method-assign]


def in_force(world: World) -> int:
    meta = world.engine.data()[f"fastpool:budget:{{{NAME}}}"]
    return int(meta["total"])


# ---- shares --------------------------------------------------------------------------------------


def odd_permits(text: str | None = None) -> None:
    """Of 60 permits 7 members have all; the eighth comes."""
    world = calm(1, 7, 60, text=text)
    for member in world.members:
        wants(member, 60)
    world.go_on(5)
    assert sorted(permits(world)) == [8, 8, 8, 9, 9, 9, 9]
    wants(add(world), 60)
    world.go_on(5)
    assert sorted(permits(world)) == [7, 7, 7, 7, 8, 8, 8, 8]


def test_nobody_keeps_an_odd_permit_while_another_is_below_the_level() -> None:
    odd_permits()


def test_odd_permits_stayed_with_the_rich() -> None:
    """Each of those who had one more kept it, and the poor one had 4 of its 7."""
    with pytest.raises(AssertionError):
        odd_permits(without("if left <= 0 then break end"))


def idle_shares(text: str | None = None) -> None:
    """One has 20 idle ones, another wants 3 of them."""
    world = calm(2, 2, 20, text=text)
    rich, poor = world.members
    wants(rich, 20)
    world.go_on(2)
    wants(rich, 18)
    wants(poor, 3)
    world.go_on(1)
    assert permits(world) == [17, 3]


def test_no_more_is_recalled_than_the_poor_lack() -> None:
    idle_shares()


def test_weights_divide_and_floors_are_kept() -> None:
    """Twice the weight, twice the permits; above what is guaranteed to each."""
    world = calm(3, 0, 20)
    for weight, floor in ((1, 2), (2, 2), (1, 4)):
        member = add(world)
        member.budget.weight, member.budget.guaranteed = weight, floor
        member.budget.claim.floor = floor
        wants(member, 50)
    world.go_on(6)
    assert permits(world) == [5, 8, 7]


def test_limit_is_changed_for_all() -> None:
    world = calm(4, 2, 10)
    for member in world.members:
        wants(member, 10)
    world.go_on(3)
    world.engine.run(NAME, "set", "", 0, 0, 0, 0, 1, 10000, 2000, 16, 1, 0, 0)
    world.limit = 16
    world.go_on(5)
    assert permits(world) == [8, 8]


# ---- requests ------------------------------------------------------------------------------------


def rest_is_quiet() -> None:
    """Eight members that want more than there is make no request but heartbeats."""
    world = calm(5, 8, 20)
    for member in world.members:
        wants(member, 60)
    world.go_on(5)
    before = sum(member.requests for member in world.members)
    world.go_on(10)
    beats = 8 * 10 / (0.7 * GRACE * 0.9)
    assert sum(member.requests for member in world.members) - before <= beats * 1.1


def test_members_that_lack_permits_do_not_wake_each_other() -> None:
    rest_is_quiet()


def test_whoever_lacked_permits_asked_at_each_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only when it wanted more than the engine knew of."""
    told = RedisBudget._is_due

    def is_due(budget: RedisBudget, now: float) -> bool:
        return told(budget, now) or budget._wanted > budget.claim.permits

    monkeypatch.setattr(RedisBudget, "_is_due", is_due)
    with pytest.raises(AssertionError):
        rest_is_quiet()


# ---- an engine that has lost data ----------------------------------------------------------------


def failover(text: str | None = None) -> None:
    """A replica takes over that knows of a member that is gone; others have its permits."""
    world = calm(6, 3, 20, text=text)
    ghost, one, other = world.members
    for member in world.members:
        wants(member, 10)
    world.go_on(3)
    old = world.engine.copied()
    allowed: list[int] = []
    world.members.remove(ghost)
    world.go_on(LEASE + 2)
    assert permits(world) == [10, 10]
    for pool in one.pools[0], other.pools[0]:
        watch(pool, allowed)
    world.engine.restart(old, "b2")
    world.engine.server.was_replica = True
    world.go_on(2)
    assert one.budget.claim.learning and other.budget.claim.learning
    world.go_on(LEASE + 2)
    assert permits(world) == [10, 10]
    assert not allowed or min(allowed) == 10


def test_nothing_is_recalled_while_the_engine_learns() -> None:
    """What it knows may be old: connections that are closed for it are opened again."""
    failover()


def test_engine_that_learned_recalled_permits_for_members_that_were_gone() -> None:
    with pytest.raises(AssertionError):
        failover(without("if not learning and moved and", "if moved and"))


def test_first_use_of_a_budget_waits_for_nobody() -> None:
    """A server that has run for long, and has never lost anything, has known of no such budget."""
    world = calm(7, 1, 5)
    wants(world.members[0], 5)
    world.go_on(1)
    assert permits(world) == [5]


@pytest.mark.parametrize("loss", ["flushed", "evicted", "just started", "was a replica"])
def test_first_use_waits_where_data_may_have_been_lost(loss: str) -> None:
    """For one lease: whoever had permits would have said so by then."""
    world = calm(8, 1, 5)
    server = world.engine.server
    server.flushes += loss == "flushed"
    server.evicted += loss == "evicted"
    server.was_replica = loss == "was a replica"
    if loss == "just started":
        server.uptime = 0
    wants(world.members[0], 5)
    world.go_on(TTL)
    assert permits(world) == [0]
    world.go_on(4)
    assert permits(world) == [5]


# ---- leases that end -----------------------------------------------------------------------------


def closing(world: World) -> None:
    """A resource that is being closed still counts."""
    one, other = world.members
    wants(one, 6)
    world.go_on(2)
    wants(one, 0)
    wants(other, 6)
    for pool in one.pools:
        pool.use_all = lambda: None  # type: ignore[method-assign]
        pool.leased = 0
    world.go_on(4)
    assert one.pools[0].closing == 6 and other.pools[0].open == 0
    del one.pools[0].use_all
    world.go_on(2)
    assert other.pools[0].open == 6


def test_permit_is_free_when_its_resource_is_closed() -> None:
    closing(calm(9, 2, 6))


def test_permit_was_free_when_its_resource_began_to_be_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_member.Member, "spare", property(lambda m: m.held - m.allowance))
    with pytest.raises(AssertionError):
        closing(calm(9, 2, 6))


def recovery(text: str | None = None) -> None:
    """Half of the members are killed: the others have all permits when the leases have ended."""
    for seed in range(3):
        world = calm(seed, 4, 20, text=text)
        for member in world.members:
            wants(member, 20)
        world.go_on(4)
        assert permits(world) == [5, 5, 5, 5]
        last = max(member.budget._asked_at for member in world.members[2:])
        del world.members[2:]
        world.pace = 0.3
        world.go_on(last + LEASE - 0.5 - world.now)
        world.pace = 0.02
        world.go_on(last + LEASE + 0.3 - world.now)
        assert permits(world) == [10, 10]


def test_permits_of_the_killed_are_used_as_soon_as_their_leases_end() -> None:
    recovery()


def test_killed_were_noticed_at_the_next_heartbeat() -> None:
    """The script says when the next lease ends, so that who lacks permits asks just then."""
    with pytest.raises(AssertionError):
        recovery(without("elseif mine.have < wanted then", "elseif false then"))


def test_lease_ends_for_the_member_before_it_ends_for_the_engine() -> None:
    """It is counted from before the request was sent; the engine waits for `grace` longer."""
    world = calm(10, 2, 10)
    one, other = world.members
    wants(one, 10)
    world.go_on(2)
    wants(other, 10)
    one.cut_off, world.faults = 1e9, {"notice_lost": 1.0}
    while other.budget.claim.permits == 0:
        world.go_on(0.05)
    assert world.now - one.budget.claim.until > GRACE / 2
    assert one.pools[0].open == 10  # silence is no proof: it keeps what it has


def test_member_that_was_forgotten_shrinks_when_it_is_told_so() -> None:
    """Not before; and it opens nothing meanwhile."""
    world = calm(11, 2, 10)
    one, other = world.members
    wants(one, 10)
    world.go_on(2)
    wants(other, 10)
    one.cut_off, world.faults = world.now + 2 * LEASE, {"notice_lost": 1.0}
    world.go_on(2 * LEASE - 1)
    assert permits(world)[1] == 10 and one.pools[0].open == 10
    world.go_on(8)
    assert one.budget.claim.lapses == 1
    assert permits(world) == [5, 5]


def test_lease_that_ends_while_the_claim_is_under_way_is_not_confirmed() -> None:
    """The process is stopped and its request held up, until others have its permits and the engine
    has lost its data: then it believes the claim.  Found by native/spin/budget.pml."""
    world = calm(17, 2, 10)
    one, other = world.members
    wants(one, 10)
    world.go_on(2)

    def held_up(act: str, *args: object) -> list[Any]:
        assert args[4] == 1 and one.budget.claim.is_valid(world.now)  # as it says itself
        del one.call
        one.asleep = 1e9
        wants(other, 10)
        while other.budget.claim.permits < 10:
            world.go_on(1)
        world.engine.flush()
        reply = world.execute((act, one.name, *args))
        one.asleep = 0.0
        assert (reply[0], reply[3], reply[4]) == (10, 1, 0)
        return reply

    one.call = held_up  # type: ignore[method-assign]
    while not one.budget.claim.learning:
        world.go_on(0.1)
    assert not one.budget.claim.is_valid(world.now)
    assert other.budget.claim.is_valid(world.now)
    world.go_on(3 * LEASE)
    assert permits(world) == [5, 5]


@pytest.mark.parametrize("options", [{"strict": True}, {"on_lapse": "shrink", "guaranteed": 2}])
def test_pools_shrink_at_a_lapse_where_that_is_asked_for(options: dict[str, Any]) -> None:
    world = calm(12, 1, 10, **options)
    (one,) = world.members
    wants(one, 10)
    world.go_on(2)
    assert one.pools[0].open == 10
    one.cut_off = 1e9
    wants(one, 0)
    one.pools[0].by_dice = False
    world.go_on(TTL + 1)
    wants(one, 10)
    world.go_on(1)
    assert one.pools[0].open == options.get("guaranteed", 0)


def test_guaranteed_permits_need_no_engine() -> None:
    world = calm(13, 1, 10, guaranteed=3)
    (one,) = world.members
    one.cut_off = 1e9
    wants(one, 10)
    world.go_on(3)
    assert one.pools[0].open == 3


def test_network_of_the_engine_is_not_the_death_of_most() -> None:
    """Five of six are not heard of at once: that is waited for, once more."""
    world = calm(14, 6, 12)
    for member in world.members:
        wants(member, 12)
    world.go_on(3)
    for member in world.members[1:]:
        member.cut_off = world.now + LEASE + 4
    world.go_on(LEASE + 3)
    assert permits(world)[0] == 2
    world.go_on(10)
    assert permits(world) == [2] * 6


def test_fence_comes_before_permits_are_used_again() -> None:
    world = calm(15, 2, 10, fenced=True)
    one, other = world.members
    wants(one, 10)
    world.go_on(2)
    wants(other, 10)
    world.members.remove(one)
    world.gone.append(one)
    run, world.fence = world.fence, lambda *_: None  # type: ignore[method-assign]
    world.go_on(LEASE + 3)
    assert permits(world) == [0]
    world.fence = run  # type: ignore[method-assign]
    world.go_on(LEASE + 3)  # it is asked for anew
    assert permits(world) == [10] and sum(pool.sessions for pool in one.pools) == 0


def test_proof_of_a_fence_is_of_the_lapse_that_it_was_asked_for() -> None:
    """The engine hears of it late: the member has come back meanwhile, and has lapsed again with
    sessions that it has opened since."""
    world = calm(16, 2, 10, fenced=True)
    one, other = world.members
    asked: list[Any] = []
    world.fence = lambda *entry: asked.append(entry)  # type: ignore[method-assign]
    wants(one, 10)
    world.go_on(2)
    for _ in range(2):
        assert sum(pool.sessions for pool in one.pools) == 10
        one.asleep = world.now + 2 * LEASE
        world.go_on(2 * LEASE + 3)
    one.asleep = world.now + 10 * LEASE
    wants(other, 10)
    world.go_on(2 * LEASE)
    late, known = asked[0][1:], asked[-1][1:]
    assert late[0] == known[0] == one.name and late[1] < known[1]
    other.budget._fenced.append(late)
    world.go_on(LEASE + 3)
    assert permits(world)[0] == 10 and other.budget.claim.permits == 0
    world.members.remove(one)  # fenced: it has no session any more
    other.budget._fenced.append(known)
    world.go_on(1)
    assert other.budget.claim.permits == 10


def test_fenced_member_opens_nothing_in_the_place_of_what_it_lost() -> None:
    """It is cut off from the engine alone: it sees its connections end, one by one, and would open
    others for them while its permits are somebody else's."""
    world = calm(17, 2, 10, fenced=True)
    one, other = world.members
    wants(one, 10)
    world.go_on(2)
    one.cut_off = world.now + 10 * LEASE
    wants(other, 10)
    while other.budget.claim.permits < 10:
        world.go_on(1)
    pool = one.pools[0]
    assert pool.open > 0 and pool.sessions == 0
    for left in reversed(range(pool.open)):
        pool.open = left  # one is found to be broken
        pool.use_all()  # and its borrower wants another one
        assert (pool.open, pool.sessions) == (left, 0)
        world.check()


# ---- the member's side ---------------------------------------------------------------------------


def test_notification_counts_only_for_the_request_on_which_it_builds() -> None:
    """It was sent before permits were given up by a request whose reply was lost."""
    claim = Claim()
    first = claim.request(0, 9)
    claim.answered(1.0, 1.0, [5, 1, -1, 0, 0, 9, 9, 2, 5, 10000, 2000, 12000, 0])
    claim.request(2, 2)
    assert not claim.notified(first, 7, 9, -1)
    assert claim.permits == 2
    assert claim.notified(first + 1, 8, 4, -1) and claim.permits == 4
    assert not claim.notified(first + 1, 8, 9, -1)  # doubled


def test_recall_of_before_is_no_grant() -> None:
    """Seven may be kept, it was said; then five are left."""
    claim = Claim()
    claim.request(0, 9)
    claim.answered(1.0, 1.0, [9, 1, 7, 0, 0, 9, 9, 2, 5, 10000, 2000, 12000, 0])
    assert claim.usable == 7
    claim.request(5, 2)
    assert claim.usable == 5


def test_sums_at_the_engine_are_those_of_its_rows() -> None:
    world = calm(16, 3, 9)
    for member in world.members:
        wants(member, 4)
    world.go_on(3)
    assert in_force(world) == sum(permits(world)) == 9
