"""Run the test suite on every interpreter of this machine and sum up.

    python3 tools/run_tests.py [--on 3.11,3.13t | --on all] [--debug] [pytest arguments]

The first is the interpreter that runs this script; only there are tests run that are marked `once`,
since they do not depend on the interpreter. Each gets an environment of its own and takes its turn
alone, since some tests measure. Ends with a table and a line that adds it up; exits with a status
other than 0 if anything failed, or if nothing ran.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

from interpreters import ALL, ROOT, WANTED, Interpreter, default, find
from venvs import SetupError, Venv


@dataclass
class Outcome:
    """One row of the table."""

    name: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    note: str = ""

    def __str__(self) -> str:
        if not self.passed + self.failed + self.skipped:
            return f"{self.name:<15} {self.note}"
        counts = f"{self.passed:>8} {self.failed:>8} {self.skipped:>8} {self.seconds:>8.1f}"
        return f"{self.name:<15}{counts}  {self.note}".rstrip()


HEAD = f"{'interpreter':<15}{'passed':>8} {'failed':>8} {'skipped':>8} {'seconds':>8}"


def extras_for(interpreter: Interpreter) -> list[str]:
    """What the tests can use there: grpcio, gevent, uvloop and peers have no wheels for 3.13t."""
    if interpreter.free_threaded:
        return ["test", "anyio", "rpc-test"]
    main = interpreter.path == default().path
    return ["test", "demo", "grpc-test", "rpc-test", "peers", "loops"] + ["lint"] * main


def run(interpreter: Interpreter, arguments: list[str], *, first: bool, debug: bool) -> Outcome:
    outcome = Outcome(interpreter.version + " debug" * debug)
    venv = Venv(interpreter)
    environment = dict(os.environ)
    spared = ["ratio", "slow"] * debug + ["once"] * (not first)
    if spared:
        arguments = ["-m", " and ".join(f"not {mark}" for mark in spared), *arguments]
    try:
        venv.ready(extras_for(interpreter))
        venv.build()
        if debug:
            library = venv.build_flavour("debug", FASTPOOL_DEBUG="1")
            environment["PYTHONPATH"] = str(library)
    except SetupError as error:
        print(error)
        outcome.failed, outcome.note = 1, "could not be set up"
        return outcome
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [venv.python, "-m", "pytest", "-q", f"--junitxml={report}", *arguments]
        status = subprocess.run(command, cwd=ROOT, env=environment).returncode
        outcome.seconds = time.monotonic() - start
        count(outcome, report, status)
    return outcome


def count(outcome: Outcome, report: Path, status: int) -> None:
    """Read pytest's report. No report means that the run itself died: that is a failure too."""
    try:
        suites = list(ElementTree.parse(report).getroot().iter("testsuite"))
    except (OSError, ElementTree.ParseError):
        outcome.failed, outcome.note = 1, f"the run died with status {status}"
        return
    total = {
        key: sum(int(suite.get(key, 0)) for suite in suites)
        for key in ("tests", "failures", "errors", "skipped")
    }
    outcome.failed = total["failures"] + total["errors"]
    outcome.skipped = total["skipped"]
    outcome.passed = total["tests"] - outcome.failed - outcome.skipped
    if status and not outcome.failed:
        outcome.failed, outcome.note = 1, f"pytest ended with status {status}"


def labels_of(text: str) -> list[str]:
    """The interpreters that `--on` means; without it, this one and those of WANTED."""
    if text == "all":
        labels = [default().label, *ALL]
    else:
        labels = text.replace(",", " ").split() or [default().label, *WANTED]
    return list(dict.fromkeys(labels))


def choose(labels: list[str]) -> list[tuple[str, Interpreter | None]]:
    """This interpreter first, then the others that were asked for, found or not."""
    first = default()
    others = [label for label in labels if label != first.label]
    chosen = [(label, find(label)) for label in others]
    return [(first.label, first), *chosen] if len(others) < len(labels) else chosen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--on", default="", help="labels such as 3.11,3.13t, or 'all'")
    parser.add_argument("--debug", action="store_true", help="test the FASTPOOL_DEBUG build")
    options, arguments = parser.parse_known_args()

    outcomes: list[Outcome] = []
    first = True
    for label, interpreter in choose(labels_of(options.on)):
        if interpreter is None or interpreter.lack:
            reason = interpreter.lack if interpreter else "not found"
            outcomes.append(Outcome(label, note=f"not run: {reason}"))
            continue
        print(f"\nPython {interpreter.version}: {interpreter.path}", flush=True)
        outcomes.append(run(interpreter, arguments, first=first, debug=options.debug))
        first = False

    print(f"\n{HEAD}")
    for outcome in outcomes:
        print(outcome)
    passed = sum(outcome.passed for outcome in outcomes)
    failed = sum(outcome.failed for outcome in outcomes)
    skipped = sum(outcome.skipped for outcome in outcomes)
    if not passed + failed:
        print("\nno test ran", flush=True)
        return 1
    print(f"\n{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
