"""Run the test suite on the interpreters of this machine and sum up.

    python3 tools/run_tests.py [--tier fast|full|rest|all] [--on 3.13,3.14 | --on all]
                               [--measures no] [--debug] [--slow] [--fail-costly]
                               [--prepare 3.13,3.14] [pytest arguments]

Without `--on` it is the interpreter that runs this script.  The first one runs what does not depend
on the interpreter, too.  Each has an environment of its own.  Tests wait more than they compute, so
several interpreters run beside each other, each from when its environment is ready, and what each
says is shown when it has ended; tests that measure run after all others, alone.  `--prepare` makes
the environments of a later run ready meanwhile, on the CPUs that are left.  Ends with a table,
a line for what could not be had, and a line that adds it up; exits with a status other than 0 if
anything failed, or if nothing ran.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from interpreters import ALL, ROOT, Interpreter, NotFound, default, find
from venvs import SetupError, Venv


@dataclass
class Outcome:
    """One row of the table."""

    name: str
    passed: int = 0
    failed: int = 0
    seconds: float = 0.0
    note: str = ""
    skipped: Counter[str] = field(default_factory=Counter)  # by reason
    lacking: list[str] = field(default_factory=list)  # packages that could not be installed

    def __str__(self) -> str:
        skipped = self.skipped.total()
        if not self.passed + self.failed + skipped:
            return f"{self.name:<15} {self.note}"
        counts = f"{self.passed:>8} {self.failed:>8} {skipped:>8} {self.seconds:>8.1f}"
        return f"{self.name:<15}{counts}  {self.note}".rstrip()


CPUS = os.cpu_count() or 1
HEAD = f"{'interpreter':<15}{'passed':>8} {'failed':>8} {'skipped':>8} {'seconds':>8}"


def extras_for(interpreter: Interpreter) -> list[str]:
    """What the tests can use there: grpcio, gevent, uvloop and peers have no wheels for 3.13t."""
    if interpreter.free_threaded:
        return ["anyio", "rpc-test"]
    main = interpreter.path == default().path
    once = [
        "lint",
        "docs",
        "drivers",
        "drivers-compiled",
    ]  # for tests that run on the first one only
    return ["demo", "grpc-test", "rpc-test", "peers", "loops", "simulation"] + once * main


@dataclass
class Prepared:
    """An interpreter with its environment, or why it has none."""

    venv: Venv
    lacking: dict[str, str] = field(default_factory=dict)  # extras: why they are not there
    library: Path | None = None  # the debug build, where that is tested
    error: SetupError | None = None


def prepare(interpreter: Interpreter, debug: bool) -> Prepared:
    prepared = Prepared(Venv(interpreter))
    try:
        prepared.lacking = prepared.venv.ready(["test"], extras_for(interpreter))
        prepared.venv.build()
        if debug:
            prepared.library = prepared.venv.build_flavour("debug", FASTPOOL_DEBUG="1")
    except SetupError as error:
        prepared.error = error
    return prepared


#: Environments are made as many at once as there are CPUs: compilers and pip use one each.
_makes_environments = threading.Semaphore(CPUS)


def prepare_ahead(labels: list[str]) -> ThreadPoolExecutor:
    """Begin to; one CPU is left for what runs now.  What fails is told by the run that needs it."""
    threads = ThreadPoolExecutor(max(1, CPUS - 1))
    for _, interpreter, _ in choose(labels) if CPUS > 1 else ():
        if interpreter is not None and interpreter.path != default().path:
            threads.submit(prepare, interpreter, False)
    return threads


def run_all(
    interpreters: list[Interpreter], options: argparse.Namespace, arguments: list[str]
) -> list[Outcome]:
    """Their rows of the table.  `make test` asks for one: that shows how far it is."""
    several = len(interpreters) > 1
    shown = threading.Lock()

    def run_one(index: int) -> Runs:
        with _makes_environments:
            runs = Runs(prepare(interpreters[index], options.debug), options.debug)
        # Only the first of them has run the fast tier before.
        tier = "full" if options.tier == "rest" and index else options.tier
        if index and tier != "all":  # half of the strikes; see tests/README.md
            runs.environment.setdefault("FASTPOOL_EVERY", "83")
        runs.own = [f"--tier={tier}"] + ["--not-first"] * (index > 0) + ["--slow"] * options.slow
        if several:
            with tempfile.TemporaryFile("w+", errors="replace") as said:
                # The first has what waits for servers, and would be at it when the others are done.
                waits = options.tier == "rest" and not index
                runs.company(arguments, processes_each=CPUS * (1 + waits), output=said)
                said.seek(0)
                with shown:
                    print(f"\n{runs.head}\n{said.read()}", flush=True)
        else:
            print(f"\n{runs.head}", flush=True)
            runs.company(arguments, processes_each=2 * CPUS)
        return runs

    ahead = prepare_ahead(labels_of(options.prepare) if options.prepare else [])
    with ThreadPoolExecutor(max(1, len(interpreters))) as threads:
        everything = list(threads.map(run_one, range(len(interpreters))))
    # What measures is alone: those that were not begun are made when they are needed.
    ahead.shutdown(cancel_futures=True)
    # A debug build and delayed threads say nothing of the speed of a release build.
    if options.measures == "yes" and not (options.debug or options.slow):
        for runs in everything:
            print(f"\n{runs.head}, what measures", flush=True)
            runs.alone(arguments)
    return [runs.outcome for runs in everything]


class Runs:
    """The runs of pytest on one interpreter, and what they came to."""

    def __init__(self, prepared: Prepared, debug: bool) -> None:
        self.venv = prepared.venv
        self.own: list[str] = []
        interpreter = self.venv.interpreter
        self.head = f"Python {interpreter.version}: {interpreter.path}"
        self.outcome = Outcome(interpreter.version + " debug" * debug)
        self.error = prepared.error
        if self.error:
            print(self.error)
            self.outcome.failed, self.outcome.note = 1, "could not be set up"
        for extra, reason in prepared.lacking.items():
            lack = f"the extra '{extra}' could not be installed: {reason}"
            self.outcome.lacking.append(lack)
        # The assertions of the tests are compiled once, not anew for each run and process.
        self.environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
        if prepared.library:
            self.environment["PYTHONPATH"] = str(prepared.library)

    def company(
        self, arguments: list[str], *, processes_each: int, output: IO[str] | None = None
    ) -> None:
        """What does not mind company, in so many processes: the files in the order of
        `tests/support/tiers.py`, so that none of the long ones is left for the end."""
        processes = f"--numprocesses={processes_each}"
        order = ["--dist=loadfile", "--no-loadscope-reorder"]
        self._run([processes, *order, "--measures=no", *arguments], output)

    def alone(self, arguments: list[str]) -> None:
        """What measures, and nothing beside it."""
        chosen = any(Path(argument.partition("::")[0]).exists() for argument in arguments)
        self._run(["--measures=only", *arguments, *([] if chosen else measuring())], None)

    def _run(self, arguments: list[str], output: IO[str] | None) -> None:
        if self.error:
            return
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.xml"
            pytest = ["-m", "pytest", "-q", "-rfER", f"--junitxml={report}"]
            command = self.venv.command(*pytest, *self.own, *arguments)
            done = subprocess.run(
                command, cwd=ROOT, env=self.environment, stdout=output, stderr=output
            )
            count(self.outcome, report, done.returncode)
        self.outcome.seconds += time.monotonic() - start


def measuring() -> list[str]:
    """The files that have such tests, so that the others are not read once more."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    found = [path for path in files if "mark.measures" in path.read_text(encoding="utf-8")]
    return [str(path.relative_to(ROOT)) for path in found]


#: pytest's statuses for "all passed", "some failed" and "none was there".
USUAL = (0, 1, 5)


def count(outcome: Outcome, report: Path, status: int) -> None:
    """Add what pytest reports.  No report means that the run itself died: that is a failure too."""
    try:
        suites = list(ElementTree.parse(report).getroot().iter("testsuite"))
    except (OSError, ElementTree.ParseError):
        outcome.failed += 1
        outcome.note = f"the run died with status {status}"
        return
    failed = sum(int(suite.get(key, 0)) for suite in suites for key in ("failures", "errors"))
    skips = [skip for suite in suites for skip in suite.iter("skipped")]
    outcome.skipped.update(reason(skip) for skip in skips)
    outcome.failed += failed
    outcome.passed += sum(int(suite.get("tests", 0)) for suite in suites) - failed - len(skips)
    if status not in USUAL or (status == 1 and not failed):
        outcome.failed += 1
        outcome.note = f"pytest ended with status {status}"


def reason(skip: ElementTree.Element) -> str:
    """Why it was skipped; of a whole file, the report has that within the text only."""
    message = skip.get("message", "")
    if message == "collection skipped":
        _, found, rest = (skip.text or "").partition("Skipped: ")
        return rest.strip("')\n") if found else message
    return message


def labels_of(text: str) -> list[str]:
    """The interpreters that `--on` means: without it this one, with "all" each that is known."""
    if text == "all":
        labels = [default().label, *ALL]
    else:
        labels = text.replace(",", " ").split() or [default().label]
    return list(dict.fromkeys(labels))


def choose(labels: list[str]) -> Iterator[tuple[str, Interpreter | None, str]]:
    """This interpreter first, then the others that were asked for: found, or why not."""
    for label in sorted(labels, key=lambda label: label != default().label):
        interpreter = default() if label == default().label else None
        try:
            interpreter = interpreter or find(label)
        except NotFound as reason:
            yield label, None, str(reason)
        else:
            yield label, None if interpreter.lack else interpreter, interpreter.lack


def item(number: str, text: str) -> str:
    """One entry of a list, in 80 columns."""
    return textwrap.fill(text, 80, initial_indent=f"{number:>6}  ", subsequent_indent=" " * 8)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--on", default="", help="labels such as 3.11,3.13t, or 'all'")
    parser.add_argument("--tier", default="fast", choices=["fast", "full", "rest", "all"])
    parser.add_argument("--prepare", default="", help="labels, as of --on, of a run to come")
    parser.add_argument("--debug", action="store_true", help="test the FASTPOOL_DEBUG build")
    parser.add_argument("--measures", default="yes", choices=["yes", "no"], help="ratio guards")
    parser.add_argument("--slow", action="store_true", help="delay every thread but the test's")
    options, arguments = parser.parse_known_args()

    chosen = list(choose(labels_of(options.on)))
    outcomes = [
        Outcome(label, note=f"NOT RUN: {lack}") for label, found, lack in chosen if not found
    ]
    outcomes += run_all([found for _, found, _ in chosen if found], options, arguments)

    for outcome in outcomes:
        if outcome.skipped or outcome.lacking:
            print(f"\nnot run on {outcome.name}:")
        for line in outcome.lacking:
            print(item("", line))
        for why, times in outcome.skipped.most_common():
            print(item(str(times), why))
    print(f"\n{HEAD}")
    for outcome in outcomes:
        print(outcome)
    passed = sum(outcome.passed for outcome in outcomes)
    failed = sum(outcome.failed for outcome in outcomes)
    skipped = sum(outcome.skipped.total() for outcome in outcomes)
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
