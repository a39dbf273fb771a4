"""A process of a simulated fleet that is a member of its own: RedisBudget, as it is shipped, whose
pools and connection are made up; see `fleet.py`."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from fastpool.fleet._redis import RedisBudget

if TYPE_CHECKING:
    from .fleet import World

NAME = "orders"
TTL, GRACE, LINGER = 10.0, 2.0, 1.0
LEASE = TTL + GRACE


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

    @property
    def might_open(self) -> int:
        return max(self.open, 0 if self.gone else self.allowance)

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

    def end(self, *, seen: bool) -> None:
        """Its process was killed; ``seen``: by the server."""
        self.open = self.allowance = 0
        if seen:
            self.sessions = 0


class Connection:
    """To the engine, as RedisEngine: of the member ``name``."""

    world: World
    name: str
    cut_off: float = 0.0  # until then
    requests: int = 0

    def __init__(self) -> None:
        self.notices: list[list[int]] = []

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


class Simulated:
    """What the world does in the place of the thread of a RedisBudget, and of its network."""

    world: World
    me: Any  # the process that it is of
    connection: Connection

    def connect(self) -> Any:
        return self.connection

    def ask(self) -> None:
        """The world looks when it likes."""

    def start_fence(self, member: str, number: int) -> None:
        self.world.fences.append((self, member, number))


class SimulatedBudget(Simulated, RedisBudget):  # type: ignore[misc]
    """The budget of a member that is a process."""


class Member(Connection):
    """A process: its budget, its pools; and its connection to the engine."""

    def __init__(self, world: World, name: str, pools: list[Pool]) -> None:
        super().__init__()
        self.world, self.name, self.pools = world, name, pools
        self.look_at = self.asleep = self.cut_off = 0.0  # the latter: until then
        self.before = 0  # what its pools might have open at the last check
        self.connections: list[Connection] = [self]
        self.budget = SimulatedBudget(world, NAME, world.limit, **world.options_of_member)
        self.budget.world, self.budget.me, self.budget.connection = world, self, self
        self.budget.clock = lambda: world.now
        self.budget.member = name
        for pool in pools:
            self.budget.join(pool)

    @property
    def is_awake(self) -> bool:
        return self.world.now >= self.asleep and self in self.world.members

    @property
    def permits(self) -> int:
        return self.budget.claim.permits

    @property
    def floor(self) -> int:
        return self.budget.claim.floor

    @property
    def usable(self) -> int:
        """How many it may use while its lease goes on."""
        claim = self.budget.claim
        if not claim.is_valid(self.world.now):
            return 0
        return claim.permits if claim.permits > claim.floor else claim.floor

    def turn(self) -> None:
        """Do what a process does in a while."""
        world = self.world
        if world.now < self.asleep:
            return
        if self.look_at <= world.now or world.dice.random() < 0.3:
            self.look_at = world.now + self.budget.step()
            self.check()  # what others have, only they change
            world.check_sum()
        for pool in self.pools:
            pool.work(world.dice)

    def strike(self) -> None:
        """Faults that are its own: none."""

    def stop(self, seconds: float) -> None:
        self.asleep = self.look_at = self.world.now + seconds

    def kill(self) -> None:
        """The kernel closes what it has open, and the server sees it; with a fence the host has
        died, and nothing is seen."""
        for pool in self.pools:
            if not self.world.fenced:
                pool.end(seen=True)

    def wake(self) -> None:
        self.asleep = self.cut_off = 0.0

    def check(self) -> None:
        """Its pools have more open than it has permits only if they had before, and that only
        falls."""
        claim, might = self.budget.claim, 0
        for pool in self.pools:
            might += pool.might_open
        if might > claim.permits and might > claim.floor:
            assert might <= self.before, self.world.told(f"{self.name} may open {might}")
        self.before = might

    def __str__(self) -> str:
        left = self.budget.claim.until - self.world.now
        return f"{self.name} has {self.permits} for {left:.2f} s, may open {self.before}"
