"""A pool as redigo has it, before a real Redis server: what the server sees of it.

The client is that of examples/redigo_pool.py.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.helpers import ThreadRunner, eventually, states

EXAMPLE = Path(__file__).resolve().parents[3] / "examples/redigo_pool.py"

pytestmark = [
    pytest.mark.servers,
    pytest.mark.once,
    pytest.mark.skipif(
        shutil.which("redis-server") is None,
        reason="redis-server is not installed (Debian: apt-get install redis-server)",
    ),
]


def load_example() -> Any:
    spec = importlib.util.spec_from_file_location("redigo_pool", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


example = load_example()


class Server:
    """A redis-server in a folder of its own, which can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes]
        self.start()

    def start(self) -> None:
        self.process, self.path = example.start(str(self.folder))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        Path(self.path).unlink(missing_ok=True)

    def connect(self) -> Any:
        return example.Redis(self.path)


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("r"))
    yield server
    server.kill()


@pytest.fixture
def pool(server: Server) -> Iterator[Any]:
    pool = example.pool_of(server.path)
    yield pool
    pool.close(timeout=0)
    assert pool.stats().open == pool.stats().leased


def test_the_server_never_sees_more_than_maxactive(
    server: Server, pool: Any, runner: ThreadRunner
) -> None:
    """Whatever breaks: those that are being closed count until they are."""
    observer = server.connect()
    over = threading.Event()
    seen: list[int] = []

    def observe() -> None:
        while not over.is_set():
            seen.append(len(observer("CLIENT", "LIST").splitlines()) - 1)

    def work(index: int) -> None:
        for number in range(60):
            try:
                with pool.lease(timeout=10) as redis:
                    redis("INCR", "count")
                    if number % 5 == index % 5:
                        raise ConnectionResetError("so that it is closed")
            except ConnectionResetError:
                pass

    watcher = runner.start(observe)
    for task in runner.together(12, work):
        task.result()
    over.set()
    watcher.result()
    assert observer("GET", "count") == str(12 * 60)
    assert pool.stats().created > 4
    # The server may not have read yet that one is closed when the next one comes.
    assert max(seen) <= 2 * pool.maxsize and sorted(seen)[len(seen) // 2] <= pool.maxsize
    observer.close()


def test_close_undoes_what_a_connection_was_left_in(server: Server, pool: Any) -> None:
    """MULTI, WATCH, SELECT, SUBSCRIBE; messages that were pushed meanwhile are read away."""
    publisher = server.connect()
    publisher("SET", "key", "old")

    def left_in(*commands: tuple[Any, ...]) -> Any:
        with pool.lease() as redis:
            for command in commands:
                redis(*command)
            if commands[0][0] == "SUBSCRIBE":
                for number in range(100):
                    publisher("PUBLISH", "news", number)
        with pool.lease() as again:
            assert again is redis, "it was given up"
            assert again("GET", "key") == "old"
        return redis

    left_in(("MULTI",), ("SET", "key", "new"))
    left_in(("WATCH", "key"))
    left_in(("SELECT", 3), ("SET", "key", "of another database"))
    left_in(("SUBSCRIBE", "news"))
    left_in(("MULTI",), ("SUBSCRIBE", "news"))
    assert pool.stats().created == 1
    publisher.close()


def test_testonborrow_finds_what_the_server_has_cut_off(server: Server) -> None:
    observer = server.connect()
    pool = example.pool_of(server.path, check_after=0)
    held = [pool.get() for _ in range(3)]
    for redis in held:
        pool.put(redis)
    observer("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    with pool.lease() as redis:
        assert redis("PING") == "PONG" and redis not in held
    eventually(lambda: pool.stats().closed == {"check": 3})
    pool.close()
    observer.close()


def test_a_connection_that_dies_in_use_is_replaced(server: Server, pool: Any) -> None:
    observer = server.connect()
    with pytest.raises((EOFError, ConnectionResetError, BrokenPipeError)):
        with pool.lease() as redis:
            observer("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            redis("PING")
    with pool.lease() as other:
        assert other is not redis and other("PING") == "PONG"
    eventually(lambda: pool.stats().closed == {"error": 1})
    observer.close()


def test_an_answer_that_is_an_error_keeps_the_connection(server: Server, pool: Any) -> None:
    with pytest.raises(example.RedisError, match="unknown command"):
        with pool.lease() as redis:
            redis("NO-SUCH-COMMAND")
    with pool.lease() as again:
        assert again is redis and again("PING") == "PONG"


def test_an_answer_that_does_not_come_closes_the_connection(server: Server, pool: Any) -> None:
    """Or the next one would get it."""
    with pytest.raises(TimeoutError):
        with pool.lease() as redis:
            redis.socket.settimeout(0.05)
            redis("BLPOP", "empty", 0)
    with pool.lease() as other:
        assert other is not redis and other("PING") == "PONG"
    eventually(lambda: pool.stats().closed == {"error": 1})


def test_a_server_that_comes_back_is_found_again(server: Server, pool: Any) -> None:
    """While it is away Get tells what Dial says, and no place is lost."""
    with pool.lease() as redis:
        assert redis("PING") == "PONG"
    server.kill()
    with pytest.raises((EOFError, ConnectionResetError, BrokenPipeError)):
        with pool.lease() as redis:
            redis("PING")
    for _ in range(20):
        with pytest.raises(FileNotFoundError):
            pool.get(timeout=10)
    eventually(lambda: states(pool) == {})
    server.start()
    with pool.lease(timeout=10) as redis:
        assert redis("PING") == "PONG"
    held = [pool.get(timeout=10) for _ in range(4)]
    assert len({*held}) == 4
    for redis in held:
        pool.put(redis)
