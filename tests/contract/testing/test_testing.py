"""What fastpool.testing promises: the scripted factory, and the fixture that finds leaks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fastpool
from fastpool import FastPool, PoolTimeout
from fastpool.testing import OK, Call, Hang, ManualClock, Resource, ScriptedFactory, ScriptError
from support.helpers import ThreadRunner, states, works

HOME = Path(fastpool.__file__).resolve().parent.parent
PLAIN = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # pytest and the fixture: nobody else's plugins


# ---- The scripted factory -----------------------------------------------------------------------


class TestScript:
    def test_outcomes_come_in_order_and_then_plain_resources(self) -> None:
        """Each creation takes the next entry; a script that is used up goes on with OK."""
        mine = object()
        factory = ScriptedFactory(create=[OSError("down"), mine, EOFError, OK])
        with FastPool(4, factory=factory) as pool:
            with pytest.raises(OSError, match="down"):
                pool.get()
            assert pool.get() is mine
            with pytest.raises(EOFError):
                pool.get()
            assert [pool.get(), pool.get()] == factory.made[1:]
            for resource in factory.made:
                pool.put(resource)
        kinds = [type(call.outcome) if call.outcome is not OK else OK for call in factory.calls]
        assert kinds[:5] == [OSError, OK, EOFError, OK, OK]
        assert [resource.number for resource in factory.made[1:]] == [0, 1]

    def test_plain_resources_are_the_users_own(self) -> None:
        """`make` gives them, and their close() is called."""
        factory = ScriptedFactory(bytearray)
        with FastPool(1, factory=factory) as pool, pool.lease() as resource:
            assert type(resource) is bytearray
        closing = ScriptedFactory(lambda: Resource(7))
        with FastPool(1, factory=closing) as pool, pool.lease() as resource:
            assert not resource.closed
        assert resource.closed

    def test_a_bad_check_and_a_failing_reset_replace_the_resource(self, clock: ManualClock) -> None:
        """False and an exception both fail a check; what was checked and reset is on record."""
        factory = ScriptedFactory(check=[OK, False, OSError()], reset=[OK, OK, ValueError()])
        with FastPool(1, factory=factory, check_after=1, clock=clock) as pool:
            for _ in range(5):
                with pool.lease():
                    pass
                clock.advance(2)
            assert pool.stats().closed == {"check": 2, "reset": 1}
        first, second, third, _ = factory.made
        assert [call[:2] for call in factory.calls if call.hook != "create"][:5] == [
            ("reset", first), ("check", first), ("reset", first), ("check", first),
            ("close", first),
        ]  # fmt: skip
        assert Call("check", first, False) in factory.calls
        assert factory.checked == [first, first, third]
        assert factory.resets.count(second) == 1
        factory.assert_all_closed()

    def test_a_hang_lasts_until_it_is_released(self) -> None:
        """The borrower's timeout holds meanwhile; the resource comes when the hang is over."""
        hang = Hang()
        factory = ScriptedFactory(create=[hang])
        with FastPool(1, factory=factory) as pool:
            for timeout in (0, 0.01):  # with 0 it is made in the background
                with pytest.raises(PoolTimeout):
                    pool.get(timeout=timeout)
                hang.reached()
            assert states(pool) == {"creating": 1}
            assert factory.made == []
            hang.release()
            works(pool, 1)
        factory.assert_all_closed()

    def test_a_hang_may_end_badly(self, runner: ThreadRunner) -> None:
        """`then` is what comes after, any outcome of that hook."""
        hang = Hang(then=ConnectionError("gone"))
        with FastPool(1, factory=ScriptedFactory(create=[hang])) as pool:
            waiter = runner.start(pool.get)
            hang.reached()
            hang.release()
            with pytest.raises(ConnectionError, match="gone"):
                waiter.result()

    def test_a_hang_that_nobody_meets_or_releases_is_an_assertion_error(self) -> None:
        """Neither side waits for ever for a mistake of the test."""
        with pytest.raises(AssertionError, match=r"no call came to Hang\(OK\) within 0 s"):
            Hang().reached(timeout=0)
        factory = ScriptedFactory(create=[Hang(limit=0.01)])
        with pytest.raises(AssertionError, match="nobody released"):
            factory.create()
        with pytest.raises(ValueError, match="limit must be a positive number"):
            Hang(limit=0)

    def test_faults_can_be_added_later(self) -> None:
        """extend() puts them at the end of what is left."""
        factory = ScriptedFactory(create=[OK])
        with FastPool(2, factory=factory) as pool:
            with pool.lease():
                factory.extend(create=[OSError("late")])
                with pytest.raises(OSError, match="late"):
                    pool.get()
            works(pool, 2)

    @pytest.mark.parametrize(
        ("script", "says"),
        [
            ({"create": [OK, None]}, r"create\[1\]: None is no outcome of create"),
            ({"create": OSError("alone")}, r"create: a script is a list of outcomes, not OSError"),
            ({"create": "text"}, "create: a script is a list"),
            ({"check": ["bad"]}, r"check\[0\]: 'bad' is no outcome.*Hang\(\), True, False$"),
            ({"reset": [False]}, r"reset\[0\]: False is no outcome"),
            ({"close": [OK, 3]}, r"close\[1\]: 3 is no outcome"),
            ({"close": [Hang(then=Hang(then=3))]}, r"close\[0\]: 3 is no outcome"),
            ({"create": [b"same"] * 2}, r"create\[1\]: b'same' stands in the script already"),
        ],
    )
    def test_a_bad_script_is_refused_when_it_is_written(self, script: Any, says: str) -> None:
        """The error names the hook, the place, what is there and what may be."""
        with pytest.raises(ScriptError, match=says):
            ScriptedFactory(**script)
        factory = ScriptedFactory(create=[b"same"])
        with pytest.raises(ScriptError):
            factory.extend(**({"close": [OSError()]} | script))
        if "create" in script:
            factory.close(Resource(0))  # nothing was added

    def test_what_makes_must_be_callable(self) -> None:
        with pytest.raises(TypeError, match="scripts go by keyword"):
            ScriptedFactory([OK])  # type: ignore[call-overload]


class TestAccounts:
    def test_all_threads_are_in_the_accounts(
        self, runner: ThreadRunner, fast_switching: None
    ) -> None:
        """Made, closed and open at most, whatever the threads did."""
        factory = ScriptedFactory()
        with FastPool(3, factory=factory, max_uses=2) as pool:

            def borrow(_: int) -> None:
                for _ in range(50):
                    with pool.lease():
                        pass

            runner.together(8, borrow)
            runner.finish()
        factory.assert_all_closed()
        assert 1 <= factory.peak <= 3
        assert len(factory.made) == len(factory.closed) >= 8 * 50 / 2
        assert factory.open == []
        assert sorted(each.number for each in factory.made) == [*range(len(factory.made))]

    def test_peak_counts_what_is_open_at_once(self) -> None:
        """Not what was made in all."""
        factory = ScriptedFactory()
        one, two = factory.create(), factory.create()
        factory.close(one)
        factory.close(two)
        factory.create()
        assert (factory.peak, len(factory.made), len(factory.open)) == (2, 3, 1)

    def test_what_is_open_or_closed_wrongly_is_told(self) -> None:
        """Each kind of fault has its words."""
        factory = ScriptedFactory()
        one, _two = factory.create(), factory.create()
        for resource in (one, one, Resource(9)):
            factory.close(resource)
        with pytest.raises(AssertionError) as caught:
            factory.assert_all_closed(within=0)
        assert str(caught.value) == (
            "of 2 resources made, still open: [<resource 1>]; closed twice: [<resource 0, closed>];"
            " closed but not made here: [<resource 9, closed>]"
        )

    def test_a_closing_that_is_under_way_is_waited_for(self, runner: ThreadRunner) -> None:
        """Pools close some resources in the background."""
        hang, clock = Hang(), ManualClock()
        factory = ScriptedFactory(close=[hang])
        pool = FastPool(1, factory=factory, idle_timeout=10, clock=clock)
        with pool.lease():
            pass
        clock.advance(11, settle=0)
        hang.reached()
        assert len(factory.open) == factory.peak == 1
        waiter = runner.start(factory.assert_all_closed).parked()
        hang.release()
        waiter.result()
        pool.close()

    def test_a_close_that_fails_counts_as_one(self) -> None:
        """The pool will not come back to that resource."""
        factory = ScriptedFactory(close=[OSError("on close")])
        with FastPool(1, factory=factory) as pool, pool.lease():
            pass
        factory.assert_all_closed()
        assert isinstance(factory.calls[-1].outcome, OSError)


# ---- The fixture --------------------------------------------------------------------------------

HEAD = """
import gc, threading
import pytest
from fastpool import FastPool
from fastpool.testing import Resource

kept = []
shared = FastPool(2, factory=Resource, name="shared", idle_timeout=None)

@pytest.fixture
def pool():
    with FastPool(2, factory=Resource, name="closed-by-a-fixture") as pool:
        yield pool
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run pytest on a test's source, with the fixture for all tests, in a process of its own."""

    def run(source: str, *, settings: str = "usefixtures = no_pool_leaks") -> Any:
        (tmp_path / "pytest.ini").write_text(f"[pytest]\n{settings}\n")
        (tmp_path / "conftest.py").write_text('pytest_plugins = ["fastpool.testing.fixtures"]\n')
        (tmp_path / "test_it.py").write_text(HEAD + source)
        ignore = ("-p", "no:cacheprovider", "-W", "ignore::ResourceWarning")
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *ignore, str(tmp_path)],
            cwd=tmp_path,
            env={**os.environ, **PLAIN, "PYTHONPATH": str(HOME), "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=50,
        )

    return run


CLEAN = """
def test_it(pool):
    with pool.lease(), shared.lease():
        pass
    open_ = FastPool(1, factory=Resource)
    kept.append(open_)
    with open_.lease():
        pass
    queue = FastPool()
    queue.put(1)

def test_of_a_lease_held_by_others():
    kept.append(shared.acquire())

def test_after_it():
    with shared.lease():
        pass

def test_of_one_about_to_come_back():
    lease, back = shared.acquire(), threading.Event()
    kept.append(threading.Timer(0.05, lease.release))
    kept[-1].start()
"""


def test_clean_tests_pass(run: Run) -> None:
    """Idle resources are no leak, nor is what came before the test; the one leak is told once."""
    done = run(CLEAN)
    assert re.search(r"^4 passed, 1 error in", done.stdout, re.M), done.stdout
    assert "ERROR at teardown of test_of_a_lease_held_by_others" in done.stdout
    assert "fastpool 'shared' (open): 1 of 1 resources is still leased:" in done.stdout


LEAKS = {
    "held": (
        """
def test_it():
    pool = FastPool(3, factory=Resource, name="db", leak_after=60)
    kept.append((pool, pool.acquire(), pool.get()))
""",
        [
            r"fastpool 'db' \(open\): 2 of 2 resources are still leased:",
            r"  <resource 0>, by MainThread for \S+ s at .*test_it\.py:\d+ in test_it",
        ],
    ),
    "untracked": (
        """
def test_it():
    pool = FastPool(3, factory=Resource, name="db")
    kept.append((pool, pool.get()))
""",
        [r"  <resource 0>, by MainThread for \S+ s$", r"\(leak_after= on the pool shows where"],
    ),
    "held by a closed pool": (
        """
def test_it():
    pool = FastPool(3, factory=Resource, name="db")
    kept.append((pool, pool.get()))
    pool.close(timeout=0)
""",
        [r"fastpool 'db' \(closed\): 1 of 1 resources is still leased:"],
    ),
    "lost": (
        """
def test_it():
    pool = FastPool(3, factory=Resource, name="db")
    kept.append(pool)
    pool.acquire()
""",
        [r"fastpool 'db': 1 lease collected unreleased"],
    ),
    "lost in a cycle": (
        """
def test_it():
    pool = FastPool(3, factory=Resource, name="db")
    kept.append(pool)
    cycle = [pool.acquire()]
    cycle.append(cycle)
""",
        [r"fastpool 'db': 1 lease collected unreleased"],
    ),
    "lost with its pool": (
        """
def test_it():
    pool = FastPool(3, factory=Resource, name="db")
    lease = pool.acquire()
""",
        [r"fastpool 'db': 1 lease collected unreleased"],
    ),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_leak_fails_its_test(run: Run, leak: str) -> None:
    """The message names the pool, how many, who and for how long; the next test is not blamed."""
    source, says = LEAKS[leak]
    done = run(source + "\n\ndef test_next():\n    pass\n")
    assert re.search(r"^2 passed, 1 error in", done.stdout, re.M), done.stdout
    assert "ERROR at teardown of test_it" in done.stdout
    for line in says:
        assert re.search(line, done.stdout, re.M), done.stdout
    assert "Traceback" not in done.stdout and "_leaks.py" not in done.stdout


def test_only_tests_that_ask_for_it_are_watched(run: Run) -> None:
    """The control: without the fixture the same test passes."""
    source, _ = LEAKS["lost"]
    done = run(source, settings="")
    assert re.search(r"^1 passed in", done.stdout, re.M), done.stdout


def test_the_fixture_needs_pytest_and_says_so() -> None:
    """One line; the rest of fastpool.testing does not import it."""
    code = (
        "import sys; sys.modules['pytest'] = None; import fastpool.testing\n"
        "try: import fastpool.testing.fixtures\nexcept ImportError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(HOME)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "fastpool.testing.fixtures needs pytest: pip install pytest\n"
