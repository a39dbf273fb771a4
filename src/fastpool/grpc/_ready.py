"""`wait_ready`: wait until channels are connected, or say by a deadline which are not."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import grpc
from grpc import ChannelConnectivity

from ..errors import PoolError
from ._channel import SharedChannel

# grpc's public way to follow a channel's state, `subscribe`, costs a thread per channel that looks
# every 0.2 s, makes a close within that time wait for it, and has no answer for a timeout of 0. So
# the state is read directly where the channel is grpcio's own, at these intervals in seconds: often
# at first, since a connection on the local network takes a millisecond.
_FIRST_INTERVAL, _LAST_INTERVAL = 0.0005, 0.02


class NotReady(PoolError, TimeoutError):
    """A channel was not connected by the deadline of `wait_ready`.

    `states` maps the target of each channel that was not connected to the last state seen of it;
    `waited` is the time waited, in seconds. Pickles.
    """

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
    channels: grpc.Channel | Iterable[grpc.Channel], timeout: float | None = None
) -> None:
    """Connect a channel, or all of several, and return when every one has been READY.

    Takes handles of `shared()` and plain grpc channels. Raises NotReady, which names each target
    that is missing and its last state, when `timeout` seconds have passed (None = wait for ever,
    0 = say whether they are connected now, and begin to connect if not), and ValueError when a
    channel is closed before or meanwhile. A channel whose connection is refused tries again by
    itself, with grpc's backoff, until the deadline.

    Thread-safe. Blocks the calling thread and, for grpcio's own channels, starts no other.
    """
    if timeout is not None and not timeout >= 0:
        raise ValueError(f"wait_ready() timeout must be None or at least 0 s, not {timeout!r}")
    pending = [channels] if isinstance(channels, grpc.Channel) else list(channels)
    for channel in pending:
        if not isinstance(channel, grpc.Channel):
            raise TypeError(f"wait_ready() takes grpc channels, not {channel!r}")
    begun = time.monotonic()
    interval = _FIRST_INTERVAL
    probes: list[_Reader | _Subscriber] = []
    try:
        for channel in pending:
            probes.append(_Reader(channel) if _core(channel) else _Subscriber(channel))
        missing = probes
        while True:
            states = {probe: probe.state() for probe in missing}
            missing = [probe for probe in missing if states[probe] is not ChannelConnectivity.READY]
            if not missing:
                return
            waited = time.monotonic() - begun
            if timeout is not None and waited >= timeout:
                raise NotReady({probe.target: states[probe].name for probe in missing}, waited)
            time.sleep(interval if timeout is None else min(interval, timeout - waited))
            interval = min(interval * 2, _LAST_INTERVAL)
    finally:
        for probe in probes:
            probe.stop()


class _Reader:
    """Reads the state of a channel of grpcio's own. Asking makes an idle channel connect."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.target = _target(channel)
        self._channel = channel

    def state(self) -> ChannelConnectivity:
        return _STATES[_core(self._channel).check_connectivity_state(True)]

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


# Number of a state in grpc's core -> its public name.
_STATES = {state.value[0]: state for state in ChannelConnectivity}


def _core(channel: Any) -> Any:
    """The innermost channel, which can be asked for its state; None if there is none such."""
    while channel is not None and not hasattr(channel, "check_connectivity_state"):
        if isinstance(channel, SharedChannel):
            channel = channel._live().open()
        channel = getattr(channel, "_channel", None)
    return channel


def _target(channel: Any) -> str:
    """The target, for messages. Plain and intercepted channels know it under a private name."""
    inner = channel
    while inner is not None:
        if isinstance(target := getattr(inner, "_target", None), str):
            return target
        inner = getattr(inner, "_channel", None)
    return repr(channel)
