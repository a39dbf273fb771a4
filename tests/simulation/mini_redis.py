"""As much of Redis as the script of RedisBudget asks for, in virtual time: the script itself runs.

``tests/integration/fleet/test_mini_redis.py`` compares it with a real server.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from fastpool.fleet._redis_engine import keys_of, script_text

try:
    import lupa.lua51 as lua51
except ImportError:  # no wheel for this interpreter
    lua51 = None

__all__ = ["MiniRedis", "lua51"]

_compiled: dict[str, tuple[Any, Any]] = {}


def compiled(text: str) -> tuple[Any, Any]:
    """A runtime, and the script as a function of KEYS, ARGV and redis in it."""
    if text not in _compiled:
        runtime = lua51.LuaRuntime(unpack_returned_tuples=True)
        function = runtime.eval(f"function(KEYS, ARGV, redis) {text}\nend")
        _compiled[text] = runtime, function
    return _compiled[text]


def as_text(value: object) -> str:
    """As Redis makes text of what a script or a client gives it."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.17g}"
    return str(value)


class MiniRedis:
    """One server. ``wall``: its clock, ms; ``uptime``: ms; ``published``: (channel, text), until
    somebody takes them; ``text``: the script, or a copy with a fault."""

    def __init__(self, text: str | None = None) -> None:
        self.runtime, self.script = compiled(text or script_text())
        self.data: dict[str, dict[str, Any]] = {}
        self.wall = 1_000_000_000_000
        self.uptime = 1_000_000_000
        self.run_id = "a1"
        self.was_replica = False
        self.flushes = self.evicted = 0
        self.published: list[tuple[str, str]] = []
        commands: dict[str, Callable[..., Any]] = {
            name[4:]: getattr(self, name) for name in dir(self) if name.startswith("cmd_")
        }

        def call(name: str, *args: Any) -> Any:
            found = commands[name](*map(as_text, args))
            return self.runtime.table_from(found) if isinstance(found, list) else found

        self.redis = self.runtime.table_from({"call": call})

    def run(self, name: str, *args: object) -> list[Any]:
        """The script, on the keys of a budget."""
        keys = self.runtime.table_from(keys_of(name))
        found = self.script(keys, self.runtime.table_from([as_text(a) for a in args]), self.redis)
        return [int(v) if isinstance(v, (int, float)) else v for v in found.values()]

    # ---- what happens to servers -----------------------------------------------------------------

    def flush(self) -> None:
        self.data.clear()
        self.flushes += 1

    def evict(self, key: str) -> None:
        self.data.pop(key, None)
        self.evicted += 1

    def copied(self) -> dict[str, dict[str, Any]]:
        return copy.deepcopy(self.data)

    def restart(self, data: dict[str, dict[str, Any]], run_id: str) -> None:
        """With what was on disk."""
        self.data, self.run_id, self.uptime = data, run_id, 0
        self.flushes = self.evicted = 0

    # ---- commands --------------------------------------------------------------------------------

    def cmd_TIME(self) -> list[Any]:
        return [str(self.wall // 1000), str(self.wall % 1000 * 1000)]

    def cmd_INFO(self, section: str) -> str:
        return {
            "server": f"run_id:{self.run_id}\r\nuptime_in_seconds:{self.uptime // 1000}\r\n",
            "stats": f"evicted_keys:{self.evicted}\r\n",
            "commandstats": "cmdstat_flushall:calls=1\r\n" if self.flushes else "cmdstat_get:1\r\n",
            "replication": f"role:master\r\nmaster_replid2:{int(self.was_replica)}000\r\n",
        }[section]

    def cmd_PUBLISH(self, channel: str, text: str) -> int:
        self.published.append((channel, text))
        return 0

    def cmd_DEL(self, *keys: str) -> int:
        return sum(self.data.pop(key, None) is not None for key in keys)

    def _at(self, key: str) -> dict[str, Any]:
        return self.data.get(key, {})

    def cmd_HMGET(self, key: str, *fields: str) -> list[Any]:
        return [self._at(key).get(field, False) for field in fields]

    def cmd_HGET(self, key: str, field: str) -> Any:
        return self._at(key).get(field, False)

    def cmd_HGETALL(self, key: str) -> list[Any]:
        return [part for item in self._at(key).items() for part in item]

    def cmd_HKEYS(self, key: str) -> list[Any]:
        return list(self._at(key))

    def cmd_HLEN(self, key: str) -> int:
        return len(self._at(key))

    def cmd_HSET(self, key: str, *pairs: str) -> int:
        self.data.setdefault(key, {}).update(zip(pairs[::2], pairs[1::2], strict=True))
        return 0

    def _remove(self, key: str, field: str) -> int:
        there = self._at(key)
        found = there.pop(field, None) is not None
        if not there:
            self.data.pop(key, None)
        return int(found)

    def cmd_HDEL(self, key: str, field: str) -> int:
        return self._remove(key, field)

    def cmd_ZREM(self, key: str, field: str) -> int:
        return self._remove(key, field)

    def cmd_ZADD(self, key: str, score: str, member: str) -> int:
        self.data.setdefault(key, {})[member] = float(score)
        return 0

    def cmd_ZCARD(self, key: str) -> int:
        return len(self._at(key))

    def cmd_ZSCORE(self, key: str, member: str) -> Any:
        score = self._at(key).get(member)
        return False if score is None else as_text(score)

    def _sorted(self, key: str) -> list[tuple[float, str]]:
        return sorted((score, member) for member, score in self._at(key).items())

    def cmd_ZRANGEBYSCORE(self, key: str, low: str, high: str) -> list[Any]:
        return [m for score, m in self._sorted(key) if float(low) <= score <= float(high)]

    def cmd_ZRANGE(self, key: str, first: str, last: str, scores: str) -> list[Any]:
        entries = self._sorted(key)[int(first) : int(last) + 1]
        return [part for score, member in entries for part in (member, as_text(score))]

    def cmd_ZPOPMIN(self, key: str) -> list[Any]:
        entries = self._sorted(key)[:1]
        for _, member in entries:
            self._remove(key, member)
        return [part for score, member in entries for part in (member, as_text(score))]
