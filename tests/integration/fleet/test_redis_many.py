"""The script of RedisBudget with a thousand members, on a real Redis."""

from __future__ import annotations

import random
from typing import Any

import pytest

from fastpool.fleet._fairness import level
from fastpool.fleet._redis_engine import keys_of, script_text
from support.helpers import eventually

pytestmark = [pytest.mark.servers, pytest.mark.costly]
MEMBERS, LIMIT = 1000, 3000


def test_thousand_members_have_their_shares_within_one_permit(redis_server: str) -> None:
    """Of max-min, and all permits are in use, a few heartbeats after their wants have changed."""
    redis = pytest.importorskip("redis")
    client: Any = redis.Redis(port=int(redis_server))
    client.flushall()
    script, keys, dice = client.register_script(script_text()), keys_of("many"), random.Random(5)
    run = client.info("server")["run_id"]
    client.hset(keys[0], mapping={"limit": LIMIT, "run": run, "members": 0})  # nothing to learn
    numbers, held = [0] * MEMBERS, [0] * MEMBERS
    due = [-1] * MEMBERS
    wants = [dice.choice((0, 2, 5, 20)) for _ in range(MEMBERS)]

    def heartbeats() -> None:
        for i in dice.sample(range(MEMBERS), MEMBERS):
            keep = min(held[i], wants[i])
            keep = keep if due[i] < 0 else min(keep, due[i])
            numbers[i] += 1
            request = ["sync", f"m{i}", numbers[i], keep, wants[i], keep, 1]
            reply = script(keys=keys, args=[*request, 30000, 6000, LIMIT, 1, 0, 0])
            held[i], due[i] = reply[0], reply[2]
            assert reply[6] <= LIMIT

    def shared() -> bool:
        heartbeats()
        share = level(LIMIT, wants)
        away = [abs(have - min(want, share)) for have, want in zip(held, wants, strict=True)]
        return max(away) <= 1 and sum(held) == LIMIT

    for _ in range(3):
        for i in dice.sample(range(MEMBERS), 300):
            wants[i] = dice.choice((0, 2, 5, 20))
        eventually(shared)
    client.close()
