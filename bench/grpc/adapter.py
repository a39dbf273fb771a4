"""The channels under test, and the one place that knows how far `fastpool.grpc` is built.

The measurements ask for what a shared channel is to have. What is not there yet is NotBuilt, found
by looking at what is there: nothing has to be changed here when it comes, as long as it has these
names.

    fastpool.grpc.shared(target, ...)      a grpc.Channel
    fastpool.grpc.aio_shared(target, ...)  a grpc.aio.Channel

| parameter | default | what it is |
|---|---|---|
| `credentials`, `options`, `compression` | none | as grpcio's own |
| `connections` | `(1, 8)` | fewest and most connections; an int = as many, always |
| `streams_per_connection` | 50 | calls at once on one connection; None = no cap |
| `queue_timeout` | None | seconds a call may wait in the queue; None = its own deadline |
| `max_queue` | None | calls in the queue; one more fails at once |
| `bulk` | `()` | names of methods that have a connection to themselves |
| `shrink_after` | 60.0 | seconds of room to spare after which a connection is given up |
| `max_age` | None | seconds after which a connection is replaced, jittered |
| `drain_timeout` | 30.0 | seconds that calls on a replaced connection have |
| `close(grace=None)` | | of both channels: seconds that calls which run have |

`fastpool.grpc.stats()` has an entry for each channel, with `target`, `in_use` (slots that calls
hold), `waiting` (calls in the queue) and `connections`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple


class NotBuilt(Exception):
    """`fastpool.grpc` does not have this yet; the text says what."""


def shared(target: str, **parameters: Any) -> Any:
    """A handle of the shared channel to `target`, a grpc.Channel."""
    return _made_by("shared", target, parameters)


def aio_shared(target: str, **parameters: Any) -> Any:
    """The same for tasks, a grpc.aio.Channel."""
    return _made_by("aio_shared", target, parameters)


def graceful(channel: Any) -> Callable[[float], Any]:
    """`close(grace)` of a shared channel."""
    if "grace" not in inspect.signature(channel.close).parameters:
        raise NotBuilt(f"{type(channel).__name__}.close() takes no grace")
    close: Callable[[float], Any] = channel.close
    return close


class Counters(NamedTuple):
    """What the shared channels to one target say of themselves, together."""

    in_use: int
    waiting: int
    connections: int


def counters(target: str) -> Counters:
    from fastpool.grpc import ChannelStats, stats

    if missing := [name for name in Counters._fields if not hasattr(ChannelStats, name)]:
        raise NotBuilt(f"stats() has no {', no '.join(missing)}")
    mine = [each for each in stats() if each.target == target]
    return Counters(*(sum(getattr(each, name) for each in mine) for name in Counters._fields))


def _made_by(name: str, target: str, parameters: dict[str, Any]) -> Any:
    try:
        import fastpool.grpc as package
    except ImportError as error:
        raise NotBuilt(f"fastpool is not built for this interpreter: {error}") from None
    function = getattr(package, name, None)
    if function is None:
        raise NotBuilt(f"fastpool.grpc has no {name}()")
    known = inspect.signature(function).parameters
    if missing := [each for each in parameters if each not in known]:
        raise NotBuilt(f"fastpool.grpc.{name}() has no {', no '.join(missing)}")
    return function(target, **parameters)
