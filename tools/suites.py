"""The test suite of another project: fetched in the installed version, run, told with reasons."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from bench.measure import NotRun

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastpool-hosts"


@dataclass
class Outcome:
    """What one run of a suite came to."""

    passed: int = 0
    skipped: int = 0
    failed: dict[str, str] = field(default_factory=dict)  # test: the first line of what it raised


def function_of(test: str) -> str:
    return test.partition("[")[0].rpartition(".")[2]


def source(package: str, folder: Path, *how: str) -> Path:
    """The unpacked source distribution of the version that is installed; kept in CACHE, so that it
    is fetched once.  ``how``: more words for pip, which has it say its name before it is kept."""
    try:
        wanted = f"{package}=={metadata.version(package)}"
    except metadata.PackageNotFoundError:
        raise NotRun(f"{package} is not installed")
    kept = CACHE / wanted
    if not list(kept.glob("*.tar.gz")):
        with tempfile.TemporaryDirectory(prefix="fastpool-hosts-") as name:
            pip("download", "--no-deps", "--no-binary", ":all:", *how, "--dest", name, wanted)
            kept.mkdir(parents=True, exist_ok=True)
            for archive in Path(name).glob("*.tar.gz"):
                shutil.move(archive, kept / archive.name)
    with tarfile.open(next(kept.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    return next(path for path in folder.iterdir() if path.is_dir())


def pip(*words: str) -> None:
    """NotRun if it fails, soon where there is no network."""
    quiet = ["--quiet", "--disable-pip-version-check", "--retries=1", "--timeout=10"]
    command = [sys.executable, "-m", "pip", *words[:1], *quiet, *words[1:]]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        raise NotRun(f"pip {' '.join(words)}: no end after two minutes")
    if done.returncode:
        raise NotRun(f"pip {' '.join(words)}: {done.stderr.strip()[-200:]}")


def installed(wanted: str) -> Path:
    """A folder of CACHE with this package alone, for what a suite needs and nobody else does."""
    folder = CACHE / wanted
    if not folder.exists():
        with tempfile.TemporaryDirectory(prefix="fastpool-hosts-") as name:
            pip("install", "--no-deps", "--target", f"{name}/all", wanted)
            CACHE.mkdir(parents=True, exist_ok=True)
            shutil.move(f"{name}/all", folder)
    return folder


def run(tests: Path, files: list[str], *options: str, path: Sequence[Path] = ()) -> Outcome:
    """pytest over these files, in a process of its own; our plugins, and what is in the folders of
    ``path``, can be imported there."""
    report = tests / "report.xml"
    # -s: the installed package is tested, not the one beside the tests
    command = [sys.executable, "-s", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line"]
    folders = [ROOT / "src", ROOT / "tools", *path, os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [*command, f"--junitxml={report}", *options, *files],
        cwd=tests,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, map(str, folders)))},
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
    """Prints a run, each failure with its reason, by the name of its function; whether all have
    one."""
    print(
        f"{name}: {outcome.passed} passed, {len(outcome.failed)} failed, {outcome.skipped} skipped"
    )
    for test, error in outcome.failed.items():
        print(f"    {test}\n        {expected.get(function_of(test)) or 'UNEXPECTED: ' + error}")
    sys.stdout.flush()
    return {function_of(test) for test in outcome.failed} <= expected.keys()


def all_failed(outcomes: Sequence[Outcome], expected: Mapping[str, str]) -> bool:
    """Prints the tests that were expected to fail and passed; whether there were none."""
    seen = {function_of(test) for outcome in outcomes for test in outcome.failed}
    for test in sorted(expected.keys() - seen):
        print(f"    {test}\n        PASSES, and was expected to fail")
    return expected.keys() <= seen
