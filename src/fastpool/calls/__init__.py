"""The call layer: time, retries, circuit breakers and limits around any call.

`CallPolicy` is a decorator for functions and coroutine functions, and wraps gRPC channels. It knows
no pool and needs nothing but the standard library; grpcio is used where a channel is given.
"""

from ._adaptive_limit import AdaptiveLimit
from ._attempts import CallStats
from ._breaker import BreakerStats, CircuitBreaker
from ._deadline import budget, remaining
from ._errors import CallError, CircuitOpen, DeadlineExceeded, Overloaded
from ._limit import Limit, LimitStats
from ._policy import CallPolicy
from ._retry import Retry, RetryEvent, RetryThrottle

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

_ours = (AdaptiveLimit, BreakerStats, CallPolicy, CallStats, CircuitBreaker, Limit, LimitStats)
for _public in (*_ours, Retry, RetryEvent, RetryThrottle, budget, remaining):
    _public.__module__ = __name__
del _ours, _public  # pyright: ignore[reportPossiblyUnboundVariable]
