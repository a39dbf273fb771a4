"""Small worlds by the thousand: every interleaving is chosen by a seed, every run is judged.

FASTPOOL_STRESS_OPS says how many operations each test makes, about (a fiftieth
of a large number); FASTPOOL_STRESS_SEED is the first seed, so that a world that failed comes first
when its seed is given.
"""

from __future__ import annotations

import gc
import logging
import os
import random
import warnings
from collections import Counter
from typing import Any

import pytest

from simulation.history import Event
from simulation.plans import Plan
from simulation.world import World
from support.helpers import LIMIT, QUICK, stress_ops

OPS = stress_ops(1200, share=0.02)
SEED = int(os.environ.get("FASTPOOL_STRESS_SEED", random.randrange(2**32)))
WORLDS = max(5, OPS // 10)  # ten operations each, about

pytestmark = [
    pytest.mark.stress,
    pytest.mark.first,  # dice choose who runs, not the interpreter
    pytest.mark.timeout(LIMIT + OPS // 20),
]
modes = pytest.mark.parametrize("fair", [True, False], ids=["fair", "throughput"])


@pytest.fixture(autouse=True)
def _hushed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "fastpool")  # each failing reset is a line


def _check(world: World, how: str) -> list[Event]:
    """Plays it; fails with its seed and the end of its history."""
    try:
        events = world.play()
        wrong = world.verdict()
    except Exception as error:
        events, wrong = [], [f"{type(error).__name__}: {error}"]
    if wrong:
        history = "\n".join(str(world.history).splitlines()[-100:])
        text = "\n".join([f"FASTPOOL_STRESS_SEED={world.seed} {how}", str(world.plan), *wrong])
        world.forget()
        with warnings.catch_warnings():  # of what it leaves behind; no later test is to hear of it
            warnings.simplefilter("ignore")
            gc.collect()
        pytest.fail(f"{text}\n{history}", pytrace=False)
    return events


SHAPES: dict[str, dict[str, Any]] = {
    "one loop": {},
    "loop and threads": {"threads": 2, "tasks": 3},
    "three loops": {"loops": 3, "threads": 1, "tasks": 2},
    "one loop, async": {"asynchronous": True},  # threads are refused there
    "three loops, async": {"asynchronous": True, "loops": 3, "tasks": 2},
}


@modes
@pytest.mark.parametrize("shape", SHAPES)
def test_no_world_goes_wrong(shape: str, fair: bool) -> None:
    """Cancels, timeouts, discards, flushes, closes, failing and slow hooks in small worlds: one
    holder at a time, the cap, the line, nobody waits beside what is free, all is closed."""
    kinds: Counter[str] = Counter()
    for seed in range(SEED, SEED + WORLDS):
        world = World(seed, Plan.by_chance(seed, fair=fair, **SHAPES[shape]))
        kinds.update(event.kind for event in _check(world, f"{shape} fair={fair}"))
    for kind in ("give", "join", "leave", "fail", "close", "quiet") * (not QUICK):
        assert kinds[kind] > WORLDS / 10, f"hardly a world had a {kind}: {kinds}"


@modes
@pytest.mark.parametrize("shape", SHAPES)
def test_a_seed_repeats_itself(shape: str, fair: bool) -> None:
    """The same seed, the same history, event for event."""
    different = set()
    for seed in range(SEED, SEED + max(5, WORLDS // 20)):

        def played(seed: int = seed) -> tuple[Event, ...]:
            plan = Plan.by_chance(seed, fair=fair, **SHAPES[shape])
            return tuple(_check(World(seed, plan), f"{shape} fair={fair}"))

        history = played()
        assert played() == history, f"seed {seed} gave two histories"
        different.add(history)
    assert len(different) > 1, "the seed changes nothing"


# ---- Cancelled at every step -------------------------------------------------------------------


async def _get(world: World) -> None:
    await world.operate("victim", random.Random(f"{world.seed} victim"), "get")


async def _lease(world: World) -> None:
    await world.operate("victim", random.Random(f"{world.seed} victim"), "lease")


async def _acquire(world: World) -> None:
    await world.operate("victim", random.Random(f"{world.seed} victim"), "acquire")


async def _warm(world: World) -> None:
    await world.pool.awarm(world.plan.cap)


async def _close(world: World) -> None:
    world.may_close = True
    await world.pool.aclose(5.0)


async def _block(world: World) -> None:
    world.may_close = True
    async with world.pool:
        await world.operate("victim", random.Random(f"{world.seed} victim"), "lease")


HOOKS: dict[str, dict[str, Any]] = {
    "create": {"slow": 0.5, "discards": 0.5, "failing": 0.3},
    "check": {"checked": True, "slow": 0.5, "failing": 0.3},
    "release": {"resets": True, "slow": 0.5, "failing": 0.3, "discards": 0.3},
    "line": {"cap": 1, "slow": 0.0, "failing": 0.0, "tasks": 3},
}


@modes
@pytest.mark.parametrize("asynchronous", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize("hooks", HOOKS)
@pytest.mark.parametrize("act", [_get, _lease, _acquire, _warm, _close, _block])
def test_cancelled_at_every_step(act: Any, hooks: str, fair: bool, asynchronous: bool) -> None:
    """One task is cancelled at its k-th step, for every k until it gets through; others go on."""
    for number in range(max(2, WORLDS // 100)):
        for when in ("late", "early"):
            k = 0
            while _struck(SEED + number, act, k, when, hooks, fair, asynchronous):
                k += 1
                assert k < 60, "it never gets through"
            assert k or when == "early", "it was not struck at all"


def _struck(
    seed: int, act: Any, k: int, when: str, hooks: str, fair: bool, asynchronous: bool
) -> bool:
    plan = Plan(fair=fair, asynchronous=asynchronous, tasks=2, operations=2, cancels=0.1, short=0.1)
    plan.threads = 0 if asynchronous else seed % 2
    for name, value in HOOKS[hooks].items():
        setattr(plan, name, value)
    world = World(seed, plan)
    world.victim, world.strike = act, (k, when)
    _check(world, f"{act.__name__} cancelled {when} at step {k}, {hooks}, fair={fair}")
    return world.hit
