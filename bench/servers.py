"""Real servers on loopback, each a child process that ends with its `with` block.

A server that is not installed is NotRun with the name of the package that has it.
"""

from __future__ import annotations

import glob
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from bench.measure import NotRun

HTTP_SERVER = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    def do_GET(self):
        self.wfile.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
    def log_message(self, *args):
        pass

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextmanager
def serving(
    command: Sequence[str], port: int, user: str | None = None, stop: int = signal.SIGTERM
) -> Iterator[int]:
    """Run the command until the block ends; enter it once the port answers."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, user=user
    )
    try:
        deadline = time.monotonic() + 20
        while True:
            if process.poll() is not None or time.monotonic() > deadline:
                raise NotRun(f"{Path(command[0]).name} did not start")
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield port
    finally:
        process.send_signal(stop)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def http() -> Iterator[int]:
    """The standard library's HTTP server in a process of its own, connections kept open."""
    port = free_port()
    with serving([sys.executable, "-c", HTTP_SERVER, str(port)], port):
        yield port


@contextmanager
def redis(*options: str, port: int | None = None, stop: int = signal.SIGTERM) -> Iterator[int]:
    """At a port of its own, or at that one; with more options of the program.  ``stop``: the signal
    that ends it."""
    program = shutil.which("redis-server")
    if program is None:
        raise NotRun("redis-server is not installed (Debian: apt-get install redis-server)")
    port = port or free_port()
    given = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with tempfile.TemporaryDirectory() as folder:
        with serving([program, *given, *options, "--dir", folder], port, stop=stop):
            yield port


def postgresql_programs() -> Path:
    """The folder with initdb and postgres, which Debian keeps out of PATH."""
    for found in [shutil.which("initdb"), *sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))]:
        if found:
            return Path(found).resolve().parent
    raise NotRun("postgresql is not installed (Debian: apt-get install postgresql)")


@contextmanager
def postgresql_cluster() -> Iterator[Callable[[int], AbstractContextManager[int]]]:
    """A fresh cluster that trusts loopback: ``with start(signal) as port`` runs its server, always
    at the same port; the signal ends it.  It refuses root, so root lends it a user."""
    programs = postgresql_programs()
    user = None
    with tempfile.TemporaryDirectory() as folder:
        if os.geteuid() == 0:
            user = "postgres"
            try:
                shutil.chown(folder, user)
            except LookupError:
                raise NotRun("postgresql does not run as root and there is no postgres user")
        data = str(Path(folder) / "data")
        initdb = [str(programs / "initdb"), "-D", data, "-A", "trust", "-U", "bench", "--no-sync"]
        made = subprocess.run(initdb, capture_output=True, text=True, user=user, cwd="/")
        if made.returncode:
            raise NotRun(f"initdb failed: {made.stderr.strip()[-200:]}")
        port = free_port()
        options = ["-p", str(port), "-h", "127.0.0.1", "-k", folder, "-F"]
        command = [str(programs / "postgres"), "-D", data, *options]
        yield lambda stop: serving(command, port, user, stop)


@contextmanager
def postgresql() -> Iterator[int]:
    """The server of a fresh cluster, stopped at once, clients or not."""
    with postgresql_cluster() as start, start(signal.SIGINT) as port:
        yield port
