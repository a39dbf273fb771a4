"""Shared gRPC channels: as few connections per target as will do, for any number of stubs.

`shared(target)` gives each caller a handle of the same channel, counts the handles, and closes the
channel when the last one is released. A call takes a slot of the least loaded connection; more
connections are opened when all slots are taken, and then calls wait in the queue, each up to its
own deadline. `aio_shared(target)` is the same for tasks, of any number of event loops. `wait_ready`
waits until channels are connected; `stats` says who shares what.

This module needs grpcio; `import fastpool` does not import it.
"""

try:
    import grpc as _grpc  # noqa: F401
except ImportError as error:
    raise ImportError("fastpool.grpc needs grpcio: pip install 'fastpool[grpc]'") from error

from ._aio.channel import AioSharedChannel, aio_shared
from ._aio.errors import AioLocalError
from ._options import ChannelOptions
from ._registry import ChannelStats, stats
from ._sync.channel import SharedChannel, shared
from ._sync.errors import LocalError
from ._wait_ready import NotReady, wait_ready

__all__ = [
    "AioLocalError",
    "AioSharedChannel",
    "ChannelOptions",
    "ChannelStats",
    "LocalError",
    "NotReady",
    "SharedChannel",
    "aio_shared",
    "shared",
    "stats",
    "wait_ready",
]

for _public in (
    *(AioLocalError, AioSharedChannel, ChannelOptions, ChannelStats, LocalError, NotReady),
    *(SharedChannel, aio_shared, shared, stats, wait_ready),
):
    _public.__module__ = __name__
del _public  # pyright: ignore[reportPossiblyUnboundVariable]
