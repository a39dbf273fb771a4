"""Every option of FastPool's table has an effect that can be seen; hooks and limits by clock."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastpool import PoolOverloaded, PoolTimeout
from support.callers import FastPool
from support.helpers import GIL, PATIENCE, Maker, ThreadRunner, eventually, states, works

pytestmark = pytest.mark.usefixtures("caller_kind")

option = pytest.mark.option

#: The contract's table. Each has a test here, in test_fairness.py or in test_options_of_time.py.
TABLE = {
    "maxsize", "min_idle", "max_idle", "order", "timeout", "create_timeout", "hook_timeout",
    "max_creating", "check", "check_after", "keepalive", "reset", "idle_timeout", "max_lifetime",
    "max_uses", "max_waiting", "fairness", "leak_after", "discard_on", "name",
}  # fmt: skip


def _shown(file: str) -> Iterator[str]:
    """The options whose effect the tests of a file show, by their marks."""
    for node in ast.walk(ast.parse(Path(__file__).with_name(file).read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "option",
            "pytest.mark.option",
        ):
            yield from (ast.literal_eval(arg) for arg in node.args)


@pytest.mark.threads_only("there is no call in it")
def test_every_option_of_the_table_is_shown() -> None:
    """No option of the contract is without a test of its effect."""
    files = ("test_options.py", "test_fairness.py", "test_options_of_time.py")
    assert {name for file in files for name in _shown(file)} == TABLE


@option("maxsize")
def test_maxsize_is_ten_with_a_factory_and_unbounded_without() -> None:
    """The defaults: ten resources, or a queue of any length."""
    pool: Any = FastPool(factory=object)
    assert pool.maxsize == 10
    taken = [pool.get() for _ in range(10)]
    with pytest.raises(PoolTimeout):
        pool.get(timeout=0)
    for resource in taken:
        pool.put(resource)
    pool.close()
    assert FastPool().maxsize == 0


@option("min_idle")
def test_min_idle_is_made_without_being_asked_for(accounted: Any, clock: Any) -> None:
    """So many are opened in the background, again after some were taken, within maxsize."""
    pool, maker = accounted(4, min_idle=2, clock=clock)
    eventually(lambda: states(pool) == {"idle": 2})
    first = pool.get()
    clock.advance(1)  # the scheduler looks now and then: see test_real_time.py
    eventually(lambda: states(pool) == {"idle": 2, "leased": 1})
    taken = [first, pool.get(), pool.get()]
    clock.advance(1)
    eventually(lambda: states(pool) == {"idle": 1, "leased": 3})
    assert maker.made == 4
    for resource in taken:
        pool.put(resource)


@option("min_idle")
def test_min_idle_is_retried_after_failures(accounted: Any) -> None:
    """A factory that fails at first is tried again until the resources are there."""
    maker = Maker()
    maker.script.extend([OSError("down"), OSError("still down")])
    pool, _ = accounted(2, maker=maker, min_idle=1)
    eventually(lambda: states(pool) == {"idle": 1})
    assert maker.calls == 3


@option("max_idle")
def test_max_idle_closes_the_surplus_on_return(accounted: Any) -> None:
    """Of what comes back only so many are kept."""
    pool, maker = accounted(4, max_idle=1)
    taken = [pool.get() for _ in range(4)]
    for resource in taken:
        pool.put(resource)
    eventually(lambda: maker.closed == 3 and states(pool) == {"idle": 1})


@option("max_idle")
def test_max_idle_closes_what_was_idle_longest(accounted: Any, clock: Any) -> None:
    """Of what became idle without being returned: opened ahead of demand, for instance."""
    pool, maker = accounted(4, max_idle=2, clock=clock)
    for n in range(1, 5):
        pool.warm(n)
        clock.ticks.advance(1)
    clock.advance(0)
    eventually(lambda: states(pool) == {"idle": 2})
    assert set(maker.closings) == set(maker.all[:2])
    assert pool.stats().closed == {"surplus": 2}


@option("max_idle")
def test_max_idle_zero_keeps_nothing(accounted: Any) -> None:
    """Each return closes, unless somebody waits for the resource."""
    pool, maker = accounted(1, max_idle=0)
    pool.put(pool.get())
    eventually(lambda: maker.closed == 1 and states(pool) == {})


@option("max_idle")
def test_max_idle_zero_still_hands_over(accounted: Any, runner: ThreadRunner) -> None:
    """What a waiter takes was never surplus."""
    pool, maker = accounted(1, max_idle=0)
    resource = pool.get()
    waiter = runner.start(pool.get)
    eventually(lambda: pool.stats().waiting == 1)
    pool.put(resource)
    assert waiter.result() is resource and maker.closed == 0
    pool.put(resource)


@option("order")
@pytest.mark.skipif(not GIL, reason="free-threaded: order is a preference in pool use")
def test_order_says_which_idle_one_is_next(accounted: Any) -> None:
    """ "lifo" lends the freshest, "fifo" the one that has rested longest."""
    for order, expected in (("lifo", [2, 1, 0]), ("fifo", [0, 1, 2])):
        pool, maker = accounted(3, order=order)
        taken = [pool.get() for _ in range(3)]
        for resource in taken:
            pool.put(resource)
        assert [pool.get().number for _ in range(3)] == expected
        for resource in taken:
            pool.put(resource)


@option("timeout")
def test_timeout_of_the_pool_bounds_every_call(accounted: Any) -> None:
    """get, acquire and lease use the pool's timeout unless they are given their own."""
    pool, _ = accounted(1, timeout=0.01)
    held = pool.acquire(timeout=5)  # making one takes what it takes
    for take in (pool.get, pool.acquire, pool.lease().__enter__):
        with pytest.raises(PoolTimeout) as caught:
            take()
        assert 0.009 <= caught.value.waited < PATIENCE
    held.release()


@option("timeout")
def test_timeout_none_waits_for_ever(accounted: Any, runner: ThreadRunner) -> None:
    """A call with timeout=None overrides the pool's and waits until it is served."""
    pool, _ = accounted(1, timeout=0.01)
    resource = pool.get(timeout=5)
    waiter = runner.start(pool.get, True, None).parked()
    pool.put(resource)
    pool.put(waiter.result())


@option("max_creating")
def test_max_creating_bounds_the_dial_storm(accounted: Any, runner: ThreadRunner) -> None:
    """However many borrowers come at once, the factory runs so many times at a time."""
    pool, maker = accounted(8, max_creating=2)
    maker.gate.clear()
    tasks = runner.together(8, lambda index: pool.get())
    eventually(lambda: maker.running == 2)
    for task in tasks:
        task.parked()
    assert maker.peak == 2
    maker.gate.set()
    for resource in runner.finish():
        pool.put(resource)
    assert maker.peak == 2 and maker.made == 8


@option("max_creating")
def test_max_creating_is_four_by_default(accounted: Any, runner: ThreadRunner) -> None:
    """A bounded pool opens four at a time."""
    pool, maker = accounted(8)
    maker.gate.clear()
    tasks = runner.together(8, lambda index: pool.get())
    eventually(lambda: maker.running == 4)
    for task in tasks:
        task.parked()
    maker.gate.set()
    for resource in runner.finish():
        pool.put(resource)
    assert maker.peak == 4


@pytest.mark.threads_only("the end of a task's block has its hooks run by a worker")
@option("reset")
def test_reset_runs_at_every_return(accounted: Any) -> None:
    """The hook cleans the resource before anybody else sees it, in the thread that returns it."""
    import threading

    where: list[Any] = []
    pool, maker = accounted(1, reset=lambda resource: where.append(threading.current_thread()))
    pool.put(pool.get())
    with pool.lease():
        pass
    pool.acquire().release()
    assert where == [threading.main_thread()] * 3


@option("reset")
def test_a_failing_reset_closes_the_resource(accounted: Any) -> None:
    """What cannot be cleaned is closed; the one who returns it is not told off."""

    def reset(resource: Any) -> None:
        raise ValueError("dirty")

    pool, maker = accounted(1, reset=reset)
    for ends in (lambda: pool.put(pool.get()), lambda: pool.acquire().release()):
        ends()
    with pool.lease():
        pass
    eventually(lambda: maker.closed == 3 and states(pool) == {})


@option("reset")
def test_reset_is_not_run_on_what_is_closed_anyway(accounted: Any) -> None:
    """A discarded resource is not cleaned first."""
    seen: list[Any] = []
    pool, _ = accounted(1, reset=seen.append)
    pool.discard(pool.get())
    with pytest.raises(OSError), pool.lease():
        raise OSError
    assert seen == []


@option("max_uses")
def test_max_uses_closes_after_so_many_borrowings(accounted: Any) -> None:
    """The last return of a worn resource closes it."""
    pool, maker = accounted(1, max_uses=3)
    numbers = []
    for _ in range(7):
        with pool.lease() as resource:
            numbers.append(resource.number)
    assert numbers == [0, 0, 0, 1, 1, 1, 2]
    eventually(lambda: maker.closed == 2)


@option("max_waiting")
def test_max_waiting_refuses_who_would_make_the_queue_longer(
    accounted: Any, runner: ThreadRunner
) -> None:
    """With so many in the queue the next caller gets PoolOverloaded at once."""
    pool, _ = accounted(1, max_waiting=2)
    resource = pool.get()
    waiters = [runner.start(take_turn, pool) for _ in range(2)]
    eventually(lambda: pool.stats().waiting == 2)
    for take in (pool.get, pool.acquire, pool.lease().__enter__):
        with pytest.raises(PoolOverloaded):
            take()
    pool.put(resource)
    for waiter in waiters:
        waiter.result()
    works(pool, 1)


def take_turn(pool: Any) -> None:
    pool.put(pool.get())


@option("max_waiting")
def test_max_waiting_zero_never_waits_in_queue(accounted: Any) -> None:
    """Go's Wait=false: a creation is waited for, a return is not."""
    pool, _ = accounted(2, max_waiting=0)
    first, second = pool.get(), pool.get()
    with pytest.raises(PoolOverloaded):
        pool.get()
    pool.put(first)
    pool.put(second)
    works(pool, 2)


@option("discard_on")
@pytest.mark.parametrize(
    ("discard_on", "error", "closed"),
    [
        (ValueError, ValueError, True),
        (ValueError, OSError, False),
        (ValueError, UnicodeError, True),
        ((KeyError, TypeError), TypeError, True),
        ((KeyError, TypeError), ValueError, False),
        ((), OSError, False),
        (Exception, PoolTimeout, False),
        (lambda error, resource: str(error) == "broken", ValueError, False),
        (lambda error, resource: str(error) == "plain", ValueError, True),
        (lambda error, resource: "", OSError, False),
        (lambda error, resource: resource.number == 0, ValueError, True),
    ],
)
def test_discard_on_says_which_errors_break(
    accounted: Any, discard_on: Any, error: Any, closed: bool
) -> None:
    """Classes or a callable decide; subclasses count, PoolErrors never do."""
    pool, maker = accounted(1, discard_on=discard_on)
    thrown = error("p", "wait", 0.0, {}) if error is PoolTimeout else error("plain")
    with pytest.raises(error), pool.lease():
        raise thrown
    eventually(lambda: maker.closed == closed and states(pool) == ({} if closed else {"idle": 1}))


@option("discard_on")
def test_a_discard_on_that_raises_closes(accounted: Any) -> None:
    """When nobody can say whether the resource is good it is closed; the first error goes on."""

    def rule(error: BaseException, resource: Any) -> bool:
        raise RuntimeError("no idea")

    pool, maker = accounted(1, discard_on=rule)
    with pytest.raises(ValueError, match="plain"), pool.lease():
        raise ValueError("plain")
    eventually(lambda: maker.closed == 1 and states(pool) == {})


@option("name")
def test_name_stands_in_errors(accounted: Any) -> None:
    """Each error says which pool it comes from."""
    pool, _ = accounted(1, name="the database")
    assert pool.name == "the database"
    held = pool.acquire()
    with pytest.raises(PoolTimeout, match="the database"):
        pool.get(timeout=0)
    held.release()


@option("name")
def test_pools_without_a_name_are_numbered(accounted: Any) -> None:
    """The default is pool-N, different for each pool."""
    names = [accounted(1)[0].name for _ in range(3)]
    assert all(name.startswith("pool-") and name[5:].isdigit() for name in names)
    assert len(set(names)) == 3
