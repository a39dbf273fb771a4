"""What happens to the processes of the service, and what the server counts meanwhile."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg

from bench import servers
from bench.fleet import engine

LIMIT = 60  # connections of the service that the server lets in
RESERVED = 3  # that PostgreSQL keeps for superusers
MOST = 20  # connections of a process under a budget: one for each thread
EACH = 0.1  # seconds between two counts of the server


@dataclass(frozen=True)
class Way:
    """One way to keep the limit; ``over``: the limit is divided by so many times the processes of a
    usual day, 2 where a deploy is to fit; 0: it is shared."""

    way: str
    over: int
    engine: str = ""  # "redis": each process is a member; "machine": all of them are one

    def share(self, processes: int) -> int:
        """Connections of a process at most."""
        return LIMIT // (self.over * processes) if self.over else MOST

    def title(self, processes: int) -> str:
        if not self.over:
            by = {"": "", "redis": " by Redis", "machine": " by Redis, one member"}[self.engine]
            return f"{self.way}, one budget of {LIMIT}{by}"
        return f"{self.way}, {LIMIT}/{self.over * processes} each"


WAYS = {
    "fastpool": Way("fastpool", 0),
    "fastpool-redis": Way("fastpool", 0, "redis"),
    "fastpool-machine": Way("fastpool", 0, "machine"),
    "psycopg_pool": Way("psycopg_pool", 1),
    "psycopg_pool-deploy": Way("psycopg_pool", 2),
    "sqlalchemy": Way("SQLAlchemy", 1),
    "sqlalchemy-deploy": Way("SQLAlchemy", 2),
}


@dataclass
class Run:
    """What was seen; times in seconds since its begin."""

    title: str
    counts: list[tuple[float, int]] = field(default_factory=list)  # when, connections
    turns: Counter[int] = field(default_factory=Counter)  # by second
    failures: Counter[int] = field(default_factory=Counter)  # turns that failed, likewise
    errors: Counter[str] = field(default_factory=Counter)
    refusals: list[float] = field(default_factory=list)
    marks: list[tuple[float, str]] = field(default_factory=list)

    @property
    def most(self) -> int:
        return max((n for _, n in self.counts), default=0)

    @property
    def seconds(self) -> float:
        return self.counts[-1][0] if self.counts else 0.0

    def between(self, begins: float, ends: float) -> Run:
        """The part in which the service worked, without its start and its end."""

        def inside(at: float) -> bool:
            return begins <= at < ends

        return replace(
            self,
            counts=[(at - begins, n) for at, n in self.counts if inside(at)],
            turns=Counter({s - int(begins): n for s, n in self.turns.items() if inside(s)}),
            failures=Counter({s - int(begins): n for s, n in self.failures.items() if inside(s)}),
            refusals=[at - begins for at in self.refusals if inside(at)],
            marks=[(at - begins, what) for at, what in self.marks],
        )

    def by_second(self) -> list[int]:
        """The most connections in each second."""
        found = [0] * (int(self.seconds) + 1)
        for at, n in self.counts:
            found[int(at)] = max(found[int(at)], n)
        return found


class Service:
    """Its processes, and the server's count of their connections."""

    def __init__(
        self, port: int, way: Way, usual: int, hold: float, say: Callable[[str], None]
    ) -> None:
        self.port, self.way, self.usual, self.hold, self.say = port, way, usual, hold, say
        self.run = Run(way.title(usual))
        self.processes: list[subprocess.Popen[str]] = []
        self.folder = tempfile.TemporaryDirectory()
        self.budget = str(Path(self.folder.name) / "app.budget")
        self.servers = ExitStack()
        if way.engine:
            self.engine_starts()
        elif way.way == "fastpool":
            from fastpool.fleet import LocalBudget

            LocalBudget(self.budget, LIMIT)
        self.over = threading.Event()
        connection = connected(port)
        self.began = time.monotonic()
        self.counter = threading.Thread(target=self._count, args=(connection,))
        self.counter.start()

    def engine_starts(self) -> None:
        url = f"redis://127.0.0.1:{self.servers.enter_context(servers.redis())}"
        engine.learn(url, "app", LIMIT)
        self.budget = f"{self.budget}@{url}" if self.way.engine == "machine" else url

    def now(self) -> float:
        return time.monotonic() - self.began

    def _count(self, connection: psycopg.Connection[Any]) -> None:
        asked = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'"
        with connection:
            while not self.over.wait(EACH):
                row = connection.execute(asked).fetchone()
                self.run.counts.append((self.now(), row[0] if row else 0))

    def mark(self, what: str) -> None:
        self.run.marks.append((self.now(), what))
        self.say(f"  {self.now():5.1f} s  {what}")

    def start(self, n: int) -> None:
        """Start so many, together; ready after their first turn."""
        where = conninfo(self.port, "app")
        given = [self.way.way, where, str(self.way.share(self.usual)), self.budget]
        program = [sys.executable, "-m", "bench.fleet.service", *given, str(self.hold)]
        fresh = [
            subprocess.Popen(
                program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
            )
            for _ in range(n)
        ]
        self.processes += fresh
        for process in fresh:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise RuntimeError(f"{self.run.title}: a process did not begin")

    def stop(self, n: int) -> None:
        """Have the oldest finish their turns and go, one after the other."""
        for _ in range(n):
            process = self.processes.pop(0)
            out, _ = process.communicate("")
            self.take_in(json.loads(out))

    def take_in(self, said: dict[str, Any]) -> None:
        for second, n in said["turns"].items():
            self.run.turns[int(int(second) - self.began)] += n
        for second, n in said["failures"].items():
            self.run.failures[int(int(second) - self.began)] += n
        self.run.errors.update(said["errors"])
        self.run.refusals += [at - self.began for at in said["refusals"]]

    def kill(self, n: int) -> None:
        """What they have counted is lost with them."""
        for _ in range(n):
            process = self.processes.pop(0)
            process.kill()
            process.communicate()

    def signal(self, n: int, number: int) -> None:
        for process in self.processes[:n]:
            process.send_signal(number)

    def close(self) -> Run:
        ends = self.now()
        try:
            self.stop(len(self.processes))
        finally:
            for process in self.processes:
                process.kill()
            self.over.set()
            self.counter.join()
            self.servers.close()
            self.folder.cleanup()
        return self.run.between(self.run.marks[0][0], ends)


def deploy(service: Service, seconds: float) -> None:
    """New processes come one by one while the old ones work, then the old ones go."""
    n = service.usual
    service.start(n)
    service.mark(f"{n} processes work")
    time.sleep(seconds)
    service.mark(f"{n} more start")
    for _ in range(n):
        service.start(1)
    service.mark(f"{2 * n} work")
    time.sleep(seconds)
    service.mark("old ones leave")
    service.stop(n)
    service.mark(f"{n} work")
    time.sleep(seconds)


def faults(service: Service, seconds: float) -> None:
    """Two are killed and replaced, two are stopped for a while, and all goes on."""
    service.start(service.usual)
    service.mark(f"{service.usual} processes work")
    time.sleep(seconds)
    service.mark("2 are killed")
    service.kill(2)
    time.sleep(seconds)
    service.mark("2 new ones start")
    service.start(2)
    time.sleep(seconds)
    service.mark("2 are stopped")
    service.signal(2, signal.SIGSTOP)
    time.sleep(seconds)
    service.mark("they go on")
    service.signal(2, signal.SIGCONT)
    time.sleep(seconds)


SCENARIOS = {"deploy": deploy, "faults": faults}


def conninfo(port: int, role: str) -> str:
    return f"host=127.0.0.1 port={port} user={role} dbname=postgres"


def connected(port: int) -> psycopg.Connection[Any]:
    """To a server that may be starting still, as its superuser."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return psycopg.connect(conninfo(port, "bench"), autocommit=True)
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def prepare(port: int) -> None:
    """A role that is no superuser; settings take effect with the next start of the server."""
    with connected(port) as connection:
        connection.execute("CREATE ROLE app LOGIN")
        # one is for who counts
        connection.execute(f"ALTER SYSTEM SET max_connections = {LIMIT + RESERVED + 1}")
        connection.execute(f"ALTER SYSTEM SET superuser_reserved_connections = {RESERVED}")
