"""What is shown of each kind of pool: plain numbers and strings, ready for JSON.

Resources appear by type and keys by value only if they are plain strings or numbers: no code of a
user runs here.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import fields
from heapq import nlargest
from typing import TYPE_CHECKING, Any

from ..stats import Histogram

if TYPE_CHECKING:
    from ..stats import Holder

__all__ = ["held", "look", "numbers", "process"]

PLAIN = (str, int, float, bytes, bool, type(None))


def process(pools: list[Any], holders: bool | int = False) -> dict[str, Any]:
    """Describe the process and all of its ``pools``.  ``holders``: also who holds what; a number:
    so many of each pool, the oldest first."""
    return {
        "version": sys.modules["fastpool"].__version__,
        "pid": os.getpid(),
        "program": sys.argv[0] if sys.argv else "",
        "time": time.time(),
        "pools": [look(pool, holders) for pool in pools],
        "channels": channels(),
    }


def look(pool: Any, holders: bool | int = False) -> dict[str, Any]:
    """Describe one pool: ``kind``, ``name``, ``id`` (good while it lives), its ``numbers``, and its
    ``holders`` if they are asked for."""
    seen: dict[str, Any] = {"kind": type(pool).__name__, "name": pool.name, "id": id(pool)}
    try:
        seen["numbers"] = numbers(pool)
        if holders and "open" in seen["numbers"]:
            found = pool.leases()
            if holders is not True:
                found = nlargest(holders, found, key=lambda one: one.age)
            seen["holders"] = [held(one) for one in found]
    except Exception as error:  # it may just be going away
        seen["error"] = f"{type(error).__name__}: {error}"
    return seen


def numbers(pool: Any) -> dict[str, Any]:
    """The numbers of one pool: of its stats, or what it counts itself."""
    if hasattr(pool, "stats"):
        try:
            stats = pool.stats()
        except TypeError:  # a FastPool in queue use
            return {"maxsize": pool.maxsize, "items": pool.qsize()}
        return {name: shown(value) for name, value in parts(stats) if name != "name"}
    names = ("size", "in_use", "running", "queued", "waiting")
    return {name: getattr(pool, name) for name in names if hasattr(pool, name)}


def parts(stats: Any) -> list[tuple[str, Any]]:
    """The fields of a stats object, a dataclass or a named tuple."""
    if hasattr(stats, "_asdict"):
        return list(stats._asdict().items())
    return [(field.name, getattr(stats, field.name)) for field in fields(stats)]


def shown(value: Any) -> Any:
    """The same in what JSON knows."""
    if isinstance(value, Histogram):
        return {
            "count": value.count,
            "total": value.total,
            "longest": value.longest,
            "counts": list(value.counts),
        }
    if isinstance(value, dict):
        return {label(key): shown(each) for key, each in value.items()}
    if hasattr(value, "__dataclass_fields__"):
        return {name: shown(each) for name, each in parts(value)}
    return value if isinstance(value, PLAIN) else type(value).__name__


def label(key: Any) -> str:
    """A key of a KeyedPool, which may be anybody's object."""
    if type(key) in PLAIN:
        return str(key)
    if type(key) is tuple and all(type(each) in PLAIN for each in key):
        return str(key)
    return f"a {type(key).__name__} at {id(key):#x}"


def held(holder: Holder[Any]) -> dict[str, Any]:
    """One lease under way."""
    kind = type(holder.resource)
    return {
        "resource": f"{kind.__module__}.{kind.__qualname__}",
        "age": holder.age,
        "thread": holder.thread,
        "stack": list(holder.stack),
    }


def channels() -> list[dict[str, Any]]:
    """The shared gRPC channels of the process, if it has any."""
    grpc = sys.modules.get("fastpool.grpc")
    if grpc is None:
        return []
    return [{name: shown(value) for name, value in parts(each)} for each in grpc.stats()]
