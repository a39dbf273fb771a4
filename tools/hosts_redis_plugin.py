"""A plugin for pytest: our pools under every name that redis-py's have in its modules.

Loaded by its name before redis-py's conftest imports anything.
"""

from __future__ import annotations

import sys

import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.asyncio.sentinel
import redis.cluster
import redis.sentinel  # noqa: F401  # loaded, so that its names are found

import fastpool.contrib.redis
import fastpool.contrib.redis.asyncio


def put_in_place() -> None:
    ours = {}
    for module in (fastpool.contrib.redis, fastpool.contrib.redis.asyncio):
        for name in ("BlockingConnectionPool", "ConnectionPool", "SentinelConnectionPool"):
            kind = getattr(module, name)
            # by the class that it stands for: the next of that name among its bases
            theirs = next(base for base in kind.__mro__[1:] if base.__name__ == name)
            ours[theirs] = kind
    for module_name, module in list(sys.modules.items()):
        if module_name == "redis" or module_name.startswith("redis."):
            for name, value in list(vars(module).items()):
                if isinstance(value, type) and value in ours:
                    setattr(module, name, ours[value])


put_in_place()
