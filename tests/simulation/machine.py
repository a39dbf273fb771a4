"""A machine of a simulated fleet: processes that share its permits through a file, one of which
speaks for it; see `fleet.py`.

LocalBudget with its parent runs as it is shipped, each process with budget and pools of its own,
and so do the file and its locks: the kernel's.  Open file description locks belong to an open file
and not to a process, so those of two simulated processes exclude each other as they would
elsewhere, and whoever is killed has its files closed.

Each of the two threads of a budget is a greenlet, which is held up by dice before and after calls
that lock: there its process is stopped, goes on, or is killed, and others come between. In place
of the system the modules of the budget have (``System``) a clock that the world sets, datagrams
that may be lost, and a function that locks after it has asked the dice.

What is not tried: that a pool opens something between the end of a step that was held up beyond
the lease and the next step, which follows at once (10 ms later, in a real process).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from fastpool.fleet import _local, _machine, _permit_file, _redis, _thread
from fastpool.fleet._local import LocalBudget
from fastpool.fleet._machine import NEVER, Leadership, MachineFile, Term
from fastpool.fleet._redis import RedisBudget

from .member import LEASE, NAME, Connection, Pool, Simulated

try:
    from greenlet import greenlet
except ImportError:  # no wheel for this interpreter
    greenlet = None

if TYPE_CHECKING:
    from .fleet import World

__all__ = ["Machine", "greenlet", "system"]

MOST_PROCESSES = 4


class Killed(BaseException):
    """The process ends here: what follows is what the kernel does."""


class Thread:
    """Makes a step of a budget after the other, and may be held up in any."""

    def __init__(self, process: Process, step: Callable[[], float]) -> None:
        self.process, self.step = process, step
        self.look_at = 0.0
        self.until = 0.0  # it sleeps
        self.held_up = False  # in a step, or was in the latest
        self._greenlet: Any = None

    @property
    def is_in_step(self) -> bool:
        return self._greenlet is not None

    def go_on(self) -> None:
        """Make a step, or more of it."""
        world = self.process.machine.world
        if world.now < self.until:
            return
        if self._greenlet is None:
            self.held_up = False
            self._greenlet = greenlet(self._step)
        _system.running = self
        try:
            self._greenlet.switch()
        finally:
            _system.running = None
            if self._greenlet.dead:
                self._greenlet = None

    def _step(self) -> None:
        try:
            pause = self.step()
        except TimeoutError:  # the header is locked by a process that is stopped
            pause = _thread.AFTER_FAILURE
        self.look_at = self.process.machine.world.now + (0.0 if self.held_up else pause)

    def hold_up(self) -> None:
        """In a step: let others go on."""
        self.held_up = True
        self._greenlet.parent.switch()

    def kill(self) -> None:
        if self._greenlet is not None:
            try:
                self._greenlet.throw(Killed)
            except Killed:
                pass
            self._greenlet = None


class Process:
    """Its budget, its pools, and what it does to lead."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.world = machine, machine.world
        self.pools = machine.world.pools()
        self.asleep = 0.0  # until then
        self.before = 0  # what its pools had locked at the last check
        self.is_dead = False
        self.budget: SimulatedLocal | None = None
        self.leads: list[SimulatedLeadership] = []
        self.thread = Thread(self, self.step)
        self.threads = [self.thread]

    @property
    def is_awake(self) -> bool:
        return not self.is_dead and self.world.now >= max(self.asleep, self.machine.asleep)

    def step(self) -> float:
        budget = self.budget
        if budget is None:
            parent = RedisBudget(self.world, NAME, self.world.limit, **self.world.options_of_member)
            budget = SimulatedLocal(self.machine.path, parent=parent)
            budget.process = self
            for pool in self.pools:
                budget.join(pool)
            self.budget = budget
        budget.open_engine()
        return budget.step()

    def step_of(self, lead: SimulatedLeadership) -> Callable[[], float]:
        def step() -> float:
            pause = lead.step()
            if lead.machine.file.fd < 0:
                self.leads.remove(lead)
                self.threads = [each for each in self.threads if each.step is not step]
            return pause

        return step

    def turn(self) -> None:
        world = self.world
        for thread in self.threads[:]:
            if thread.is_in_step or thread.look_at <= world.now or world.dice.random() < 0.3:
                thread.go_on()
                self.machine.check()
                world.check_sum()
        thread = self.thread
        if self.machine.is_valid or (not thread.is_in_step and thread.look_at > world.now):
            for pool in self.pools:
                pool.work(world.dice)

    @property
    def has_left(self) -> bool:
        return self.budget is not None and not self.budget.members and not self.leads

    def stop(self, seconds: float) -> None:
        self.asleep = self.world.now + seconds
        for thread in self.threads:
            thread.look_at = min(thread.look_at, self.asleep)

    def kill(self, *, seen: bool) -> None:
        """The kernel closes all it has open; ``seen``: by the server of its pools as well."""
        self.is_dead = True
        for thread in self.threads:
            thread.kill()
        for lead in self.leads:
            lead.machine.file.close()
        if self.budget is not None:
            if self.budget._file is not None:
                self.budget._file.close()
            _system.mailboxes.pop(self.budget.address, None)
        for pool in self.pools:
            pool.end(seen=seen)

    def __str__(self) -> str:
        members = self.budget.members if self.budget else ()
        have = [(each.held, each.allowance, each.share.open) for each in members]
        locked = sorted(self.budget._file.permits) if self.budget and self.budget._file else []
        terms = [lead.machine.term for lead in self.leads]
        rests = max(0.0, self.asleep - self.world.now)
        return f"    has {have} by {locked}, leads {terms}, stopped for {rests:.2f} s"


class SimulatedLocal(LocalBudget):
    """LocalBudget whose thread is the world."""

    process: Process

    def ask(self) -> None:
        """The world looks when it likes."""

    def wake(self) -> None:
        self.process.thread.look_at = self.process.world.now

    @property
    def address(self) -> str:
        return "" if self._socket is None else f"{self._prefix}{self._own_row}"


class SimulatedLeadership(Simulated, Leadership):  # type: ignore[misc]
    """Leadership whose thread is the world, and whose network too."""

    def __init__(self, parent: Any, file: Any, term: Any, local: Any) -> None:
        super().__init__(parent, file, term, local)
        self.me = process = local.process
        self.world = process.world
        self.connection = LeaderConnection(process.machine, self.member)
        process.leads.append(self)
        process.threads.append(Thread(process, process.step_of(self)))


class LeaderConnection(Connection):
    """Of a leader; the network is that of its machine."""

    def __init__(self, machine: Machine, name: str) -> None:
        super().__init__()
        self.world, self.machine, self.name = machine.world, machine, name

    @property
    def cut_off(self) -> float:  # type: ignore[override]
        return self.machine.cut_off

    def call(self, act: str, *args: Any) -> list[Any]:
        _system.let_others_go_on()
        self.machine.check_request(args[0], args[1])
        reply = super().call(act, *args)
        _system.let_others_go_on()
        return reply


class Looking(MachineFile):
    """The file, as the world looks at it."""

    def _set_up(self, limit: int | None) -> None:
        """Nothing: that is for processes."""


class Machine:
    """A member of the engine, with its processes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.asleep = self.cut_off = 0.0  # until then
        self.floor = int(world.options_of_member.get("guaranteed", 0))
        self.limit, self.term = 0, Term(b"", "", 0, NEVER, NEVER)  # as the file says
        self.lead: SimulatedLeadership | None = None
        self.number = 0  # of the latest request
        self.wrong = ""
        self.permits = 0  # that the engine has given, as a leader has heard
        self.before = (0, 0)  # the limit, and permits that might be locked, at the last check
        self.boots = 0
        self.is_dead = False
        self.memory = os.memfd_create("fastpool-budget")
        self.path = f"/proc/{os.getpid()}/fd/{self.memory}"
        self.file = Looking(self.path)
        self.processes = [Process(self) for _ in range(world.dice.randint(1, 3))]

    def close(self) -> None:
        for process in self.processes:
            process.kill(seen=True)
        self.file.close()
        os.close(self.memory)

    # ---- what it is to the world -----------------------------------------------------------------

    def look(self) -> None:
        """See what the file says, and who speaks for it."""
        header = self.file._header()
        if header is None or not self.file.has_parent:  # no process has come so far
            return
        self.limit, self.term, self.lead = header[0], self.file.term(), None
        for process in self.processes:
            for lead in process.leads:
                if lead.machine.term == self.term.number:
                    self.lead = lead

    @property
    def name(self) -> str:
        return self.term.member

    @property
    def pools(self) -> list[Pool]:
        return [pool for process in self.processes for pool in process.pools]

    @property
    def connections(self) -> list[Connection]:
        return [lead.connection for process in self.processes for lead in process.leads]

    @property
    def is_valid(self) -> bool:
        return self.term.until > self.world.now

    @property
    def usable(self) -> int:
        """How many it may use while its lease goes on."""
        lead = self.lead
        valid = lead.claim.is_valid(self.world.now) if lead else self.is_valid
        return max(self.permits, self.floor) if valid else 0

    # ---- what happens ----------------------------------------------------------------------------

    def turn(self) -> None:
        """Do what its processes do in a while."""
        if self.world.now < self.asleep:
            return
        for process in self.processes[:]:
            if process.is_awake:
                process.turn()
            if process.has_left:
                self.kill_one(process)

    def strike(self) -> None:
        world = self.world
        process = world.dice.choice(self.processes) if self.processes else None
        leader = self.lead and self.lead.me
        for what, one in ("process", process), ("leader", leader):
            if one in self.processes and world.strikes(f"{what}_stopped"):
                one.stop(world.dice.choice((1.0, 6.0, 3 * LEASE)) * world.dice.random())
            if one in self.processes and world.strikes(f"{what}_killed"):
                self.kill_one(one)
        if len(self.processes) < MOST_PROCESSES and world.strikes("process_comes"):
            self.processes.append(Process(self))
        if process and world.strikes("process_leaves"):
            for pool in process.pools:
                pool.gone, pool.demand = True, 0
        if world.strikes("rebooted"):
            self.boots += 1
            for process in self.processes[:]:
                self.kill_one(process)

    def kill_one(self, process: Process) -> None:
        self.processes.remove(process)
        process.kill(seen=True)
        self.look()

    def stop(self, seconds: float) -> None:
        self.asleep = self.world.now + seconds
        for process in self.processes:
            process.stop(seconds)

    def kill(self) -> None:
        for process in self.processes:
            process.kill(seen=not self.world.fenced)
        self.is_dead = True

    def wake(self) -> None:
        self.asleep = self.cut_off = 0.0
        for process in self.processes:
            process.asleep = 0.0

    # ---- what is expected ------------------------------------------------------------------------

    def held_by(self, process: Process) -> int:
        """Permits that a process counts on."""
        return sum(member.held for member in process.budget.members) if process.budget else 0

    @property
    def held(self) -> int:
        return sum(map(self.held_by, self.processes))

    @property
    def might_lock(self) -> int:
        """Permits below the limit, and those beyond it that processes count on."""
        limit = might = self.limit
        for process in self.processes:
            if process.budget is not None and process.budget._file is not None:
                permits = process.budget._file.permits
                passing = len(permits) - self.held_by(process)  # locked, for a moment
                might += max(0, sum(permit >= limit for permit in permits) - passing)
        return might

    def check(self) -> None:
        if self.is_dead:
            return
        self.look()
        assert not self.wrong, self.wrong
        world, locked = self.world, 0
        for process in self.processes:
            held = self.held_by(process)
            for member in process.budget.members if process.budget else ():
                might = member.share.might_open
                assert might <= member.held, world.told(f"{might} by {member.held} permits")
            assert (
                held <= process.before
                or self.is_valid
                or process.thread.held_up
                or held <= self.floor
            ), world.told(f"{held} after the lease")
            process.before = held
            locked += held
        truth = self.file.count_locked(0)
        assert locked <= truth, world.told(f"{locked} by {truth} locks")
        self.check_limit(locked)

    def check_limit(self, locked: int) -> None:
        """The limit, and what may be locked, is more than what the engine has given only if it was
        before, and then it falls."""
        if (lead := self.lead) is not None:
            permits = lead.claim.permits
            self.permits = permits if lead.claim.version else min(self.permits, permits)
        limit, might = self.limit, self.might_lock if self.is_valid else locked
        most = max(self.permits, self.floor)
        assert limit <= max(most, self.before[0]), self.told(f"limit of {limit}")
        assert might <= max(most, self.before[1]), self.told(f"{might} may be locked")
        self.before = limit, might

    def check_request(self, number: int, keep: int) -> None:
        """What a leader gives up nobody has locked, or may lock.  ``number``: an earlier leader's
        is skipped by the engine."""
        if number > self.number:
            self.number = number
            self.look()
            might = self.might_lock if self.is_valid else self.held
            if might > keep < self.permits:  # told by `check`: the budget would catch it here
                self.wrong = self.told(f"keeps {keep}, and {might} may be locked")

    def told(self, what: str) -> str:
        return self.world.told(f"{self.name}: {what} by {self.permits} permits")

    def __str__(self) -> str:
        term = self.term
        left = term.until - self.world.now
        text = f"machine {self.name} has {self.permits} for {left:.2f} s, "
        text += f"limit {self.limit}, term {term.number}"
        return "\n".join([text, *map(str, self.processes)])


class System:
    """What the modules of a budget have in the place of ``fcntl``, ``time`` and ``socket``."""

    F_OFD_SETLK, F_OFD_GETLK = fcntl.F_OFD_SETLK, fcntl.F_OFD_GETLK
    F_WRLCK, F_UNLCK = fcntl.F_WRLCK, fcntl.F_UNLCK
    AF_UNIX, SOCK_DGRAM = 1, 2

    def __init__(self) -> None:
        self.running: Thread | None = None
        self.mailboxes: dict[str, Process] = {}

    @property
    def world(self) -> World:
        assert self.running is not None
        return self.running.process.world

    def let_others_go_on(self) -> None:
        """A point at which a thread may be held up."""
        thread = self.running
        if thread is None:
            return
        world = thread.process.world
        world.until_held_up -= 1
        if world.until_held_up <= 0:
            odds = world.faults.get("held_up", 0.0)
            world.until_held_up = 1 + int(world.dice.expovariate(odds)) if odds else 1000
            if odds:
                thread.hold_up()

    def fcntl(self, fd: int, command: int, lock: bytes) -> Any:
        self.let_others_go_on()
        found = fcntl.fcntl(fd, command, lock)
        self.let_others_go_on()
        return found

    # ---- time ------------------------------------------------------------------------------------

    def monotonic(self) -> float:
        return self.world.now

    boottime = monotonic

    def monotonic_ns(self) -> int:
        return int(self.world.now * 1e9)

    def sleep(self, seconds: float) -> None:
        thread = self.running
        assert thread is not None
        thread.until = self.world.now + seconds
        thread.hold_up()

    # ---- names -----------------------------------------------------------------------------------

    def boot_id(self) -> bytes:
        assert self.running is not None
        return b"%036d" % self.running.process.machine.boots

    def uuid4(self) -> Any:
        """By the dice of the world, so that a seed repeats itself."""
        return SimpleNamespace(hex=f"{self.world.dice.getrandbits(128):032x}")

    # ---- datagrams -------------------------------------------------------------------------------

    def socket(self, family: int, kind: int) -> System:
        return self

    def setblocking(self, flag: bool) -> None: ...

    def close(self) -> None: ...

    def bind(self, address: str) -> None:
        assert self.running is not None
        self.mailboxes[address] = self.running.process

    def sendto(self, data: bytes, address: str) -> None:
        if address in self.mailboxes and not self.world.strikes("datagram_lost"):
            self.mailboxes[address].thread.look_at = self.world.now


_system = System()


@contextmanager
def system() -> Iterator[None]:
    """Have the modules of a budget use the world's clock, locks and datagrams."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (_permit_file, _local):
            patch.setattr(module, "time", _system)
        for module in (_redis, _machine, _local):
            patch.setattr(module, "boottime", _system.boottime)
        patch.setattr(_permit_file, "fcntl", _system)
        patch.setattr(_local, "socket", _system)
        patch.setattr(_machine, "boot_id", _system.boot_id)
        patch.setattr(_machine, "uuid", _system)
        patch.setattr(_local, "Leadership", SimulatedLeadership)
        yield
