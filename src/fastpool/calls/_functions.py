"""Policies around plain functions and coroutine functions."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from types import AsyncGeneratorType, CoroutineType, GeneratorType, NoneType
from typing import Any

from ._attempts import Call, ResolvedPolicy
from ._deadline import CURRENT
from ._waiting import asleep, atake, sleep, take

#: Results that say that the call is only about to begin, as everything does that is awaited; and
#: some of the others, for a quick look.
LAZY = (CoroutineType, GeneratorType, AsyncGeneratorType)
PLAIN = frozenset({NoneType, bool, int, float, str, bytes, tuple, list, dict, set})


def wrapped(function: Any, rules: ResolvedPolicy, timeout_arg: str | None) -> Any:
    """The function under the rules: of its own kind, and with its name and signature."""
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    if not inspect.isroutine(inner) and not isinstance(inner, type):
        inner = type(inner).__call__  # an object that can be called
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        raise TypeError(
            f"{rules.name} is a generator function, and a policy cannot tell when its call is over;"
            " put the policy on the function that does the work of one step, or that uses it up"
        )
    make = _of_tasks if inspect.iscoroutinefunction(inner) else _of_threads
    return make(function, rules, timeout_arg)


def _of_threads(
    function: Callable[..., Any], rules: ResolvedPolicy, timeout_arg: str | None
) -> Callable[..., Any]:
    limit, now = rules.limit, rules.now

    @functools.wraps(function)
    def call_under_policy(*args: Any, **kwargs: Any) -> Any:
        call = Call(rules, None if timeout_arg is None else kwargs.get(timeout_arg))
        pause = 0.0
        while True:
            permit = None
            try:
                if pause:
                    sleep(call, pause)
                if limit is not None:
                    permit = take(limit, call)
                try:
                    ends = call.try_ends()
                    if ends is None:
                        result = function(*args, **kwargs)
                    else:
                        if timeout_arg is not None:
                            kwargs[timeout_arg] = ends - now()
                        before = CURRENT.get()
                        try:  # a signal handler that raises after the set finds the way back
                            CURRENT.set((ends, now))
                            result = function(*args, **kwargs)
                        finally:
                            CURRENT.set(before)
                finally:
                    if permit is not None:
                        permit.release()
                if type(result) not in PLAIN and _is_lazy(result):
                    raise _not_over(rules.name, result)
            except BaseException as error:
                if permit is not None:  # a signal handler may have raised just before
                    permit.__exit__(None, None, None)
                again = call.failed(error)
                if again is None:
                    raise
                pause = again
            else:
                again = call.answered(result)
                if again is None:
                    return result
                pause = again

    return call_under_policy


def _of_tasks(
    function: Callable[..., Awaitable[Any]],
    rules: ResolvedPolicy,
    timeout_arg: str | None,
) -> Callable[..., Awaitable[Any]]:
    from asyncio import CancelledError

    from ._timeout import TimeoutScope

    limit, now = rules.limit, rules.now

    @functools.wraps(function)
    async def call_under_policy(*args: Any, **kwargs: Any) -> Any:
        call = Call(rules, None if timeout_arg is None else kwargs.get(timeout_arg))
        pause = 0.0
        while True:
            permit = None
            try:
                if pause:
                    await asleep(call, pause)
                if limit is not None:
                    permit = await atake(limit, call)
                try:
                    ends = call.try_ends()
                    if ends is None:
                        result = await function(*args, **kwargs)
                    else:
                        left = ends - now()
                        if timeout_arg is not None:
                            kwargs[timeout_arg] = left
                        scope = TimeoutScope(left)
                        before = CURRENT.get()
                        try:
                            CURRENT.set((ends, now))
                            result = await function(*args, **kwargs)
                        except CancelledError as error:
                            if not scope.stop():  # somebody else wants it to end
                                raise
                            raise call.expired("call") from (call.last or error)
                        except BaseException:
                            scope.stop()
                            raise
                        else:
                            scope.stop()
                        finally:
                            CURRENT.set(before)
                finally:
                    if permit is not None:
                        permit.release()
            except BaseException as error:
                if permit is not None:  # a signal handler may have raised just before
                    permit.__exit__(None, None, None)
                again = call.failed(error)
                if again is None:
                    raise
                pause = again
            else:
                again = call.answered(result)
                if again is None:
                    return result
                pause = again

    return call_under_policy


def _is_lazy(result: Any) -> bool:
    return isinstance(result, LAZY) or hasattr(type(result), "__await__")


def _not_over(name: str, result: Any) -> TypeError:
    if isinstance(result, CoroutineType):
        result.close()  # or Python warns that nobody awaited it
    return TypeError(
        f"{name} returned {result!r}, so its call is not over when it returns, and a policy cannot"
        " tell how it ends; put the policy on an `async def` that awaits it (for a gRPC stub, wrap"
        " the channel: policy.wrap(channel))"
    )
