"""Members of one RedisBudget, their pools and their engine, in virtual time, from one seed.

What is shipped runs here: the script (``mini_redis.py``), RedisBudget with all below it but the
connection (``member.py``), and LocalBudget with a parent but for the datagrams (``machine.py``).
Pools and network are made up, and so are the faults: requests and replies that are lost, late or
doubled, notifications that are lost, late or out of order, members that are paused beyond their
lease, cut off, killed, or new, data that are lost, old or gone in part, a failover, clocks that
jump; processes of a machine that are stopped or killed in the middle of a call of the system.

What may never happen is asked after every step (``check``):

- members whose lease goes on may use more than the limit, together, and than what is guaranteed to
  members that the engine has not seen yet;
- a pool has more open, or may open more, than its member may use, unless it had them before its
  lease had ended, and then that number only falls;
- processes of a machine have locked, or may lock, more than it has, with the same exception, and
  pools of a process have more than it has locked;
- with a fence: more is open at the server than the limit, whatever anybody believes.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Any

from fastpool.fleet._redis_engine import keys_of

from .machine import Machine
from .member import GRACE, LEASE, LINGER, NAME, TTL, Connection, Lost, Member, Pool
from .mini_redis import MiniRedis

__all__ = ["GRACE", "LEASE", "LINGER", "NAME", "TTL", "Lost", "Member", "Pool", "World"]

#: A fault: how probable it is at each step, or with each request.
FAULTS = {
    "request_lost": 0.03, "request_late": 0.02, "reply_lost": 0.04, "sent_twice": 0.02,
    "replayed": 0.02, "notice_lost": 0.2, "notice_late": 0.3, "paused": 0.01, "cut_off": 0.01,
    "killed": 0.004, "comes": 0.008, "leaves": 0.003, "flushed": 0.002, "restarted": 0.002,
    "restarted_empty": 0.001, "failed_over": 0.002, "evicted": 0.001, "clock": 0.004,
}  # fmt: skip

#: Those of a machine: at each of its turns, or of its system calls ("held_up"), or datagrams.
FAULTS |= {
    "held_up": 0.02, "process_stopped": 0.03, "process_killed": 0.015, "leader_stopped": 0.01,
    "leader_killed": 0.01, "process_comes": 0.04, "process_leaves": 0.01, "rebooted": 0.002,
    "datagram_lost": 0.3,
}  # fmt: skip

#: With a fence these are left out: whoever was paused when all was lost is known to nobody, so
#: nobody has it fenced.
LOSSES = ("flushed", "restarted_empty", "failed_over", "evicted")


class World:
    """See the module. ``members``: how many there are, of which ``machines`` are machines of
    several processes (within ``machine.system``); ``faults``: how probable each is; ``text``: the
    script."""

    def __init__(
        self,
        seed: int,
        *,
        members: int = 5,
        machines: int = 0,
        limit: int = 17,
        faults: dict[str, float] | None = None,
        fenced: bool = False,
        text: str | None = None,
        **options: Any,
    ) -> None:
        self.dice = random.Random(seed)
        random.seed(seed)  # the budgets' own dice
        self.limit, self.fenced = limit, fenced
        self.options_of_member = {"ttl": TTL, "grace": GRACE, "linger": LINGER, **options}
        if fenced:
            self.options_of_member["fence"] = lambda member: None
        self.faults = dict(FAULTS if faults is None else faults)
        if fenced:
            self.faults.update(dict.fromkeys(LOSSES, 0.0))
        self.now = 1000.0
        self.pace = 0.4  # seconds that a step takes at most
        self.engine = MiniRedis(text)
        self.jumps_at = 0.0
        self.late: list[tuple[object, ...]] = []
        self.old: deque[tuple[object, ...]] = deque(maxlen=30)
        self.notices: list[tuple[Connection, list[int]]] = []
        self.fences: list[tuple[Any, str, int]] = []
        self.snapshots: list[Any] = []
        self.members: list[Member | Machine] = []
        self.gone: list[Member | Machine] = []  # killed, while the server still has their sessions
        self.born = 0
        self.until_held_up = 1  # calls of the system, until one is held up
        self.log: list[str] = []
        for n in range(members):
            if n < machines:
                self.birth_of_machine()
            else:
                self.birth()

    def close(self) -> None:
        """End the processes of all machines."""
        for member in self.members:
            if isinstance(member, Machine):
                member.close()

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
        connections = [each for member in self.members for each in member.connections]
        for channel, text in self.engine.published:
            numbers = [int(word) for word in text.split()] if " " in text else []
            name = channel.rpartition(":")[2]
            for each in connections:
                if (each.name == name or not numbers) and not self.strikes("notice_lost"):
                    self.notices.append((each, numbers))
        self.engine.published.clear()
        return reply

    def pools(self) -> list[Pool]:
        """Of a process."""
        self.born += 1
        number = self.dice.choice((1, 1, 2))
        return [Pool(f"p{n}", self.dice.choice((5, 20))) for n in range(number)]

    def birth(self) -> Member:
        pools = self.pools()
        member = Member(self, f"m{self.born}", pools)
        self.members.append(member)
        return member

    def birth_of_machine(self) -> Machine:
        machine = Machine(self)
        self.members.append(machine)
        return machine

    # ---- a step ----------------------------------------------------------------------------------

    def step(self) -> None:
        """A little time passes, somebody does something; then all is checked."""
        self.pass_time(self.dice.random() * self.pace)
        self.strike()
        self.ring()
        for member in self.members[:]:
            member.turn()
        for entry in self.fences[:]:
            if self.dice.random() < 0.5:
                self.fences.remove(entry)
                self.fence(*entry)
        self.check()

    def ring(self) -> None:
        for entry in self.notices[:]:
            connection, numbers = entry
            if self.dice.random() < self.faults.get("notice_late", 0.0):
                continue
            self.notices.remove(entry)
            connection.notices.insert(self.dice.randint(0, len(connection.notices)), numbers)

    def fence(self, survivor: Any, name: str, number: int) -> None:
        """The server closes what a member has open; the member need not know.  ``survivor``: whose
        budget has asked for it."""
        if not survivor.me.is_awake:
            return
        for member in self.members + self.gone:
            if member.name == name:
                for pool in member.pools:
                    pool.sessions = 0
        survivor._fenced.append((name, number))

    def strike(self) -> None:
        dice, engine = self.dice, self.engine
        awake = [member for member in self.members if self.now >= member.asleep]
        one = dice.choice(awake) if awake else None
        if one:
            one.strike()
        if one and self.strikes("paused"):
            one.stop(dice.uniform(0, 3 * LEASE))
        if one and self.strikes("cut_off"):
            one.cut_off = self.now + dice.uniform(0, 3 * LEASE)
        if one and len(self.members) > 3 and self.strikes("killed"):
            self.members.remove(one)
            self.gone.append(one)
            one.kill()
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
            member.check()
        self.check_sum()

    def check_sum(self) -> None:
        usable = unseen = 0
        for member in self.members:
            unseen += member.floor
            usable += member.permits if member.permits > member.floor else member.floor
        if usable > self.limit + unseen:  # but for those whose lease has ended
            usable = sum(member.usable for member in self.members)
            assert usable <= self.limit + unseen, self.told(f"{usable} may be used")
        if self.fenced:
            sessions = sum(pool.sessions for m in self.members + self.gone for pool in m.pools)
            assert sessions <= self.limit, self.told(f"{sessions} sessions")

    def told(self, what: str) -> str:
        state = [str(member) for member in self.members]
        lines = [f"{what} of {self.limit} at {self.now:.2f}:", *state, *self.log[-30:]]
        return "\n".join(lines)

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
            member.wake()
            for pool in member.pools:
                if not pool.gone:
                    pool.maxsize = 100
        end = self.now + seconds
        while self.now < end:
            for member in self.members:
                for pool in member.pools:
                    pool.demand = 0 if pool.gone else 100
            self.step()

    @property
    def wanting(self) -> list[Member | Machine]:
        """Members that have a pool still."""
        return [m for m in self.members if any(not pool.gone for pool in m.pools)]

    def shares(self) -> list[int]:
        """Permits of each member that wants more."""
        return sorted(member.permits for member in self.wanting)
