"""Which tests a run makes, and what each costs: the plugin behind `--tier`.

A tier follows from what a test needs, and that is said by markers (the table is in README.md):

    fast    `make test`: what needs nothing, and what is `light` in spite of what it needs
    full    `make test-all`: all but what is `long`
    rest    what `make test-all` adds to `make test`: full without fast, and stress at its full size
    all     `make verify`, and what plain `pytest` runs

`--not-first` leaves out what does not depend on the interpreter, and but for `all` what is costly,
or has little to do with it.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import helpers

try:
    import resource
except ImportError:  # Windows: there the time of children is not known
    resource = None  # type: ignore[assignment]

TIERS = ("fast", "full", "rest", "all")
NEEDS = ("process", "servers", "costly", "long")

#: Seconds of CPU, with its children, that a test of the fast tier may take; see --fail-costly.
MOST = 2.0


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fastpool")
    group.addoption("--tier", choices=TIERS, default="all", help="which tests, by what they need")
    group.addoption(
        "--not-first",
        action="store_true",
        help="leave out what another interpreter has run: what does not depend on it, or is costly",
    )
    group.addoption(
        "--measures",
        choices=("yes", "no", "only"),
        default="yes",
        help="what measures: with the others, not at all, or nothing else",
    )
    group.addoption(
        "--fail-costly",
        action="store_true",
        help=f"fail a test of the fast tier that takes more than {MOST:g} s of CPU",
    )
    group.addoption(
        "--try-twice",
        action="store_true",
        help="try a test that talks to servers once more if it fails; the run says which",
    )


def pytest_configure(config: pytest.Config) -> None:
    # Sizes are chosen when modules of tests are imported: see `helpers.stress_ops` and
    # `helpers.examples`.  Helpers are there already; programs that tests start read the variable.
    os.environ["FASTPOOL_TIER"] = tier = config.getoption("tier")
    helpers.QUICK = helpers.is_quick(tier)


def is_fast(item: pytest.Item) -> bool:
    """Whether a test is of the fast tier."""
    needs = any(item.get_closest_marker(need) for need in NEEDS)
    return not needs or item.get_closest_marker("light") is not None


def is_wanted(item: pytest.Item, config: pytest.Config) -> bool:
    tier, measures = config.getoption("tier"), config.getoption("measures")
    if config.getoption("not_first"):
        elsewhere = ("once", "costly", "first") if tier != "all" else ("once",)
        if any(item.get_closest_marker(mark) for mark in elsewhere):
            return False
    if measures != "yes" and (measures == "only") != bool(item.get_closest_marker("measures")):
        return False
    if tier == "fast":
        return is_fast(item)
    if tier in ("full", "rest") and item.get_closest_marker("long"):
        return False
    return tier != "rest" or not is_fast(item) or item.get_closest_marker("stress") is not None


#: What has a test of the tier "rest": one of these words, in a marker or in the name of a helper.
SAYS_NEED = re.compile(rf"\b({'|'.join((*NEEDS, 'stress'))})\b")
#: What says of a whole file that it is for the first interpreter.
SAYS_ONCE = re.compile(r"^pytestmark = (?:\[[^\]]*)?pytest\.mark\.once\b", re.MULTILINE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Files without a test of this run are not read: importing and parametrising all of them takes
    ten seconds of CPU, in each process of each interpreter."""
    name = collection_path.name
    if not (name.startswith("test_") and name.endswith(".py")):
        return None
    elsewhere, rest = config.getoption("not_first"), config.getoption("tier") == "rest"
    text = collection_path.read_text(encoding="utf-8") if elsewhere or rest else ""
    if (elsewhere and SAYS_ONCE.search(text)) or (rest and not SAYS_NEED.search(text)):
        return True
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = [item for item in items if is_wanted(item, config)]
    left_out = set(items).difference(wanted)
    config.hook.pytest_deselected(items=[item for item in items if item in left_out])
    if hasattr(config, "workerinput"):  # one of several processes, to which files are handed out
        wanted = longest_first(wanted)
    items[:] = wanted
    if config.getoption("try_twice"):
        for item in filter(talks_to_servers, items):
            item.add_marker(pytest.mark.flaky(reruns=1))


def longest_first(items: list[pytest.Item]) -> list[pytest.Item]:
    """The same, file by file, the files that take longest first: a minute of one of them at the end
    would have the other processes wait.  A test that starts programs takes as long as fifty."""
    weights: Counter[Any] = Counter()
    for item in items:
        slow = any(item.get_closest_marker(need) for need in NEEDS)
        weights[item.path] += 50 if slow else 1
    return sorted(items, key=lambda item: -weights[item.path])


def talks_to_servers(item: pytest.Item) -> bool:
    """Whether a test's course depends on other processes, which a busy machine delays at will. What
    fails by chance anywhere else is a fault of ours: that is never tried again."""
    needs = any(item.get_closest_marker(need) for need in ("process", "servers"))
    return needs and "integration" in item.path.parts


# ---- what a test costs ---------------------------------------------------------------------------


def spent() -> float:
    """Seconds of CPU of this process and of the children that it has waited for."""
    own = sum(os.times()[:2])
    if resource is None:
        return own
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own + children.ru_utime + children.ru_stime


BEGUN = pytest.StashKey[float]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.stash[BEGUN] = spent()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[None]:  # the value of the generator is the report
    report: Any = yield
    if call.when == "teardown":
        report.cpu = cost = spent() - item.stash.get(BEGUN, spent())
        measures = item.get_closest_marker("measures") is not None  # takes the time that it needs
        if item.config.getoption("fail_costly") and cost > MOST and is_fast(item) and not measures:
            report.outcome = "failed"
            report.longrepr = (
                f"{item.nodeid} took {cost:.1f} s of CPU. A test of the fast tier may take "
                f"{MOST:g}: make it cheaper, or mark what it needs ({', '.join(NEEDS)})."
            )
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The ten slowest, by the CPU that they cost: wall time says more of the machine."""
    walls: dict[str, float] = {}
    cpus: dict[str, float] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                walls[report.nodeid] = walls.get(report.nodeid, 0.0) + report.duration
                cpus[report.nodeid] = getattr(report, "cpu", cpus.get(report.nodeid, 0.0))
    if len(walls) <= 10:
        return
    terminalreporter.write_sep("=", "the ten slowest, by CPU")
    for name in sorted(cpus, key=lambda name: -cpus[name])[:10]:
        terminalreporter.write_line(f"{cpus[name]:6.2f} s CPU {walls[name]:7.2f} s  {name}")
