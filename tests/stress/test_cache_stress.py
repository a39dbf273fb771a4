"""Object caches under threads, epochs and finalisers: what is made is lent to one, kept or gone."""

from __future__ import annotations

import gc
import os
import random
import sys
import threading
from typing import ClassVar

import pytest

from fastpool import ObjectCache, _core
from support.helpers import LIMIT, ThreadRunner, eventually, stress_ops

OPS = stress_ops(20_000)
THREADS = 4
SEED = int(os.environ.get("FASTPOOL_STRESS_SEED", random.randrange(10**6)))

pytestmark = [pytest.mark.stress, pytest.mark.timeout(LIMIT + OPS // 1000)]


class Owned:
    """Counted without a lock, since a finaliser may run anywhere: one entry for each."""

    made: ClassVar[list[None]] = []
    ended: ClassVar[list[None]] = []

    def __init__(self) -> None:
        self.owner: object = None
        Owned.made.append(None)

    def __del__(self) -> None:
        Owned.ended.append(None)

    def take(self, owner: object) -> None:
        assert self.owner is None, "with two"
        self.owner = owner

    def give(self, owner: object, things: ObjectCache[Owned]) -> None:
        assert self.owner is owner, "with two"
        self.owner = None
        things.put(self)


class Returner:
    """Part of a cycle: the collector has it give back what it holds."""

    def __init__(self, held: Owned, owner: object, things: ObjectCache[Owned]) -> None:
        self.me, self.held, self.owner, self.things = self, held, owner, things

    def __del__(self) -> None:
        self.held.give(self.owner, self.things)


def test_a_cache_keeps_its_accounts(runner: ThreadRunner, fast_switching: None) -> None:
    """Threads that end, caches that end, objects returned by finalisers, epochs at any moment."""
    Owned.made, Owned.ended = [], []
    caches = [ObjectCache(Owned) for _ in range(2)]
    over = threading.Event()

    def borrow(dice: random.Random, operations: int) -> None:
        me = object()
        for _ in range(operations // 10):
            things = dice.choice(caches)
            held = [things.get() for _ in range(dice.randrange(1, 6))]
            for one in held:
                one.take(me)
            dice.shuffle(held)
            if dice.randrange(50) == 0:
                Returner(held.pop(), me, things)
            if held and dice.randrange(20) == 0:
                held.pop().owner = None  # not given back
            for one in held:
                one.give(me, things)

    def come_and_go(index: int) -> None:
        dice = random.Random(SEED + index)
        for _ in range(10):
            thread = ThreadRunner()
            thread.start(borrow, dice, OPS // THREADS // 10)
            thread.finish(60)

    def disturb() -> None:
        dice = random.Random(SEED)
        while not over.wait(dice.random() * 0.002):
            _core.advance_caches()
            if dice.randrange(10) == 0:
                gc.collect()
            brief = ObjectCache(Owned)
            brief.put(brief.get())

    disturber = runner.start(disturb)
    for worker in runner.together(THREADS, come_and_go):
        worker.result(120)
    over.set()
    disturber.result()
    del caches[:]
    gc.collect()

    def settled() -> bool:
        for _ in range(3):
            gc.collect()
        return len(Owned.made) == len(Owned.ended)

    print(f"seed {SEED}, made {len(Owned.made)}", file=sys.stderr)
    eventually(settled)
