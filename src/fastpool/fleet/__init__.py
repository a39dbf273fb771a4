"""Permits that pools share, in one process or in many: ``FastPool(..., budget=budget)``.

``LocalBudget(path, limit)``: for the processes of one machine, through a file, without a server.
``Budget``: what a budget is to a pool, for those who write one.
"""

from ._local import LocalBudget
from ._member import Budget, Membership, Share
from ._report import BudgetReport, MemberReport

__all__ = ["Budget", "BudgetReport", "LocalBudget", "MemberReport", "Membership", "Share"]
