"""What redis-py has in some of its versions only; None in the others."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = [
    "AfterConnectionReleasedEvent",
    "AsyncAfterConnectionReleasedEvent",
    "AsyncReAuthConnectionListener",
    "CacheProxyConnection",
    "ReAuthConnectionListener",
    "reconnects",
]


def found(module: str, name: str) -> Any:
    try:
        return getattr(import_module(module), name, None)
    except ImportError:
        return None


CacheProxyConnection = found("redis.connection", "CacheProxyConnection")  # 5.1
AfterConnectionReleasedEvent = found("redis.event", "AfterConnectionReleasedEvent")  # 5.3
AsyncAfterConnectionReleasedEvent = found("redis.event", "AsyncAfterConnectionReleasedEvent")
ReAuthConnectionListener = found("redis.event", "ReAuthConnectionListener")
AsyncReAuthConnectionListener = found("redis.event", "AsyncReAuthConnectionListener")


def reconnects(module: str) -> bool:
    """Whether connections can be marked to be connected anew when they come back (7.0)."""
    return hasattr(found(module, "AbstractConnection"), "should_reconnect")
