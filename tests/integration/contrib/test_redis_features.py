"""What redis-py does to all connections of a pool, done to those of `contrib.redis`: a login anew,
a server that moves, and replies that are cached in the client.  On a real server."""

from __future__ import annotations

import asyncio
import importlib
import threading
from collections.abc import Callable
from typing import Any

import pytest

from integration.drivers import killed_servers
from support.helpers import eventually

redis = pytest.importorskip("redis")
aioredis = pytest.importorskip("redis.asyncio")

pytestmark = [
    pytest.mark.once,
    pytest.mark.servers,
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

KINDS = ["ConnectionPool", "BlockingConnectionPool"]


def part(module: str, name: str) -> Any:
    """Of redis-py; the test is skipped in a version without it."""
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        pytest.skip(f"redis-py {redis.__version__} has no {name}")


def pools(asynchronous: bool) -> Any:
    return importlib.import_module("fastpool.contrib.redis" + ".asyncio" * asynchronous)


# ---- a login anew --------------------------------------------------------------------------------


@pytest.fixture
def users(killed_redis: killed_servers.Server) -> Any:
    """Two users of the server, both with the password "secret"."""
    admin = redis.Redis(port=killed_redis.port)
    for name in ("first", "second"):
        admin.acl_setuser(name, enabled=True, passwords=["+secret"], commands=["+@all"])
    yield killed_redis.port
    for name in ("first", "second"):
        admin.acl_deluser(name)
    admin.close()


def provider(of: Any) -> Any:
    """Credentials that change: `.to(user)` tells whoever has asked to be told."""

    class Token:
        def __init__(self, user: str) -> None:
            self.user = user

        def try_get(self, key: str) -> str:
            return self.user

        def get_value(self) -> str:
            return "secret"

    class Provider(of):  # type: ignore[misc]
        def __init__(self) -> None:
            self.user = "first"
            self.told: Callable[[Any], Any] | None = None

        def get_credentials(self) -> tuple[str, str]:
            return self.user, "secret"

        async def get_credentials_async(self) -> tuple[str, str]:
            return self.get_credentials()

        def on_next(self, callback: Callable[[Any], Any]) -> None:
            self.told = callback

        def on_error(self, callback: Callable[[Exception], Any]) -> None:
            pass

        def is_streaming(self) -> bool:
            return True

        def to(self, user: str) -> Any:
            self.user = user
            assert self.told is not None
            return self.told(Token(user))

    return Provider()


WHO = ("ACL", "WHOAMI")


@pytest.mark.parametrize("kind", KINDS)
def test_idle_connections_log_in_anew_at_once_and_others_when_they_are_back(
    kind: str, users: int
) -> None:
    """Without a new connection."""
    credentials = provider(part("redis.credentials", "StreamingCredentialProvider"))
    mine = getattr(pools(False), kind)(
        port=users, max_connections=2, credential_provider=credentials, decode_responses=True
    )
    client = redis.Redis(connection_pool=mine, credential_provider=credentials)
    used, idle = mine.get_connection(), mine.get_connection()
    mine.release(idle)
    credentials.to("second")
    used.send_command(*WHO)
    assert used.read_response() == "first"
    idle.send_command(*WHO)
    assert idle.read_response() == "second"
    mine.release(used)
    assert {client.execute_command(*WHO) for _ in range(4)} == {"second"}
    assert mine.fastpool.stats().created == 2
    mine.disconnect()


@pytest.mark.parametrize("kind", KINDS)
def test_so_do_those_of_tasks(kind: str, users: int) -> None:
    credentials = provider(part("redis.credentials", "StreamingCredentialProvider"))

    async def who(connection: Any) -> Any:
        await connection.send_command(*WHO)
        return await connection.read_response()

    async def main() -> None:
        mine = getattr(pools(True), kind)(
            port=users, max_connections=2, credential_provider=credentials, decode_responses=True
        )
        client = aioredis.Redis(connection_pool=mine, credential_provider=credentials)
        used, idle = await mine.get_connection(), await mine.get_connection()
        await mine.release(idle)
        await credentials.to("second")
        assert [await who(used), await who(idle)] == ["first", "second"]
        await mine.release(used)
        assert await who(used) == "second"
        assert mine.fastpool.stats().created == 2
        await client.aclose()
        await mine.disconnect()

    asyncio.run(main())


# ---- a server that moves -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_connections_follow_a_server_that_moves(
    kind: str, killed_redis: killed_servers.Server
) -> None:
    """As a notice of it says: what is idle connects to the new address at its next use, what is
    in use when it has come back."""
    notice = part("redis.maint_notifications", "NodeMovingNotification")
    config = part("redis.maint_notifications", "MaintNotificationsConfig")
    mine = getattr(pools(False), kind)(
        host="127.0.0.1", port=killed_redis.port, protocol=3, max_connections=3,
        maint_notifications_config=config(enabled="auto"),
    )  # fmt: skip
    used, idle = mine.get_connection(), mine.get_connection()
    mine.release(idle)
    handler = mine._maint_notifications_pool_handler
    handler.handle_node_moving_notification(notice(1, "localhost", killed_redis.port, 600))
    assert idle._sock is None and used._sock is not None
    assert used.should_reconnect()
    mine.release(used)
    assert used._sock is None
    taken = [mine.get_connection() for _ in range(3)]
    assert {used, idle} < {*taken} and {each.host for each in taken} == {"localhost"}
    for each in taken:
        mine.release(each)
    for timer in threading.enumerate():  # would say in ten minutes what is said here
        if (
            isinstance(timer, threading.Timer)
            and timer.function == handler.handle_node_moved_notification
        ):
            timer.cancel()
    handler.handle_node_moved_notification(notice(1, "localhost", killed_redis.port, 600))
    assert {each.host for each in taken} == {"127.0.0.1"}
    mine.disconnect()


@pytest.mark.parametrize("kind", KINDS)
def test_so_do_connections_of_tasks(kind: str, killed_redis: killed_servers.Server) -> None:
    notice = part("redis.maint_notifications", "NodeMovingNotification")
    config = part("redis.maint_notifications", "MaintNotificationsConfig")(enabled="auto")

    async def main() -> None:
        mine = getattr(pools(True), kind)(
            host="127.0.0.1", port=killed_redis.port, protocol=3, max_connections=3,
            maint_notifications_config=config,
        )  # fmt: skip
        if not hasattr(mine, "apply_moving_notification"):
            pytest.skip("this redis-py has no notices for tasks")
        used, idle = await mine.get_connection(), await mine.get_connection()
        await mine.release(idle)
        moving = notice(1, "localhost", killed_redis.port, 600)
        await mine.apply_moving_notification(moving, config, None, run_proactive_reconnect=True)
        assert used.is_connected and not idle.is_connected and used.should_reconnect()
        await mine.release(used)
        assert not used.is_connected
        taken = [await mine.get_connection() for _ in range(3)]
        assert {used, idle} < {*taken} and {each.host for each in taken} == {"localhost"}
        for each in taken:
            await mine.release(each)
        await mine.cleanup_moving_notification(
            notification_hash=hash(moving), reset_relaxed_timeout=True, reset_host_address=True
        )
        assert {each.host for each in taken} == {"127.0.0.1"}
        await mine.disconnect()

    asyncio.run(main())


# ---- replies that are cached in the client -------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_cached_reply_is_forgotten_when_another_writes(
    kind: str, killed_redis: killed_servers.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over two connections of the pool.  redis-py wants Redis 7.4 for it; what the test needs of
    the server is older."""
    proxy = part("redis.connection", "CacheProxyConnection")
    monkeypatch.setattr(proxy, "MIN_ALLOWED_VERSION", "6.0.0")
    mine = getattr(pools(False), kind)(
        port=killed_redis.port, protocol=3, max_connections=2, decode_responses=True,
        cache_config=part("redis.cache", "CacheConfig")(),
    )  # fmt: skip
    client = redis.Redis.from_pool(mine)
    other = redis.Redis(port=killed_redis.port)
    other.set("cached", "old")
    held = mine.get_connection()
    assert client.get("cached") == "old" and mine.cache.size == 1
    mine.release(held)
    assert client.get("cached") == "old"
    other.set("cached", "new")
    eventually(lambda: client.get("cached") == "new")
    assert mine.fastpool.stats().leased == 0
    mine.disconnect()
    other.close()
