"""WeightedSemaphore: Go's semaphore.Weighted for threads and tasks, by threads, tasks and both."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest

import fastpool
from fastpool import PoolClosed, PoolError, PoolOverloaded, PoolTimeout
from support.callers import WeightedSemaphore
from support.helpers import PATIENCE, Task, ThreadRunner, eventually

pytestmark = pytest.mark.usefixtures("caller_kind")


def queued_up(semaphore: Any, runner: ThreadRunner, *requests: int) -> list[Task]:
    """Callers who wait for so many units each, in this order."""
    begun = []
    for n in requests:
        before = semaphore.waiting
        begun.append(runner.start(semaphore.acquire, n))
        eventually(lambda wanted=before + 1: semaphore.waiting == wanted)
    return begun


def all_free(semaphore: Any) -> None:
    """Nothing was lost: all of it can be taken at once, and nobody waits."""
    assert semaphore.in_use == 0 and semaphore.waiting == 0
    assert semaphore.try_acquire(semaphore.size)
    semaphore.release(semaphore.size)


class TestAsInGo:
    """Each rule of golang.org/x/sync/semaphore."""

    def test_acquire_takes_and_release_gives_back(self) -> None:
        semaphore = WeightedSemaphore(10)
        semaphore.acquire(7)
        semaphore.acquire()
        assert semaphore.in_use == 8
        semaphore.release(3)
        semaphore.release(5)
        all_free(semaphore)

    def test_try_acquire_says_whether_it_took(self) -> None:
        semaphore = WeightedSemaphore(2)
        assert [semaphore.try_acquire(n) for n in (1, 2, 1, 1)] == [True, False, True, False]
        semaphore.release(2)
        all_free(semaphore)

    def test_try_acquire_fails_while_anyone_waits_even_with_units_free(
        self, runner: ThreadRunner
    ) -> None:
        semaphore = WeightedSemaphore(3)
        semaphore.acquire(2)
        queued_up(semaphore, runner, 3)
        assert not semaphore.try_acquire(1) and semaphore.in_use == 2
        semaphore.release(2)
        runner.finish()
        semaphore.release(3)
        all_free(semaphore)

    def test_waiters_are_served_first_come_first_served(self, runner: ThreadRunner) -> None:
        semaphore = WeightedSemaphore(1)
        semaphore.acquire()
        order: list[int] = []

        def wait(number: int) -> None:
            semaphore.acquire()
            order.append(number)
            semaphore.release()

        for number in range(5):
            runner.start(wait, number)
            eventually(lambda wanted=number + 1: semaphore.waiting == wanted)
        semaphore.release()
        runner.finish()
        assert order == [0, 1, 2, 3, 4]

    def test_a_big_head_keeps_smaller_ones_waiting_and_is_not_starved(
        self, runner: ThreadRunner
    ) -> None:
        """The trap: small requests that always fit would overtake the big one for ever."""
        semaphore = WeightedSemaphore(10)
        semaphore.acquire(6)
        (big,) = queued_up(semaphore, runner, 5)
        small = queued_up(semaphore, runner, 1, 1, 1)  # 4 are free, and they wait all the same
        assert semaphore.in_use == 6 and semaphore.waiting == 4
        semaphore.release(2)
        big.result()
        small[0].result()
        assert semaphore.in_use == 10 and semaphore.waiting == 2  # 4 + 5, and one more that fits
        semaphore.release(9)
        runner.finish()
        semaphore.release(semaphore.in_use)
        all_free(semaphore)

    def test_one_release_wakes_as_many_as_fit(self, runner: ThreadRunner) -> None:
        semaphore = WeightedSemaphore(10)
        semaphore.acquire(10)
        tasks = queued_up(semaphore, runner, 2, 3, 4, 5)
        semaphore.release(10)
        for task in tasks[:3]:
            task.result()
        assert semaphore.in_use == 9 and semaphore.waiting == 1
        semaphore.release(4)
        runner.finish()
        semaphore.release(10)
        all_free(semaphore)

    def test_any_thread_or_task_may_release(self, runner: ThreadRunner) -> None:
        semaphore = WeightedSemaphore(4)
        semaphore.acquire(4)
        runner.start(semaphore.release, 4).result()
        all_free(semaphore)

    def test_nothing_asked_for_waits_its_turn(self, runner: ThreadRunner) -> None:
        """As in Go: 0 units are free at any time, but not past those who wait."""
        semaphore = WeightedSemaphore(2)
        semaphore.acquire(0)
        assert semaphore.try_acquire(0)
        semaphore.acquire(2)
        semaphore.acquire(0)
        queued_up(semaphore, runner, 1, 0)
        assert not semaphore.try_acquire(0)
        semaphore.release(2)
        runner.finish()
        semaphore.release(0)
        semaphore.release(1)
        all_free(semaphore)


class TestCuredOfGo:
    """What Go's does and ours does better."""

    def test_more_than_there_is_is_refused_at_once(self) -> None:
        """Go's Acquire waits for the end of its context."""
        semaphore = WeightedSemaphore(3, name="seats")
        for call in (semaphore.acquire, semaphore.try_acquire, semaphore.hold, semaphore.release):
            with pytest.raises(ValueError, match="seats: n is 4, and there are only 3 units"):
                call(4)
            with pytest.raises(ValueError, match="only 3 units"):
                call(2**70)
        all_free(semaphore)

    def test_a_release_too_many_is_an_error_and_changes_nothing(self) -> None:
        """Go's panics after it has changed the count.  Twice: the first error must not count."""
        semaphore = WeightedSemaphore(5)
        semaphore.acquire(2)
        for _ in range(2):
            with pytest.raises(ValueError, match=r"release\(3\) gives back more than is taken"):
                semaphore.release(3)
        assert semaphore.in_use == 2
        semaphore.release(2)
        with pytest.raises(ValueError, match=r"release\(1\)"):
            semaphore.release()
        all_free(semaphore)

    def test_a_head_that_gives_up_lets_those_behind_it_proceed(self, runner: ThreadRunner) -> None:
        """The trap: they fit already, and nobody would ever wake them."""
        semaphore = WeightedSemaphore(10)
        for span in (0.03, 0.3, 3.0):  # on a busy machine those behind may come too late
            semaphore.acquire(6)
            head = runner.start(lambda span=span: semaphore.acquire(5, timeout=span))
            eventually(lambda head=head: semaphore.waiting == 1 or not head.running)
            behind = [runner.start(semaphore.acquire, 2) for _ in range(2)]
            eventually(lambda head=head: semaphore.waiting == 3 or not head.running)
            in_time = semaphore.waiting == 3
            with pytest.raises(PoolTimeout):
                head.result()
            for task in behind:
                task.result()
            assert semaphore.in_use == 10 and semaphore.waiting == 0
            semaphore.release(10)
            all_free(semaphore)
            if in_time:
                return
        pytest.fail("nobody came in time to stand behind the head")


class TestTimeouts:
    def test_a_timeout_says_what_was_wanted_and_what_there_is(self) -> None:
        semaphore = WeightedSemaphore(5, name="bytes")
        semaphore.acquire(4)
        with pytest.raises(PoolTimeout, match=r"bytes: no 2 units within .* s; 4 of 5 in use") as e:
            semaphore.acquire(2, 0.01)
        assert e.value.phase == "wait" and e.value.waited >= 0.009
        assert isinstance(e.value, TimeoutError)
        semaphore.release(4)
        all_free(semaphore)

    def test_zero_tries(self) -> None:
        semaphore = WeightedSemaphore(1)
        semaphore.acquire(timeout=0)
        with pytest.raises(PoolTimeout):
            semaphore.acquire(timeout=0)
        with pytest.raises(PoolTimeout):
            with semaphore.hold(timeout=0):
                raise AssertionError("not entered")
        semaphore.release()
        all_free(semaphore)

    @pytest.mark.parametrize("bad", [-1, float("nan"), "1", object()])
    def test_a_bad_timeout_is_an_error_though_nobody_would_wait(self, bad: Any) -> None:
        semaphore = WeightedSemaphore(1)
        for call in (semaphore.acquire, semaphore.hold):
            with pytest.raises((TypeError, ValueError), match="timeout"):
                call(1, bad)
        all_free(semaphore)


class TestHolds:
    def test_a_block_takes_and_gives_back(self) -> None:
        semaphore = WeightedSemaphore(4)
        hold = semaphore.hold(3)
        assert semaphore.in_use == 0 and hold.n == 3
        with hold:
            assert semaphore.in_use == 3
        with pytest.raises(ZeroDivisionError), semaphore.hold(2):
            raise ZeroDivisionError
        all_free(semaphore)

    def test_entered_once(self) -> None:
        semaphore = WeightedSemaphore(4)
        hold = semaphore.hold()
        with hold:
            with pytest.raises(PoolError, match="entered once"):
                hold.__enter__()
        with pytest.raises(PoolError, match="entered once"):
            hold.__enter__()
        all_free(semaphore)

    def test_released_before_the_end_of_the_block(self) -> None:
        """Once: the end of the block gives nothing back a second time."""
        semaphore = WeightedSemaphore(4)
        semaphore.acquire(1)
        hold = semaphore.hold(2)
        with pytest.raises(PoolError, match="not entered yet"):
            hold.release()
        with hold:
            hold.release()
            assert semaphore.in_use == 1
            with pytest.raises(PoolError, match="has been released"):
                hold.release()
        assert semaphore.in_use == 1
        semaphore.release()
        all_free(semaphore)

    def test_two_who_wait_with_one_hold(self, runner: ThreadRunner) -> None:
        """One gets it, the other an error, and nothing is lost."""
        semaphore = WeightedSemaphore(1)
        semaphore.acquire()
        hold = semaphore.hold()
        tasks = []
        for waiting in (1, 2):
            tasks.append(runner.start(hold.__enter__))
            eventually(lambda wanted=waiting: semaphore.waiting == wanted)
        semaphore.release()
        tasks[0].result()
        hold.release()
        with pytest.raises(PoolError, match="entered once"):
            tasks[1].result()
        all_free(semaphore)

    def test_released_by_many_at_once(self, runner: ThreadRunner) -> None:
        """A hold is given back once, whoever does it: the trap of the double release."""
        semaphore = WeightedSemaphore(8)
        semaphore.acquire(4)
        for _ in range(50):
            hold = semaphore.hold(2)
            hold.__enter__()
            outcomes = []

            def give(_: int, hold: Any = hold, outcomes: list[bool] = outcomes) -> None:
                try:
                    hold.release()
                except PoolError:
                    outcomes.append(False)
                else:
                    outcomes.append(True)

            for task in runner.together(3, give):
                task.result()
            assert sorted(outcomes) == [False, False, True] and semaphore.in_use == 4
        semaphore.release(4)
        all_free(semaphore)


class TestLimits:
    def test_max_waiting(self, runner: ThreadRunner) -> None:
        semaphore = WeightedSemaphore(1, max_waiting=1)
        assert semaphore.max_waiting == 1 and WeightedSemaphore(1).max_waiting is None
        semaphore.acquire()
        queued_up(semaphore, runner, 1)
        with pytest.raises(
            PoolOverloaded, match="1 wait in the queue already, and max_waiting is 1"
        ):
            semaphore.acquire()
        semaphore.release()
        runner.finish()
        semaphore.release()
        all_free(semaphore)

    def test_close_wakes_all_who_wait(self, runner: ThreadRunner) -> None:
        semaphore = WeightedSemaphore(2)
        semaphore.acquire(2)
        tasks = queued_up(semaphore, runner, 1, 2)
        semaphore.close()
        semaphore.close()
        for task in tasks:
            with pytest.raises(PoolClosed):
                task.result()
        with pytest.raises(PoolClosed):
            semaphore.acquire()
        assert semaphore.closed and not semaphore.try_acquire()
        semaphore.release(2)
        assert semaphore.in_use == 0 and not semaphore.try_acquire()


class TestConstruction:
    @pytest.mark.parametrize("bad", [True, 1.5, "3", None])
    def test_what_is_no_whole_number(self, bad: Any) -> None:
        with pytest.raises(TypeError, match="size must be a whole number"):
            WeightedSemaphore(bad)
        semaphore = WeightedSemaphore(3)
        for call in (semaphore.acquire, semaphore.try_acquire, semaphore.release, semaphore.hold):
            with pytest.raises(TypeError, match=f"n must be a whole number, not {bad!r}"):
                call(bad)
        all_free(semaphore)

    def test_what_is_out_of_range(self) -> None:
        for size in (0, -1, 2**62 + 1):
            with pytest.raises(ValueError, match=f"not {size}"):
                WeightedSemaphore(size)
        for most in (-1, -(2**70)):
            with pytest.raises(ValueError, match="max_waiting"):
                WeightedSemaphore(1, max_waiting=most)
        semaphore = WeightedSemaphore(3)
        for call in (semaphore.acquire, semaphore.try_acquire, semaphore.release, semaphore.hold):
            with pytest.raises(ValueError, match="not -1"):
                call(-1)
        all_free(semaphore)

    def test_numbers_of_other_kinds(self) -> None:
        class Two:
            def __index__(self) -> int:
                return 2

        semaphore = WeightedSemaphore(Two())
        semaphore.acquire(Two())
        assert semaphore.in_use == semaphore.size == 2
        semaphore.release(Two())
        all_free(semaphore)

    def test_the_largest(self) -> None:
        semaphore = WeightedSemaphore(2**62)
        semaphore.acquire(2**62)
        assert not semaphore.try_acquire()
        semaphore.release(2**62)
        all_free(semaphore)

    def test_once(self) -> None:
        semaphore = fastpool.WeightedSemaphore(1)
        with pytest.raises(RuntimeError):
            semaphore.__init__(2)  # type: ignore[misc]
        with pytest.raises(TypeError, match="hold"):
            fastpool.SemaphoreHold()

    def test_names_and_repr(self) -> None:
        semaphore = fastpool.WeightedSemaphore(3, name="seats")
        with semaphore.hold(2) as hold:
            assert repr(semaphore) == "<WeightedSemaphore 'seats': 2 of 3 in use, 0 waiting>"
            assert repr(hold) == "<SemaphoreHold of 2 of 'seats': held>"
        semaphore.close()
        assert "closed" in repr(semaphore)
        one, two = fastpool.WeightedSemaphore(1), fastpool.WeightedSemaphore(1)
        assert one.name != two.name and one.name.startswith("semaphore-")


@pytest.mark.threads_only("there is nothing to wait for")
class TestCollection:
    def test_a_hold_that_is_dropped_gives_back_and_warns(self) -> None:
        semaphore = fastpool.WeightedSemaphore(3, name="seats")
        semaphore.hold(3)  # not entered: nothing to say
        hold = semaphore.hold(2)
        hold.__enter__()
        with pytest.warns(ResourceWarning, match="seats: a hold of 2 was collected unreleased"):
            del hold
            gc.collect()
        all_free(semaphore)

    def test_a_hold_keeps_its_semaphore(self) -> None:
        semaphore = fastpool.WeightedSemaphore(3)
        seen = weakref.ref(semaphore)
        hold = semaphore.hold(2)
        with hold:
            del semaphore
            gc.collect()
            assert seen() is not None
        del hold
        gc.collect()
        assert seen() is None

    def test_a_semaphore_in_a_cycle_is_collected(self) -> None:
        class Mine(fastpool.WeightedSemaphore):
            me: Any

        semaphore = Mine(3)
        semaphore.me = semaphore, semaphore.hold(1)
        seen = weakref.ref(semaphore)
        del semaphore
        gc.collect()
        assert seen() is None

    def test_released_by_a_finaliser_inside_an_acquire(self) -> None:
        """Re-entrant: the finaliser runs while this very thread takes units."""
        semaphore = fastpool.WeightedSemaphore(1000)

        class Trash:
            def __init__(self) -> None:
                semaphore.acquire()
                self.me = self

            def __del__(self) -> None:
                semaphore.release()

        for _ in range(2000):
            if not semaphore.try_acquire():
                gc.collect()
                continue
            semaphore.release()
            Trash()
        gc.collect()
        all_free(semaphore)


def test_conservation_from_many_callers(runner: ThreadRunner) -> None:
    """Never more than all of it, nobody is stuck, and all of it is there at the end."""
    semaphore = WeightedSemaphore(7)
    lock = threading.Lock()
    held = worst = 0

    def work(seed: int) -> None:
        nonlocal held, worst
        for i in range(60):
            n = (seed * 31 + i * 17) % 7 + 1
            try:
                with semaphore.hold(n, PATIENCE if i % 3 else 0.0003):
                    with lock:
                        held += n
                        worst = max(worst, held)
                    with lock:
                        held -= n
            except PoolTimeout:
                assert i % 3 == 0

    runner.together(6, work)
    runner.finish()
    assert held == 0 and 0 < worst <= 7
    all_free(semaphore)
