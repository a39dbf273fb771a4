"""What redis-py tells OpenTelemetry of its pools, if ``redis.observability`` is on (7.2)."""

from __future__ import annotations

from typing import Any

from ._versions import found

__all__ = ["count", "created", "enabled", "waited"]

MODULE = "redis.observability.recorder"
_observability = found("redis.observability.providers", "get_observability_instance")
_is_enabled = found(MODULE, "is_enabled")
_record_count = found(MODULE, "record_connection_count")
_record_created = found(MODULE, "record_connection_create_time")
_record_wait = found(MODULE, "record_connection_wait_time")
_state = found("redis.observability.attributes", "ConnectionState")
_name_of = found("redis.observability.attributes", "get_pool_name")


def enabled() -> bool:
    """Whether anybody listens: asked by each checkout, and redis-py's own answer looks further."""
    if _observability is None or _observability().get_provider_manager() is None:
        return False
    return _is_enabled is not None and bool(_is_enabled())


def count(pool: Any, idle: int = 0, used: int = 0) -> None:
    """So many more of them."""
    for state, change in ((_state.IDLE, idle), (_state.USED, used)):
        if change:
            _record_count(pool_name=_name_of(pool), connection_state=state, counter=change)


def created(pool: Any, seconds: float) -> None:
    """A connection was made and connected, in so many seconds."""
    _record_created(connection_pool=pool, duration_seconds=seconds)


def waited(pool: Any, seconds: float) -> None:
    """A connection was lent after so many seconds."""
    _record_wait(pool_name=_name_of(pool), duration_seconds=seconds)
