"""Run the test suites of other projects with our pools in place of theirs.

    python3 tools/hosts.py [--quick] [HOST ...] [arguments of the host's script]

Each script of the table fetches its host's tests, in the version that is installed, from the source
distribution or the repository, runs them, and names each failure with its reason.  A failure that
has none makes the run fail, and so does a reason whose test passes.  What cannot be fetched is a
line NOT RUN.  --quick: what a push runs, three minutes at most; a host for which no time is left is
NOT RUN, and one that fails is tried once more.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

#: Host: the script that runs its tests.
HOSTS = {
    "dbutils": "hosts_dbutils.py",
    "django": "hosts_django.py",
    "psycopg": "hosts_psycopg.py",
    "redis": "hosts_redis.py",
    "requests": "hosts_requests.py",
    "sqlalchemy": "hosts_sqlalchemy.py",
    "urllib3": "hosts_urllib3.py",
}


#: Of them what a push runs, the shortest first, and with which words: 17 s of CPU together.
QUICK = {"dbutils": [], "redis": [], "sqlalchemy": ["--only", "sqlite"]}
QUICK_SECONDS = 180.0
PATIENCE = 10.0  # seconds for a script to stop its servers


def run(host: str, command: Sequence[str | Path], until: float = float("inf")) -> bool:
    """Whether the tests of a host ended as expected.  At ``until``, on the monotonic clock, they
    are ended with the servers that they have started, which is no failure: the machine may be
    busy."""
    process = subprocess.Popen(command, start_new_session=True)
    try:
        left = None if until == float("inf") else max(0.0, until - time.monotonic())
        return process.wait(left) == 0
    except subprocess.TimeoutExpired:
        print(f"{host}: NOT RUN to its end: the time for the quick hosts is over", flush=True)
        return True
    finally:
        if process.poll() is None:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends its whole session: first by a signal on which scripts stop their servers."""
    for number in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(PATIENCE)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue


def main() -> int:
    words = sys.argv[1:]
    quick = "--quick" in words
    asked = [word for word in words if word in HOSTS] or list(QUICK if quick else HOSTS)
    arguments = [word for word in words if word not in HOSTS and word != "--quick"]
    until = time.monotonic() + QUICK_SECONDS if quick else float("inf")
    failed = []
    for host in asked:
        print(f"\n{host}", flush=True)
        script = Path(__file__).with_name(HOSTS[host])
        more = [*(QUICK.get(host, []) if quick else []), *arguments]
        command = [sys.executable, script, *more]
        if run(host, command, until):
            continue
        if quick:  # the tests of others measure time, too, and a push shares its machine
            print(f"RERUN: {host}", flush=True)
            if run(host, command, until):
                continue
        failed.append(host)
    if failed:
        print(f"\nnot as expected: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
