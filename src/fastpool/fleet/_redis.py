"""RedisBudget: permits that the processes of many machines share through Redis or Valkey.

A process is one member, whatever pools it has.  Its thread runs ``step`` whenever a pool asks, a
notification comes, or a heartbeat is due:

- The permits of the member (``_claim.py``) are divided among its pools (``_distribution.py``).
- A request is made where that changes what the engine should know: more is wanted than there is,
  permits are spare, or a third of the lease is over.  What the engine (``_redis_script.lua``)
  cannot give yet comes as a notification, as soon as somebody gives it up.
- Where others lack permits the engine says how many to keep.  The others are given up as resources
  are idle or come back.

Silence is no proof: a member that cannot reach the engine goes on with what it has.  When its lease
is over it opens nothing more, but for ``guaranteed``; ``on_lapse`` says what becomes of the rest.
With "close" what is idle is closed, and what is lent ends under its borrowers, by ``terminate``.
"""

from __future__ import annotations

import os
import random
import socket
import time
import uuid
from itertools import chain

from .. import _reports
from .._runtime.launch import launch
from ..stats import BudgetStats
from ._claim import Claim, LateReply, NoLimit
from ._distribution import divide
from ._redis_engine import RedisEngine, client_of, keys_of, script_text
from ._redis_options import check_limit, check_options
from ._redis_report import report_of
from ._report import BudgetReport
from ._sockets import end_socket
from ._thread import ThreadedBudget

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ._member import Member

__all__ = ["RedisBudget", "boottime"]

AT_REST = 1.0  # seconds between looks at the pools, at most
WHILE_RECALLED = 0.05  # and while they have more than they may keep
REPORT_LESS = 0.1  # seconds for which it may wait that fewer are wanted,
REPORT_LESS_EACH = 0.002  # and for each member
FIRST_RETRY, LAST_RETRY = 0.05, 1.0  # seconds between tries of an engine that does not answer
SHORT_BEAT = 0.7  # of ``grace``: between requests while permits are lacking, or leases end later


def boottime() -> float:
    """Seconds that go on while the machine is suspended, where the system has such a clock."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class RedisBudget(ThreadedBudget):
    """Permits that all processes share which use the same Redis and name:
    ``RedisBudget("redis://cache:6379/0", "orders-db", limit=60)``, given to pools as ``budget=``.

    ``client_or_url``: a URL, or a client of redis-py or valkey-py (with timeouts: its calls are
    waited for by the thread of the budget).  ``limit``: permits in all, a resource each; what the
    engine says counts if it says something, and a warning tells of a difference; None: as the
    engine says.  ``ttl``, ``grace``: seconds for which a member counts that is not heard of, and
    for which the engine waits longer than the member; a fifth of ``ttl`` if None.  ``linger``:
    seconds for which unused permits are kept.  ``guaranteed``: permits that this process has in any
    case, the engine reached or not.  ``weight``: its part of the rest.  ``on_lapse``: what becomes
    of open resources when the lease has ended: "keep", "shrink" to ``guaranteed`` as they are idle
    or come back, or "close", which ends at once what is lent too; ``strict`` is "shrink" without
    ``guaranteed``.  ``terminate``: for "close", called as ``terminate(resource)`` while a borrower
    uses it, in a thread of the pool or on the event loop of the resource; None: its socket is shut
    down.  ``fence``: called as ``fence(member)`` before the permits of a member that was not heard
    of are used again; it sees to it that the member has nothing open.

    ImportError without redis-py.  Nothing is sent before a pool asks for a permit.  Thread-safe;
    one object serves any number of pools.  A forked child is a member of its own.
    """

    def __init__(
        self,
        client_or_url: Any,
        name: str,
        limit: int | None = None,
        *,
        ttl: float = 10.0,
        grace: float | None = None,
        linger: float = 1.0,
        guaranteed: int = 0,
        weight: float = 1,
        on_lapse: str = "keep",
        terminate: Callable[[Any], object] | None = None,
        strict: bool = False,
        fence: Callable[[str], object] | None = None,
    ) -> None:
        grace = ttl / 5 if grace is None else grace
        check_options(
            name, limit, ttl, grace, linger, guaranteed, weight, on_lapse, strict, fence, terminate
        )
        self.ttl, self.grace, self.linger = ttl, grace, linger
        self.guaranteed, self.weight, self.on_lapse = guaranteed, weight, on_lapse
        self.strict, self.fence, self.terminate = strict, fence, terminate
        self.clock: Callable[[], float] = boottime
        self._wanted_limit = limit
        self._where = client_or_url
        super().__init__(name)

    def __repr__(self) -> str:
        return f"RedisBudget({self.name!r})"

    @property
    def limit(self) -> int:
        """Permits in all, as the engine says at this moment; assignable, for all members.
        ValueError: it knows none."""
        return self.report(self._client, self.name).limit

    @limit.setter
    def limit(self, limit: int) -> None:
        check_limit(limit)
        script = self._client.register_script(script_text())
        script(keys=keys_of(self.name), args=["set", "", 0, 0, 0, 0, 1, *self._terms(limit)])
        self.ask()

    @classmethod
    def report(cls, client_or_url: Any, name: str) -> BudgetReport:
        """Who has what at this moment, from outside: no permit is taken.  ValueError: there is no
        such budget."""
        return report_of(client_of(client_or_url, 5.0), name)

    # ---- the engine ------------------------------------------------------------------------------

    def bind_to_process(self) -> None:
        super().bind_to_process()
        self._client = client_of(self._where, min(1.0, self.ttl / 6))
        self.member = f"{socket.gethostname()[:24]}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self.claim = Claim(0 if self.strict else self.guaranteed)
        self._engine: Any = None
        self._fenced: list[tuple[str, int]] = []  # and the engine does not know yet
        self._surplus_since = 0.0
        self._asked_at = 0.0  # when the latest request was answered
        self._next_at = 0.0  # when the next one is due
        self._failures = 0  # in a row
        self._ending = False  # the process does
        self._warned = False
        self._lost = False  # the lease was, and more is open still than there are permits

    def open_engine(self) -> bool:
        """Nothing yet: ``step`` does what is needed, and what fails is for it to judge."""
        return True

    def drop_engine(self) -> None:
        if self._engine is not None:
            self._engine.close()
        self._engine = None

    def connect(self) -> Any:
        """The engine, as ``step`` uses it."""
        return RedisEngine(self._client, self.name, self.member, self.wake)

    def step(self) -> float:
        """See ``ThreadedBudget.step``."""
        if self._engine is None:
            self._engine = self.connect()
        for notification in self._engine.notifications():
            if notification:
                self.claim.notified(*notification)
            else:
                self.claim.lack = True
        for member in list(self.members):
            if not member.look():
                member.held = 0
                self.members.remove(member)
            elif self._ending:  # what waits still, or is kept for calls to come, gets nothing
                member.wanted = member.in_use
        if not self.members:
            self._leave()
            return AT_REST
        self._divide()
        if self._is_due(self.clock()):
            self._ask_engine()
            self._divide()
        return self._pause(self.clock())

    def _divide(self) -> None:
        """Give each pool its part of what there is, or of what is left after a lapse."""
        claim, now = self.claim, self.clock()
        if claim.is_valid(now):
            divide(self.members, claim.usable, now, self.linger)
            self._lost = self._lost and sum(m.in_use for m in self.members) > claim.usable
            if self._lost:
                self.terminate_lent(self.members)
        else:
            divide(self.members, claim.floor, now, 0.0, self.strict or self.on_lapse != "keep")
            self.terminate_lent(self.members)

    def terminate_lent(self, members: list[Member]) -> None:
        """After a lapse: have pools end what they have lent and may not have any more."""
        for member in members if self.on_lapse == "close" else ():
            member.terminate(self.terminate or end_socket)

    @property
    def _held(self) -> int:
        return sum(member.held for member in self.members)

    @property
    def _wanted(self) -> int:
        return sum(member.wanted for member in self.members)

    def _is_due(self, now: float) -> bool:
        """Whether the engine should hear of us."""
        claim, wanted = self.claim, self._wanted
        if self._failures:
            return now >= self._next_at
        if now >= self._next_at or self._fenced:
            return True
        if wanted > claim.reported and wanted > claim.permits:
            return True
        if wanted < claim.reported and (claim.lack or claim.reported > claim.permits):
            return now >= self._report_less_at
        return self._has_surplus(now)

    @property
    def _report_less_at(self) -> float:
        return self._asked_at + max(REPORT_LESS, REPORT_LESS_EACH * self.claim.members)

    def _has_surplus(self, now: float) -> bool:
        """Whether permits should be given up: somebody is short, or nobody had a use for long."""
        claim = self.claim
        if max(self._held, claim.floor) >= claim.permits:
            self._surplus_since = 0.0
            return False
        self._surplus_since = self._surplus_since or now
        return claim.due >= 0 or claim.lack or now - self._surplus_since >= self.linger

    def _ask_engine(self) -> None:
        """Make a request, and take in the reply."""
        claim, fenced, wanted = self.claim, self._fenced[:], self._wanted
        keep = min(self._held, claim.permits)  # what is left from before a lapse is no claim
        valid = int(claim.is_valid(self.clock()))
        number = claim.request(keep, wanted)
        opened = sum(member.in_use for member in self.members)
        sent, lapses = self.clock(), claim.lapses  # before the engine's clock starts
        terms = self._terms(self._wanted_limit)
        try:
            reply = self._engine.call(
                "sync", number, keep, wanted, opened, valid, *terms, *chain(*fenced)
            )
            claim.answered(sent, self.clock(), reply)
            self._lost = self._lost or claim.lapses > lapses
        except LateReply:  # the client has sent it twice, and lost the reply to the first
            self._next_at = sent
            return
        except Exception as error:
            self._failed(error)
            return
        del self._fenced[: len(fenced)]  # others may have come to it
        self._surplus_since = 0.0
        self._succeeded()
        beat = claim.ttl / 3
        if wanted > claim.permits:
            beat = min(beat, SHORT_BEAT * claim.grace)
        beat *= random.uniform(0.9, 1.0)
        self._next_at = self._asked_at + min(beat, claim.again + random.uniform(0.001, 0.01))
        for text in _texts(reply[13]):
            request, _, member = text.partition(" ")
            self.start_fence(member, int(request))

    def _terms(self, limit: int | None) -> list[object]:
        """What each request says of the budget and of this member."""
        return [
            round(self.ttl * 1000),
            round(self.grace * 1000),
            "" if limit is None else limit,
            self.weight,
            0 if self.strict else self.guaranteed,
            int(self.fence is not None),
        ]

    def start_fence(self, member: str, number: int) -> None:
        """In a thread of its own: what may take long must not hold up the heartbeat.  ``number``:
        of the member's last request, which says for the engine what was fenced."""
        launch("fastpool-budget-fence", self._fence, member, number)

    def _fence(self, member: str, number: int) -> None:
        try:
            assert self.fence is not None
            self.fence(member)
        except Exception as error:
            text = (
                "budget %r: the fence failed for %s, whose permits stay unused; it is tried again"
            )
            _reports.warn_and_go_on(text, self.name, member, error=error)
        else:
            self._fenced.append((member, number))
            self.ask()

    def _leave(self) -> None:
        """No pool is left: give up all, and close the connection."""
        number, engine = self.claim.request(0, 0), self._engine
        try:
            engine.call("leave", number, 0, 0, 0, 1, *self._terms(self._wanted_limit))
        except Exception:  # the lease ends by itself
            pass
        engine.close()
        self._engine = None
        self.claim.until = self._next_at = float("-inf")
        self._failures = 0

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        pause = min(LAST_RETRY, FIRST_RETRY * 2 ** min(self._failures, 10))
        self._next_at = self.clock() + pause * random.uniform(0.5, 1.0)
        if self._failures != 2:  # one may happen
            return
        if isinstance(error, NoLimit):
            text = "budget %r: no limit is known, so give one: limit=60, or `fastpool budget set`"
            _reports.warn(text, self.name, level=_reports.ERROR)
        else:
            text = "budget %r: the engine does not answer; pools keep what they have: %s"
            _reports.warn(text, self.name, _reports.shown(error, 200))

    def _succeeded(self) -> None:
        claim, wanted = self.claim, self._wanted_limit
        if self._failures > 1:
            _reports.warn("budget %r: the engine answers again", self.name)
        self._failures = 0
        self._asked_at = self.clock()
        if not self._warned and (
            wanted not in (None, claim.limit)
            or round(1000 * self.ttl) != round(1000 * claim.ttl)
            or round(1000 * self.grace) != round(1000 * claim.grace)
        ):
            self._warned = True
            _reports.warn(
                "budget %r: the limit is %d, ttl %g and grace %g, as they were first set, and not "
                "%s, %g and %g, as given here; a limit is changed by `fastpool budget set`",
                self.name, claim.limit, claim.ttl, claim.grace, wanted, self.ttl, self.grace,
            )  # fmt: skip

    def _pause(self, now: float) -> float:
        """Seconds until the next look."""
        claim = self.claim
        pause = min(AT_REST, self._next_at - now)
        if claim.is_valid(now):
            pause = min(pause, claim.until - now)
        else:
            ends = self.on_lapse == "close" and any(member.is_over for member in self.members)
            pause = min(pause, WHILE_RECALLED if ends else AT_REST)
        if claim.due >= 0 or self._held > claim.permits:
            pause = min(pause, WHILE_RECALLED)
        if self._wanted < claim.reported:
            pause = min(pause, max(0.0, self._report_less_at - now) or AT_REST)
        if self._surplus_since:
            pause = min(pause, self._surplus_since + self.linger - now)
        return max(0.0, pause)

    def hurry(self) -> bool:
        self.linger, self._ending = 0.0, True
        return self.claim.permits > 0 and not self._failures

    def has_given_up(self) -> bool:
        in_use = sum(member.in_use for member in list(self.members))
        return self.claim.permits <= max(in_use, self.claim.floor if in_use else 0)

    def stats_of(self, member: Member) -> BudgetStats:
        claim = self.claim
        return BudgetStats(
            name=self.name,
            limit=claim.limit,
            in_force=claim.in_force,
            members=claim.members,
            allowance=member.allowance,
            wanted=member.wanted,
            share=min(member.wanted, claim.share),
            lapses=claim.lapses,
        )


def _texts(reply: bytes | str) -> list[str]:
    """Names, one a line."""
    text = reply if isinstance(reply, str) else reply.decode()
    return text.split("\n") if text else []
