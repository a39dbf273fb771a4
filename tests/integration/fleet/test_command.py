"""`fastpool budget`, as people run it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fastpool import FastPool
from fastpool.fleet import LocalBudget, RedisBudget
from support.helpers import PATIENCE, eventually

pytestmark = [
    pytest.mark.once,  # what passes between processes; `contract/fleet` is tried on each
    pytest.mark.process,
    pytest.mark.skipif(sys.platform != "linux", reason="open file description locks"),
]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "orders.budget")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`fastpool budget ...`, in the folder of the file."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "fastpool", "budget", *words]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=2 * PATIENCE
        )

    return run


def test_show_tells_who_has_what(path: str, run: Run) -> None:
    with FastPool(9, factory=object, budget=LocalBudget(path, 60), name="db\x1b[2J") as pool:
        leases = [pool.acquire() for _ in range(3)]
        eventually(lambda: [m.open for m in LocalBudget.report(path).members] == [3])
        done = run("show", path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("budget orders: 3 of 60 permits in force, 1 member\n")
        assert "  3       3       3" in done.stdout and "db?[2J" in done.stdout
        for lease in leases:
            lease.release()
    assert "0 of 60 permits in force, 0 members" in run("show", "orders.budget").stdout


def test_set_changes_the_limit_of_a_running_pool(path: str, run: Run) -> None:
    with FastPool(9, factory=object, budget=LocalBudget(path, 1), timeout=PATIENCE) as pool:
        with pool.lease():
            done = run("set", path, "2")
            assert done.stdout == f"{path}: 1 -> 2 permits\n"
            with pool.lease():
                pass


@pytest.mark.servers
def test_budget_in_redis_is_shown_and_set(redis_server: str, run: Run) -> None:
    """By its name, or without one where there is but one."""
    pytest.importorskip("redis")
    url = f"redis://127.0.0.1:{redis_server}/0"
    missing = run("show", url)
    assert missing.returncode == 1 and "there are: none" in missing.stderr
    budget = RedisBudget(url, "orders", 60, ttl=2, guaranteed=3)
    with FastPool(9, factory=object, budget=budget, timeout=PATIENCE) as pool:
        leases = [pool.acquire() for _ in range(3)]
        eventually(lambda: [m.open for m in RedisBudget.report(url, "orders").members] == [3])
        done = run("show", url)
        assert done.stdout.startswith("budget orders: 3 of 60 permits in force, 1 member\n")
        assert budget.member in done.stdout
        done = run("set", f"{url}#orders", "7")
        assert done.stdout == f"{url}#orders: 60 -> 7 permits\n"
        assert budget.limit == 7
        for lease in leases:
            lease.release()
    assert "say which" in run("show", f"{url}#others").stderr


def test_watch_goes_on(path: str) -> None:
    LocalBudget(path, 7)
    command = [sys.executable, "-m", "fastpool", "budget", "watch", path, "--interval", "0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        for _ in range(3):
            assert "0 of 7 permits in force" in watching.stdout.readline()
        watching.kill()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["show", "missing.budget"], "No such file"),
        (["set", "missing.budget", "5"], "No such file"),
        (["show", "other.txt"], "is no file of permits"),
    ],
)
def test_what_is_no_budget_is_an_error(
    words: list[str], says: str, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "other.txt").write_text("something else, and long enough to be read")
    done = run(*words)
    assert done.returncode == 1 and says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "missing.budget").exists()


def test_limit_out_of_range_is_refused(path: str, run: Run) -> None:
    LocalBudget(path, 7)
    assert run("set", path, "0").returncode == 2
    assert LocalBudget(path).limit == 7
