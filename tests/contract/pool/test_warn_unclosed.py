"""``warn_unclosed=False``: a pool that its host drops is closed behind it, in silence."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from fastpool import FastPool, KeyedPool, SharedPool
from support import loops
from support.helpers import Maker, eventually

KINDS: dict[str, Callable[..., Any]] = {
    "FastPool": lambda maker, **options: FastPool(2, factory=maker, **options),
    "SharedPool": SharedPool,
    "KeyedPool": lambda maker, **options: KeyedPool(lambda key: maker(), **options),
}


def unclosed(caught: list[warnings.WarningMessage]) -> list[type[Warning]]:
    """The warnings that name the pool of the test."""
    return [one.category for one in caught if "dropped" in str(one.message)]


@pytest.mark.option("warn_unclosed")
@pytest.mark.parametrize("warn", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_dropped_pool_warns_unless_told_not_to(kind: str, warn: bool, collect: Any) -> None:
    """Its idle resource is closed in either case."""
    maker = Maker()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        pool: Any = KINDS[kind](maker, warn_unclosed=warn, name="dropped")
        with pool.lease("key") if kind == "KeyedPool" else pool.lease():
            pass
        del pool
        collect()
        eventually(lambda: maker.closed == maker.made == 1)
    assert unclosed(caught) == [ResourceWarning] * warn


@pytest.mark.parametrize("warn", [True, False])
def test_a_dropped_pool_of_tasks_does_the_same(warn: bool, collect: Any) -> None:
    maker = Maker()

    async def create() -> object:
        return maker()

    async def main() -> None:
        pool: Any = FastPool(2, factory=create, warn_unclosed=warn, name="dropped")
        async with pool.lease():
            pass
        del pool
        collect()
        await loops.eventually(lambda: maker.closed == maker.made == 1)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        asyncio.run(main())
    assert unclosed(caught) == [ResourceWarning] * warn


@pytest.mark.parametrize("given", [None, 0, "no"])
def test_it_is_a_bool(given: Any) -> None:
    with pytest.raises(TypeError, match="warn_unclosed must be True or False, not"):
        FastPool(factory=object, warn_unclosed=given)
