"""RedisBudget and LocalBudget with one of their cures taken out, to see that the tests miss it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from fastpool.fleet import _claim, _local, _machine, _member, _permit_file
from fastpool.fleet._redis_engine import script_text

__all__ = ["SCRIPTS", "weaken_besides", "weaken_machine", "weaken_member", "without"]


def without(cure: str, instead: str = "") -> str:
    """The script with something else in one place."""
    text = script_text()
    assert text.count(cure) == 1, cure
    return text.replace(cure, instead)


SCRIPTS: Mapping[str, str] = {
    "nothing-is-learnt": without(
        "learn, total, mass, moved = clock + ttl + grace,", "learn, total, mass, moved = 0,"
    ),
    "late-duplicates-count": without("if mine and seq <= mine.seq then return {-1} end"),
    "wall-clock": without("math.floor(grace * 3 / 4)", "1e15"),
    "claims-after-a-lapse-are-believed": without(
        "local sure = not learning or valid", "local sure = true"
    ),
    "rows-may-be-missing": without(
        "tonumber(m[9]) == count and call('ZCARD', LEASES) == count", "true"
    ),
}  # fmt: skip


def _any_number(patch: pytest.MonkeyPatch) -> None:
    """A notification from before permits were given up is believed."""

    def notified(claim: Any, number: int, version: int, permits: int, due: int) -> bool:
        if version <= claim.version:
            return False
        claim.permits, claim.version, claim.due = permits, version, due
        return True

    patch.setattr(_claim.Claim, "notified", notified)


def _given_up_later(patch: pytest.MonkeyPatch) -> None:
    """Permits are told to be given up, and used until the reply."""

    def request(claim: Any, keep: int, wanted: int) -> int:
        claim.number += 1
        claim.reported = wanted
        return int(claim.number)

    patch.setattr(_claim.Claim, "request", request)


def _old_recall(patch: pytest.MonkeyPatch) -> None:
    """What was recalled before permits were given up is more than is left."""
    usable = property(lambda claim: max(claim.permits if claim.due < 0 else claim.due, claim.floor))
    patch.setattr(_claim.Claim, "usable", usable)


def _at_close(patch: pytest.MonkeyPatch) -> None:
    """A permit is free when its resource begins to be closed."""
    patch.setattr(_member.Member, "spare", property(lambda m: m.held - m.allowance))


def _any_claim(patch: pytest.MonkeyPatch) -> None:
    """A lease that had ended goes on with whatever is answered while the engine learns."""
    answered = _claim.Claim.answered

    def believed(claim: Any, sent: float, now: float, reply: Any) -> None:
        answered(claim, sent, now, reply)
        if reply[4] != 2:
            claim.until = sent + claim.ttl

    patch.setattr(_claim.Claim, "answered", believed)


#: What the member does besides, where either cure is enough.
weaken_besides: Mapping[str, Callable[[pytest.MonkeyPatch], None]] = {
    "claims-after-a-lapse-are-believed": _any_claim,
}

weaken_member: Mapping[str, Callable[[pytest.MonkeyPatch], None]] = {
    "any-notification-counts": _any_number,
    "given-up-after-the-request": _given_up_later,
    "recall-of-before": _old_recall,
    "free-before-closed": _at_close,
}


def _old_limit(patch: pytest.MonkeyPatch) -> None:
    """A permit that was locked while the limit fell is kept."""

    def take(file: Any, n: int, limit: int, start: int) -> list[int]:
        found = []
        for i in range(limit):
            permit = (start + i) % limit
            if len(found) < n and permit not in file.permits:
                if file._lock(_permit_file.PERMITS + permit):
                    file.permits.add(permit)
                    found.append(permit)
        return found

    patch.setattr(_permit_file.PermitFile, "take", take)


def _any_term(patch: pytest.MonkeyPatch) -> None:
    """A leader that was stopped and replaced writes what it has heard before."""
    change = _machine.MachineFile.change

    def changed(file: Any, term: int, *args: Any, **options: Any) -> bool:
        return change(file, file.term().number, *args, **options)

    patch.setattr(_machine.MachineFile, "change", changed)


def _replaced(patch: pytest.MonkeyPatch) -> None:
    """A leader tells the engine what it could not give up in the file."""
    patch.delattr(_machine.Leadership, "_is_due")


def _heir(patch: pytest.MonkeyPatch) -> None:
    """The next leader gives out what is locked beyond the limit, before it has asked."""
    begin = _machine.Leadership.__init__

    def begun(lead: Any, *args: Any) -> None:
        begin(lead, *args)
        lead.claim.due = -1

    patch.setattr(_machine.Leadership, "__init__", begun)


def _renewed(patch: pytest.MonkeyPatch) -> None:
    """After a lapse the lease goes on with permits that are free and were given to others."""

    def renewed(share: Any, until: float, permits: int) -> None:
        share.ended = share.ended or not share.file.change(share.term, until=until)

    patch.setattr(_machine.MachineShare, "renewed", renewed)


def _not_beyond(patch: pytest.MonkeyPatch) -> None:
    """What is locked is counted, and not what may be locked meanwhile below the limit."""
    in_use = property(lambda share: share.file.count_locked(0))
    patch.setattr(_machine.MachineShare, "in_use", in_use)


def _all_at_once(patch: pytest.MonkeyPatch) -> None:
    """The limit is raised whatever is locked beyond it."""

    def write(share: Any, n: int) -> None:
        if n != share.file.limit:
            share.ended = not share.file.change(share.term, limit=n)

    patch.setattr(_machine.MachineShare, "_write", write)


def _after_the_lease(patch: pytest.MonkeyPatch) -> None:
    """Processes take what is free below the limit though the lease has ended."""
    patch.setattr(_local.LocalBudget, "_most", lambda budget, file, limit: limit)


weaken_machine: Mapping[str, Callable[[pytest.MonkeyPatch], None]] = {
    "an-old-limit-counts": _old_limit,
    "any-term-may-write": _any_term,
    "asks-though-replaced": _replaced,
    "raises-before-it-asks": _heir,
    "renewed-with-free-ones": _renewed,
    "only-what-is-locked": _not_beyond,
    "raised-whatever-is-beyond": _all_at_once,
    "taken-after-the-lease": _after_the_lease,
}
