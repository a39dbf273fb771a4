"""What callers see, second by second, while PostgreSQL is killed and comes back.

    python -m bench.failover [--before SECONDS] [--down SECONDS] [--after SECONDS]

Eight threads query through one pool of four connections; each says what it got. The server is ended
at once (SIGQUIT: no goodbye to its clients), stays down, and starts again, with its recovery. One
table for each way to use the pool; docs/howto/failover.md explains them. The last second
of each is cut off.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from bench import servers
from bench.measure import NotRun
from fastpool import FastPool

THREADS, CONNECTIONS, PAUSE = 8, 4, 0.005

#: Heading: options of the pool.
WAYS: dict[str, dict[str, Any]] = {
    "the defaults, and `timeout=5`": {"timeout": 5},
    '`on_create_error="wait"`, `timeout=20`': {"on_create_error": "wait", "timeout": 20},
}
COLUMNS = ("second", "server", "answers", "longest", "open", "waiting", "errors")


class Diary:
    """What happened in each second since the start."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self.answers: Counter[int] = Counter()
        self.longest: dict[int, float] = {}
        self.errors: dict[int, Counter[str]] = {}
        self.sizes: dict[int, tuple[int, int]] = {}

    def second(self) -> int:
        return int(time.monotonic() - self._began)

    def answered(self, seconds: float) -> None:
        with self._lock:
            now = self.second()
            self.answers[now] += 1
            self.longest[now] = max(self.longest.get(now, 0.0), seconds)

    def failed(self, error: Exception) -> None:
        with self._lock:
            self.errors.setdefault(self.second(), Counter())[type(error).__name__] += 1


def work(pool: FastPool[Any], diary: Diary, over: threading.Event) -> None:
    while not over.is_set():
        asked = time.monotonic()
        try:
            with pool.lease() as connection:
                connection.execute("select 1").fetchone()
        except Exception as error:
            diary.failed(error)
        else:
            diary.answered(time.monotonic() - asked)
        over.wait(PAUSE)


def run(
    start: Callable[[int], AbstractContextManager[int]],
    options: dict[str, Any],
    before: float,
    down: float,
    after: float,
) -> tuple[Diary, list[str]]:
    """The diary, and for each second whether the server was up."""
    import psycopg

    address: list[int] = []

    def connect() -> Any:
        where = f"host=127.0.0.1 port={address[0]} user=bench dbname=postgres connect_timeout=2"
        return psycopg.connect(where, autocommit=True)

    def watch(seconds: float, state: str) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            now, sizes = diary.second(), pool.stats()
            diary.sizes[now] = (sizes.open, sizes.waiting)
            states[now : now + 1] = [state]
            time.sleep(0.1)

    states: list[str] = []
    over = threading.Event()
    check = {"check": lambda connection: connection.execute("select 1")}
    with FastPool(CONNECTIONS, factory=connect, name="orders", **check, **options) as pool:
        with start(signal.SIGQUIT) as port:
            address.append(port)
            pool.warm(CONNECTIONS)
            diary = Diary()
            threads = [
                threading.Thread(target=work, args=(pool, diary, over)) for _ in range(THREADS)
            ]
            for thread in threads:
                thread.start()
            watch(before, "up")
        watch(down, "down")
        with start(signal.SIGINT):
            watch(after, "up again")
            over.set()
            for thread in threads:
                thread.join()
    return diary, states


def table(diary: Diary, states: list[str]) -> Iterator[str]:
    yield f"| {' | '.join(COLUMNS)} |"
    yield "|--:|---|--:|--:|--:|--:|---|"
    for second, state in enumerate(states):
        errors = diary.errors.get(second, Counter())
        longest = diary.longest.get(second)
        is_open, waiting = diary.sizes.get(second, (0, 0))
        cells = (
            second,
            state,
            diary.answers[second],
            "-" if longest is None else f"{longest * 1000:.0f} ms",
            is_open,
            waiting,
            ", ".join(f"{n} {name}" for name, n in errors.most_common()) or "-",
        )
        yield f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.failover", description=__doc__)
    parser.add_argument("--before", type=float, default=2, help="seconds before its end")
    parser.add_argument("--down", type=float, default=4, help="seconds without a server")
    parser.add_argument("--after", type=float, default=8, help="seconds with it again")
    given = parser.parse_args()
    try:
        with servers.postgresql_cluster() as start:
            for heading, options in WAYS.items():
                print(f"\n{heading}\n")
                seen = run(start, options, given.before, given.down, given.after)
                print("\n".join(table(*seen)), flush=True)
    except NotRun as reason:
        sys.exit(f"NOT RUN: {reason}")


if __name__ == "__main__":
    main()
