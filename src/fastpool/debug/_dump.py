"""The state of all pools as text: for a log, a terminal or a bug report."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from .._runtime.registry import pools
from ._views import process

if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["dump", "text"]

MOST_HOLDERS = 50  # of one pool; the oldest


def dump(file: TextIO | None = None) -> str | None:
    """Write the sizes, the waiters and the holders of every live pool, with age and stack.

    ``file``: where to; None: the text is returned.  Stacks are known of pools with ``leak_after``.
    Thread-safe; takes some 50 us a pool.  Borrowers go on meanwhile, so that two pools are not seen
    at the very same moment.
    """
    written = text(process(pools(), holders=True))
    if file is None:
        return written
    file.write(written)
    file.flush()
    return None


def text(seen: dict[str, Any]) -> str:
    """The text for what ``process`` has seen."""
    count = len(seen["pools"])
    lines = [
        f"fastpool {seen['version']}, process {seen['pid']}, {count} pool{'s' * (count != 1)}, "
        f"{threading.active_count()} threads"
    ]
    for pool in seen["pools"]:
        lines += ["", *of_pool(pool)]
    for channel in seen["channels"]:
        lines += ["", f"gRPC channel to {channel['target']!r}: {_counted(channel, CHANNEL)}"]
    return "\n".join(lines) + "\n"


USED = ("leased", "in_use", "running", "items")  # what the limit is of, the first there is
LIMITS = ("maxsize", "size")
ALWAYS = ("idle", "queued", "waiting")
WHERE_ANY = ("leases", "draining", "creating", "checking", "closing", "threads")
COUNTERS = ("uses", "created", "create_failures", "timeouts", "overloads", "overdue")
CHANNEL = ("connections", "in_use", "waiting", "streams")


def of_pool(pool: dict[str, Any]) -> list[str]:
    """The lines for one pool."""
    head = f"{pool['kind']} {pool['name']!r}"
    if "error" in pool:
        return [f"{head}: {pool['error']}"]
    n = pool["numbers"]
    used = next((name for name in USED if name in n), "")
    limit = next((f" of {n[name] or 'any number'}" for name in LIMITS if name in n), "")
    there = {name: value for name, value in n.items() if name in ALWAYS or value}
    rest = _counted({k: v for k, v in there.items() if k != used}, ALWAYS + WHERE_ANY)
    lines = [f"{head}: {n.get(used, 0)}{limit} {used.replace('_', ' ')}" + (rest and f", {rest}")]
    if counted := _counted({k: v for k, v in n.items() if v}, COUNTERS):
        lines.append(f"  so far: {counted}")
    if n.get("closed"):
        lines.append("  closed: " + ", ".join(f"{m} {why}" for why, m in n["closed"].items()))
    waits = n.get("wait_time")
    if waits and waits["count"]:
        mean = waits["total"] / waits["count"]
        lines.append(
            f"  waited: {waits['count']} times, {mean:.3g} s on average, "
            f"{waits['longest']:.3g} s at most"
        )
    holders = sorted(pool.get("holders", ()), key=lambda one: -one["age"])
    for holder in holders[:MOST_HOLDERS]:
        lines += of_holder(holder)
    if len(holders) > MOST_HOLDERS:
        lines.append(f"  and {len(holders) - MOST_HOLDERS} more")
    return lines


def of_holder(holder: dict[str, Any]) -> list[str]:
    """The lines for one lease."""
    who = holder["thread"] or "an unknown thread"
    return [
        f"  {holder['resource']} held for {holder['age']:.3g} s by {who}",
        *(f"    {frame}" for frame in holder["stack"]),
    ]


def _counted(numbers: dict[str, Any], names: tuple[str, ...]) -> str:
    return ", ".join(
        f"{numbers[name]} {name.replace('_', ' ')}" for name in names if name in numbers
    )
