"""`CallPolicy` as a decorator: budgets, the order of its parts, and what it is put on."""

from __future__ import annotations

import asyncio
import functools
import inspect
import pickle
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from fastpool.calls import (
    CallError,
    CallPolicy,
    CircuitBreaker,
    CircuitOpen,
    DeadlineExceeded,
    Limit,
    Overloaded,
    Retry,
    budget,
    remaining,
)
from fastpool.testing import ManualClock
from support.helpers import ThreadRunner

# ---- what it is put on --------------------------------------------------------------------------


def test_a_function_keeps_its_name_signature_and_result() -> None:
    @CallPolicy(timeout=5, retry=Retry(), breaker=CircuitBreaker(), limit=Limit(2))
    def add(one: int, *, other: int = 2) -> int:
        """Adds."""
        return one + other

    assert add(1) == 3 and add(1, other=4) == 5
    assert (add.__name__, add.__doc__) == ("add", "Adds.")
    assert str(inspect.signature(add)) == "(one: 'int', *, other: 'int' = 2) -> 'int'"


def test_a_coroutine_function_stays_one(run: Callable[..., Any]) -> None:
    @CallPolicy(timeout=5, retry=Retry(), breaker=CircuitBreaker(), limit=Limit(2))
    async def add(one: int, other: int = 2) -> int:
        await asyncio.sleep(0)
        return one + other

    assert inspect.iscoroutinefunction(add)
    assert run(add(1, other=4)) == 5


def test_methods_and_other_callables(run: Callable[..., Any]) -> None:
    policy = CallPolicy(timeout=5)

    class Service:
        def __init__(self, base: int) -> None:
            self.base = base

        @policy
        def plus(self, n: int) -> int:
            return self.base + n

        @policy(idempotent=True)
        async def times(self, n: int) -> int:
            return self.base * n

        def __call__(self, n: int) -> int:
            return self.base - n

    class Async:
        async def __call__(self) -> int:
            return 7

    service = Service(10)
    assert service.plus(1) == 11
    assert run(service.times(2)) == 20
    assert policy(service)(3) == 7
    assert policy(functools.partial(service.plus, 5))() == 15
    assert run(policy(functools.partial(service.times, 5))()) == 50
    assert run(policy(Async())()) == 7
    assert policy(int)("3") == 3
    assert policy(len)("abc") == 3


def test_generators_are_refused_when_they_are_decorated() -> None:
    def count() -> Iterator[int]:
        yield 1

    async def acount() -> AsyncIterator[int]:
        yield 1

    for function in (count, acount, functools.partial(count)):
        with pytest.raises(TypeError, match="is a generator function, and a policy cannot tell"):
            CallPolicy()(function)


def test_what_returns_an_awaitable_is_found_out_at_its_call() -> None:
    async def work() -> None:
        pass

    policy = CallPolicy(limit=Limit(1), breaker=CircuitBreaker())
    for function in (lambda: work(), lambda: (n for n in "ab"), lambda: Awaitable()):
        with pytest.raises(TypeError, match="its call is not over when it returns"):
            policy(function)()
    assert policy.stats().limit is not None and policy.stats().limit.in_use == 0


class Awaitable:
    def __await__(self) -> Iterator[None]:
        yield


@pytest.mark.parametrize("wrong", [None, 3, "f"])
def test_only_functions_can_be_decorated(wrong: Any) -> None:
    with pytest.raises(TypeError, match="a policy is put on a function"):
        CallPolicy()(idempotent=True)(wrong)


def test_wrap_wants_a_channel() -> None:
    with pytest.raises(TypeError, match=r"wrap\(\) takes a grpc.Channel or a grpc.aio.Channel"):
        CallPolicy().wrap(print)
    with pytest.raises(TypeError, match="idempotent must be a collection of methods"):
        CallPolicy().wrap(print, idempotent="/a.B/C")
    with pytest.raises(ValueError, match="neither '/package"):
        CallPolicy().wrap(print, idempotent=["a/b/c"])


# ---- time ---------------------------------------------------------------------------------------


def test_without_a_timeout_there_is_no_budget() -> None:
    assert CallPolicy()(remaining)() is None


def test_a_function_sees_what_is_left(clock: ManualClock) -> None:
    seen = []

    @CallPolicy(timeout=5, clock=clock)
    def call() -> None:
        seen.append(remaining())
        clock.advance(2)
        seen.append(remaining())
        clock.advance(9)
        seen.append(remaining())

    call()  # late, but done: its result is worth more than an error
    assert seen == [5.0, 3.0, 0.0]
    assert remaining() is None


@pytest.mark.parametrize(("outer", "inner", "sees"), [(5, 2, 2.0), (2, 5, 2.0), (5, None, 5.0)])
def test_nested_calls_have_the_smaller_budget(
    clock: ManualClock, outer: float, inner: float | None, sees: float
) -> None:
    nested = CallPolicy(timeout=inner, clock=clock)(remaining)
    call = CallPolicy(timeout=outer, clock=clock)(lambda: (nested(), remaining()))
    assert call() == (sees, outer)


def test_nested_calls_on_other_clocks_agree_on_what_is_left(clock: ManualClock) -> None:
    nested = CallPolicy(timeout=60)(remaining)
    left = CallPolicy(timeout=50, clock=clock)(nested)()
    assert left is not None and 30 < left <= 50


def test_nothing_is_begun_when_no_time_is_left(clock: ManualClock) -> None:
    breaker = CircuitBreaker(clock=clock)
    calls: list[int] = []
    inner = CallPolicy(breaker=breaker, clock=clock, name="inner")
    nested = inner(name="nested")(calls.append)

    @CallPolicy(timeout=5, clock=clock)
    def call() -> None:
        clock.advance(5)
        nested(1)

    with pytest.raises(DeadlineExceeded) as caught:
        call()
    assert calls == [] and caught.value.phase == "start"
    assert caught.value.text == "not begun: no time was left (of 0 s)"
    assert str(caught.value).startswith("nested: not begun")
    assert breaker.stats().calls == 0
    assert (inner.stats().calls, inner.stats().expired) == (1, 1)


def test_a_coroutine_is_cancelled_at_the_deadline(run: Callable[..., Any]) -> None:
    cancelled = []
    policy = CallPolicy(timeout=0.01)

    @policy(name="slow")
    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    with pytest.raises(TimeoutError) as caught:
        run(slow())
    assert isinstance(caught.value, DeadlineExceeded) and caught.value.phase == "call"
    assert str(caught.value).startswith("slow: 0.01 s were over after ")
    assert cancelled == [True] and policy.stats().expired == 1


def test_a_cancelled_task_is_cancelled_and_not_late(run: Callable[..., Any]) -> None:
    policy = CallPolicy(timeout=60, breaker=CircuitBreaker(), retry=Retry(3, on=BaseException))

    @policy(idempotent=True)
    async def slow() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(slow())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    stats = policy.stats()
    assert (stats.cancelled, stats.failed, stats.retries) == (1, 0, 0)


def test_who_is_cancelled_at_the_deadline_is_cancelled(run: Callable[..., Any]) -> None:
    """Both at once: as with `asyncio.timeout`, the cancellation from outside wins."""

    @CallPolicy(timeout=0.01)
    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            asyncio.get_running_loop().call_soon(task.cancel)
            await asyncio.sleep(1)  # ended by the second one

    async def main() -> None:
        nonlocal task
        task = asyncio.create_task(slow())
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    task: asyncio.Task[None]
    run(main())


def test_a_result_in_spite_of_the_deadline_is_a_result(run: Callable[..., Any]) -> None:
    @CallPolicy(timeout=0.01)
    async def stubborn() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
        return "done"

    async def main() -> None:
        assert await stubborn() == "done"
        task = asyncio.current_task()
        assert task is not None and task.cancelling() == 0  # and no trace is left
        await asyncio.sleep(0)

    run(main())


def test_a_time_out_of_the_function_itself_is_passed_on(run: Callable[..., Any]) -> None:
    own = TimeoutError("mine")

    @CallPolicy(timeout=60)
    async def call() -> None:
        raise own

    with pytest.raises(TimeoutError) as caught:
        run(call())
    assert caught.value is own


def test_a_deadline_in_a_nested_coroutine_is_that_of_the_inner_call(
    run: Callable[..., Any],
) -> None:
    @CallPolicy(timeout=0.01)(name="inner")
    async def inner() -> None:
        await asyncio.Event().wait()

    @CallPolicy(timeout=60)(name="outer")
    async def outer() -> str:
        try:
            await inner()
        except DeadlineExceeded as error:
            return error.call
        return "nothing"

    assert run(outer()) == "inner"


def test_budgets_go_along_with_tasks_and_to_thread_but_not_with_threads(
    run: Callable[..., Any], runner: ThreadRunner
) -> None:
    @CallPolicy(timeout=50)
    async def call() -> list[float | None]:
        async def task() -> float | None:
            return remaining()

        bare = runner.start(remaining)
        return [
            await asyncio.create_task(task()),
            await asyncio.to_thread(remaining),
            await asyncio.to_thread(bare.result),
        ]

    one, other, bare = run(call())
    assert 40 < one <= 50 and 40 < other <= 50 and bare is None


def test_a_budget_by_hand_bounds_and_lifts() -> None:
    with budget(50):
        assert 30 < (remaining() or 0) <= 50
        with budget(600):
            assert (remaining() or 999) <= 50
        with budget(None):
            assert remaining() is None
        with pytest.raises(DeadlineExceeded), budget(0):
            CallPolicy()(print)("never")
    assert remaining() is None
    for wrong, error in ((-1, ValueError), ("5", TypeError), (True, TypeError)):
        with pytest.raises(error, match="budget"), budget(wrong):  # type: ignore[arg-type]
            pass


def test_the_time_left_is_handed_to_a_keyword(clock: ManualClock) -> None:
    def fetch(url: str, *, timeout: float | None = None) -> float | None:
        return timeout

    bound = CallPolicy(timeout=5, clock=clock)(timeout_arg="timeout")(fetch)
    assert bound("x") == 5.0
    assert bound("x", timeout=2.0) == 2.0  # the caller's own, if that is less
    assert bound("x", timeout=9.0) == 5.0
    free = CallPolicy(clock=clock)(timeout_arg="timeout")(fetch)
    assert free("x") is None
    assert free("x", timeout=3.0) == 3.0


# ---- the parts together -------------------------------------------------------------------------


def test_the_order_is_budget_breaker_retry_limit(clock: ManualClock) -> None:
    """Each part seen through what it does to the next one."""
    limit, breaker = Limit(1), CircuitBreaker(clock=clock)
    policy = CallPolicy(
        timeout=10, retry=Retry(3, throttle=None), breaker=breaker, limit=limit, clock=clock
    )

    @policy(idempotent=True)
    def call() -> None:
        assert limit.stats().in_use == 1
        raise ConnectionError

    with pytest.raises(ConnectionError):
        call()
    assert breaker.stats().calls == 1 and policy.stats().retries == 2  # the retry is inside
    breaker.trip()
    with pytest.raises(CircuitOpen):
        call()
    assert limit.stats().in_use == 0 and policy.stats().refused == 1
    with budget(0), pytest.raises(DeadlineExceeded):
        call()
    assert breaker.stats().refused == 1  # not asked
    stats = policy.stats()
    assert (stats.calls, stats.failed, stats.expired) == (3, 3, 1)


def test_an_overload_says_nothing_about_the_other_side(runner: ThreadRunner) -> None:
    limit, breaker = Limit(1, max_waiting=0), CircuitBreaker(min_calls=1)
    inside, go_on = threading.Event(), threading.Event()

    @CallPolicy(limit=limit, breaker=breaker, retry=Retry(3, on=Exception))(idempotent=True)
    def call() -> None:
        inside.set()
        assert go_on.wait(10)

    first = runner.start(call)
    assert inside.wait(10)
    with pytest.raises(Overloaded):
        call()
    go_on.set()
    first.result()
    assert (breaker.state, breaker.stats().calls) == ("closed", 1)


def test_a_probe_that_never_was_sent_frees_its_permit(
    clock: ManualClock, runner: ThreadRunner
) -> None:
    limit, breaker = Limit(1, max_waiting=0), CircuitBreaker(clock=clock)
    policy = CallPolicy(limit=limit, breaker=breaker)
    inside, go_on = threading.Event(), threading.Event()

    @CallPolicy(limit=limit)
    def hold() -> None:
        inside.set()
        assert go_on.wait(10)

    holding = runner.start(hold)
    assert inside.wait(10)
    breaker.trip()
    clock.advance(5)
    with pytest.raises(Overloaded):
        policy(print)()
    go_on.set()
    holding.result()
    assert policy(len)("ab") == 2 and breaker.state == "closed"


def test_a_class_as_breaker_makes_one_for_each_function(clock: ManualClock) -> None:
    made = functools.partial(CircuitBreaker, min_calls=1, clock=clock)
    policy = CallPolicy(breaker=made, clock=clock)

    def fails() -> None:
        raise ConnectionError

    one, other = policy(name="one")(fails), policy(name="other")(len)
    with pytest.raises(ConnectionError):
        one()
    with pytest.raises(CircuitOpen, match="one: not tried: circuit breaker 'one' is open"):
        one()
    assert other("ab") == 2
    states = {name: stats.state for name, stats in policy.stats().breakers.items()}
    assert states == {"one": "open", "other": "closed"}
    with pytest.raises(TypeError, match=r"breaker\('f'\) must return a CircuitBreaker"):
        CallPolicy(breaker=lambda name: 3)(name="f")(len)  # type: ignore[arg-type,return-value]


def test_many_threads_are_counted_exactly(runner: ThreadRunner, fast_switching: None) -> None:
    policy = CallPolicy(timeout=60, breaker=CircuitBreaker(), limit=Limit(3), retry=Retry())

    @policy
    def call(n: int) -> int:
        if n % 3 == 0:
            raise ValueError
        return n

    def many(_: int) -> None:
        for n in range(300):
            try:
                call(n)
            except ValueError:
                pass

    runner.together(8, many)
    runner.finish()
    stats = policy.stats()
    assert (stats.calls, stats.succeeded, stats.failed) == (2400, 1600, 800)
    assert [breaker.calls for breaker in stats.breakers.values()] == [2400]
    assert stats.limit is not None and stats.limit.in_use == 0


def test_the_snapshot_and_the_names() -> None:
    policy = CallPolicy(name="db", limit=Limit(3))
    stats = policy.stats()
    assert (stats.name, stats.calls, stats.breakers) == ("db", 0, {})
    assert repr(policy) == "<CallPolicy 'db': limit=<Limit: 0 of 3 in use>>"
    assert repr(CallPolicy(name="x")) == "<CallPolicy 'x': nothing>"
    assert CallPolicy().name != CallPolicy().name


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"timeout": 0}, ValueError, "timeout must be more than 0 s, not 0"),
        ({"timeout": "5"}, TypeError, "timeout must be a number of seconds or None, not '5'"),
        ({"retry": 3}, TypeError, "retry must be a Retry or None, not 3"),
        ({"limit": 3}, TypeError, r"limit must be a Limit, a callable \(name\) that makes one"),
        ({"limit": Limit}, TypeError, "a budget of fastpool.fleet, or None, not <class"),
        ({"breaker": 3}, TypeError, "breaker must be a CircuitBreaker, a callable"),
    ],
)
def test_bad_arguments_are_named(
    arguments: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        CallPolicy(**arguments)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"failure_ratio": 0}, "failure_ratio must be above 0 and at most 1, not 0"),
        ({"min_calls": 0}, "min_calls must be at least 1"),
        ({"window": 0}, "window must be more than 0 s"),
        ({"open_for": float("nan")}, "open_for must be more than 0 s"),
        ({"codes": "NOPE"}, "no gRPC status code is called NOPE"),
    ],
)
def test_bad_arguments_of_a_breaker_are_named(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        CircuitBreaker(**arguments)


ERRORS = [
    CallError("call", "text"),
    DeadlineExceeded("call", "limit", 1.0, 1.5, 2),
    CircuitOpen("call", "breaker", 2.5, "3 of 4 calls failed"),
    Overloaded("call", 5, 6),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_the_errors_pickle_and_are_one_family(error: CallError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error) and str(copy) == str(error) and vars(copy) == vars(error)
    assert isinstance(error, CallError) and str(error).startswith("call: ")
    assert type(error).__module__ == "fastpool.calls"
