"""DBUtils' own tests of PooledDB with ours in its place.

    python tools/hosts_dbutils.py [--stock]

in an environment with DBUtils, pytest and fastpool.  The tests come from the source distribution of
the version that is installed.  A failure that EXPECTED does not name makes the exit code 1, as does
one that it names and that passes.  --stock: DBUtils' own pool, as a control.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.measure import NotRun
from suites import all_failed, run, source, told

FILES = ["tests/test_pooled_db.py"]
#: What fails, and why.  By the name of the test function.
EXPECTED = {
    "test_close_all_shared_when_pool_is_deleted": (
        "wants what is idle to be closed in the order in which it came back"
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stock", action="store_true", help="DBUtils' own pool")
    stock = parser.parse_args().stock
    try:
        with tempfile.TemporaryDirectory(prefix="fastpool-hosts-") as folder:
            tests = source("DBUtils", Path(folder), "--no-build-isolation")
            shutil.rmtree(tests / "dbutils")  # the installed one is tested
            outcome = run(tests, FILES, *([] if stock else ["-p", "hosts_dbutils_plugin"]))
    except NotRun as reason:
        print(f"DBUtils: NOT RUN: {reason}")
        return 0
    name = f"DBUtils {metadata.version('DBUtils')}, {'its own pool' if stock else 'our PooledDB'}"
    expected = {} if stock else EXPECTED
    good = told(name, outcome, expected) & all_failed([outcome], expected)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
