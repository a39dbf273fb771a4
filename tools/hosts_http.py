"""What the runs of urllib3's and requests' own tests share.

The tests come from the source distribution of the version that is installed.  What fails is run
once more with the host's own pools: what fails there too, for want of a network or of a server that
it asks for, says nothing and is only counted.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.measure import NotRun
from suites import CACHE, Outcome, all_failed, function_of, pip, run, source, told


@dataclass
class Suite:
    """A host, which of its tests are run, and what is known of those that fail."""

    host: str
    needs: list[str]  # packages that its tests import
    files: list[str]
    left_out: list[str]  # parts of names of tests that are not run
    expected: dict[str, str] = field(default_factory=dict)  # test function: reason


def needs_of(suite: Suite) -> Path:
    """A folder with the packages that the tests import, fetched once."""
    folder = CACHE / f"{suite.host}-needs"
    if not folder.exists():
        with tempfile.TemporaryDirectory(prefix="fastpool-hosts-") as name:
            pip("install", "--no-deps", "--target", f"{name}/all", *suite.needs)
            CACHE.mkdir(parents=True, exist_ok=True)
            shutil.move(f"{name}/all", folder)
    return folder


def failed_with_its_own(suite: Suite, tests: Path, needs: Path, outcome: Outcome) -> int:
    """Takes out of an outcome what fails with the host's own pools too; how many those were."""
    these = {function_of(test) for test in outcome.failed} - suite.expected.keys()
    if not these:
        return 0
    options = ["-k", " or ".join(sorted(these)), *OPTIONS]
    stock = run(tests, suite.files, *options, path=[needs])
    known = outcome.failed.keys() & stock.failed.keys()
    for test in known:
        del outcome.failed[test]
    return len(known)


OPTIONS = ["--timeout=120", "-o", "addopts="]


def main(suite: Suite) -> int:
    try:
        with tempfile.TemporaryDirectory(prefix="fastpool-hosts-") as name:
            needs = needs_of(suite)
            tests = source(suite.host, Path(name))
            shutil.rmtree(tests / "src")  # the installed one is tested
            outcome = run(
                tests, suite.files, *OPTIONS, "-k", f"not ({' or '.join(suite.left_out)})",
                "-p", f"hosts_{suite.host}_plugin", path=[needs],
            )  # fmt: skip
            known = failed_with_its_own(suite, tests, needs, outcome)
    except NotRun as reason:
        print(f"{suite.host}: NOT RUN: {reason}")
        return 0
    good = told(f"{suite.host} {metadata.version(suite.host)}, ours", outcome, suite.expected)
    print(f"    {known} more fail with its own pools here, too")
    return 0 if good & all_failed([outcome], suite.expected) else 1
