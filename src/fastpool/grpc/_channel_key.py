"""What makes two requests the same shared channel, and how its connections are made."""

from __future__ import annotations

import logging
import os
from typing import Any, NamedTuple

import grpc

from ._channel_args import LOCAL_POOL, arguments
from ._options import (
    ChannelOptions,
    Options,
    Pairs,
    checked_basics,
    checked_target,
    complete,
    parse,
)
from ._warm_up import checked_warm_up

_forks = 0  # how many lie between this process and the first one


class Key(NamedTuple):
    """Credentials compare by identity, and the key keeps them alive: grpc, too, shares a TLS
    connection only between users of one credentials object."""

    kind: str
    """"sync" or "aio"."""
    target: str
    credentials: grpc.ChannelCredentials | None
    options: Pairs
    compression: grpc.Compression | None
    parameters: Options
    interceptors: tuple[Any, ...] = ()
    """Of "aio" alone: grpc has no other way to add them."""
    shuffled: bool = False
    """Whether a name's addresses are tried in random order; said of single connections."""

    def apart(self) -> Key:
        """The same for connections that are shared with no other channel of the process."""
        if LOCAL_POOL in dict(self.options):
            return self
        return self._replace(options=(*self.options, (LOCAL_POOL, 1)))

    def beside(self, others: bool, target: str | None) -> Key:
        """The same for one connection: to this target; or to the same name, of whose addresses it
        takes any where there are others."""
        if target is not None:
            return self._replace(target=target)
        return self._replace(shuffled=True) if others else self

    def dial(self) -> Any:
        """Make a channel. By attribute of `grpc`, so that tools which patch it take part."""
        module: Any = grpc if self.kind == "sync" else grpc.aio
        given = arguments(self.target, self.parameters, self.options, _forks, self.shuffled)
        more = {"interceptors": self.interceptors} if self.interceptors else {}
        if self.credentials is None:
            return module.insecure_channel(self.target, given, self.compression, **more)
        return module.secure_channel(self.target, self.credentials, given, self.compression, **more)


def key_of(
    maker: str,
    kind: str,
    target: str,
    parameters: ChannelOptions,
    interceptors: tuple[Any, ...] = (),
) -> Key:
    """The key for what a user gave to `maker`; TypeError or ValueError for what no channel can be
    made of."""
    checked_target(maker, target)
    who = f"{maker}({target!r})"
    o = complete(who, parameters)
    pairs = checked_basics(who, o["credentials"], o["options"], o["compression"])
    for each in interceptors:
        if not isinstance(each, grpc.aio.ClientInterceptor):
            raise TypeError(f"{who} interceptors must be of grpc.aio's kinds, not {each!r}")
    checked = parse(who, **parameters)
    checked_warm_up(who, kind, checked.warm_up)
    return Key(kind, target, o["credentials"], pairs, o["compression"], checked, interceptors)


_warned = False


def _count_fork() -> None:
    global _forks
    _forks += 1


def warn_of_fork_support() -> None:
    """In a child, before its first connection: grpc hangs there if its fork handlers are off."""
    global _warned
    off = os.environ.get("GRPC_ENABLE_FORK_SUPPORT", "").lower() in ("0", "false", "no")
    if _forks and off and not _warned:
        _warned = True
        logging.getLogger("fastpool").warning(
            "this process was forked with GRPC_ENABLE_FORK_SUPPORT off: gRPC calls may hang in it"
        )


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)
