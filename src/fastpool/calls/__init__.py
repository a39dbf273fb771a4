"""The call layer: time, retries, circuit breakers and limits around any call.

`CallPolicy` is a decorator for functions and coroutine functions, and wraps gRPC channels. It knows
no pool and needs nothing but the standard library; grpcio is used where a channel is given.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._adaptive_limit import AdaptiveLimit
    from ._attempts import CallStats
    from ._breaker import BreakerStats, CircuitBreaker
    from ._deadline import budget, remaining
    from ._errors import CallError, CircuitOpen, DeadlineExceeded, Overloaded
    from ._limit import Limit, LimitStats
    from ._policy import CallPolicy
    from ._retry import Retry, RetryEvent, RetryThrottle
else:

    def __getattr__(name):  # each brings in what it needs: `remaining` next to nothing
        if name in ("budget", "remaining"):
            from . import _deadline as module
        elif name in ("CallError", "CircuitOpen", "DeadlineExceeded", "Overloaded"):
            from . import _errors as module
        elif name == "AdaptiveLimit":
            from . import _adaptive_limit as module
        elif name in ("Limit", "LimitStats"):
            from . import _limit as module
        elif name in ("BreakerStats", "CircuitBreaker"):
            from . import _breaker as module
        elif name in ("Retry", "RetryEvent", "RetryThrottle"):
            from . import _retry as module
        elif name == "CallStats":
            from . import _attempts as module
        elif name == "CallPolicy":
            from . import _policy as module
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = found = getattr(module, name)
        return found

    def __dir__():
        return sorted({*globals(), *__all__})


__all__ = [
    "AdaptiveLimit",
    "BreakerStats",
    "CallError",
    "CallPolicy",
    "CallStats",
    "CircuitBreaker",
    "CircuitOpen",
    "DeadlineExceeded",
    "Limit",
    "LimitStats",
    "Overloaded",
    "Retry",
    "RetryEvent",
    "RetryThrottle",
    "budget",
    "remaining",
]
