"""C1: a call under a policy with nothing wrong, beside the bare call and what others ask.

The call does nothing, so what is left is the policy. All have the same settings: three tries, a
breaker that is closed, a limit with room, two seconds. The time of the bare call is a figure of its
own and not subtracted from the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

from bench.cases import Effort, Figure, of_ratio
from bench.measure import Case, Series, pair_times, quartiles


def policies() -> dict[str, Any]:
    """Name of a case: the policy, made of that part or of all."""
    from fastpool.calls import CallPolicy, CircuitBreaker, Limit, Retry

    return {
        "all": CallPolicy(timeout=2.0, breaker=CircuitBreaker(), retry=Retry(3), limit=Limit(8)),
        "breaker": CallPolicy(breaker=CircuitBreaker()),
        "retry": CallPolicy(retry=Retry(3)),
        "timeout": CallPolicy(timeout=2.0),
    }


def rivals() -> dict[str, Any]:
    """Name of a rival: its decorator, as its documentation has it."""
    found: dict[str, Any] = {}
    try:
        import tenacity

        found["tenacity"] = tenacity.retry(
            stop=tenacity.stop_after_attempt(3),
            wait=tenacity.wait_random_exponential(),
            retry=tenacity.retry_if_exception_type(ConnectionError),
        )
    except ImportError:
        pass
    try:
        import pybreaker

        found["pybreaker"] = pybreaker.CircuitBreaker()
    except ImportError:
        pass
    return found


def answer() -> int:
    return 42


async def aanswer() -> int:
    return 42


def c1(effort: Effort) -> Iterator[Figure]:
    ours, others = policies(), rivals()
    cases = {name: Case("call()", {"call": policy(answer)}) for name, policy in ours.items()}
    cases |= {name: Case("call()", {"call": rival(answer)}) for name, rival in others.items()}
    times = pair_times({"bare": Case("call()", {"call": answer}), **cases}, rounds=effort.rounds)
    yield microseconds("C1a", times["bare"])
    yield microseconds("C1b", times["all"])
    yield beside("C1c", times, "tenacity", "retry")
    yield beside("C1d", times, "pybreaker", "breaker")

    others.pop("pybreaker", None)  # it has no face for asyncio
    statement = "await call()"
    with asyncio.Runner() as runner:
        cases = {name: Case(statement, {"call": p(aanswer)}) for name, p in ours.items()}
        cases |= {name: Case(statement, {"call": r(aanswer)}) for name, r in others.items()}
        names = {"call": aanswer, "timeout": asyncio.timeout}
        cases["asyncio"] = Case("async with timeout(2.0): await call()", names)
        cases["bare"] = Case(statement, {"call": aanswer})
        times = pair_times(cases, rounds=effort.rounds, runner=runner)
    yield microseconds("C1e", times["bare"])
    yield microseconds("C1f", times["all"])
    yield beside("C1g", times, "tenacity", "retry")
    yield of_ratio("C1h", times["timeout"], times["asyncio"])


def microseconds(key: str, series: Series) -> Figure:
    low, high = quartiles([sample / 1e3 for sample in series.samples])
    return Figure(key, series.median / 1e3, low, high)


def beside(key: str, times: Mapping[str, Series], rival: str, ours: str) -> Figure:
    if rival not in times:
        return Figure(key, None, note=f"{rival} is not installed")
    return of_ratio(key, times[rival], times[ours])
