"""RedisBudget's arguments: what is refused, and what it says; nothing here needs a server."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from fastpool.fleet import Budget, RedisBudget


async def coroutine(resource: object) -> None:
    """No function that ends a resource."""


class Client:
    """Of nothing: no call is made before a pool asks."""

    async def end(self, resource: object) -> None:
        """Likewise."""


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"name": ""}, ValueError, "name must be text without braces"),
        ({"name": "a{b"}, ValueError, "name must be text without braces, not 'a{b'"),
        ({"name": 5}, TypeError, "name must be a str"),
        ({"limit": 0}, ValueError, "limit must be at least 1, not 0"),
        ({"limit": 1.5}, TypeError, "limit must be an int or None"),
        ({"ttl": 0.1}, ValueError, "ttl must be at least 0.3 seconds, not 0.1"),
        ({"ttl": float("nan")}, ValueError, "ttl must be at least"),
        ({"grace": 11}, ValueError, "grace must be 0.02 seconds to ttl"),
        ({"linger": -1}, ValueError, "linger must be 0 or more seconds"),
        ({"guaranteed": -1}, ValueError, "guaranteed must be 0 to limit"),
        ({"guaranteed": 99}, ValueError, "guaranteed must be 0 to limit, not 99"),
        ({"guaranteed": 1, "strict": True}, ValueError, "which strict rules out"),
        ({"weight": 0}, ValueError, "weight must be 0.001"),
        ({"on_lapse": "end"}, ValueError, '"keep", "shrink" or "close", not \'end\''),
        ({"terminate": print}, ValueError, "terminate is for on_lapse=\"close\", not 'keep'"),
        ({"on_lapse": "close", "terminate": 5}, TypeError, "called as terminate.resource., not 5"),
        ({"on_lapse": "close", "terminate": coroutine}, TypeError, "must be a plain function"),
        ({"on_lapse": "close", "terminate": Client().end}, TypeError, "must be a plain function"),
        ({"fence": "sh"}, TypeError, "called as fence"),
    ],
)
def test_wrong_arguments_are_refused(
    options: dict[str, Any], error: type[Exception], says: str
) -> None:
    given: dict[str, Any] = {"name": "orders", "limit": 60, **options}
    with pytest.raises(error, match=says):
        RedisBudget(Client(), **given)


def test_it_is_a_budget() -> None:
    budget = RedisBudget(Client(), "orders", 60)
    assert isinstance(budget, Budget)
    assert repr(budget) == "RedisBudget('orders')"
    assert (budget.ttl, budget.grace) == (10.0, 2.0)


@pytest.mark.process
@pytest.mark.light
def test_missing_library_is_named_with_its_extra() -> None:
    program = (
        "import sys; sys.modules['redis'] = None\n"
        "from fastpool.fleet import RedisBudget\n"
        "try: RedisBudget('redis://localhost', 'orders', 60)\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "pip install 'fastpool[redis]'" in done.stdout, done.stderr
