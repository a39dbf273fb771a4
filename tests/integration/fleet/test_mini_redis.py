"""`simulation/mini_redis.py` and a real Redis run the script alike, step by step."""

from __future__ import annotations

import random
from typing import Any

import pytest

from fastpool.fleet._redis_engine import keys_of, script_text
from simulation.mini_redis import MiniRedis, lua51

pytestmark = [
    pytest.mark.once,  # what passes between processes; `contract/fleet` is tried on each
    pytest.mark.servers,
    pytest.mark.skipif(lua51 is None, reason="lupa is not installed: pip install lupa"),
]


def test_script_says_the_same_in_both(redis_server: str) -> None:
    """Four hundred requests of five members, at the same times of the same clock."""
    redis = pytest.importorskip("redis")
    client = redis.Redis(port=int(redis_server), decode_responses=True)
    client.flushall()
    mini, dice = MiniRedis(), random.Random(3)
    mini.server.flushes = 1
    names, numbers = (
        ["m1", "m2", "m3", "m4", "m5"],
        dict.fromkeys(["m1", "m2", "m3", "m4", "m5"], 0),
    )
    held = dict.fromkeys(names, 0)
    keys = keys_of("alike")
    wall = round(mini.server.wall)
    for step in range(400):
        mini.server.wall = wall = wall + dice.randrange(900)
        name = dice.choice(names)
        numbers[name] += dice.choice((0, 1, 1, 1, 1))
        keep, act = dice.randint(0, held[name]), "leave" if dice.random() < 0.02 else "sync"
        if act == "leave":
            keep = 0
        fence = dice.randrange(2)
        request = [act, name, numbers[name], keep, dice.choice((0, 3, 9, 40)), keep,
                   dice.randrange(2), 10000, 2000, 17, dice.choice((1, 2, 0.5)), dice.randrange(2),
                   fence, *(["m2"] if dice.random() < 0.1 else [])]  # fmt: skip
        text = script_text()
        for call, value in (
            ("call('TIME')", f"{{'{wall // 1000}', '{wall % 1000 * 1000}'}}"),
            ("call('INFO', 'server')", "'run_id:a1'"),
        ):
            assert text.count(call) == 1
            text = text.replace(call, value)
        expected = client.eval(text, len(keys), *keys, *request)
        found: list[Any] = mini.run("alike", *request)
        assert found == expected, (step, request)
        held[name] = found[0] if len(found) > 1 else held[name] if found[0] else 0
        data = mini.data()
        for key in keys[:2]:
            assert data.get(key, {}) == client.hgetall(key), (step, key)
        for key in keys[2:]:
            assert data.get(key, {}) == dict(client.zrange(key, 0, -1, withscores=True))
    client.close()
