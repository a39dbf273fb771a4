"""Run the benchmark suite on every interpreter of this machine: `python -m bench` in each.

python3 tools/run_bench.py [--on 3.11,3.13t | --on all] [arguments of bench]
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from interpreters import ROOT
from run_tests import choose, labels_of
from venvs import SetupError, Venv


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--on", default="", help="labels such as 3.11,3.13t, or 'all'")
    options, arguments = parser.parse_known_args()

    failed = False
    for label, interpreter, lack in choose(labels_of(options.on or "all")):
        if interpreter is None:
            print(f"\nPython {label}: NOT RUN: {lack}")
            continue
        print(f"\nPython {interpreter.version}: {interpreter.path}", flush=True)
        venv = Venv(interpreter)
        try:
            # The peers publish no wheels for free-threaded 3.13: reported as not run there.
            venv.ready(["test"], [] if interpreter.free_threaded else ["bench", "demo"])
            venv.build()
            venv.wheel()  # its size is a row of the table
        except SetupError as error:
            print(error)
            failed = True
            continue
        run = subprocess.run(venv.command("-m", "bench", *arguments), cwd=ROOT)
        failed |= run.returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
