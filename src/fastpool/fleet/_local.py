"""LocalBudget: permits that the processes of one machine share through a file, without a server.

How permits move, with the file of ``_permit_file.py`` and the shares of ``_fairness.py``:

- A pool that wants more takes what is free, at once.  If nothing is, it says so in its row and
  wakes the others by a datagram; so does whoever gives something up.
- Who is woken looks at its pools and gives up what ``recalls`` says: idle resources are closed
  first, lent ones when they come back.  Permits that it has no resource for go at once, or after
  ``LINGER`` where nobody is short.
- While anybody is short, everybody looks each ``WHILE_SHORT`` seconds.  So nobody has to be told
  that a resource came back, that a process died (the kernel frees its locks) or that a datagram was
  lost; and what a member that is stopped would have wanted is not kept for it (``wanted_by``).

A datagram goes to a name in the abstract namespace, which is that of the network namespace: between
containers that share the file and not the network none arrives, and the look each ``AT_REST``
seconds takes its place.

With a parent the limit of the file is what this machine has of it (``_machine.py``).
"""

from __future__ import annotations

import os
import random
import socket
import time

from .. import _reports
from ..stats import BudgetStats
from ._fairness import level, recalls, targets
from ._local_options import check_limit, check_parent, name_of
from ._machine import Leadership, MachineFile
from ._permit_file import PermitFile, Row, wanted_by
from ._redis import RedisBudget, boottime
from ._report import BudgetReport, MemberReport
from ._thread import ThreadedBudget, close_kept, kept

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._member import Member

__all__ = ["LocalBudget"]

WHILE_SHORT = 0.05  # seconds between looks while anybody wants more than there is
AT_REST = 1.0  # and while nobody does
LINGER = 1.0  # seconds for which permits without a resource are kept, if nobody is short


class LocalBudget(ThreadedBudget):
    """Permits that all processes of this machine share which use the same file:
    ``LocalBudget("/run/app/orders.budget", limit=60)``, given to pools as ``budget=``.

    ``path``: absolute; the file is made if there is none (mode 0600; make it yourself where several
    users are to share it).  ``limit``: permits in all, a resource each; what the file says counts
    if it says something, and a warning tells of a difference; None: as the file says.  ``parent``:
    in its place, a RedisBudget: permits are what this machine has of it, as one member, whose
    leases end with none of its processes.  All of them give the same; it is not joined itself.

    Linux alone: NotImplementedError elsewhere.  Thread-safe; one object serves any number of pools.
    A forked child has none of the permits of its parent.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        limit: int | None = None,
        *,
        parent: RedisBudget | None = None,
    ) -> None:
        where = os.fspath(path)
        if not isinstance(where, str) or not os.path.isabs(where):
            raise ValueError(
                f"LocalBudget: the path must be absolute, or processes that were started elsewhere "
                f"would have another budget, not {path!r}"
            )
        if limit is not None:
            check_limit(limit)
        if parent is not None:
            check_parent(parent, limit)
        self.path, self.parent = where, parent
        self._file: PermitFile | None = self._open_file(limit)
        self._lead: Leadership | None = None
        self._socket: socket.socket | None = None
        super().__init__(name_of(where))

    def __repr__(self) -> str:
        return f"LocalBudget({self.path!r})"

    @property
    def limit(self) -> int:
        """Permits in all, at this moment; assignable, for all processes.  With a parent: what the
        machine has, and ValueError when it is assigned."""
        file = PermitFile(self.path, None, create=False)
        try:
            return file.limit
        finally:
            file.close()

    @limit.setter
    def limit(self, limit: int) -> None:
        check_limit(limit)
        file = PermitFile(self.path, None, create=False)
        try:
            if file.has_parent:
                raise ValueError(f"{self.path}: its limit follows its parent, so set it there")
            file.set_limit(limit)
        finally:
            file.close()
        self.ask()

    @property
    def member(self) -> str:
        """What this machine is called at the engine of the parent; ValueError without one."""
        if self.parent is None:
            raise ValueError("LocalBudget: only with a parent is this machine a member of anything")
        file = MachineFile(self.path)
        try:
            return file.term().member
        finally:
            file.close()

    @classmethod
    def report(cls, path: str | os.PathLike[str]) -> BudgetReport:
        """Who has what at this moment, of the budget in this file, from outside: no permit is
        taken.  FileNotFoundError: there is none; ValueError: it is something else."""
        where = os.fspath(path)
        file = PermitFile(where, None, create=False)
        try:
            rows = [row for row in file.table() if row.name or row.have]
            members = tuple(
                MemberReport(row.name, row.pid, row.have, row.want, row.in_use, row.age)
                for row in rows
            )
            return BudgetReport(name_of(where), file.limit, sum(r.have for r in rows), members)
        finally:
            file.close()

    # ---- the engine ------------------------------------------------------------------------------

    def bind_to_process(self) -> None:
        super().bind_to_process()
        self._row_of: dict[Member, int] = {}
        self._reported: dict[Member, int] = {}  # what the row said that was wanted
        self._seen: tuple[int, dict[int, tuple[int, int]]] = (0, {})
        self._look_for_locks_at = 0.0
        self._look_for_file_at = 0.0

    def _open_file(self, limit: int | None = None) -> PermitFile:
        if self.parent is not None:
            return MachineFile(self.path)
        file = PermitFile(self.path, limit)
        if file.has_parent:
            file.close()
            raise ValueError(
                f"{self.path}: its limit is what this machine has of another budget, so give that "
                "one: parent=RedisBudget(...)"
            )
        return file

    def open_engine(self) -> Any:
        if self._file is None:
            self._file = self._open_file()
        if self._socket is None:
            status = os.fstat(self._file.fd)
            self._prefix = f"\0fastpool-budget-{status.st_dev}-{status.st_ino}-"
            (own,) = kept(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            row = self._file.add_row()  # of this process: its number is its address
            own.bind(f"{self._prefix}{row}")
            self._file.write_row(row, "", 0, 0, 0)
            self._socket, self._own_row = own, row
        return self._socket

    def drop_engine(self) -> None:
        self._stop_leading()
        file, self._file = self._file, None
        own, self._socket = self._socket, None
        if file is not None:
            file.close()
        if own is not None:
            close_kept(own)

    def step(self) -> float:
        """See ``ThreadedBudget.step``."""
        file = self._file
        assert file is not None
        now = time.monotonic()
        self._look_for_file(file, now)
        # what an error has left locked for nobody; never the other way round
        file.give(len(file.permits) - sum(member.held for member in self.members))
        members, before = self._look(file), self._seen[0]
        if isinstance(file, MachineFile):
            self._lead_or_follow(file)
        limit = file.limit
        table = {row.number: row for row in file.table()}
        standing = self._standing(table)
        for member, number in self._row_of.items():  # of ours we know more than the table
            standing[number] = (member.held, member.wanted)
        most = self._most(file, limit)
        over = sum(have for have, _ in standing.values()) > most
        ends = over and self._ends_lent(file)
        gave = self._recall(
            file, most if ends else limit, standing, now, over and not ends and most < limit
        )
        if ends and self.parent is not None:
            self.parent.terminate_lent(members)
        self._take(file, most, standing, now)
        if any(permit >= limit for permit in file.permits):
            self._move_down(file, limit)
        rung = gave > 0 or limit != before
        for member in members:
            number = self._row_of[member]
            wanted = member.wanted
            file.write_row(number, member.share.name, member.held, wanted, member.in_use)
            standing[number] = (member.held, wanted)
            short = member.held < wanted
            rung = rung or (short and wanted > self._reported.get(member, 0))
            self._reported[member] = wanted if short else 0
        if rung:
            self._wake_others(table)
        self._seen = limit, dict(standing)
        if self._lead is not None:
            self._lead.follow(standing)
        in_force = sum(have for have, _ in standing.values())
        if ends or in_force > limit or any(have < want for have, want in standing.values()):
            return WHILE_SHORT
        return min(AT_REST, self._until_lapse(file) or AT_REST)

    def _lead_or_follow(self, file: MachineFile) -> None:
        """Speak for the machine to the parent, unless another process does, or we have no pool."""
        if self._lead is not None and (not self.members or self._lead.is_over(file)):
            self._stop_leading()
        if self._lead is not None:
            file.say_that_leader_moves()
        elif self.members and not file.is_led():
            assert self.parent is not None
            self._lead = Leadership.begin(self.parent, self.path, self)

    def _stop_leading(self) -> None:
        lead, self._lead = self._lead, None
        if lead is not None:
            lead.end()

    def _most(self, file: PermitFile, limit: int) -> int:
        """How many permits may be taken: all, but for a machine whose lease has ended."""
        if self.parent is not None and self._until_lapse(file) <= 0:
            return min(limit, self.parent.claim.floor)
        return limit

    def _until_lapse(self, file: PermitFile) -> float:
        """Seconds until the lease of the machine ends; 0: it has ended; inf: there is none."""
        if not isinstance(file, MachineFile):
            return float("inf")
        return max(0.0, file.term().until - boottime())

    def _ends_lent(self, file: PermitFile) -> bool:
        """Whether what is more than permitted is ended under its borrowers."""
        return (
            self.parent is not None
            and self.parent.on_lapse == "close"
            and self._until_lapse(file) <= 0
        )

    def _look_for_file(self, file: PermitFile, now: float) -> None:
        """Warn, once, if the file was removed or replaced: whoever comes now has another budget."""
        if now >= self._look_for_file_at:
            self._look_for_file_at = now + AT_REST
            if file.is_replaced():
                self._look_for_file_at = float("inf")
                _reports.warn(
                    "budget %s: the file was removed or replaced while it was used: processes that "
                    "start from now on share another limit; restart those that are running",
                    self.path,
                )

    def _look(self, file: PermitFile) -> list[Member]:
        """Look at our pools; those that are there."""
        there = []
        for member in list(self.members):
            if member.look():
                there.append(member)
                if member not in self._row_of:
                    self._row_of[member] = file.add_row()
                    self._own(member, file)
            else:
                self._leave(file, member)
        return there

    def _own(self, member: Member, file: PermitFile) -> None:
        file.write_row(self._row_of[member], member.share.name, 0, member.wanted, 0)

    def _leave(self, file: PermitFile, member: Member) -> None:
        held, member.held = member.held, 0
        file.give(held)
        number = self._row_of.pop(member, None)
        if number is not None:
            file.remove_row(number)
        self._reported.pop(member, None)
        self.members.remove(member)

    def _standing(self, table: dict[int, Row]) -> dict[int, tuple[int, int]]:
        """What each member has and wants."""
        return {
            number: (row.have, wanted_by(row))
            for number, row in table.items()
            if row.name or row.have
        }

    def _recall(
        self,
        file: PermitFile,
        limit: int,
        standing: dict[int, tuple[int, int]],
        now: float,
        lapsed: bool,
    ) -> int:
        """Lower the allowance of our pools by what others lack; give up what is spare.
        ``lapsed``: permits are good for what is open, and nothing is opened in its place."""
        given = 0
        due = recalls(limit, standing)
        for member, number in self._row_of.items():
            keep = member.held - due.get(number, 0)
            useful = max(member.in_use, min(member.wanted, member.held))
            kept = lapsed and keep >= member.in_use
            if not kept and keep >= useful and member.held > useful:
                keep = self._linger(member, useful, keep, now)
            else:
                member.unused_since = 0.0
            member.allow(0 if kept else keep, close=not kept)
            if member.spare > 0:
                spare = member.spare
                member.held -= spare  # first: what is not held may be locked for a while
                file.give(spare)
                given += spare
                standing[number] = (member.held, member.wanted)
        return given

    def _linger(self, member: Member, useful: int, keep: int, now: float) -> int:
        """Permits for which there is no resource and no use: kept for a while, so that one
        resource that is closed and another that is opened cost nothing."""
        if not member.unused_since:
            member.unused_since = now
        elif now - member.unused_since >= LINGER:
            member.unused_since = 0.0
            return useful
        return keep

    def _take(
        self, file: PermitFile, limit: int, standing: dict[int, tuple[int, int]], now: float
    ) -> None:
        """Take permits for our pools, the poorest first."""
        for member, number in sorted(self._row_of.items(), key=lambda entry: entry[0].held):
            lacking = targets(limit, standing)[number] - member.held
            free = limit - sum(have for have, _ in standing.values())
            if free <= 0 and lacking > 0 and now >= self._look_for_locks_at:
                free, self._look_for_locks_at = lacking, now + AT_REST  # the table may be wrong
            n = min(lacking, free, limit)
            if n > 0:
                found = file.take(n, limit, random.randrange(limit))
                standing[number] = (member.held + len(found), member.wanted)
                self._seen = limit, dict(standing)  # first: who is let in may ask at once
                member.grant(len(found))
            elif member.allowance < member.held and not recalls(limit, standing).get(number):
                member.allow(member.held)  # what was to be recalled is wanted no more

    def _move_down(self, file: PermitFile, limit: int) -> None:
        """After the limit was lowered: our permits with numbers beyond it for others below."""
        beyond = sum(permit >= limit for permit in file.permits)
        file.give(len(file.take(beyond, limit, 0)))

    def _wake_others(self, table: dict[int, Row]) -> None:
        assert self._socket is not None
        for number, row in table.items():
            if not row.name and not row.have and number != self._own_row:
                try:
                    self._socket.sendto(b"!", f"{self._prefix}{number}")
                except OSError:  # gone, in another namespace, or woken already
                    continue

    def hurry(self) -> bool:
        return self._lead is not None  # which then hears what the machine uses still

    def stats_of(self, member: Member) -> BudgetStats:
        limit, standing = self._seen
        wants = [want for _, want in standing.values()]
        return BudgetStats(
            name=self.name,
            limit=limit,
            in_force=sum(have for have, _ in standing.values()),
            members=len(standing),
            allowance=member.allowance,
            wanted=member.wanted,
            share=min(member.wanted, level(limit, wants)) if wants else 0,
        )
