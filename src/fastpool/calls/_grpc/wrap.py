"""Which wrapper a channel wants.  grpcio is imported by whoever made the channel, never for it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .._attempts import ResolvedPolicy
    from .._policy import CallPolicy


def wrapped(
    policy: CallPolicy,
    channel: Any,
    idempotent: bool | Collection[str],
    methods: Mapping[str, CallPolicy],
) -> Any:
    """The channel under the policy, of its own kind."""
    grpc = sys.modules.get("grpc")
    rules = rules_of(policy, idempotent, methods)
    if grpc is not None and isinstance(channel, grpc.Channel):
        from .channel import PolicyChannel

        return PolicyChannel(channel, rules)
    if grpc is not None and isinstance(channel, grpc.aio.Channel):
        from .aio_channel import AioPolicyChannel

        return AioPolicyChannel(channel, rules)
    raise TypeError(
        f"wrap() takes a grpc.Channel or a grpc.aio.Channel, not {channel!r}; a function is put"
        " under a policy by policy(function)"
    )


def rules_of(
    policy: CallPolicy, idempotent: bool | Collection[str], methods: Mapping[str, CallPolicy]
) -> Callable[[str], ResolvedPolicy]:
    """Method: its rules.  The method's full name is that of the call in errors and statistics."""
    if isinstance(idempotent, str):
        raise TypeError(f"idempotent must be a collection of methods or a bool, not {idempotent!r}")
    names = () if isinstance(idempotent, bool) else idempotent
    safe = {_path("idempotent", name) for name in names}
    others = {_path("methods", name): each for name, each in methods.items()}

    def rules(method: str) -> ResolvedPolicy:
        path = method.strip("/")
        service = path.partition("/")[0]
        repeatable = idempotent is True or path in safe or service in safe
        return others.get(path, others.get(service, policy)).rules(method, repeatable)

    return rules


def _path(what: str, name: str) -> str:
    """Of a method or a service, as they are compared."""
    path = name.strip("/")
    if not path or path.count("/") > 1:
        raise ValueError(
            f"{what}: {path!r} is neither '/package.Service/Method' nor 'package.Service'"
        )
    return path
