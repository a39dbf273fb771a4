"""Permits that pools share: ``FastPool(..., budget=budget)``; what a budget is to a pool."""

from ._member import Budget, Membership, Share

__all__ = ["Budget", "Membership", "Share"]
