"""psycopg's own tests of its pool with our pools in the place of its own.

    python tools/hosts_psycopg.py [--stock] [--all] [--source REPOSITORY]

in an environment with psycopg, psycopg_pool, pytest and fastpool.  No distribution carries these
tests, so they come from psycopg's repository: a local one, or that on GitHub.  A failure that
EXPECTED does not name makes the exit code 1, as does one that it names and that passes.  --stock:
psycopg_pool's own pools, as a control.  --all: also the tests that their authors mark as timing,
which measure tenths of a second and fail on a busy machine.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ElementTree
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import servers
from bench.hosts.sqlalchemy import servers_ready
from bench.measure import NotRun

ROOT = Path(__file__).resolve().parent.parent
REPOSITORY = "https://github.com/psycopg/psycopg"
FILES = [
    "tests/pool/test_pool.py",
    "tests/pool/test_pool_common.py",
    "tests/pool/test_pool_async.py",
    "tests/pool/test_pool_common_async.py",
]
NEEDS = ["pproxy>=2.7,<3", "anyio>=4.0,<5"]
OTHERS = "NullConnectionPool"  # its tests are in these files too: left as it is

THREADS = "looks at the host's scheduler and worker threads: _sched_runner, _workers"
WAITERS = "replaces a method of the host's private WaitingClient, and waits for it to be called"
BACKOFF = (
    "reconnect_failed within a second of reconnect_timeout: ours is called by the next attempt"
    " that fails, and how far attempts are apart is drawn at random"
)
#: What fails, and why.  By the name of the test function.
EXPECTED = {
    "test_close_no_tasks": THREADS,
    "test_del_stops_threads": THREADS,
    "test_cancelled_waiter_assigned_conn_is_reclaimed": WAITERS,
}
OPENING = "counts uses from the first of four connections on: a busy machine opens others too late"
#: What fails at times.
SOMETIMES = {
    "test_uniform_use": OPENING,
    "test_reconnect_after_grow_failed": BACKOFF,
    "test_refill_on_check": BACKOFF,
    "test_get_config_raise_exception": BACKOFF,
}
PRIVATE = "replaces a private method or class of the host's, and counts its calls"
SOONER = "wants the host's steps one by one, at their time: ours opens or closes several at once"
LIFETIME = "wants an idle connection past max_lifetime to stay: ours is replaced in the background"
#: The same of the tests that are marked as timing, which may fail with the host's own pools too.
TIMING = {
    "test_concurrent_filling": PRIVATE,
    "test_shrink": PRIVATE,
    "test_reconnect": PRIVATE,
    "test_grow": SOONER,
    "test_resize": SOONER,
    "test_max_lifetime": LIFETIME,
    "test_close_returns_no_loop": LIFETIME,
    "test_override_close_no_loop_subclass": LIFETIME,
    "test_reconnect_failure": BACKOFF,
}

Failures = dict[str, str]  # test: the first line of what it raised


def done(*command: str) -> bytes:
    """What a program prints; NotRun if it fails or takes minutes."""
    try:
        ended = subprocess.run(command, capture_output=True, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotRun(f"{command[0]}: {error}")
    if ended.returncode:
        said = ended.stderr.decode(errors="replace").strip()[-200:]
        raise NotRun(f"{' '.join(command[:4])} ...: {said}")
    return ended.stdout


def source(folder: Path, repository: str | None) -> Path:
    """The tests, without the packages beside them: the installed ones are tested."""
    if repository is None:
        repository = str(folder / "repository")
        quiet = ("--quiet", "--depth=1", "--branch", f"pool-{metadata.version('psycopg-pool')}")
        try:
            done("git", "clone", *quiet, REPOSITORY, repository)
        except NotRun as reason:
            raise NotRun(f"no distribution carries the tests, and of the repository: {reason}")
    (tests := folder / "psycopg").mkdir()
    archive = folder / "tests.tar"
    wanted = ["tests", "tools/pproxy_fix.py", "pyproject.toml"]
    archive.write_bytes(done("git", "-C", repository, "archive", "HEAD", *wanted))
    with tarfile.open(archive) as tar:
        tar.extractall(tests, filter="data")
    return tests


def needs(folder: Path) -> Path:
    """What the tests import beside pytest.  pproxy does not go with newer versions of uvloop."""
    target = folder / "needs"
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--target", str(target))
    done(*pip, *NEEDS)
    (target / "uvloop.py").write_text("raise ModuleNotFoundError('not for pproxy')\n")
    return target


def run(tests: Path, extra: Path, stock: bool, everything: bool) -> tuple[int, int, Failures]:
    """pytest over the files, in a process of its own: passed, skipped, failures."""
    report = tests / "report.xml"
    path = [ROOT / "src", ROOT / "tools", extra, os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, map(str, path)))}
    with servers.postgresql() as port:
        servers_ready(port)
        command = [
            sys.executable, "-m", "pytest", "-q", "--tb=line", "--timeout=20", "-o", "addopts=",
            f"--junitxml={report}", "-k", f"not {OTHERS}",
            f"--test-dsn=host=127.0.0.1 port={port} user=bench dbname=postgres",
            *([] if everything else ["-m", "not timing"]),
            *([] if stock else ["-p", "hosts_psycopg_plugin"]), *FILES,
        ]  # fmt: skip
        ended = subprocess.run(command, cwd=tests, env=environment, capture_output=True, text=True)
    if not report.exists():
        raise NotRun(f"pytest wrote no report: {(ended.stderr or ended.stdout).strip()[-300:]}")
    passed = skipped = 0
    failures: Failures = {}
    for case in ElementTree.parse(report).iter("testcase"):
        bad = next((each for each in case if each.tag in ("failure", "error")), None)
        if bad is not None:
            name = f"{case.get('classname')}.{case.get('name')}"
            failures[name] = (bad.get("message") or "").strip().partition("\n")[0][:160]
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return passed, skipped, failures


def function_of(test: str) -> str:
    return test.partition("[")[0].rpartition(".")[2]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stock", action="store_true", help="psycopg_pool's own pools")
    parser.add_argument("--all", action="store_true", help="also the tests marked as timing")
    parser.add_argument("--source", help="a git repository of psycopg")
    asked = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="fastpool-hosts-") as name:
            tests, extra = source(Path(name), asked.source), needs(Path(name))
            passed, skipped, failures = run(tests, extra, asked.stock, asked.all)
    except (NotRun, metadata.PackageNotFoundError) as reason:
        print(f"psycopg_pool: NOT RUN: {reason}")
        return 0
    whose = "its own pools" if asked.stock else "ours as its pools"
    versions = ", ".join(f"{each} {metadata.version(each)}" for each in ("psycopg", "psycopg-pool"))
    print(f"{versions} with {whose}, Python {sys.version.split()[0]}")
    print(f"{passed} passed, {len(failures)} failed, {skipped} skipped")
    reasons = {} if asked.stock else EXPECTED | SOMETIMES | (TIMING if asked.all else {})
    failed = {function_of(test) for test in failures}
    for test, error in failures.items():
        print(f"    {test}\n        {reasons.get(function_of(test)) or 'UNEXPECTED: ' + error}")
    good = failed <= reasons.keys()
    if not asked.stock and (over := EXPECTED.keys() - failed):
        print(f"these are expected to fail, and have not: {', '.join(sorted(over))}")
        good = False
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
