"""How resources are made: for whom, how many at a time, and what a failure means."""

from __future__ import annotations

import time
from typing import Any

import pytest

from fastpool import PoolTimeout
from support.callers import FastPool
from support.helpers import PATIENCE, ThreadRunner, eventually, states, works

pytestmark = pytest.mark.usefixtures("caller_kind")


class TestCreation:
    def test_a_failure_is_raised_to_the_one_it_was_tried_for(self, accounted: Any) -> None:
        """The factory's very exception comes out, with a note that names the pool."""
        pool, maker = accounted(1, name="database")
        failure = ConnectionRefusedError("no server")
        maker.script.append(failure)
        with pytest.raises(ConnectionRefusedError) as caught:
            pool.get()
        assert caught.value is failure
        assert any("database" in note for note in failure.__notes__)
        works(pool, 1)

    def test_each_waiter_has_its_own_try(self, accounted: Any, runner: ThreadRunner) -> None:
        """One failure is one waiter's; the tries of the others follow and succeed."""
        pool, maker = accounted(3, max_creating=1)
        maker.gate.clear()
        maker.script.append(OSError("once"))
        tasks = [runner.start(self._hold, pool).parked() for _ in range(3)]
        eventually(lambda: maker.running == 1)
        maker.gate.set()
        outcomes = []
        for task in tasks:
            try:
                outcomes.append(task.result())
            except OSError as error:
                outcomes.append(str(error))
        assert sorted(outcomes) == ["held", "held", "once"]

    @staticmethod
    def _hold(pool: Any) -> str:
        pool.put(pool.get())
        return "held"

    def test_a_creation_outlives_the_borrower_who_gave_up(self, accounted: Any) -> None:
        """What was being made when the time ran out is kept for the next borrower."""
        pool, maker = accounted(1)
        maker.gate.clear()
        for timeout in (0.02, 0.2, 2, 20):  # until the factory is entered within that time
            with pytest.raises(PoolTimeout) as caught:
                pool.get(timeout=timeout)
            if maker.running:
                break
        assert caught.value.phase == "create"
        assert states(pool) == {"creating": 1}
        maker.gate.set()
        eventually(lambda: states(pool) == {"idle": 1})
        pool.put(pool.get(timeout=0))
        assert maker.made == 1

    def test_a_creation_whose_demand_has_gone_is_skipped(
        self, accounted: Any, runner: ThreadRunner
    ) -> None:
        """A try that waits its turn is not made when its borrower has given up."""
        pool, maker = accounted(5, max_creating=1)
        maker.gate.clear()
        first = runner.start(pool.get)
        eventually(lambda: maker.running == 1)
        for task in [runner.start(self._give_up, pool) for _ in range(3)]:
            task.result()
        maker.gate.set()
        pool.put(first.result())
        eventually(lambda: states(pool) == {"idle": 1})
        assert maker.calls == 1

    @staticmethod
    def _give_up(pool: Any) -> None:
        with pytest.raises(PoolTimeout):
            pool.get(timeout=0.05)

    def test_a_returned_resource_serves_who_waits_for_a_creation(
        self, accounted: Any, runner: ThreadRunner
    ) -> None:
        """Whoever waits takes what comes first: the new one or one that is given back."""
        pool, maker = accounted(2)
        resource = pool.get()
        maker.gate.clear()
        waiter = runner.start(pool.get)
        eventually(lambda: maker.running == 1)
        pool.put(resource)
        assert waiter.result() is resource
        maker.gate.set()
        eventually(lambda: states(pool) == {"idle": 1, "leased": 1})
        pool.put(resource)

    def test_the_timeout_holds_whatever_the_factory_does(self, accounted: Any) -> None:
        """A hanging factory costs the borrower his timeout and no more."""
        pool, maker = accounted(1)
        maker.gate.clear()
        start = time.monotonic()
        with pytest.raises(PoolTimeout):
            pool.get(timeout=0.05)
        assert 0.049 <= time.monotonic() - start < PATIENCE
        maker.gate.set()

    def test_a_failing_factory_is_tried_again_when_asked_again(self, accounted: Any) -> None:
        """Failures leave no trace: the slot is free and the next get tries anew."""
        pool, maker = accounted(1)
        for number in range(3):
            maker.script.append(ValueError(number))
            with pytest.raises(ValueError, match=str(number)):
                pool.get()
        assert states(pool) == {}
        works(pool, 1)

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
    def test_a_factory_may_raise_anything(self, accounted: Any, error: Any) -> None:
        """An exception that is no Exception reaches the borrower too and harms no worker."""
        pool, maker = accounted(1)
        maker.script.append(error())
        with pytest.raises(error):
            pool.get()
        works(pool, 1)

    def test_factory_objects_bring_their_hooks(self, clock: Any) -> None:
        """An object with create, close, check and reset needs no further options."""
        seen: list[str] = []

        class Factory:
            def create(self) -> object:
                seen.append("create")
                return object()

            def check(self, resource: object) -> None:
                seen.append("check")

            def reset(self, resource: object) -> None:
                seen.append("reset")

            def close(self, resource: object) -> None:
                seen.append("close")

        pool: Any = FastPool(1, factory=Factory(), check_after=0, clock=clock)
        for turn in (1, 2):
            pool.put(pool.get())
            eventually(lambda turn=turn: seen.count("reset") == turn)  # a task's: on a worker
        pool.close()
        assert seen == ["create", "reset", "check", "reset", "close"]

    def test_keyword_hooks_override_those_of_the_object(self) -> None:
        """A hook given by keyword is used in place of the factory object's."""
        seen: list[str] = []

        class Factory:
            def create(self) -> object:
                return object()

            def close(self, resource: object) -> None:
                seen.append("object")

        pool: Any = FastPool(1, factory=Factory(), close=lambda resource: seen.append("keyword"))
        pool.put(pool.get())
        pool.close()
        assert seen == ["keyword"]
