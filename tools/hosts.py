"""Run the test suites of other projects with our pools in place of theirs.

    python3 tools/hosts.py [HOST ...] [arguments of the host's script]

Each script of the table fetches its host's tests, in the version that is installed, from the source
distribution or the repository, runs them, and names each failure with its reason.  A failure that
has none makes the run fail, and so does a reason whose test passes.
"""

from __future__ import annotations

import subprocess
import sys
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


def main() -> int:
    asked = [word for word in sys.argv[1:] if word in HOSTS] or list(HOSTS)
    arguments = [word for word in sys.argv[1:] if word not in HOSTS]
    failed = []
    for host in asked:
        print(f"\n{host}", flush=True)
        script = Path(__file__).with_name(HOSTS[host])
        if subprocess.run([sys.executable, script, *arguments]).returncode:
            failed.append(host)
    if failed:
        print(f"\nnot as expected: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
