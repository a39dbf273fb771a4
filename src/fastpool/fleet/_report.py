"""A budget as it is seen from outside."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BudgetReport", "MemberReport"]


@dataclass(frozen=True, slots=True)
class MemberReport:
    """One pool, as it said of itself ``age`` seconds ago: how many permits it held, how many
    resources it had a use for, and how many were open."""

    name: str
    pid: int
    held: int
    wanted: int
    open: int
    age: float


@dataclass(frozen=True, slots=True)
class BudgetReport:
    """The permits of a budget: the limit, those that are in force, and who has them."""

    name: str
    limit: int
    in_force: int
    members: tuple[MemberReport, ...]
