"""Permits that pools share, in one process or in many: ``FastPool(..., budget=budget)``.

``LocalBudget(path, limit)``: for the processes of one machine, through a file, without a server.
``RedisBudget(client_or_url, name, limit)``: for those of many machines, through Redis or Valkey.
``PostgresFence(conninfo)``: ends the sessions of a member whose time has run out.
``Budget``, ``Fence``: what they are to a pool and to a budget, for those who write one.
"""

from ._local import LocalBudget
from ._member import Budget, Fence, Membership, Share
from ._postgres import PostgresFence
from ._redis import RedisBudget
from ._report import BudgetReport, MemberReport

__all__ = [
    "Budget",
    "BudgetReport",
    "Fence",
    "LocalBudget",
    "MemberReport",
    "Membership",
    "PostgresFence",
    "RedisBudget",
    "Share",
]
