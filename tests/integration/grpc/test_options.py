"""Parameters of shared channels: what is checked, what grpc is told, what makes channels equal."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

from fastpool.grpc import _registry, shared, stats  # noqa: E402
from fastpool.grpc._channel_args import arguments  # noqa: E402
from fastpool.grpc._channel_key import Key  # noqa: E402
from fastpool.grpc._options import Options, parse  # noqa: E402
from integration.grpc.server import SERVICE  # noqa: E402

METHOD = f"/{SERVICE}/Say"


@pytest.fixture(autouse=True)
def balanced() -> Iterator[None]:
    yield
    gc.collect()
    assert stats() == ()


def told(given: tuple[tuple[str, Any], ...] = (), **parameters: Any) -> dict[str, Any]:
    """The channel arguments, each of them once."""
    pairs = arguments("test", parse("test", **parameters), given)
    assert len({name for name, _ in pairs}) == len(pairs)
    return dict(pairs)


def config(given: Any = None, **parameters: Any) -> Any:
    pairs = () if given is None else (("grpc.service_config", given),)
    return json.loads(told(pairs, **parameters).get("grpc.service_config", "null"))


# -- checks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "error", "says"),
    [
        ({"connections": 0}, ValueError, "1 <= most, not 0"),
        ({"connections": (3, 2)}, ValueError, "fewest <= most"),
        ({"connections": (-1, 2)}, ValueError, "0 <= fewest"),
        ({"connections": (1, None)}, TypeError, r"\(fewest, most\)"),
        ({"connections": "many"}, TypeError, "or 'native', not 'many'"),
        ({"connections": True}, TypeError, "a number"),
        ({"streams_per_connection": 0}, ValueError, "at least 1"),
        ({"streams_per_connection": 2.5}, TypeError, "an int or None"),
        ({"queue_timeout": -1}, ValueError, "at least 0 s"),
        ({"queue_timeout": "1"}, TypeError, "a number of seconds"),
        ({"queue_timeout": float("nan")}, ValueError, "nan"),
        ({"max_queue": -1}, ValueError, "at least 0"),
        ({"queue_order": "lifo"}, ValueError, r"one of \('arrival', 'deadline'\), not 'lifo'"),
        ({"warm_up": 3}, TypeError, r"a callable \(channel\) or None, not 3"),
        ({"affinity": 3}, TypeError, "a metadata key or None, not 3"),
        ({"affinity": "User"}, ValueError, "in lower case, not 'User'"),
        ({"affinity": ""}, ValueError, "a metadata key"),
        ({"hedge": [METHOD]}, TypeError, "mapping of methods to seconds"),
        ({"hedge": {"Say": 1}}, ValueError, "hedge must be like '/package.Service/Method'"),
        ({"hedge": {METHOD: -1}}, ValueError, "at least 0 s"),
        ({"hedge": {METHOD: None}}, TypeError, "number of seconds, not None"),
        ({"max_queue": 1.5}, TypeError, "an int"),
        ({"bulk": METHOD}, TypeError, "several names"),
        ({"bulk": [5]}, TypeError, "names of methods, not 5"),
        ({"bulk": ["Say"]}, ValueError, "like '/package.Service/Method'"),
        ({"bulk": ["/a.B/*"]}, ValueError, r"not '/a.B/\*'"),
        ({"retry": ["//x"]}, ValueError, "like '/package.Service/Method'"),
        ({"retry": ["/a.B/"]}, ValueError, "like '/package.Service/Method'"),
        ({"shrink_after": 0}, ValueError, "at least 0.001 s"),
        ({"max_age": 0}, ValueError, "max_age must be at least"),
        ({"max_age": float("inf")}, ValueError, "max_age"),
        ({"drain_timeout": -1}, ValueError, "drain_timeout"),
        ({"reconnect_backoff": 1}, TypeError, r"\(first, longest\)"),
        ({"reconnect_backoff": (5, 1)}, ValueError, "first <= longest"),
        ({"reconnect_backoff": (0, 1)}, ValueError, "reconnect_backoff"),
        ({"keepalive": 9.9}, ValueError, "keepalive must be at least 10 s"),
        ({"keepalive_timeout": 0}, ValueError, "keepalive_timeout must be at least"),
        ({"keepalive_timeout": None}, TypeError, "keepalive_timeout must be a number"),
        ({"health": 5}, TypeError, "health must be the name"),
        ({"load_balancing": "random"}, ValueError, "one of"),
        ({"options": [("grpc.keepalive_time_ms", 5_000)]}, ValueError, "ping more often"),
        ({"conections": 2}, TypeError, "'conections'; did you mean 'connections'"),
        ({"colour": 2}, TypeError, "unexpected keyword argument 'colour'$"),
        (
            {"retry": [METHOD], "options": [("grpc.service_config", "{")]},
            ValueError,
            "service_config is no JSON",
        ),
        (
            {"retry": [METHOD], "options": [("grpc.service_config", "[]")]},
            ValueError,
            "no service config",
        ),
    ],
)
def test_bad_parameters_are_named(
    parameters: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        shared("host:1", **parameters)
    assert "host:1" in str(caught.value)


def test_native_scaling_needs_a_grpcio_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc, "__version__", "1.83.2")
    with pytest.raises(ValueError, match=r"1\.84 or newer, and this is 1\.83\.2"):
        shared("host:1", connections="native")
    monkeypatch.setattr(grpc, "__version__", "1.84.0")
    options = parse("test", connections="native")
    assert (options.least, options.most, options.streams) == (1, 1, None)
    scaling = {"connectionScaling": {"maxConnectionsPerSubchannel": 10}}
    assert config(connections="native") == scaling


# -- what grpc is told -------------------------------------------------------------------------


def test_connections_of_one_channel_are_really_several() -> None:
    """grpc lets equal channels share one, unless it is told not to."""
    alone = "grpc.use_local_subchannel_pool"
    assert told()[alone] == told(max_age=5.0, connections=1)[alone] == 1
    assert told(connections=1, bulk=[METHOD])[alone] == 1
    assert alone not in told(connections=1)


def test_reconnecting_and_pings() -> None:
    assert told()["grpc.initial_reconnect_backoff_ms"] == 100
    assert told()["grpc.max_reconnect_backoff_ms"] == 5_000
    assert told(reconnect_backoff=(0.5, 60))["grpc.initial_reconnect_backoff_ms"] == 500
    assert told()["grpc.keepalive_time_ms"] == 310_000  # what servers at their defaults accept
    assert told(keepalive=30)["grpc.keepalive_time_ms"] == 30_000
    timeouts = ("grpc.keepalive_timeout_ms", "grpc.http2.ping_timeout_ms")
    assert [told()[name] for name in timeouts] == [20_000, 20_000]
    assert [told(keepalive_timeout=2)[name] for name in timeouts] == [2_000, 2_000]
    assert not [name for name in told(keepalive=None) if "keepalive" in name or "ping" in name]


def test_what_the_user_says_to_grpc_wins() -> None:
    given = (("grpc.initial_reconnect_backoff_ms", 7), ("grpc.use_local_subchannel_pool", 0))
    assert {name: told(given)[name] for name, _ in given} == dict(given)
    assert told((("x", 1), ("y", 2)))["y"] == 2


def test_retries_are_for_what_is_named_alone() -> None:
    assert config() is None
    made = config(retry=["/a.B/Get", "/a.B/List", "/c.D/*"])
    (method,) = made["methodConfig"]
    assert method["name"] == [
        {"service": "a.B", "method": "Get"},
        {"service": "a.B", "method": "List"},
        {"service": "c.D"},
    ]
    assert method["retryPolicy"]["maxAttempts"] == 3
    assert method["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]
    assert made["retryThrottling"]["maxTokens"] == 10


def test_the_users_service_config_is_added_to() -> None:
    theirs = {
        "methodConfig": [{"name": [{"service": "x.Y"}], "timeout": "1s"}],
        "retryThrottling": {"maxTokens": 5, "tokenRatio": 1},
    }
    made = config(json.dumps(theirs), retry=[METHOD])
    assert [each.get("timeout") for each in made["methodConfig"]] == ["1s", None]
    assert made["retryThrottling"] == theirs["retryThrottling"]
    assert config(json.dumps(theirs)) == theirs  # untouched where there is nothing to add


def test_round_robin_and_grpcs_own_health_checks() -> None:
    assert config(load_balancing="round_robin") == {"loadBalancingConfig": [{"round_robin": {}}]}
    made = config(load_balancing="round_robin", health="a.B")
    assert made["healthCheckConfig"] == {"serviceName": "a.B"}
    assert config(health="a.B") is None  # watched by us


def test_a_method_that_is_named_is_tried_again() -> None:
    """Up to three times; what is not named fails at once."""
    tries: list[str] = []

    def fail_twice(request: bytes, context: Any) -> bytes:
        tries.append(request.decode())
        if len(tries) < 3:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
        return request

    handler = grpc.unary_unary_rpc_method_handler(fail_twice)
    handlers = grpc.method_handlers_generic_handler("a.B", {"Get": handler, "Set": handler})
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((handlers,))
    target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    with shared(target, retry=["/a.B/Get"]) as channel:
        with pytest.raises(grpc.RpcError):
            channel.unary_unary("/a.B/Set")(b"set", timeout=10)
        assert tries == ["set"]
        tries.clear()
        assert channel.unary_unary("/a.B/Get")(b"get", timeout=10) == b"get"
        assert tries == ["get"] * 3
    server.stop(0).wait()


# -- what is shared ----------------------------------------------------------------------------


def test_the_defaults_are_as_documented() -> None:
    assert parse("test") == Options(
        least=1,
        most=8,
        native=False,
        streams=50,
        queue_timeout=None,
        max_queue=None,
        bulk=frozenset(),
        shrink_after=60.0,
        max_age=None,
        drain_timeout=30.0,
        reconnect_backoff=(0.1, 5.0),
        keepalive=310.0,
        keepalive_timeout=20.0,
        retry=frozenset(),
        hedge=(),
        health=None,
        load_balancing="pick_first",
    )


def test_what_is_configured_otherwise_is_not_shared() -> None:
    """And what says the same in other words is."""
    handles = [
        shared("host:1"),
        shared("host:1", connections=(1, 8), bulk=[], drain_timeout=30),
        shared("host:1", connections=1),
        shared("host:1", connections=(1, 1)),
        shared("host:1", max_queue=5),
        shared("host:1", bulk=[METHOD]),
        shared("host:1", bulk={METHOD}),
        shared("host:1", retry=(METHOD,)),
    ]
    assert [each.references for each in stats()] == [2, 2, 1, 2, 1]
    for handle in handles:
        handle.close()


def test_the_channel_that_comes_second_is_closed_and_not_shared() -> None:
    """Channels are made outside the lock, so two threads may make the same one at once."""

    class Made:
        def __init__(self) -> None:
            self.closed: list[Any] = []

        def close(self, grace: float | None) -> None:
            self.closed.append(grace)

    made: list[Made] = []

    def make(key: Any) -> Made:
        mine = Made()
        if not made:  # meanwhile another thread comes and goes first
            made.append(mine)
            others.append(_registry.acquire(key, make))
        else:
            made.append(mine)
        return mine

    others: list[Any] = []
    key = Key("sync", "here", None, (), None, parse("test"))
    entry = _registry.acquire(key, make)
    assert entry is others[0] and entry.references == 2
    assert entry.connections is made[1]
    assert (made[0].closed, made[1].closed) == ([None], [])
    assert _registry.release(entry) is None
    assert _registry.release(entry) is made[1]
    assert stats() == ()


def test_children_have_an_argument_of_their_own() -> None:
    """Else grpc would have them share connections with their parent."""
    options = parse("test")
    told = [dict(arguments("test", options, (), forks)).get("fastpool.forks") for forks in range(3)]
    assert told == [None, 1, 2]
