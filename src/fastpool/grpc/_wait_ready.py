"""`wait_ready`: wait until channels are connected, or say by a deadline which are not."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import grpc
from grpc import ChannelConnectivity

from .. import PoolClosed, PoolTimeout
from ..errors import PoolError
from ._connection_set import NotConnected
from ._connectivity import FIRST_INTERVAL, IDLE, LAST_INTERVAL, READY, innermost, state_of
from ._sync.channel import SharedChannel


class NotReady(PoolError, TimeoutError):
    """A channel was not connected by the deadline of `wait_ready`.

    `states` maps the target of each channel that was not connected to the last state seen of it;
    `waited` is the time waited, in seconds. Pickles.
    """

    page = "docs/errors/not-ready.md"

    def __init__(self, states: dict[str, str], waited: float) -> None:
        Exception.__init__(self, states, waited)  # these two are what a pickle needs
        self.pool = "fastpool.grpc"
        self.states = states
        self.waited = waited

    @property
    def text(self) -> str:  # type: ignore[override]
        """The message without the pool's name."""
        channels = ", ".join(f"{target} ({state})" for target, state in self.states.items())
        return f"not connected after {self.waited:.2f} s: {channels}"


def wait_ready(
    channels: grpc.Channel | Iterable[grpc.Channel],
    timeout: float | None = None,
    *,
    connections: int | None = None,
) -> None:
    """Connect a channel, or all of several, and return when every one has been READY.

    Takes handles of `shared()` and plain grpc channels. Raises NotReady, which names each target
    that is missing and its last state, when `timeout` seconds have passed (None = wait for ever,
    0 = say whether they are connected now, and begin to connect if not), and ValueError when a
    channel is closed before or meanwhile. A channel whose connection is refused tries again by
    itself, with grpc's backoff, until the deadline.

    `connections`: how many of each shared channel; they are opened if there are fewer. None = as
    many as it keeps open, at least one.

    Thread-safe. Blocks the calling thread and, for grpcio's own channels, starts no other.
    """
    if timeout is not None and not timeout >= 0:
        raise ValueError(f"wait_ready() timeout must be None or at least 0 s, not {timeout!r}")
    if not (connections is None or (type(connections) is int and connections > 0)):
        raise ValueError(f"wait_ready() connections must be None or > 0, not {connections!r}")
    pending = [channels] if isinstance(channels, grpc.Channel) else list(channels)
    for channel in pending:
        if not isinstance(channel, grpc.Channel):
            raise TypeError(f"wait_ready() takes grpc channels, not {channel!r}")
    begun = time.monotonic()
    interval = FIRST_INTERVAL
    probes: list[_Shared | _Reader | _Subscriber] = []
    try:
        for channel in pending:
            patience = LAST_INTERVAL if timeout is None else min(LAST_INTERVAL, timeout)
            probes.append(_probe(channel, connections, patience))
        missing = probes
        while True:
            states = {probe: probe.state() for probe in missing}
            missing = [probe for probe in missing if states[probe] is not READY]
            if not missing:
                return
            waited = time.monotonic() - begun
            if timeout is not None and waited >= timeout:
                raise NotReady({probe.target: states[probe].name for probe in missing}, waited)
            time.sleep(interval if timeout is None else min(interval, timeout - waited))
            interval = min(interval * 2, LAST_INTERVAL)
    finally:
        for probe in probes:
            probe.stop()


def _probe(
    channel: Any, connections: int | None, patience: float
) -> _Shared | _Reader | _Subscriber:
    if inner := _shared_of(channel):
        return _Shared(inner, connections, patience)
    return _Reader(channel) if innermost(channel) else _Subscriber(channel)


def _shared_of(channel: Any) -> SharedChannel | None:
    """The shared channel that an intercepted one is made of."""
    while channel is not None and not isinstance(channel, SharedChannel):
        channel = getattr(channel, "_channel", None)
    return channel


class _Shared:
    """Looks at the connections of a shared channel, and has as many opened as are wanted.

    `patience`: seconds that a look may wait for a new one; a wish ends with the wait for it.
    """

    def __init__(self, channel: SharedChannel, wanted: int | None, patience: float) -> None:
        self._patience = patience
        self.target = channel.target
        self._channel = channel
        least, most = channel._live().pool.items
        self._wanted = min(wanted or max(1, least), most or 1)

    def state(self) -> ChannelConnectivity:
        """READY if so many are; else that of the one that is furthest from it."""
        connections = self._channel._live()
        live = connections.connected()
        states = [state_of(each.channel, connect=True) or READY for each in live]
        ready = [each for each in states if each is READY]
        if len(ready) >= self._wanted:
            return READY
        if len(states) < self._wanted:
            try:
                connections.pool.warm(self._wanted, self._patience)
            except (PoolTimeout, NotConnected, PoolClosed):
                pass  # under way, or tried again, or nothing is to be had any more
        missing = [each for each in states if each is not READY]
        return max(missing, key=lambda state: int(state.value[0]), default=IDLE)

    def stop(self) -> None:
        pass


class _Reader:
    """Reads the state of a channel of grpcio's own. Asking makes an idle channel connect."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.target = _target(channel)
        self._channel = channel

    def state(self) -> ChannelConnectivity:
        return state_of(self._channel, connect=True) or IDLE

    def stop(self) -> None:
        pass


class _Subscriber:
    """Is told the state of a channel of some other make, by a thread of that channel."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.target = _target(channel)
        self._channel = channel
        self._state = ChannelConnectivity.IDLE
        channel.subscribe(self._report, try_to_connect=True)

    def _report(self, state: ChannelConnectivity) -> None:
        self._state = state

    def state(self) -> ChannelConnectivity:
        return self._state

    def stop(self) -> None:
        self._channel.unsubscribe(self._report)


def _target(channel: Any) -> str:
    """The target, for messages. Plain and intercepted channels know it under a private name."""
    inner = channel
    while inner is not None:
        if isinstance(target := getattr(inner, "_target", None), str):
            return target
        inner = getattr(inner, "_channel", None)
    return repr(channel)
