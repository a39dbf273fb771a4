"""What the comparisons say: sentences computed from the figures, and the checks that must hold.

The sentences are about speed and take no sides: whoever was slower is said to be. The checks are
about correctness, since a busy machine may be slow but must not be wrong.
"""

from __future__ import annotations

from ..tables import count
from .accounting import Check, audit, cap_kept, no_errors
from .comparison import Result

# Rates nearer to each other than this factor are the same for a few rounds on a shared machine.
_NOTICEABLE = 1.05


def verdict(ours: Result, other: Result) -> str:
    """One line: who made more calls, over how many connections, and how evenly for its threads."""
    parts = [f"{ours.way.name}: {_speed(ours.rate, other.rate, other.way.name)}"]
    if ours.opened != other.opened:
        parts.append(f"{count(ours.opened, 'connection')}, not {other.opened:,}")
    else:
        parts.append(f"least/most {ours.evenness:.2f}, not {other.evenness:.2f}")
    return "; ".join(parts)


def better_median(ours: Result, other: Result) -> str:
    """Why a queue that starves some threads shows the lower p50; nothing, where none does."""
    starves = other.evenness < ours.evenness / 2
    if not starves or other.p50 >= ours.p50 / _NOTICEABLE or other.rate > ours.rate * _NOTICEABLE:
        return ""
    return (
        f"The p50 of {other.way.name} is lower ({other.p50 * 1000:.2f} ms, not "
        f"{ours.p50 * 1000:.2f}) because it starves threads: nearly all calls are of lucky ones, "
        "which wait little. The others wait long and so make few calls, too few to show in p50 or "
        f"p99. They show in least/most: {other.evenness:.2f}, not {ours.evenness:.2f}"
    )


def _speed(ours: float, other: float, whom: str) -> str:
    if not ours or not other:
        return f"{ours:,.0f} calls/s, {whom} {other:,.0f}"
    ratio = ours / other
    if ratio >= _NOTICEABLE:
        return f"{ratio:.{1 if ratio >= 2 else 2}f}x the calls/s of {whom}"
    if ratio > 1 / _NOTICEABLE:
        return f"as many calls/s as {whom} ({ratio:.2f}x)"
    return f"slower than {whom}, {ratio:.2f}x its calls/s"


def pool_checks(ours: Result, other: Result, size: int) -> list[Check]:
    """What must hold of a FastPool after its turns, by its own account and by the server's."""
    return [
        no_errors(ours.errors),
        cap_kept([run.peak for run in ours.runs], size),
        *audit([run.accounts for run in ours.runs if run.accounts]),
        fewer_connections(ours, other, size),
    ]


def channel_checks(ours: Result, other: Result, size: int) -> list[Check]:
    """What must hold of a shared gRPC channel after its turns. No word of fewer connections: grpc
    lets plain channels to one target share a connection by itself, while one of them is open."""
    opened = {run.opened for run in ours.runs}
    left = ours.runs[-1].left
    return [
        no_errors(ours.errors),
        Check(f"one connection for all threads (at the server: {max(opened)})", opened == {1}),
        Check(
            f"after the last release: server has {'?' if left is None else left} open",
            None if left is None else all(run.left == 0 for run in ours.runs),
        ),
    ]


def fewer_connections(ours: Result, other: Result, size: int) -> Check:
    """Not to be told while the rival has not opened more than a pool may hold."""
    fewer = ours.opened < other.opened
    return Check(
        f"fewer connections than with {other.way.name}: {ours.opened:,}, not {other.opened:,}",
        fewer if fewer or other.opened > size else None,
    )
