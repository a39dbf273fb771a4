"""The connection of a budget to Redis: calls of the script, and notifications as they come.

Calls are made in the budget's thread.  Notifications are read by a thread of their own, since they
come at any time, and handed over without a lock; one that is lost costs time and nothing else.
redis-py is asked for here, on first need.
"""

from __future__ import annotations

import time
from collections import deque
from importlib import resources

from .._runtime.launch import launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["RedisEngine", "client_of", "keys_of", "script_text"]

POLL = 2.0  # seconds after which the reading thread looks whether it is still wanted
MISSING = "RedisBudget needs redis-py 5.2 or newer: pip install 'fastpool[redis]'"


def script_text() -> str:
    """The script, as it is shipped."""
    return resources.files("fastpool.fleet").joinpath("_redis_script.lua").read_text("utf-8")


def keys_of(name: str) -> list[str]:
    """All keys of a budget; they lie in one slot of a cluster."""
    meta = f"fastpool:budget:{{{name}}}"
    return [meta, f"{meta}:members", f"{meta}:leases", f"{meta}:short"]


def client_of(client_or_url: Any, timeout: float) -> Any:
    """A client of our own for a URL, which waits ``timeout`` seconds at most for a reply and tries
    nothing twice; a client as it is."""
    if not isinstance(client_or_url, str):
        return client_or_url
    try:
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError as error:
        raise ImportError(MISSING) from error
    return Redis.from_url(
        client_or_url,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
    )


class RedisEngine:
    """See the module.  ``wake``: called, in any thread, when a notification has come."""

    def __init__(self, client: Any, name: str, member: str, wake: Callable[[], None]) -> None:
        self._client, self._wake = client, wake
        self._keys = keys_of(name)
        self._member = member
        self._script = client.register_script(script_text())
        self._notified: deque[list[int]] = deque()
        self._reading = False
        self._closed = False

    def call(self, act: str, *args: object) -> list[Any]:
        """Run the script for this member.  Whatever redis-py raises: it may have run, or not."""
        if not self._reading:
            self._reading = True
            launch("fastpool-budget-notifications", self._read)
        reply: list[Any] = self._script(keys=self._keys, args=[act, self._member, *args])
        return reply

    def notifications(self) -> list[list[int]]:
        """Those that have come since the last call; an empty one: somebody lacks permits."""
        found = []
        while self._notified:
            found.append(self._notified.popleft())
        return found

    def close(self) -> None:
        """Have the reading thread end, soon."""
        self._closed = True

    def _read(self) -> None:
        pause = 0.05
        while not self._closed:
            try:
                subscription = self._client.pubsub(ignore_subscribe_messages=True)
                try:
                    subscription.subscribe(self._keys[0], f"{self._keys[0]}:{self._member}")
                    while not self._closed:
                        message = subscription.get_message(timeout=POLL)
                        pause = 0.05
                        if message:
                            words = message["data"].split()
                            self._notified.append([int(n) for n in words] if words[1:] else [])
                            self._wake()
                finally:
                    subscription.close()
            except Exception:  # the budget's thread tells of a server that cannot be reached
                time.sleep(pause)
                pause = min(2 * pause, POLL)
