"""The double entry: what a pool says of its connections beside what the server counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ...stats import PoolStats


class Check(NamedTuple):
    """One thing that must hold, in words that give what was seen. `held` None = there was no way
    to see it here."""

    text: str
    held: bool | None


class Accounts(NamedTuple):
    """One pool and its server at two moments: when the load had stopped, and after `close()`."""

    idle: PoolStats
    idle_server: int | None
    closed: PoolStats
    closed_server: int | None

    @property
    def balanced(self) -> bool:
        now = self.idle
        return (
            now.leased == 0
            and now.created == now.closed_total + now.open
            and now.open == self.idle_server
        )

    @property
    def ended(self) -> bool:
        end = self.closed
        return end.open == 0 and end.created == end.closed_total and self.closed_server == 0


def audit(accounts: Sequence[Accounts]) -> list[Check]:
    """The checks of one or more pools; what is shown is the first that is wrong, or the last."""
    unbalanced = next((each for each in accounts if not each.balanced), None)
    unended = next((each for each in accounts if not each.ended), None)
    idle, end = unbalanced or accounts[-1], unended or accounts[-1]
    return [
        Check(
            f"none leaked: made {idle.idle.created} = closed {idle.idle.closed_total}"
            f" + open {idle.idle.open}, leased {idle.idle.leased}; server has"
            f" {idle.idle_server} open",
            unbalanced is None,
        ),
        Check(
            f"after close(): pool has {end.closed.open} open, server {end.closed_server}",
            unended is None,
        ),
    ]


def no_errors(errors: Counter[str], text: str = "no call failed") -> Check:
    listed = ", ".join(f"{name} {times:,}" for name, times in errors.most_common())
    return Check(f"{text}: {listed}" if listed else text, not errors)


def cap_kept(peaks: Sequence[int | None], size: int) -> Check:
    known = [peak for peak in peaks if peak is not None]
    return Check(
        f"never more than {size} connections at once"
        + (f" (most at the server: {max(known)})" if known else ", not counted"),
        max(known) <= size if known else None,
    )
