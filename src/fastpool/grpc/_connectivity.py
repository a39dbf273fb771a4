"""The state of a channel, read without subscribing to it.

grpc's public way to follow a channel's state, `subscribe`, costs a thread per channel that looks
every 0.2 s, makes a close within that time wait for it, and has no answer for a timeout of 0. So
the state is read directly where the channel is grpcio's own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from grpc import ChannelConnectivity

IDLE, READY = ChannelConnectivity.IDLE, ChannelConnectivity.READY
FAILING = ChannelConnectivity.TRANSIENT_FAILURE

# Seconds between two looks: often at first, since a connection on the local network takes a
# millisecond.
FIRST_INTERVAL, LAST_INTERVAL = 0.0005, 0.02

# Number of a state in grpc's core -> its public name.
_STATES = {state.value[0]: state for state in ChannelConnectivity}


def innermost(channel: Any) -> Any:
    """grpcio's own object, which can be asked for its state; None if there is none such inside.
    Intercepted channels, and those of tools that patch grpc, know theirs as `_channel`."""
    while channel is not None and not hasattr(channel, "check_connectivity_state"):
        channel = getattr(channel, "_channel", None)
    return channel


def state_of(channel: Any, connect: bool = False) -> ChannelConnectivity | None:
    """None if it cannot be read. `connect`: an idle channel begins to connect. Never blocks."""
    core = innermost(channel)
    if core is None:
        return None
    return _STATES[core.check_connectivity_state(connect)]


def wait_connected(channel: Any, timeout: float, given_up: Callable[[], bool]) -> bool:
    """Whether it connects, by a deadline or until `given_up()`. False as soon as an attempt fails.
    Blocks the thread; True at once if the state cannot be read."""
    deadline, interval = time.monotonic() + timeout, FIRST_INTERVAL
    while True:
        state = state_of(channel, connect=True)
        if state is READY or state is None:
            return True
        if state is FAILING or time.monotonic() >= deadline or given_up():
            return False
        time.sleep(interval)
        interval = min(interval * 2, LAST_INTERVAL)
