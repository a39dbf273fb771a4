"""One member of a fleet's budget for each machine: ``LocalBudget(path, parent=RedisBudget(...))``.

The limit of the file is what the machine has of the parent; its processes share that as they share
any limit.  One of them leads: it speaks to the engine, for all.  What the next leader has to know
is in the file: the name of the member, until when its lease goes on, and the term of the leader.

- Who leads holds the lock of its term.  The kernel frees it at any death, so whoever looks next
  begins another term, under the same name: the engine notices nothing.  A leader that does not move
  for ``STOPPED`` seconds is replaced too; when it goes on it finds another term in the file, and
  writes nothing there.
- Requests are numbered by term, so that the engine skips what an earlier leader has sent.

What keeps the sum: all permits that may be locked are those below the limit, and those beyond it
that were locked when it was lowered.  Both together are never more than the leader holds of the
engine (``MachineShare.allow``), whatever moment the leader ends at: what it gives up it gives up in
the file first, and what it is given it writes there last.
"""

from __future__ import annotations

import os
import socket
import struct
import uuid
import weakref

from ._permit_file import MACHINE, SETTING_UP, PermitFile, wanted_by
from ._redis import RedisBudget, boottime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple

    from ._thread import ThreadedBudget

__all__ = ["Leadership", "MachineFile"]

TERM = struct.Struct("<36s40sQdd")  # boot, member, term, end of its lease, when its leader moved
MOVED = MACHINE + TERM.size - 8
LEADERS, TERMS = (1 << 30) + (1 << 16), 1 << 16  # bytes that leaders lock, one for each term
STOPPED = 3.0  # seconds since the leader has moved
REQUESTS = 1 << 32  # in a term, at most
NEVER = float("-inf")


if TYPE_CHECKING:

    class Term(NamedTuple):
        """What the file says of the machine's membership; times are those of ``boottime``."""

        boot: bytes
        member: str
        number: int
        until: float
        moved: float
else:
    from collections import namedtuple

    Term = namedtuple("Term", "boot member number until moved")


class MachineFile(PermitFile):
    """A file of permits whose limit is what the machine has of a parent."""

    def __init__(self, path: str) -> None:
        super().__init__(path, None)

    def _set_up(self, limit: int | None) -> None:
        self._lock_header()
        try:
            if self._header() is None and not os.fstat(self.fd).st_size:
                self._create(0)
            elif not self.has_parent:
                raise ValueError(
                    f"{self.path}: has a limit of its own, so it cannot follow a parent: use "
                    "another file, or remove it while nothing uses it"
                )
            boot = boot_id()
            if not self.has_parent or self.term().boot != boot:  # or its locks have gone with it
                self._write_limit(0)
                number = self.term().number + 1
                member = f"{socket.gethostname()[:24]}:0:{uuid.uuid4().hex[:12]}"  # of no pid
                self.write_term(Term(boot, member, number, NEVER, NEVER))
        finally:
            self._unlock(SETTING_UP)

    def term(self) -> Term:
        boot, member, number, until, moved = TERM.unpack(os.pread(self.fd, TERM.size, MACHINE))
        return Term(boot, member.rstrip(b"\0").decode(), number, until, moved)

    def write_term(self, term: Term) -> None:
        """With the header locked."""
        entry = TERM.pack(term.boot, term.member.encode(), term.number, term.until, term.moved)
        os.pwrite(self.fd, entry, MACHINE)

    def say_that_leader_moves(self) -> None:
        os.pwrite(self.fd, struct.pack("<d", boottime()), MOVED)

    def is_led(self) -> bool:
        """Whether another open file has the lock of this term, and its process moves."""
        term = self.term()
        return self._is_locked(leader_byte(term.number)) and boottime() - term.moved < STOPPED

    def begin_term(self) -> Term | None:
        """Lead from here on; None: somebody else does, or is about to."""
        if self.is_led() or not self._lock(SETTING_UP):
            return None
        try:
            if self.is_led():
                return None
            term = self.term()
            term = term._replace(number=term.number + 1, moved=boottime())
            if not self._lock(leader_byte(term.number)):  # of a leader that was stopped for long
                return None
            self.write_term(term)
            return term
        finally:
            self._unlock(SETTING_UP)

    def change(self, term: int, limit: int | None = None, until: float | None = None) -> bool:
        """Write what the leader of this term says; False: another term has begun."""
        self._lock_header()
        try:
            there = self.term()
            if there.number != term:
                return False
            if limit not in (None, self.limit):
                self._write_limit(limit)
            if until is not None:
                self.write_term(there._replace(until=until))
            return True
        finally:
            self._unlock(SETTING_UP)


def leader_byte(term: int) -> int:
    return LEADERS + term % TERMS


def boot_id() -> bytes:
    with open("/proc/sys/kernel/random/boot_id", "rb") as file:
        return file.read(36)


class MachineShare:
    """What the leader shows to the engine's budget, as a pool would: all that the machine uses.

    Called in that budget's thread, with an open file of its own, which sees the locks of every
    process."""

    def __init__(self, file: MachineFile, term: Term, local: ThreadedBudget) -> None:
        self.name = f"machine {term.member}"
        self.file, self.term, self.pid = file, term.number, os.getpid()
        self.ended = False  # nobody leads here any more
        self.allowance = file.limit
        self.closes = True  # what is more than that; else it is kept until it goes
        self._local = weakref.ref(local)

    def look(self) -> tuple[int, int] | None:
        local = self._local()
        if self.ended or local is None:
            return None
        if not self.closes:
            self._keep()
        elif self.allowance > self.file.limit:  # what was in its way may have been given up
            self._write(self.allowance)
        wanted = sum(wanted_by(row) for row in self.file.table())
        return self.in_use, wanted

    def allow(self, n: int, close: bool = True) -> int:
        self.allowance, self.closes = n, close
        if close:
            self._write(n)
        else:
            self._keep()
        return self.in_use

    def terminate(self, how: object) -> None:
        """Nothing: each process ends what it has lent itself, when the lease is over."""

    def _keep(self) -> None:
        """Let what is locked be the limit: it only falls."""
        n = max(self.allowance, self.file.count_locked(0))
        if n < self.file.limit:
            self._write(n)

    def _write(self, n: int) -> None:
        """Set the limit to ``n``, or to as much as goes with what is locked beyond it."""
        now = self.file.limit
        while n > now and n + self.file.count_locked(n) > self.allowance:
            n -= 1
        if n == now:
            return
        if not self.file.change(self.term, limit=n):
            self.ended = True
        elif (local := self._local()) is not None:
            local.wake()

    @property
    def in_use(self) -> int:
        """Permits that are locked; where some are beyond the limit, all below may be as well."""
        limit = self.file.limit
        beyond = self.file.count_locked(limit)
        return limit + beyond if beyond or not self.closes else self.file.count_locked(0)

    def renewed(self, until: float, permits: int) -> None:
        """The lease goes on until then, and there are so many.  First: none below the limit is
        free for whoever sees that, unless it goes with what is locked."""
        n, most = min(self.file.limit, permits), max(permits, self.file.count_locked(0))
        while n > 0 and (excess := n + self.file.count_locked(n) - most) > 0:
            n -= min(n, excess)  # one less frees at most one: none is passed by
        if not self.file.change(self.term, limit=n, until=until):
            self.ended = True

    def give_up(self) -> bool:
        """Have the machine hold nothing, if no process has a permit; whether it does."""
        if self.file.count_locked(0) or not self.file.change(self.term, 0, NEVER):
            return False
        return not self.file.count_locked(0)


class Leadership(RedisBudget):
    """The membership of the machine, while this process leads."""

    @classmethod
    def begin(cls, parent: RedisBudget, path: str, local: ThreadedBudget) -> Leadership | None:
        """Lead from here on; None: another process was faster."""
        file = MachineFile(path)
        try:
            term = file.begin_term()
            if term is not None:
                return cls(parent, file, term, local)
        except BaseException:
            file.close()
            raise
        file.close()
        return None

    def __init__(
        self, parent: RedisBudget, file: MachineFile, term: Term, local: ThreadedBudget
    ) -> None:
        super().__init__(
            parent._where, parent.name, parent._wanted_limit, ttl=parent.ttl, grace=parent.grace,
            linger=parent.linger, guaranteed=parent.guaranteed, weight=parent.weight,
            on_lapse=parent.on_lapse, terminate=parent.terminate, strict=parent.strict,
            fence=parent.fence,
        )  # fmt: skip
        self.member = term.member
        self.machine = MachineShare(file, term, local)
        self._followed: object = None
        joined = self.join(self.machine)
        account = joined.member
        account.allowance = self.machine.allowance
        account.held = max(account.allowance, self.machine.in_use)
        self.claim.permits, self.claim.until = account.held, term.until
        self.claim.due = account.allowance  # what is beyond the limit may be the engine's by now
        self.claim.number = term.number * REQUESTS
        self.ask()

    def follow(self, standing: object) -> None:
        """Have the thread look, if what members of the machine have and want has changed."""
        if standing != self._followed:
            self._followed = standing
            self.ask()

    def is_over(self, file: MachineFile) -> bool:
        """Whether another term has begun; ``file``: of the caller."""
        return self.machine.ended or file.term().number != self.machine.term

    def end(self) -> None:
        """Lead no more; the thread lets go of the file, and gives up what nobody uses."""
        self.machine.ended = True
        if self.machine.pid == os.getpid():
            self.ask()
        else:  # in a forked child the lock is that of its parent
            self.machine.file.close()

    def _is_due(self, now: float) -> bool:
        """Never, once the file has refused a change: the next leader counts on what is there."""
        return not self.machine.ended and super()._is_due(now)

    def _succeeded(self) -> None:
        self.machine.renewed(self.claim.until, self.claim.permits)
        super()._succeeded()

    def _leave(self) -> None:
        if self.machine.file.fd < 0:
            return
        try:
            if self.machine.give_up():
                super()._leave()
            else:
                self.drop_engine()
        finally:
            self.machine.file.close()
