"""A pool as redigo has it, before a Redis server: threads share a few connections.

    python examples/redigo_pool.py

It starts a redis-server of its own (Debian: apt-get install redis-server), without a port, in a
folder that is gone at the end. The client is a few lines: what the pool holds may be anything.
"""

import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastpool import FastPool


class RedisError(Exception):
    """What the server answered, and no reason to close the connection."""


class Redis:
    """One connection. It knows whether something is left over that the next one must not find."""

    LEAVE_STATE = frozenset({"MULTI", "WATCH", "SUBSCRIBE", "PSUBSCRIBE", "SELECT", "MONITOR"})

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        try:
            self.socket.settimeout(5)
            self.socket.connect(path)
        except BaseException:
            self.socket.close()
            raise
        self.answers = self.socket.makefile("rb")
        self.altered = False

    def __call__(self, *words: object) -> Any:
        """Sends a command and returns its answer; one that is an error is raised."""
        self.send(*words)
        answer = self.receive()
        if isinstance(answer, RedisError):
            raise answer
        return answer

    def send(self, *words: object) -> None:
        self.altered |= words[0] in self.LEAVE_STATE
        parts = [str(word).encode() for word in words]
        bulk = b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
        self.socket.sendall(b"*%d\r\n%b" % (len(parts), bulk))

    def receive(self) -> Any:
        line = self.answers.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError("the server has closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest.decode()
        if kind == b"-":
            return RedisError(rest.decode())
        if kind == b":":
            return int(rest)
        if rest == b"-1":
            return None
        if kind == b"$":
            return self.answers.read(int(rest) + 2)[:-2].decode()
        return [self.receive() for _ in range(int(rest))]

    def undo(self) -> None:
        """MULTI, WATCH, SUBSCRIBE, SELECT: whatever there is, and what was pushed meanwhile."""
        if self.altered:
            self.send("RESET")
            while self.receive() != "RESET":
                pass
            self.altered = False

    def close(self) -> None:
        self.answers.close()
        self.socket.close()


def pool_of(path: str, **options: Any) -> FastPool[Redis]:
    """The fields of redigo's Pool, and what they are called here."""
    return FastPool(
        maxsize=4,  # MaxActive; callers wait in the queue, as with Wait: true
        factory=lambda: Redis(path),  # Dial
        max_idle=3,  # MaxIdle
        idle_timeout=240,  # IdleTimeout
        max_lifetime=3600,  # MaxConnLifetime
        check=lambda redis: redis("PING") == "PONG",  # TestOnBorrow
        reset=Redis.undo,  # what redigo's Close does
        name="redis",
        **options,
    )


def start(folder: str) -> tuple[subprocess.Popen[bytes], str]:
    """A server that listens on a socket in the folder, and the socket's path."""
    program, path = shutil.which("redis-server"), f"{folder}/redis.sock"
    if program is None:
        sys.exit("redis-server is not installed (Debian: apt-get install redis-server)")
    options = ["--port", "0", "--unixsocket", path, "--save", "", "--dir", folder]
    server = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
    while True:
        try:
            Redis(path).close()
            return server, path
        except OSError:
            if server.poll() is not None:
                sys.exit("redis-server did not start")
            time.sleep(0.01)


def main(path: str) -> None:
    observer = Redis(path)
    most = 0

    def work(number: int) -> None:
        with pool.lease(timeout=10) as redis:
            redis("INCR", "count")

    def watch() -> None:
        nonlocal most
        while not over.is_set():
            clients = observer("CLIENT", "LIST", "TYPE", "normal").splitlines()
            most = max(most, len(clients) - 1)

    pool = pool_of(path, check_after=0)  # each time; else after half a second idle
    over = threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(work, range(800)))
    over.set()
    watcher.join()
    print(f"count is {observer('GET', 'count')}, by 16 threads")
    print(f"the server saw {most if most > 4 else 'at most 4'} connections")

    with pool.lease() as redis:
        redis("MULTI")
        redis("SET", "count", 0)
    with pool.lease() as redis:  # the same connection, and no transaction
        print(f"left over state was undone: {redis('GET', 'count') == '800'}")
        try:
            redis("LPUSH", "count", 1)
        except RedisError as error:  # an answer: the connection is as good as before
            print(f"refused: {str(error).split()[0]}")

    observer("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    with pool.lease() as redis:  # those that are dead fail their check, and a new one is made
        print(f"after all were cut off: {redis('PING')}")
    print(f"all is closed: {pool.close()}")
    observer.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        server, path = start(folder)
        try:
            main(path)
        finally:
            server.terminate()
            server.wait()
