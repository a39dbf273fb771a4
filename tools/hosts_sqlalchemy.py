"""SQLAlchemy's own test suite with our pools in the place of its own.

    python tools/hosts_sqlalchemy.py [--stock] [--only NAME]

in an environment with SQLAlchemy, its drivers, pytest and fastpool.  The tests come from the source
distribution of the version that is installed, and are run against that one.  Each run prints what
passed and what failed; a failure that EXPECTED does not name makes the exit code 1, as does one
that it names and that passes.  --stock: with SQLAlchemy's own pools, as a control.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import servers
from bench.measure import NotRun

ROOT = Path(__file__).resolve().parent.parent
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


@dataclass
class Outcome:
    """What one run of the suite came to."""

    passed: int = 0
    skipped: int = 0
    failed: dict[str, str] = field(default_factory=dict)  # test: the last line of what it raised

    def unexpected(self) -> list[str]:
        return [test for test in self.failed if function_of(test) not in EXPECTED]


def function_of(test: str) -> str:
    return test.partition("[")[0].rpartition(".")[2]


def source(folder: Path) -> Path:
    """The unpacked source distribution of the installed version."""
    version = metadata.version("sqlalchemy")
    wanted = f"sqlalchemy=={version}"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    done = subprocess.run(
        [*pip, "--no-build-isolation", "--dest", folder, wanted], capture_output=True, text=True
    )
    found = sorted(folder.glob("*.tar.gz"))
    if done.returncode or not found:
        raise NotRun(f"pip cannot download {wanted}: {done.stderr.strip()[-200:]}")
    with tarfile.open(found[0]) as archive:
        archive.extractall(folder, filter="data")
    return next(path for path in folder.iterdir() if path.is_dir())


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


def run(tests: Path, files: list[str], url: str | None, stock: bool) -> Outcome:
    """pytest over these files, in a process of its own."""
    report = tests / "report.xml"
    # -s: the installed package is tested, not the one beside the tests
    command = [sys.executable, "-s", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line"]
    command += ["--maxfail=1000", f"--junitxml={report}", *(["--dburi", url] if url else [])]
    command += [] if stock else ["-p", "hosts_sqlalchemy_plugin"]
    path = [str(ROOT / "src"), str(ROOT / "tools"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}
    done = subprocess.run(
        [*command, *files], cwd=tests, env=environment, capture_output=True, text=True
    )
    if not report.exists():
        raise NotRun(f"pytest wrote no report: {(done.stderr or done.stdout).strip()[-300:]}")
    outcome = Outcome()
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        bad = next((each for each in case if each.tag in ("failure", "error")), None)
        if bad is not None:
            outcome.failed[name] = (bad.get("message") or "").strip().partition("\n")[0][:160]
        elif case.find("skipped") is not None:
            outcome.skipped += 1
        else:
            outcome.passed += 1
    report.unlink()
    return outcome


def told(name: str, outcome: Outcome, stock: bool) -> bool:
    """Prints one run; whether it is as expected."""
    print(
        f"{name}: {outcome.passed} passed, {len(outcome.failed)} failed, {outcome.skipped} skipped"
    )
    for test, error in outcome.failed.items():
        reason = "" if stock else EXPECTED.get(function_of(test), "")
        print(f"    {test}\n        {reason or 'UNEXPECTED: ' + error}")
    sys.stdout.flush()
    return not (outcome.failed if stock else outcome.unexpected())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stock", action="store_true", help="SQLAlchemy's own pools")
    parser.add_argument("--only", choices=RUNS, action="append", help="this run only")
    asked = parser.parse_args()
    good, failed = True, set()
    with tempfile.TemporaryDirectory(prefix="fastpool-hosts-") as name:
        try:
            tests = source(Path(name))
        except NotRun as reason:
            print(f"SQLAlchemy: NOT RUN: {reason}")
            return 0
        whose = "its own pools" if asked.stock else "ours as its pools"
        print(f"{tests.name} with {whose}, Python {sys.version.split()[0]}", flush=True)
        for each in asked.only or RUNS:
            driver, files = RUNS[each]
            try:
                if driver is None:
                    outcome = run(tests, files, None, asked.stock)
                else:
                    metadata.version(driver)
                    with database(driver) as url:
                        outcome = run(tests, files, url, asked.stock)
            except (NotRun, metadata.PackageNotFoundError) as reason:
                print(f"{each}: NOT RUN: {reason}")
                continue
            good &= told(each, outcome, asked.stock)
            failed |= {function_of(test) for test in outcome.failed}
    if not asked.only and not asked.stock and (over := EXPECTED.keys() - failed):
        print(f"these are expected to fail, and have not: {', '.join(sorted(over))}")
        good = False
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
