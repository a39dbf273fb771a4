"""What grpc is told when a connection is made: channel arguments and the service config.

The user's own channel arguments win over ours, and their service config is added to.
"""

from __future__ import annotations

import json
from typing import Any

from ._options import LEAST_KEEPALIVE, NATIVE, Options, Pairs

SERVICE_CONFIG = "grpc.service_config"
LOCAL_POOL = "grpc.use_local_subchannel_pool"
KEEPALIVE = "grpc.keepalive_time_ms"
KEEPALIVE_TIMEOUT = "grpc.keepalive_timeout_ms"
PING_TIMEOUT = "grpc.http2.ping_timeout_ms"
NATIVE_CONNECTIONS = 10  # grpc's own cap

# An idempotent method is tried so often when the server is not there; a tenth of all calls at most.
RETRY_POLICY = {
    "maxAttempts": 3,
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
RETRY_THROTTLING = {"maxTokens": 10, "tokenRatio": 0.1}


def arguments(
    who: str, options: Options, given: Pairs, forks: int = 0, shuffled: bool = False
) -> Pairs:
    """The channel arguments of each connection. ValueError for what cannot be added to.

    `forks`: how many lie between this process and the first one. grpc lets equal channels share
    connections, and in a forked child even with channels of the parent; an argument of no meaning
    to grpc makes the child's unequal to those. `shuffled`: the addresses of a name are tried in
    random order.
    """
    named = dict(given)
    ours: dict[str, Any] = {
        "grpc.initial_reconnect_backoff_ms": round(options.reconnect_backoff[0] * 1000),
        "grpc.max_reconnect_backoff_ms": round(options.reconnect_backoff[1] * 1000),
    }
    if options.several:  # else equal channels would share one connection
        ours[LOCAL_POOL] = 1
    if options.keepalive is not None:
        ours[KEEPALIVE] = round(options.keepalive * 1000)
        # Of its own pings, of all pings; and the system's for bytes that nobody confirms, which
        # grpc sets together with a keepalive alone.
        for name in (KEEPALIVE_TIMEOUT, PING_TIMEOUT):
            ours[name] = round(options.keepalive_timeout * 1000)
    if forks:
        ours["fastpool.forks"] = forks
    pings = named.get(KEEPALIVE)
    if isinstance(pings, int) and pings < LEAST_KEEPALIVE * 1000:
        raise ValueError(
            f"{who} {KEEPALIVE} must be at least {LEAST_KEEPALIVE * 1000:.0f}, not {pings}:"
            " servers close connections that ping more often"
        )
    config = service_config(who, options, named.get(SERVICE_CONFIG), shuffled)
    if config is not None:
        ours[SERVICE_CONFIG] = config
        given = tuple(pair for pair in given if pair[0] != SERVICE_CONFIG)
    return (*((name, value) for name, value in ours.items() if name not in dict(given)), *given)


def service_config(who: str, options: Options, given: Any, shuffled: bool = False) -> str | None:
    """JSON, None for none of ours."""
    ours: dict[str, Any] = {}
    if options.retry:
        ours["methodConfig"] = [
            {"name": [_name(each) for each in sorted(options.retry)], "retryPolicy": RETRY_POLICY}
        ]
        ours["retryThrottling"] = RETRY_THROTTLING
    if options.native:
        ours["connectionScaling"] = {"maxConnectionsPerSubchannel": NATIVE_CONNECTIONS}
    if options.load_balancing != "pick_first":
        ours["loadBalancingConfig"] = [{options.load_balancing: {}}]
        if options.health is not None:  # grpc watches each subchannel itself
            ours["healthCheckConfig"] = {"serviceName": options.health}
    elif shuffled:
        ours["loadBalancingConfig"] = [{"pick_first": {"shuffleAddressList": True}}]
    if not ours:
        return None
    theirs = _theirs(who, given)
    configs = theirs.get("methodConfig", []) + ours.get("methodConfig", [])
    merged = {**ours, **theirs}
    if configs:
        merged["methodConfig"] = configs
    return json.dumps(merged)


def _theirs(who: str, given: Any) -> dict[str, Any]:
    if given is None:
        return {}
    try:
        config = json.loads(given)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{who} {SERVICE_CONFIG} is no JSON: {error}") from None
    if not isinstance(config, dict) or not isinstance(config.get("methodConfig", []), list):
        raise ValueError(f"{who} {SERVICE_CONFIG} is no service config: {given!r}")
    return config


def _name(method: str) -> dict[str, str]:
    service, _, name = method[1:].rpartition("/")
    return {"service": service} if name == "*" else {"service": service, "method": name}


__all__ = ["NATIVE", "arguments", "service_config"]
