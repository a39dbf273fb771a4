"""Attributes of the host's pools that may be assigned while the pool is in use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Setting"]


class Setting:
    """An attribute whose changes a FastPool option follows.

    The host's constructor assigns it before there is a FastPool.
    """

    def __init__(self, option: str, convert: Callable[[Any], Any] = lambda given: given) -> None:
        self.option, self.convert = option, convert

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = f"_{name}"

    def __get__(self, pool: Any, owner: type | None = None) -> Any:
        return self if pool is None else pool.__dict__[self.name]

    def __set__(self, pool: Any, value: Any) -> None:
        fastpool = pool.__dict__.get("fastpool")
        if fastpool is not None:
            fastpool.configure(**{self.option: self.convert(value)})
        pool.__dict__[self.name] = value
