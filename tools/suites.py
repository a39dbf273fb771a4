"""The test suite of another project: fetched in the installed version, run, told with reasons."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from bench.measure import NotRun

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Outcome:
    """What one run of a suite came to."""

    passed: int = 0
    skipped: int = 0
    failed: dict[str, str] = field(default_factory=dict)  # test: the first line of what it raised


def function_of(test: str) -> str:
    return test.partition("[")[0].rpartition(".")[2]


def source(package: str, folder: Path) -> Path:
    """The unpacked source distribution of the version that is installed."""
    try:
        wanted = f"{package}=={metadata.version(package)}"
    except metadata.PackageNotFoundError:
        raise NotRun(f"{package} is not installed")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    how = ["--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--dest", str(folder)]
    done = subprocess.run([*pip, *how, wanted], capture_output=True, text=True)
    found = sorted(folder.glob("*.tar.gz"))
    if done.returncode or not found:
        raise NotRun(f"pip cannot download {wanted}: {done.stderr.strip()[-200:]}")
    with tarfile.open(found[0]) as archive:
        archive.extractall(folder, filter="data")
    return next(path for path in folder.iterdir() if path.is_dir())


def run(tests: Path, files: list[str], *options: str) -> Outcome:
    """pytest over these files, in a process of its own; our plugins are on its path."""
    report = tests / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line"]
    path = [str(ROOT / "src"), str(ROOT / "tools"), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [*command, f"--junitxml={report}", *options, *files],
        cwd=tests,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))},
        capture_output=True,
        text=True,
    )
    if not report.exists():
        raise NotRun(f"pytest wrote no report: {(done.stderr or done.stdout).strip()[-300:]}")
    outcome = Outcome()
    for case in ElementTree.parse(report).iter("testcase"):
        bad = next((each for each in case if each.tag in ("failure", "error")), None)
        if bad is not None:
            name = f"{case.get('classname')}.{case.get('name')}"
            outcome.failed[name] = (bad.get("message") or "").strip().partition("\n")[0][:160]
        elif case.find("skipped") is not None:
            outcome.skipped += 1
        else:
            outcome.passed += 1
    report.unlink()
    return outcome


def told(name: str, outcome: Outcome, expected: Mapping[str, str]) -> bool:
    """Prints a run, each failure with its reason by the name of its function; whether those that
    failed are those that were expected to."""
    print(
        f"{name}: {outcome.passed} passed, {len(outcome.failed)} failed, {outcome.skipped} skipped"
    )
    for test, error in outcome.failed.items():
        print(f"    {test}\n        {expected.get(function_of(test)) or 'UNEXPECTED: ' + error}")
    seen = set(map(function_of, outcome.failed))
    for test in sorted(expected.keys() - seen):
        print(f"    {test}\n        PASSES, and was expected to fail")
    sys.stdout.flush()
    return seen == expected.keys()
