"""The arguments of RedisBudget, checked."""

from __future__ import annotations

__all__ = ["check_limit", "check_options"]

CO_COROUTINE = 0x80  # of a code object


def check_limit(limit: object) -> None:
    """TypeError or ValueError unless it is a number of permits."""
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise TypeError(f"RedisBudget: limit must be an int or None, not {limit!r}")
    if limit < 1:
        raise ValueError(f"RedisBudget: limit must be at least 1, not {limit!r}")


def check_options(
    name: object,
    limit: object,
    ttl: float,
    grace: float,
    linger: float,
    guaranteed: int,
    weight: float,
    on_lapse: str,
    strict: bool,
    fence: object,
    terminate: object = None,
) -> None:
    """TypeError or ValueError that says what was given."""
    if not isinstance(name, str):
        raise TypeError(f"RedisBudget: name must be a str, not {name!r}")
    if not name or "{" in name or "}" in name:
        raise ValueError(f"RedisBudget: name must be text without braces, not {name!r}")
    if limit is not None:
        check_limit(limit)
    if not ttl >= 0.3:
        raise ValueError(f"RedisBudget: ttl must be at least 0.3 seconds, not {ttl!r}")
    if not 0.02 <= grace <= ttl:
        raise ValueError(f"RedisBudget: grace must be 0.02 seconds to ttl, not {grace!r}")
    if not linger >= 0:
        raise ValueError(f"RedisBudget: linger must be 0 or more seconds, not {linger!r}")
    if isinstance(guaranteed, bool) or not isinstance(guaranteed, int):
        raise TypeError(f"RedisBudget: guaranteed must be an int, not {guaranteed!r}")
    if guaranteed < 0 or (limit is not None and guaranteed > limit):  # type: ignore[operator]
        raise ValueError(f"RedisBudget: guaranteed must be 0 to limit, not {guaranteed!r}")
    if guaranteed and strict:
        raise ValueError(
            "RedisBudget: guaranteed permits are used without the engine, which strict rules out"
        )
    if not 0.001 <= weight <= 1e6:
        raise ValueError(f"RedisBudget: weight must be 0.001 to 1000000, not {weight!r}")
    if on_lapse not in ("keep", "shrink", "close"):
        raise ValueError(
            f'RedisBudget: on_lapse must be "keep", "shrink" or "close", not {on_lapse!r}'
        )
    if terminate is not None:
        check_terminate(terminate, on_lapse)
    if fence is not None and not callable(fence):
        raise TypeError(f"RedisBudget: fence must be called as fence(member), not {fence!r}")


def check_terminate(terminate: object, on_lapse: str) -> None:
    """TypeError or ValueError unless it can end resources, and there is an occasion for it."""
    if not callable(terminate):
        raise TypeError(
            f"RedisBudget: terminate must be called as terminate(resource), not {terminate!r}"
        )
    code = getattr(getattr(terminate, "__func__", terminate), "__code__", None)
    if code is not None and code.co_flags & CO_COROUTINE:
        raise TypeError(
            "RedisBudget: terminate must be a plain function, not a coroutine function: nothing of "
            "it may wait for the borrower"
        )
    if on_lapse != "close":
        raise ValueError(f'RedisBudget: terminate is for on_lapse="close", not {on_lapse!r}')
