"""redis-py's own tests of pools with our pools in the place of its own.

    python tools/hosts_redis.py [--stock] [--all]

in an environment with redis-py, pytest and fastpool.  The tests come from the source distribution
of the version that is installed.  A failure that EXPECTED does not name makes the exit code 1, as
does one that it names and that passes.  --stock: redis-py's own pools, as a control.  --all: also
the tests of pipelines, messages, Sentinel and forks.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import servers
from bench.measure import NotRun

ROOT = Path(__file__).resolve().parent.parent
FILES = [
    "tests/test_connection_pool.py",
    "tests/test_max_connections_error.py",
    "tests/test_asyncio/test_connection_pool.py",
]
MORE = [
    "tests/test_multiprocessing.py",
    "tests/test_pipeline.py",
    "tests/test_pubsub.py",
    "tests/test_sentinel.py",
    "tests/test_asyncio/test_pipeline.py",
    "tests/test_asyncio/test_sentinel.py",
]
PORT = 6379  # three of the tests connect there whatever they are told
NEEDS = "pytest-asyncio>=0.24"
RECORDER = "replaces redis-py's recorder, which is asked only while OpenTelemetry is on"
#: What fails, and why.  By the name of the test function.
EXPECTED = {
    "test_connection_pool_records_create_time_on_new_connection": RECORDER,
    "test_blocking_connection_pool_records_create_time_and_wait_time": RECORDER,
    "test_blocking_connection_pool_records_only_wait_time_for_existing_connection": RECORDER,
}

#: Of MORE, what asks for a cluster, or for sentinels at fixed ports: not run.
ELSEWHERE = [
    "shard_channel", "pubsub_shard", "generator_handles_concurrent_mapping_changes",
    "test_get_sentinels", "test_get_master_addr_by_name", "test_redis_master_usage",
    "test_sentinel_commands_with_strict_redis_client",
    "test_himport_prepare_set_survives_reconnect",
]  # fmt: skip

Failures = dict[str, str]  # test: the first line of what it raised


def pip(*words: str) -> None:
    quiet = ["--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", *words[:1], *quiet, *words[1:]]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise NotRun(f"pip {' '.join(words)}: {done.stderr.strip()[-200:]}")


def source(folder: Path) -> Path:
    """The unpacked source distribution, without the package itself: the installed one is tested."""
    wanted = f"redis=={metadata.version('redis')}"
    pip("download", "--no-deps", "--no-binary", ":all:", "--dest", str(folder), wanted)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    (unpacked,) = (each for each in folder.iterdir() if each.is_dir())
    shutil.rmtree(unpacked / "redis")
    return unpacked


@contextmanager
def server() -> Iterator[int]:
    """Of our own, at the port of the tests if nobody has it, with the commands that they use."""
    try:
        with servers.redis("--enable-debug-command", "yes", port=PORT) as port:
            yield port
    except NotRun:
        with servers.redis("--enable-debug-command", "yes") as port:
            yield port


def run(tests: Path, needs: Path, files: list[str], stock: bool) -> tuple[int, int, Failures]:
    """pytest over these files, in a process of its own: passed, skipped, failures."""
    report = tests / "report.xml"
    path = [ROOT / "src", ROOT / "tools", needs, os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, map(str, path)))}
    with server() as port:
        command = [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line",
            "--timeout=120", "-o", "addopts=", f"--junitxml={report}",
            f"--redis-url=redis://127.0.0.1:{port}/0",
            "-k", f"not ({' or '.join(ELSEWHERE)})",
            *([] if stock else ["-p", "hosts_redis_plugin"]), *files,
        ]  # fmt: skip
        done = subprocess.run(command, cwd=tests, env=environment, capture_output=True, text=True)
    if not report.exists():
        raise NotRun(f"pytest wrote no report: {(done.stderr or done.stdout).strip()[-300:]}")
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
    parser.add_argument("--stock", action="store_true", help="redis-py's own pools")
    parser.add_argument("--all", action="store_true", help="more of its tests")
    asked = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="fastpool-hosts-") as name:
            needs = Path(name, "needs")
            pip("install", "--no-deps", "--target", str(needs), NEEDS)
            (folder := Path(name, "source")).mkdir()
            tests = source(folder)
            files = FILES + (MORE if asked.all else [])
            passed, skipped, failures = run(tests, needs, files, asked.stock)
    except (NotRun, metadata.PackageNotFoundError) as reason:
        print(f"NOT RUN: {reason}")
        return 0
    which = "its own pools" if asked.stock else "our pools"
    print(
        f"redis-py {metadata.version('redis')}, {which}: {passed} passed, {len(failures)} failed, "
        f"{skipped} skipped"
    )
    for test, error in failures.items():
        reason = "" if asked.stock else EXPECTED.get(function_of(test), "")
        print(f"    {test}\n        {reason or 'UNEXPECTED: ' + error}")
    if asked.stock:
        return 0
    seen = set(map(function_of, failures))
    passes = [test for test in EXPECTED if test not in seen]
    for test in passes:
        print(f"    {test}\n        PASSES, and was expected to fail")
    return 1 if passes or seen - EXPECTED.keys() else 0


if __name__ == "__main__":
    sys.exit(main())
