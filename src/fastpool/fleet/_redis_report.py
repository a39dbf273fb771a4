"""A look from outside at a budget in Redis."""

from __future__ import annotations

from ._redis_engine import keys_of
from ._report import BudgetReport, MemberReport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["names_of", "report_of"]


def report_of(client: Any, name: str) -> BudgetReport:
    """Who has what; ValueError: there is no budget of this name."""
    meta_key, members_key, leases_key, _ = keys_of(name)
    look = client.pipeline(transaction=True)
    look.hgetall(meta_key)
    look.hgetall(members_key)
    look.zrange(leases_key, 0, -1, withscores=True)
    meta, rows, leases = look.execute()
    meta = {_text(key): _text(value) for key, value in meta.items()}
    if "limit" not in meta:
        raise ValueError(f"there is no budget {name!r} in this Redis")
    lease, clock = float(meta["ttl"]) + float(meta["grace"]), float(meta["clock"])
    ends = {_text(member): float(end) for member, end in leases}
    members = []
    for key, value in rows.items():
        member, row = _text(key), _text(value).split()
        _, _, pid = member.rpartition(":")[0].rpartition(":")
        age = max(0.0, clock + lease - ends.get(member, clock)) / 1000
        members.append(
            MemberReport(member, int(pid or 0), int(row[0]), int(row[1]), int(row[9]), age)
        )
    in_force = sum(member.held for member in members)
    return BudgetReport(name, int(meta["limit"]), in_force, tuple(members))


def names_of(client: Any) -> list[str]:
    """The budgets that there are."""
    keys = (_text(key) for key in client.scan_iter("fastpool:budget:{*}", count=1000))
    return sorted(key[len("fastpool:budget:{") : -1] for key in keys)


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode(errors="replace")
