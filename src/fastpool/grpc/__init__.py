"""Shared gRPC channels: one connection per target for any number of stubs.

A gRPC channel is multiplexed and may be used by every thread at once, so the pool for it is a
registry, not a queue: `shared(target)` gives each caller a handle of the same channel, counts the
handles, and closes the channel when the last one is released. `wait_ready` waits until channels are
connected; `stats` says who shares what.

This module needs grpcio; `import fastpool` does not import it.
"""

try:
    import grpc as _grpc  # noqa: F401
except ImportError as error:
    raise ImportError("fastpool.grpc needs grpcio: pip install 'fastpool[grpc]'") from error

from ._channel import SharedChannel, shared
from ._ready import NotReady, wait_ready
from ._registry import ChannelStats, stats

__all__ = ["ChannelStats", "NotReady", "SharedChannel", "shared", "stats", "wait_ready"]

for _public in (ChannelStats, NotReady, SharedChannel, shared, stats, wait_ready):
    _public.__module__ = __name__
del _public
