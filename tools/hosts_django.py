"""Django's own tests of its database backends with ours in their place.

    python tools/hosts_django.py [--stock] [--only ENGINE]

in an environment with Django, psycopg, mysqlclient and fastpool.  The tests come from the source
distribution of the version that is installed, and are run against that one, on a PostgreSQL and a
MariaDB of their own.  A failure that EXPECTED does not name makes the exit code 1, as does one that
it names and that passes.  --stock: Django's own backends, PostgreSQL with its pool, as a control.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import servers
from bench.hosts.sqlalchemy import servers_ready
from bench.measure import NotRun
from integration.drivers import killed_servers

ROOT = Path(__file__).resolve().parent.parent
LABELS = ["backends", "transactions", "transaction_hooks"]
#: Engine: what its driver is called by pip.
ENGINES = {"postgresql": "psycopg", "mysql": "mysqlclient"}
ACCOUNTS = "fails with Django's own backend too: this MariaDB has no accounts, so no procedures"
POOLED = "wants another connection after close(); Django skips it where it has a pool itself"
#: What fails, and why.  By the name of the test function.
EXPECTED = {
    "test_callproc_without_params": ACCOUNTS,
    "test_callproc_with_int_params": ACCOUNTS,
    "test_health_checks_enabled": POOLED,
    "test_set_autocommit_health_checks_enabled": POOLED,
}

SETTINGS = """
def database(name):
    return {{
        "ENGINE": "{engine}", "HOST": "127.0.0.1", "PORT": "{port}", "USER": "{user}",
        "NAME": name, "OPTIONS": {options},
    }}

DATABASES = {{"default": database("django"), "other": database("other")}}
SECRET_KEY = "none"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
"""


def source(folder: Path) -> Path:
    """The unpacked source distribution of the installed version."""
    wanted = f"django=={metadata.version('django')}"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    done = subprocess.run([*pip, "--dest", folder, wanted], capture_output=True, text=True)
    found = sorted(folder.glob("*.tar.gz"))
    if done.returncode or not found:
        raise NotRun(f"pip cannot download {wanted}: {done.stderr.strip()[-200:]}")
    with tarfile.open(found[0]) as archive:
        archive.extractall(folder, filter="data")
    return next(path for path in folder.iterdir() if path.is_dir()) / "tests"


@contextmanager
def server(engine: str) -> Iterator[tuple[int, str]]:
    """Its port, and who may do all there."""
    if engine == "postgresql":
        with servers.postgresql() as port:
            servers_ready(port)
            yield port, "bench"
    else:
        with killed_servers.running(killed_servers.MariaDB) as running:
            yield running.port, "root"


def run(tests: Path, engine: str, stock: bool) -> tuple[int, int, list[str]]:
    """Django's runner over LABELS, in a process of its own: run, skipped, what failed."""
    metadata.version(ENGINES[engine])
    own = f"{'django.db.backends' if stock else 'fastpool.contrib.django'}.{engine}"
    options = {} if stock and engine == "mysql" else {"pool": {"min_size": 1, "max_size": 4}}
    with server(engine) as (port, user):
        settings = SETTINGS.format(engine=own, port=port, user=user, options=options)
        (tests / "hosts_settings.py").write_text(settings)
        path = [str(ROOT / "src"), str(tests), os.environ.get("PYTHONPATH", "")]
        done = subprocess.run(
            [sys.executable, "runtests.py", "--settings=hosts_settings", "--parallel=1", *LABELS],
            cwd=tests, env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))},
            capture_output=True, text=True,
        )  # fmt: skip
    said = done.stderr
    total = re.search(r"^Ran (\d+) tests", said, re.M)
    if not total:
        raise NotRun(f"Django's runner has not ended: {said.strip()[-300:]}")
    skipped = re.search(r"skipped=(\d+)", said)
    failed = re.findall(r"^(?:FAIL|ERROR): (.*)$", said, re.M)
    return int(total[1]), int(skipped[1]) if skipped else 0, failed


def function_of(test: str) -> str:
    return test.partition(" ")[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stock", action="store_true", help="Django's own backends")
    parser.add_argument("--only", choices=ENGINES, action="append", help="this engine only")
    asked = parser.parse_args()
    good, seen = True, set()
    with tempfile.TemporaryDirectory(prefix="fastpool-hosts-") as name:
        try:
            tests = source(Path(name))
        except (NotRun, metadata.PackageNotFoundError) as reason:
            print(f"Django: NOT RUN: {reason}")
            return 0
        whose = "its own backends" if asked.stock else "ours as its backends"
        print(f"Django {metadata.version('django')} with {whose}", flush=True)
        for engine in asked.only or ENGINES:
            try:
                total, skipped, failed = run(tests, engine, asked.stock)
            except (NotRun, metadata.PackageNotFoundError) as reason:
                print(f"{engine}: NOT RUN: {reason}")
                continue
            passed = total - skipped - len(failed)
            print(f"{engine}: {passed} passed, {len(failed)} failed, {skipped} skipped", flush=True)
            for test in failed:
                reason = "" if asked.stock else EXPECTED.get(function_of(test), "")
                print(f"    {test}\n        {reason or 'UNEXPECTED'}")
                good &= bool(reason)
            seen |= {function_of(test) for test in failed}
    if not asked.only and not asked.stock and (over := EXPECTED.keys() - seen):
        print(f"these are expected to fail, and have not: {', '.join(sorted(over))}")
        good = False
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
