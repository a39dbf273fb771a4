"""SQLAlchemy's own test suite with our pools in the place of its own.

    python tools/hosts_sqlalchemy.py [--stock] [--only NAME]

in an environment with SQLAlchemy, its drivers, pytest and fastpool.  The tests come from the source
distribution of the version that is installed, and are run against that one.  Each run prints what
passed and what failed; a failure that EXPECTED does not name makes the exit code 1, as does one
that it names and that passes.  --stock: with SQLAlchemy's own pools, as a control.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import servers
from bench.measure import NotRun
from suites import all_failed, run, source, told

ENGINE = [
    f"test/engine/test_{name}.py"
    for name in ("pool", "reconnect", "logging", "parseconnect", "transaction", "execute")
]
AIO = ("engine", "cancellation")
#: Run: the driver of its PostgreSQL, None for SQLite in memory; and its files.
RUNS: dict[str, tuple[str | None, list[str]]] = {
    "sqlite": (None, ENGINE),
    "psycopg": ("psycopg", ENGINE[:3]),
    "asyncpg": ("asyncpg", [f"test/ext/asyncio/test_{name}.py" for name in AIO]),
}
WHITE_BOX = "assigns to the deque inside QueuePool's private queue: p._pool.queue = ..."
NAME = "wants the class to be called AsyncAdaptedQueuePool"
#: What fails, and why.  By the name of the test function.
EXPECTED = {
    "test_connect_checkout_handler_always_gets_info": WHITE_BOX,
    "test_connect_handler_not_called_for_recycled": WHITE_BOX,
    "test_cant_use_async_pool_w_create_engine": NAME,
}


@contextmanager
def database(driver: str) -> Iterator[str]:
    """The URL of a database as SQLAlchemy's tests want one."""
    psql = [str(servers.postgresql_programs() / "psql"), "-q", "-h", "127.0.0.1", "-U", "bench"]
    with servers.postgresql() as port:
        psql += ["-p", str(port), "-v", "ON_ERROR_STOP=1"]
        ready = [str(servers.postgresql_programs() / "pg_isready"), "-q", "-t", "30"]
        while subprocess.run([*ready, "-h", "127.0.0.1", "-p", str(port)]).returncode == 1:
            pass  # it is starting up, and says so at once
        subprocess.run([*psql, "-c", "create database test", "postgres"], check=True)
        schemas = "create schema test_schema; create schema test_schema_2"
        subprocess.run([*psql, "-c", schemas, "test"], check=True)
        yield f"postgresql+{driver}://bench@127.0.0.1:{port}/test"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stock", action="store_true", help="SQLAlchemy's own pools")
    parser.add_argument("--only", choices=RUNS, action="append", help="this run only")
    asked = parser.parse_args()
    good, outcomes = True, []
    expected = {} if asked.stock else EXPECTED
    options = ["--maxfail=1000"] + ([] if asked.stock else ["-p", "hosts_sqlalchemy_plugin"])
    with tempfile.TemporaryDirectory(prefix="fastpool-hosts-") as name:
        try:
            tests = source("sqlalchemy", Path(name), "--no-build-isolation")
        except NotRun as reason:
            print(f"SQLAlchemy: NOT RUN: {reason}")
            return 0
        whose = "its own pools" if asked.stock else "ours as its pools"
        print(f"{tests.name} with {whose}, Python {sys.version.split()[0]}", flush=True)
        for each in asked.only or RUNS:
            driver, files = RUNS[each]
            try:
                if driver is None:
                    outcome = run(tests, files, *options)
                else:
                    metadata.version(driver)
                    with database(driver) as url:
                        outcome = run(tests, files, *options, "--dburi", url)
            except (NotRun, metadata.PackageNotFoundError) as reason:
                print(f"{each}: NOT RUN: {reason}")
                continue
            good &= told(each, outcome, expected)
            outcomes.append(outcome)
    if not asked.only:
        good &= all_failed(outcomes, expected)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
