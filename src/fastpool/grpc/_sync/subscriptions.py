"""Who wants to be told of a shared channel's state, and by which of its connections they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc

from ..._core import Lock

if TYPE_CHECKING:
    from .connection import Connection

Callback = Callable[[grpc.ChannelConnectivity], Any]


class Subscription:
    """One callback of one handle, which its closed flag stands for."""

    __slots__ = ("callback", "connect", "connection", "owner")

    def __init__(self, owner: object, callback: Callback, connect: bool) -> None:
        self.owner = owner
        self.callback = callback
        self.connect = connect
        self.connection: Connection | None = None


class Subscriptions:
    """Those of all handles. A subscription is told of one connection, and when that one is closed,
    of another. Thread-safe; grpc is never called under the lock."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._all: list[Subscription] = []

    def begin(self, subscription: Subscription, connection: Connection) -> None:
        subscription.connection = connection
        connection.channel.subscribe(subscription.callback, subscription.connect)
        with self._lock.hold():
            self._all.append(subscription)

    def end(self, owner: object, callback: Callback | None = None) -> None:
        """One that has this callback; None: all of the owner's."""
        with self._lock.hold():
            found = [
                each
                for each in self._all
                if each.owner is owner and (callback is None or each.callback == callback)
            ]
            del found[1 if callback is not None else len(found) :]
            for each in found:
                self._all.remove(each)
        for each in found:
            assert each.connection is not None
            each.connection.channel.unsubscribe(each.callback)

    def of(self, connection: Connection) -> list[Subscription]:
        """Those that it tells; they are taken out."""
        with self._lock.hold():
            found = [each for each in self._all if each.connection is connection]
            self._all = [each for each in self._all if each.connection is not connection]
        return found
