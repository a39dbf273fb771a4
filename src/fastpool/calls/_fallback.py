"""What is called where the breaker refuses."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from ._errors import CircuitOpen

__all__ = ["with_fallback"]


def with_fallback(function: Callable[..., Any], fallback: Any) -> Callable[..., Any]:
    """The function under its policy, with something to call in place of its CircuitOpen."""
    if not callable(fallback):
        raise TypeError(f"fallback must be a callable or None, not {fallback!r}")
    if inspect.iscoroutinefunction(function):
        return _of_tasks(function, fallback)
    if inspect.iscoroutinefunction(fallback):
        raise TypeError(
            f"fallback of a plain function must be one, too: nobody would await {fallback!r}"
        )
    return _of_threads(function, fallback)


def _of_threads(function: Callable[..., Any], fallback: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call_or_fall_back(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except CircuitOpen:
            return fallback(*args, **kwargs)

    return call_or_fall_back


def _of_tasks(
    function: Callable[..., Awaitable[Any]], fallback: Callable[..., Any]
) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(function)
    async def call_or_fall_back(*args: Any, **kwargs: Any) -> Any:
        try:
            return await function(*args, **kwargs)
        except CircuitOpen:
            result = fallback(*args, **kwargs)
            return await result if inspect.isawaitable(result) else result

    return call_or_fall_back
