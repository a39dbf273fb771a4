"""`fastpool bench --claims`: what the documentation says of speed, checked here and now.

Each claim is one ratio of two statements that take turns in one run, a line with its verdict. A
rival that is not installed is not beaten: the line says so.
"""

from __future__ import annotations

import importlib.util
import queue
import sys
import textwrap
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

from ..tables import WIDTH
from .competitors import COMPETITORS, NotRun, filled, pool_use, queue_use, warm
from .timing import Statement, Times, Update, time_statements

SIZE = 10
PAIR = "pool.put(pool.get())"
PACKAGES = {"culsans": "Queue"}  # queues of other projects that are filled by `put`
ASYNC = "async "


class Claim(NamedTuple):
    """``theirs / ours`` is at least ``least``: both are names of statements."""

    text: str
    theirs: str
    ours: str
    least: float


def run(seconds: float, say: Callable[[str], None], update: Update) -> None:
    """All claims, in about so long."""
    with ExitStack() as stack:
        statements, claims, missing = _claims(stack)
        waiting = {name: each for name, each in statements.items() if name.startswith(ASYNC)}
        plain = {name: each for name, each in statements.items() if name not in waiting}
        times = time_statements(plain, 0.7 * seconds, update)
        import asyncio

        with asyncio.Runner() as runner:
            times |= time_statements(waiting, 0.3 * seconds, update, runner.run)
    say(f"{'':<10}{'here':>9}{'claimed':>10}")
    for claim in claims:
        say(line(claim, times))
    for name, why in missing.items():
        say(textwrap.fill(f"not run   {name}: {why}", WIDTH, subsequent_indent=10 * " "))
    say("Medians of the ratios inside rounds; CPU time of one thread, over dummies.")


def line(claim: Claim, times: dict[str, Times]) -> str:
    """The verdict, the ratio, what is claimed, and of what."""
    ratio = times[claim.theirs].over(times[claim.ours])
    if ratio != ratio:  # NaN
        return f"{'noise':<10}{'-':>9}{_times(claim.least):>10}  {claim.text}"
    verdict = "holds" if ratio >= claim.least else "FAILS"
    return f"{verdict:<10}{_times(ratio):>9}{_times(claim.least):>10}  {claim.text}"


def _times(ratio: float) -> str:
    return f"{ratio:.{2 if ratio < 10 else 0}f}x"


def _claims(stack: ExitStack) -> tuple[dict[str, Statement], list[Claim], dict[str, str]]:
    """What is timed, what is claimed of it, and what is not there to be timed."""
    import asyncio

    pool = stack.enter_context(pool_use(SIZE))
    statements = {
        "pair": Statement(PAIR, queue_use(SIZE, "fifo")),
        "pool pair": Statement(PAIR, pool),
        "lease": Statement("with pool.lease(): pass", pool),
        "lock": Statement("with pool: pass", threading.Lock()),
        "queue.Queue": Statement(PAIR, filled(queue.Queue(SIZE), SIZE)),
        "queue.SimpleQueue": Statement(PAIR, filled(queue.SimpleQueue(), SIZE)),
        "async lease": Statement("async with pool.lease(): pass", pool),
        "async semaphore": Statement("async with pool: pass", asyncio.Semaphore(SIZE)),
    }
    claims = [
        Claim("with threading.Lock() / with pool.lease()", "lock", "lease", 0.75),
        Claim("asyncio.Semaphore / async with pool.lease()", "async semaphore", "async lease", 2),
        Claim("queue.Queue / a queue, put(get())", "queue.Queue", "pair", 3),
    ]
    if getattr(sys, "_is_gil_enabled", lambda: True)():  # free-threaded it is as quick
        simple = Claim("queue.SimpleQueue / the same", "queue.SimpleQueue", "pair", 1.15)
        claims.append(simple)
    missing: dict[str, str] = {}
    for module, kind in PACKAGES.items():
        if importlib.util.find_spec(module) is None:
            missing[module] = "not installed"
            continue
        theirs = filled(getattr(importlib.import_module(module), kind)(SIZE).sync_q, SIZE)
        statements[module] = Statement(PAIR, theirs)
        claims.append(Claim(f"{module}.{kind} / the same", module, "pair", 3))
    for competitor in COMPETITORS:
        try:
            other: Any = warm(competitor, SIZE)
        except NotRun as reason:
            missing[competitor.name] = str(reason)
            continue
        stack.callback(competitor.close, other)
        statements[competitor.name] = Statement(competitor.round_trip, other)
        claims.append(Claim(f"{competitor.name} / with pool.lease()", competitor.name, "lease", 12))
    return statements, claims, missing
