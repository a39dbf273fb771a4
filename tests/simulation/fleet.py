"""Members of one RedisBudget, their pools and their engine, in virtual time, from one seed.

What is shipped runs here: the script (``mini_redis.py``), and RedisBudget with all below it but the
connection. Pools and network are made up, and so are the faults: requests and replies that are
lost, late or doubled, notifications that are lost, late or out of order, members that are paused
beyond their lease, cut off, killed, or new, data that are lost, old or gone in part, a failover,
clocks that jump.

What may never happen is asked after every step (``check``):

- members whose lease goes on may use more than the limit, together, and than what is guaranteed to
  members that the engine has not seen yet;
- a pool has more open, or may open more, than its member may use, unless it had them before its
  lease had ended, and then that number only falls;
- with a fence: more is open at the server than the limit, whatever anybody believes.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from fastpool.fleet._redis import RedisBudget
from fastpool.fleet._redis_engine import keys_of

from .mini_redis import MiniRedis

NAME = "orders"
TTL, GRACE, LINGER = 10.0, 2.0, 1.0
LEASE = TTL + GRACE

#: A fault: how probable it is at each step, or with each request.
FAULTS = {
    "request_lost": 0.03, "request_late": 0.02, "reply_lost": 0.04, "sent_twice": 0.02,
    "replayed": 0.02, "notice_lost": 0.2, "notice_late": 0.3, "paused": 0.01, "cut_off": 0.01,
    "killed": 0.004, "comes": 0.008, "leaves": 0.003, "flushed": 0.002, "restarted": 0.002,
    "restarted_empty": 0.001, "failed_over": 0.002, "evicted": 0.001, "clock": 0.004,
}  # fmt: skip


#: With a fence these are left out: whoever was paused when all was lost is known to nobody, so
#: nobody has it fenced.
LOSSES = ("flushed", "restarted_empty", "failed_over", "evicted")


class Lost(Exception):
    """No reply has come."""


class Pool:
    """A share of a budget: what a pool does with its allowance, at once."""

    def __init__(self, name: str, maxsize: int) -> None:
        self.name, self.maxsize = name, maxsize
        self.allowance = self.open = self.leased = self.demand = self.closing = 0
        self.sessions = 0  # as the server counts them
        self.closes = True  # what is more than allowed
        self.gone = False
        self.by_dice = True  # callers come and go by themselves

    def look(self) -> tuple[int, int] | None:
        if self.gone and not self.open:
            return None
        return self.open, 0 if self.gone else min(self.maxsize, max(self.leased, self.demand))

    def allow(self, n: int, close: bool = True) -> int:
        self.allowance, self.closes = n, close
        self.shed()
        return self.open

    def shed(self) -> None:
        """What is idle begins to be closed; until the server has, it counts."""
        if not self.closes:
            return
        self.closing = max(self.closing, min(self.open - self.leased, self.open - self.allowance))

    def use_all(self) -> None:
        """Open, lend, give back and close at once what there is a demand for, or none; each is
        lent for a short time only."""
        self.open, self.closing = self.open - self.closing, 0
        self.sessions = min(self.sessions, self.open)  # fewer: somebody has closed them there
        want = 0 if self.gone else min(self.demand, self.maxsize)
        more = max(0, min(want, self.allowance) - self.open)
        self.open += more
        self.sessions += more
        self.leased = min(self.open, want, self.allowance)
        self.shed()

    def work(self, dice: random.Random) -> None:
        """Callers come and go, resources are opened and closed."""
        if not self.by_dice:
            return
        for _ in range(dice.randrange(4)):
            move = dice.random()
            if move < 0.25:
                self.demand = dice.choice((0, 0, 1, 3, 8, 30))
            elif move < 0.45 and self.closing:
                self.closing -= 1
                self.open -= 1
                self.sessions = max(0, self.sessions - 1)
            elif move < 0.6 and self.leased:
                self.leased -= 1
                self.shed()
            elif self.leased < min(self.demand, self.maxsize):
                if self.open - self.closing > self.leased:
                    self.leased += 1
                elif self.open < min(self.allowance, self.maxsize) and not self.gone:
                    self.open += 1
                    self.sessions += 1
                    self.leased += 1


class SimulatedBudget(RedisBudget):
    """RedisBudget whose thread is the world, and whose network too."""

    world: World
    me: Member

    def connect(self) -> Any:
        return self.me

    def ask(self) -> None:
        """The world looks when it likes."""

    def start_fence(self, member: str, number: int) -> None:
        self.world.fences.append((self.me, member, number))


@dataclass(eq=False)
class Member:
    """A process: its budget, its pools; and its connection to the engine."""

    world: World
    name: str
    pools: list[Pool]
    budget: SimulatedBudget = field(init=False)
    look_at: float = 0.0
    asleep: float = 0.0  # until then
    cut_off: float = 0.0  # until then
    notices: list[list[int]] = field(default_factory=list)
    before: int = 0  # what its pools might have open at the last check
    requests: int = 0

    def __post_init__(self) -> None:
        world = self.world
        options = {"ttl": TTL, "grace": GRACE, "linger": LINGER, **world.options}
        if world.fenced:
            options["fence"] = lambda member: None
        self.budget = SimulatedBudget(world, NAME, world.limit, **options)
        self.budget.world, self.budget.me = world, self
        self.budget.clock = lambda: world.now
        self.budget.member = self.name
        for pool in self.pools:
            self.budget.join(pool)

    @property
    def might_open(self) -> int:
        total = 0
        for pool in self.pools:
            most = pool.open
            if not pool.gone and pool.allowance > most:
                most = pool.allowance
            total += most
        return total

    # ---- the connection, as RedisEngine ----------------------------------------------------------

    def call(self, act: str, *args: object) -> list[Any]:
        world = self.world
        self.requests += 1
        world.pass_time(world.dice.random() * 0.02)
        if world.now < self.cut_off or world.strikes("request_lost"):
            world.pass_time(1.0)
            raise Lost
        request = (act, self.name, *args)
        if world.strikes("request_late"):
            world.late.append(request)
            world.pass_time(1.0)
            raise Lost
        reply = world.execute(request)
        world.old.append(request)
        if world.strikes("sent_twice"):
            reply = world.execute(request)
        if world.strikes("reply_lost"):
            world.pass_time(1.0)
            raise Lost
        world.pass_time(world.dice.random() * 0.02)
        return reply

    def notifications(self) -> list[list[int]]:
        found, self.notices = self.notices, []
        return found

    def close(self) -> None:
        pass


class World:
    """See the module. ``faults``: how probable each is; ``text``: the script."""

    def __init__(
        self,
        seed: int,
        *,
        members: int = 5,
        limit: int = 17,
        faults: dict[str, float] | None = None,
        fenced: bool = False,
        text: str | None = None,
        **options: Any,
    ) -> None:
        self.dice = random.Random(seed)
        random.seed(seed)  # the budgets' own dice
        self.limit, self.fenced, self.options = limit, fenced, options
        self.faults = dict(FAULTS if faults is None else faults)
        if fenced:
            self.faults.update(dict.fromkeys(LOSSES, 0.0))
        self.now = 1000.0
        self.pace = 0.4  # seconds that a step takes at most
        self.engine = MiniRedis(text)
        self.jumps_at = 0.0
        self.late: list[tuple[object, ...]] = []
        self.old: deque[tuple[object, ...]] = deque(maxlen=30)
        self.notices: list[tuple[Member, list[int]]] = []
        self.fences: list[tuple[Member, str, int]] = []
        self.snapshots: list[Any] = []
        self.members: list[Member] = []
        self.gone: list[Member] = []  # killed, while the server still has their sessions
        self.born = 0
        self.log: list[str] = []
        for _ in range(members):
            self.birth()

    def register_script(self, text: str) -> None:
        """As a client of redis-py."""

    # ---- time and chance -------------------------------------------------------------------------

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.engine.pass_time(round(seconds * 1000))

    def strikes(self, fault: str) -> bool:
        if self.dice.random() >= self.faults.get(fault, 0.0):
            return False
        self.log.append(f"{self.now:.2f} {fault}")
        return True

    def execute(self, request: tuple[object, ...]) -> list[Any]:
        reply = self.engine.run(NAME, *request)
        if not self.engine.published:
            return reply
        by_name = {member.name: member for member in self.members}
        for channel, text in self.engine.published:
            numbers = [int(word) for word in text.split()] if " " in text else []
            name = channel.rpartition(":")[2]
            for member in [by_name[name]] if name in by_name else [] if numbers else self.members:
                if not self.strikes("notice_lost"):
                    self.notices.append((member, numbers))
        self.engine.published.clear()
        return reply

    def birth(self) -> Member:
        self.born += 1
        pools = [
            Pool(f"p{n}", self.dice.choice((5, 20))) for n in range(self.dice.choice((1, 1, 2)))
        ]
        member = Member(self, f"m{self.born}", pools)
        self.members.append(member)
        return member

    # ---- a step ----------------------------------------------------------------------------------

    def step(self) -> None:
        """A little time passes, somebody does something; then all is checked."""
        self.pass_time(self.dice.random() * self.pace)
        self.strike()
        self.ring()
        for member in self.members[:]:
            if self.now < member.asleep:
                continue
            if member.look_at <= self.now or self.dice.random() < 0.3:
                member.look_at = self.now + member.budget.step()
                self.check_pools_of(member)  # what others have, only they change
                self.check_sum()
            for pool in member.pools:
                pool.work(self.dice)
        for entry in self.fences[:]:
            if self.dice.random() < 0.5:
                self.fences.remove(entry)
                self.fence(*entry)
        self.check()

    def ring(self) -> None:
        for entry in self.notices[:]:
            member, numbers = entry
            if self.dice.random() < self.faults.get("notice_late", 0.0):
                continue
            self.notices.remove(entry)
            member.notices.insert(self.dice.randint(0, len(member.notices)), numbers)

    def fence(self, survivor: Member, name: str, number: int) -> None:
        """The server closes what a member has open; the member need not know."""
        if survivor not in self.members or self.now < survivor.asleep:
            return
        for member in self.members + self.gone:
            if member.name == name:
                for pool in member.pools:
                    pool.sessions = 0
        survivor.budget._fenced.append((name, number))

    def strike(self) -> None:
        dice, engine = self.dice, self.engine
        awake = [member for member in self.members if self.now >= member.asleep]
        one = dice.choice(awake) if awake else None
        if one and self.strikes("paused"):
            one.asleep = one.look_at = self.now + dice.uniform(0, 3 * LEASE)
        if one and self.strikes("cut_off"):
            one.cut_off = self.now + dice.uniform(0, 3 * LEASE)
        if one and len(self.members) > 3 and self.strikes("killed"):
            self.members.remove(one)
            self.gone.append(one)
            if not self.fenced:  # the kernel closes, and the server sees it
                for pool in one.pools:
                    pool.open = pool.allowance = pool.sessions = 0
        if len(self.members) < 9 and self.strikes("comes"):
            self.birth()
        if one and len(self.members) > 3 and self.strikes("leaves"):
            for pool in one.pools:
                pool.gone, pool.demand = True, 0
        if self.old and self.strikes("replayed"):
            self.execute(dice.choice(self.old))
        if self.late and dice.random() < 0.2:
            self.execute(self.late.pop(dice.randrange(len(self.late))))
        if dice.random() < 0.2:
            self.snapshots = [*self.snapshots[-3:], engine.copied()]
        if self.strikes("flushed"):
            engine.flush()
        if self.strikes("restarted"):
            engine.restart(engine.copied(), f"{dice.getrandbits(60):x}")
        if self.strikes("restarted_empty"):
            engine.restart(None, f"{dice.getrandbits(60):x}")
        if self.snapshots and self.strikes("failed_over"):
            data = dice.choice(self.snapshots)
            self.snapshots.clear()
            engine.restart(data, f"{dice.getrandbits(60):x}")
            engine.server.was_replica = True
            engine.server.uptime = 1_000_000_000
        if self.strikes("evicted"):
            engine.evict(dice.choice(keys_of(NAME)))
        if (
            self.now >= self.jumps_at
            and engine.server.uptime > 1000 * LEASE
            and self.strikes("clock")
        ):
            self.jumps_at = self.now + 3 * LEASE  # one for each lease is what is promised
            engine.server.wall += round(1000 * dice.choice((-1, 1)) * 10 ** dice.uniform(-1, 5))

    # ---- what is expected ------------------------------------------------------------------------

    def check(self) -> None:
        for member in self.members + self.gone:
            self.check_pools_of(member)
        self.check_sum()

    def check_pools_of(self, member: Member) -> None:
        """They have more open than permits only if they had before, and that only falls."""
        claim, might = member.budget.claim, member.might_open
        if might > claim.permits and might > claim.floor:
            assert might <= member.before, self.told(f"{member.name} may open {might}")
        member.before = might

    def check_sum(self) -> None:
        usable = unseen = 0
        for member in self.members:
            claim = member.budget.claim
            unseen += claim.floor
            if claim.is_valid(self.now):
                usable += claim.permits if claim.permits > claim.floor else claim.floor
        assert usable <= self.limit + unseen, self.told(f"{usable} may be used")
        if self.fenced:
            sessions = sum(pool.sessions for m in self.members + self.gone for pool in m.pools)
            assert sessions <= self.limit, self.told(f"{sessions} sessions")

    def told(self, what: str) -> str:
        state = [
            (
                m.name,
                m.budget.claim.permits,
                round(m.budget.claim.until - self.now, 2),
                m.might_open,
            )
            for m in self.members
        ]
        return f"{what} of {self.limit} at {self.now:.2f}: {state}\n" + "\n".join(self.log[-30:])

    # ---- after the faults ------------------------------------------------------------------------

    def go_on(self, seconds: float) -> None:
        """Pools do what their ``demand`` says, at once."""
        end = self.now + seconds
        while self.now < end:
            self.step()
            for member in self.members:
                for pool in member.pools:
                    pool.by_dice = False
                    pool.use_all()

    def calm_down(self, seconds: float = 5 * LEASE) -> None:
        """No fault any more, and everybody wants all there is."""
        self.faults = {}
        for member in self.members:
            member.asleep = member.cut_off = 0.0
            for pool in member.pools:
                if not pool.gone:
                    pool.maxsize = 100
        end = self.now + seconds
        while self.now < end:
            for member in self.members:
                for pool in member.pools:
                    pool.demand = 0 if pool.gone else 100
            self.step()

    def shares(self) -> list[int]:
        """Permits of each member that wants more."""
        wanting = [m for m in self.members if any(not pool.gone for pool in m.pools)]
        return sorted(member.budget.claim.permits for member in wanting)
