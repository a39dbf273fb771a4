"""As much of Redis as the script of RedisBudget asks for, in virtual time: the script itself runs.

The commands are in `mini_redis.lua`, in the runtime of the script: what it calls is next to it, and
no call of a command goes to Python and back.  ``tests/integration/fleet/test_mini_redis.py``
compares it with a real server.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from fastpool.fleet._redis_engine import keys_of, script_text

try:
    from lupa import lua51
except ImportError:  # no wheel for this interpreter
    lua51 = None
try:
    from lupa import luajit20 as lua  # Lua 5.1 as well, in which schedules take a fifth less CPU
except ImportError:
    lua = lua51

__all__ = ["MiniRedis", "lua51"]

COMMANDS = Path(__file__).with_suffix(".lua")


@cache
def runtime() -> Any:
    return lua.LuaRuntime(unpack_returned_tuples=True)


@cache
def function(text: str, parameters: str = "KEYS, ARGV, redis") -> Any:
    """A script, compiled."""
    return runtime().eval(f"function({parameters}) {text}\nend")


class MiniRedis:
    """One server. ``published``: (channel, text), until somebody takes them; ``text``: the script,
    or a copy with a fault."""

    def __init__(self, text: str | None = None) -> None:
        self.script = function(text or script_text())
        self.server = function(COMMANDS.read_text(), "")()
        self.published: list[tuple[str, str]] = []
        self.pass_time = self.server.pass_time  # so many ms
        self.copied = self.server.copied  # all data, as `restart` takes them
        self._run = self.server.run
        self._keys: dict[str, Any] = {}

    def run(self, name: str, *args: object) -> list[Any]:
        """The script, on the keys of a budget."""
        keys = self._keys.get(name)
        if keys is None:
            keys = self._keys[name] = runtime().table_from(keys_of(name))
        published, *reply = self._run(self.script, keys, *map(str, args))
        for line in published.split("\n") if published else ():
            channel, _, text = line.partition(" ")
            self.published.append((channel, text))
        return reply

    def data(self) -> dict[str, dict[str, Any]]:
        """What there is: each key, with its fields or members."""
        return {key: dict(there.at.items()) for key, there in self.copied().items()}

    # ---- what happens to servers -----------------------------------------------------------------

    def flush(self) -> None:
        self.server.restore(runtime().table())
        self.server.flushes += 1

    def evict(self, key: str) -> None:
        self.server.evict(key)

    def restart(self, data: Any, run_id: str) -> None:
        """With what was on disk; None: with nothing."""
        self.server.restart(runtime().table() if data is None else data, run_id)
