"""Options of a pool of coroutines: each counts over all its event loops together."""

from __future__ import annotations

import contextvars
from typing import Any

import pytest

from fastpool import PoolDeadlock, PoolOverloaded, PoolTimeout
from support.async_factories import AsyncMaker, Hang, accounted, threads, use
from support.helpers import PATIENCE, eventually, states
from support.loops import KINDS, run_in
from support.loops import eventually as aeventually

kinds = pytest.mark.parametrize("kind", KINDS)


class TestOptions:
    """Options count over all loops together."""

    @kinds
    def test_max_idle(self, kind: str) -> None:
        with accounted(4, max_idle=1) as (pool, maker), threads(kind, 2) as (one, other):
            leases = [(t, t.run(pool.aacquire())) for t in (one, one, other, other)]
            for loop, lease in leases:
                loop.call(lease.release)
                loop.run(aeventually(lambda: "leased" not in states(pool) or True))
            eventually(lambda: states(pool) == {"idle": 1})
            assert pool.stats().closed == {"surplus": 3}

    @kinds
    def test_min_idle(self, kind: str) -> None:
        """Counted over all loops, and refilled on the loop that used the pool last."""
        with accounted(4, min_idle=2) as (pool, maker), threads(kind, 2) as (one, other):
            held = one.run(pool.aacquire())
            eventually(lambda: states(pool) == {"leased": 1, "idle": 2})
            mine = other.run(pool.aacquire())
            assert maker.made == 4  # no more: two are idle still
            one.call(held.discard)
            eventually(lambda: states(pool) == {"leased": 1, "idle": 2})
            other.call(mine.release)
            eventually(lambda: states(pool) == {"idle": 3})
            pool.resize(2)
            pool.flush()
            eventually(lambda: states(pool) == {"idle": 2} and len(maker.closings) >= 4)
            assert [t.loop for t in maker.all if not t.closed] == [other.loop] * 2

    @kinds
    def test_min_idle_when_a_loop_has_gone(self, kind: str) -> None:
        """Those that are left make up for what it took with it."""
        with accounted(4, min_idle=2) as (pool, maker), threads(kind, 2) as (one, other):
            one.call(one.run(pool.aacquire()).discard)
            eventually(lambda: states(pool) == {"idle": 2})
            other.call(other.run(pool.aacquire()).discard)
            eventually(lambda: states(pool) == {"idle": 2})
            assert {t.loop for t in maker.all if not t.closed} == {one.loop}
            one.end()
            pool.stats()  # anybody looks
            eventually(lambda: states(pool) == {"idle": 2})
            assert {t.loop for t in maker.all[-2:]} == {other.loop}

    @kinds
    def test_max_waiting(self, kind: str) -> None:
        """One line for all loops, as far as this counts."""
        with accounted(1, max_waiting=1) as (pool, _), threads(kind, 2) as (one, other):
            lease = one.run(pool.aacquire())
            waits = other.start(use(pool))
            eventually(lambda: pool.stats().waiting == 1)
            for loop in (one, other):
                with pytest.raises(PoolOverloaded):
                    loop.run(use(pool))
            one.call(lease.release)
            waits.result(PATIENCE)
            assert pool.stats().overloads == 2

    @kinds
    def test_max_waiting_0(self, kind: str) -> None:
        """Nobody waits; but one for whom a creation starts, or a slot comes free, is no waiter."""
        with accounted(2, max_waiting=0) as (pool, maker), threads(kind, 2) as (one, other):
            first = one.run(pool.aacquire())
            hang = Hang()
            maker.script["create"].append(hang)
            second = other.start(pool.aacquire())
            assert hang.begun.wait(PATIENCE)
            with pytest.raises(PoolOverloaded):
                one.run(use(pool))
            hang.let_go()
            with pytest.raises(PoolOverloaded):
                other.run(use(pool))
            other.call(second.result(PATIENCE).release)
            eventually(lambda: states(pool) == {"idle": 1, "leased": 1})
            one.run(use(pool))  # evicts that one
            one.call(first.release)

    @kinds
    def test_deadlock(self, kind: str) -> None:
        """Per task, over all that the cap allows; not when another holds one."""

        async def all_of_them(n: int) -> None:
            async with pool.lease():
                if n > 1:
                    await all_of_them(n - 1)
                else:
                    await use(pool, timeout=0.02)

        with accounted(2) as (pool, _), threads(kind, 2) as (one, other):
            with pytest.raises(PoolDeadlock):
                one.run(all_of_them(2))
            lease = other.run(pool.aacquire())
            with pytest.raises(PoolTimeout):
                one.run(all_of_them(1))
            other.call(lease.release)

    @kinds
    def test_timeout_0(self, kind: str) -> None:
        """What is idle at once; else a refusal, and a creation begins in the background."""
        with accounted(2) as (pool, _), threads(kind, 1) as [one]:
            with pytest.raises(PoolTimeout):
                one.run(pool.aget(timeout=0))
            eventually(lambda: states(pool) == {"idle": 1})
            assert one.run(use(pool, timeout=0)).number == 0

    @kinds
    def test_suspend(self, kind: str) -> None:
        """On every loop, those that are first seen meanwhile too."""
        with accounted(2) as (pool, _), threads(kind, 2) as (one, other):
            one.run(use(pool))
            pool.suspend()
            waits = [one.start(use(pool)), other.start(use(pool))]
            eventually(lambda: pool.stats().waiting == 2)
            assert states(pool) == {"idle": 1}
            pool.resume()
            assert {wait.result(PATIENCE).loop for wait in waits} == {one.loop, other.loop}

    @kinds
    def test_resize(self, kind: str) -> None:
        """Up serves who waits; down closes what is idle longest, then what comes back."""
        maker = AsyncMaker(4)
        with (
            accounted(None, maker, factory=maker) as (pool, _),
            threads(kind, 2) as (one, other),
        ):
            pool.resize(1)
            first = one.run(pool.aacquire())
            waits = [other.start(pool.aacquire()) for _ in range(3)]
            eventually(lambda: pool.stats().waiting == 3)
            pool.maxsize = 4
            leases = [wait.result(PATIENCE) for wait in waits]
            one.call(first.release)
            eventually(lambda: states(pool) == {"idle": 1, "leased": 3})
            pool.resize(3)
            eventually(lambda: states(pool) == {"leased": 3})
            assert maker.all[0].closed
            pool.resize(2)
            pool.resize(1)
            for lease in leases:
                other.call(lease.release)
            eventually(lambda: states(pool) == {"idle": 1})
            assert pool.stats().closed == {"surplus": 3} and pool.maxsize == 1

    @kinds
    def test_what_flush_has_marked_keeps_no_idle_one_above_the_cap(self, kind: str) -> None:
        """Resources that are to be closed on return are open until then, and count."""
        with accounted(3) as (pool, _), threads(kind, 2) as (one, other):
            leases = [one.run(pool.aacquire()) for _ in range(2)]
            pool.flush()
            other.call(other.run(pool.aacquire()).release)
            eventually(lambda: states(pool) == {"idle": 1, "leased": 2})
            pool.resize(1)
            eventually(lambda: states(pool) == {"leased": 2})
            for lease in leases:
                one.call(lease.release)
            eventually(lambda: states(pool) == {})

    @kinds
    def test_flush_and_leases(self, kind: str) -> None:
        """Over all loops; what is lent is closed when it comes back."""
        with accounted(3, leak_after=60) as (pool, _), threads(kind, 2) as (one, other):
            a, b = one.run(pool.aacquire()), other.run(pool.aacquire())
            one.run(use(pool))
            holders = pool.leases()
            assert {h.resource for h in holders} == {a.resource, b.resource}
            assert all("in use" not in h.stack[0] and h.stack for h in holders)
            pool.flush()
            eventually(lambda: states(pool) == {"leased": 2})
            one.call(a.release)
            other.call(b.release)
            eventually(lambda: states(pool) == {})
            assert pool.stats().closed == {"flushed": 3} and pool.leases() == []

    @kinds
    def test_warm(self, kind: str) -> None:
        """Counts what others have; a timeout and a failure are told."""
        with accounted(3) as (pool, maker), threads(kind, 2) as (one, other):
            one.run(use(pool))
            assert other.run(pool.awarm(3)) == 3
            assert [t.loop for t in maker.all] == [one.loop, other.loop, other.loop]
            pool.flush()
            eventually(lambda: states(pool) == {})
            maker.script["create"] += [OSError("down"), Hang()]
            with pytest.raises(OSError, match="down"):
                other.run(pool.awarm(1))
            with pytest.raises(PoolTimeout):
                other.run(pool.awarm(1, timeout=0.02))
            other.stop()

    @kinds
    def test_times(self, kind: str, clock: Any, caplog: pytest.LogCaptureFixture) -> None:
        """keepalive, idle_timeout, max_lifetime and leak_after, moved by hand; on every loop."""
        options = {"keepalive": 10, "idle_timeout": 100, "max_lifetime": 1000, "leak_after": 5}
        with (
            accounted(3, clock=clock, check_after=None, **options) as (pool, maker),
            threads(kind, 2) as (one, other),
        ):
            a, b = one.run(use(pool)), other.run(use(pool))
            clock.advance(11)
            assert set(maker.checks) == {a, b} and states(pool) == {"idle": 2}
            lease = one.run(pool.aacquire())
            clock.advance(6)
            assert sum("a lease is held" in r.message for r in caplog.records) == 1
            clock.advance(120)
            assert maker.closings == [b] and pool.stats().closed == {"idle": 1}
            clock.advance(1000)
            assert not a.closed
            one.call(lease.release)
            eventually(lambda: a.closed)
            eventually(lambda: pool.stats().closed == {"idle": 1, "lifetime": 1})

    @kinds
    def test_time_goes_on_after_a_loop(
        self, kind: str, clock: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What a closed loop has left is no business of the scheduler, and it says nothing."""
        with accounted(2, clock=clock, keepalive=10) as (pool, maker):
            run_in(kind, use(pool))
            clock.advance(11)
            assert pool.stats().closed == {"loop": 1} and not maker.checks
        assert not caplog.records

    @kinds
    def test_discard_on_and_max_uses(self, kind: str) -> None:
        async def fails(error: type[BaseException]) -> None:
            with pytest.raises(error):
                async with pool.lease():
                    raise error

        with accounted(1, max_uses=3, discard_on=OSError) as (pool, _), threads(kind, 1) as [one]:
            one.run(fails(OSError))
            one.run(fails(ValueError))
            for _ in range(2):
                one.run(use(pool))
            assert pool.stats().closed == {"error": 1, "uses": 1} and states(pool) == {}

    @kinds
    def test_context_of_hooks(self, kind: str) -> None:
        """A creation sees the context that the pool was made in, whoever asks for it; a check and a
        reset that of their borrower."""
        request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")
        seen = []

        class Maker(AsyncMaker):
            async def _act(self, hook: str) -> Any:
                seen.append((hook, request.get()))

        async def main() -> None:
            request.set("first")
            await use(pool)
            request.set("second")
            await use(pool)

        request.set("maker")
        with accounted(1, Maker(), check_after=0) as (pool, _):
            run_in(kind, main())
        assert seen[:4] == [
            ("create", "maker"), ("reset", "first"), ("check", "second"), ("reset", "second"),
        ]  # fmt: skip
