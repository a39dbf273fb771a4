"""What the runs of urllib3's and requests' own tests share.

The tests come from the source distribution of the version that is installed, and are run twice:
with the host's own pools, then with ours.  What fails with its own, for want of a network or of a
server that they ask for, says nothing and is only counted.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.measure import NotRun

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Suite:
    """A host, which of its tests are run, and what is known of those that fail."""

    host: str
    needs: list[str]  # packages that its tests import
    files: list[str]
    left_out: list[str]  # parts of names of tests that are not run
    expected: dict[str, str] = field(default_factory=dict)  # test function: reason


@dataclass
class Outcome:
    passed: int
    skipped: int
    failed: dict[str, str]  # test: the first line of what it raised


def pip(*words: str) -> None:
    quiet = ["--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", *words[:1], *quiet, *words[1:]]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise NotRun(f"pip {' '.join(words)}: {done.stderr.strip()[-200:]}")


def source(host: str, folder: Path) -> Path:
    """The unpacked source distribution, without the package itself: the installed one is tested."""
    wanted = f"{host}=={metadata.version(host)}"
    pip("download", "--no-deps", "--no-binary", ":all:", "--dest", str(folder), wanted)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    (unpacked,) = (each for each in folder.iterdir() if each.is_dir())
    shutil.rmtree(unpacked / "src")
    return unpacked


def run(suite: Suite, tests: Path, needs: Path, stock: bool) -> Outcome:
    """pytest over the files, in a process of its own."""
    report = tests / f"report-{stock}.xml"
    path = [ROOT / "src", ROOT / "tools", needs, os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, map(str, path)))}
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line",
        "--timeout=120", "-o", "addopts=", f"--junitxml={report}", "-k",
        f"not ({' or '.join(suite.left_out)})",
        *([] if stock else ["-p", f"hosts_{suite.host}_plugin"]), *suite.files,
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tests, env=environment, capture_output=True, text=True)
    if not report.exists():
        raise NotRun(f"pytest wrote no report: {(done.stderr or done.stdout).strip()[-300:]}")
    outcome = Outcome(0, 0, {})
    for case in ElementTree.parse(report).iter("testcase"):
        bad = next((each for each in case if each.tag in ("failure", "error")), None)
        if bad is not None:
            name = f"{case.get('classname')}.{case.get('name')}"
            outcome.failed[name] = (bad.get("message") or "").strip().partition("\n")[0][:160]
        elif case.find("skipped") is not None:
            outcome.skipped += 1
        else:
            outcome.passed += 1
    return outcome


def function_of(test: str) -> str:
    return test.partition("[")[0].rpartition(".")[2]


def main(suite: Suite) -> int:
    try:
        with tempfile.TemporaryDirectory(prefix="fastpool-hosts-") as name:
            needs = Path(name, "needs")
            pip("install", "--no-deps", "--target", str(needs), *suite.needs)
            (folder := Path(name, "source")).mkdir()
            tests = source(suite.host, folder)
            stock = run(suite, tests, needs, True)
            ours = run(suite, tests, needs, False)
    except (NotRun, metadata.PackageNotFoundError) as reason:
        print(f"NOT RUN: {reason}")
        return 0
    failed = {test: error for test, error in ours.failed.items() if test not in stock.failed}
    print(
        f"{suite.host} {metadata.version(suite.host)}, our pools: {ours.passed} passed, "
        f"{len(failed)} failed, {ours.skipped} skipped; {len(ours.failed) - len(failed)} more fail "
        "with its own pools here, too"
    )
    for test, error in failed.items():
        print(
            f"    {test}\n        {suite.expected.get(function_of(test), f'UNEXPECTED: {error}')}"
        )
    seen = set(map(function_of, failed))
    passes = [test for test in suite.expected if test not in seen]
    for test in passes:
        print(f"    {test}\n        PASSES, and was expected to fail")
    return 1 if passes or seen - suite.expected.keys() else 0
