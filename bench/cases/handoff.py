"""P10: from one thread's put to another thread's get, as a ping-pong over two queues.

The tasks' half of the row is in `task_handoff.py`.

Wall time per hand-off, threads not pinned. The bounded spin is off on one CPU, so the figure
without it comes from a child process that may use only one; SimpleQueue plays there too.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from bench import child
from bench.adapter import fastpool
from bench.cases import Effort, Figure, of_ratio
from bench.cases.task_handoff import p10_tasks
from bench.measure import NotRun, Series

ROUND_TRIPS = 1000


def ping_pong(make: Callable[[], Any]) -> tuple[float, float]:
    """Microseconds of wall time and of CPU (both threads) per hand-off."""
    there, back = make(), make()

    def other(get: Callable[[], Any], put: Callable[[Any], None]) -> None:
        for _ in range(ROUND_TRIPS):
            put(get())

    thread = threading.Thread(target=other, args=(there.get, back.put))
    thread.start()
    put, get = there.put, back.get
    cpu, wall = time.process_time_ns(), time.perf_counter_ns()
    for _ in range(ROUND_TRIPS):
        put(None)
        get()
    wall = time.perf_counter_ns() - wall
    cpu = time.process_time_ns() - cpu
    thread.join()
    return wall / 2e3 / ROUND_TRIPS, cpu / 2e3 / ROUND_TRIPS


def play(rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Both rivals, turn by turn; the first round only warms."""
    package = fastpool()
    makers = {"ours": package.FastPool, "SimpleQueue": queue.SimpleQueue}
    played: dict[str, list[tuple[float, float]]] = {name: [] for name in makers}
    for round_ in range(rounds + 1):
        for name, make in makers.items():
            result = ping_pong(make)
            if round_:
                played[name].append(result)
    return played


def play_on_one_cpu(rounds: int) -> dict[str, list[tuple[float, float]]]:
    if not hasattr(os, "sched_getaffinity"):
        raise NotRun("needs a way to bind a process to one CPU")
    return json.loads(child.python("-m", "bench.cases.handoff", str(rounds)))


def series(played: dict[str, list[tuple[float, float]]], name: str, which: int) -> Series:
    return Series(tuple(result[which] for result in played[name]))


def p10(effort: Effort) -> Iterator[Figure]:
    yield from p10_tasks(effort)
    single = play_on_one_cpu(effort.rounds // 2)
    yield of_ratio("P10a", series(single, "ours", 0), series(single, "SimpleQueue", 0))
    if len(os.sched_getaffinity(0)) < 2:
        raise NotRun("needs two CPUs")
    several = play(effort.rounds // 2)
    yield of_ratio("P10b", series(several, "ours", 0), series(several, "SimpleQueue", 0))
    yield Figure("P10c", series(several, "ours", 1).median)
    yield Figure("P10d", series(several, "SimpleQueue", 1).median)


if __name__ == "__main__":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before anything looks at the CPUs
    print(json.dumps(play(int(sys.argv[1]))))
