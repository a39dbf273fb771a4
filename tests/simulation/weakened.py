"""RedisBudget with one of its cures taken out, to see that the tests miss it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from fastpool.fleet import _claim, _member
from fastpool.fleet._redis_engine import script_text

__all__ = ["SCRIPTS", "weaken_member", "without"]


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


weaken_member: Mapping[str, Callable[[pytest.MonkeyPatch], None]] = {
    "any-notification-counts": _any_number,
    "given-up-after-the-request": _given_up_later,
    "recall-of-before": _old_recall,
    "free-before-closed": _at_close,
}
