"""When the time of a call ends: in the queue for a permit, in a coroutine, and not after the
call."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from contract.calls.scripted_calls import KINDS, Pausing, called, failing
from fastpool.calls import CallPolicy, DeadlineExceeded, Limit, Overloaded, Retry

# ---- who waits in the queue for a permit
# --------------------------------------------------------------


@KINDS
def test_a_second_try_waits_in_queue_only_for_what_is_left(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the whole call's time, not of its own."""
    limit = Limit(1)
    clock = Pausing()
    waits: list[float | None] = []

    def in_the_pause() -> None:
        clock.now += 4.0
        held.append(limit.take_nowait())

    def take(timeout: float | None) -> Any:
        waits.append(timeout)
        held.pop().release()
        return limit.take_nowait()

    async def atake(timeout: float | None) -> Any:
        return take(timeout)

    held: list[Any] = []
    clock.then = in_the_pause
    monkeypatch.setattr(limit, "take", take)
    monkeypatch.setattr(limit, "atake", atake)
    policy = CallPolicy(timeout=5.0, retry=Retry(2), limit=limit, clock=clock)
    assert called(policy, kind, failing(ConnectionError())) == "well"
    assert waits == [1.0] and limit.stats().in_use == 0


@KINDS
def test_a_permit_that_is_not_free_when_the_time_ends_is_not_waited_for(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit, clock = Limit(1), Pausing()
    take_nowait = limit.take_nowait

    def too_late() -> None:
        clock.now += 5.0

    def change() -> None:
        monkeypatch.setattr(limit, "take_nowait", too_late)

    clock.then = change
    policy = CallPolicy(timeout=5.0, retry=Retry(2), limit=limit, clock=clock)
    lost = ConnectionError("lost")
    with pytest.raises(DeadlineExceeded) as caught:
        called(policy, kind, failing(lost))
    assert caught.value.phase == "limit" and caught.value.__cause__ is lost
    assert (limit.stats().in_use, limit.stats().waiting) == (0, 0)
    permit = take_nowait()
    assert permit is not None
    permit.release()


def test_overloads_of_tasks_are_counted_too() -> None:
    limit = Limit(1, max_waiting=0)
    policy = CallPolicy(limit=limit)
    held = limit.take_nowait()
    assert held is not None
    for kind, so_far in (("thread", 1), ("task", 2)):
        with pytest.raises(Overloaded):
            called(policy, kind, failing())
        assert limit.stats().overloads == policy.stats().overloaded == so_far
    held.release()


def test_limit_says_what_it_was_made_with() -> None:
    assert (Limit(3).size, Limit(3).max_waiting) == (3, None)
    assert (Limit(3, max_waiting=2).size, Limit(3, max_waiting=2).max_waiting) == (3, 2)


# ---- the end of the time in a coroutine ---------------------------------------------------------


def test_a_coroutine_cut_off_in_its_second_try_names_the_failure_of_the_first() -> None:
    clock = Pausing()
    clock.then = lambda: setattr(clock, "now", clock.now + 4.999)
    lost = ConnectionError("lost")

    @CallPolicy(timeout=5.0, retry=Retry(2), clock=clock)(idempotent=True)
    async def ask() -> None:
        if not clock.pauses:
            raise lost
        await asyncio.Event().wait()

    with pytest.raises(DeadlineExceeded) as caught:
        asyncio.run(ask())
    assert (caught.value.phase, caught.value.attempts) == ("call", 2)
    assert caught.value.__cause__ is lost


@pytest.mark.parametrize("fails", [False, True])
def test_the_deadline_of_a_call_that_has_ended_cancels_nothing(fails: bool) -> None:
    """The task goes on after the call, and past the time that the call had."""
    fired: list[Any] = []

    @CallPolicy(timeout=0.005)
    async def ask() -> None:
        if fails:
            raise ValueError

    async def main() -> None:
        loop = asyncio.get_running_loop()
        try:
            await ask()
        except ValueError:
            pass
        loop.call_later(0.05, fired.append, "later")  # behind the timer of the call, had it stayed
        while not fired:
            await asyncio.sleep(0.001)

    asyncio.run(main())
    assert fired == ["later"]


def test_a_call_in_a_task_that_was_cancelled_before_still_has_a_deadline() -> None:
    """Clean-up that calls: its own timeout is a DeadlineExceeded and not the cancellation again,
    as with `asyncio.timeout`."""
    seen: list[BaseException] = []

    @CallPolicy(timeout=0.005)
    async def slow() -> None:
        await asyncio.Event().wait()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            try:
                await slow()
            except BaseException as error:
                seen.append(error)

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelling() == 1  # the one from outside alone

    asyncio.run(main())
    assert [type(error) for error in seen] == [DeadlineExceeded]


def test_the_time_left_is_handed_to_a_keyword_at_each_try() -> None:
    """Also of a coroutine function; a later try has less."""
    seen: list[tuple[str, float]] = []
    for kind in ("thread", "task"):
        clock = Pausing()
        clock.then = lambda clock=clock: setattr(clock, "now", clock.now + 2.0)
        policy = CallPolicy(timeout=5.0, retry=Retry(2), clock=clock)

        def ask(*, timeout: float | None = None, kind: str = kind) -> str:
            assert timeout is not None
            seen.append((kind, timeout))
            if timeout > 4:
                raise ConnectionError
            return "well"

        async def aask(*, timeout: float | None = None, ask: Any = ask) -> str:
            return ask(timeout=timeout)  # type: ignore[no-any-return]

        bound = policy(idempotent=True, timeout_arg="timeout")
        if kind == "thread":
            assert bound(ask)() == "well"
        else:
            assert asyncio.run(bound(aask)()) == "well"  # type: ignore[arg-type]
    assert seen == [("thread", 5.0), ("thread", 3.0), ("task", 5.0), ("task", 3.0)]
