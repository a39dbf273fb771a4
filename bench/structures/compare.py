"""Compares storage candidates for the core on the running interpreter: the figures that chose it.

    python bench/structures/compare.py [--seconds 80]

Prints the cost of a pair (get + put) in one thread and the total rate of several threads, and
writes bench/results/structures-<python>.json. Stops early when every figure has all its windows; a
busy machine needs more seconds than the 80 that are the default. Linux only.

One thread: rounds interleaved over the candidates, thread CPU time, the loop's own cost subtracted,
median. Several threads: short windows, interleaved, each thread pinned to a core. Where there is a
core for each thread, a window counts only if each had it for itself from the start. With more
threads than cores preemption is what is measured, and the rate is per second of core time that
other processes left. After each window the store must hold exactly the items that went in.
"""

import argparse
import gc
import json
import os
import platform
import statistics
import sys
import sysconfig
import threading
import time
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

from contestants import CONTESTANTS, Contestant, candidates

if sys.platform != "linux":
    sys.exit("compare.py reads /proc and pins threads: it runs on Linux only")

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
PYTHON = "{}.{}".format(*sys.version_info) + ("t" if FREE_THREADED else "")
RESULTS = Path(__file__).resolve().parents[1] / "results" / f"structures-{PYTHON}.json"
CORES = sorted(os.sched_getaffinity(0))

ROUNDS, LOOPS, UNROLL = 15, 2000, 8  # one thread
BATCH = 100  # steps of a thread between two looks at the clock
LEAD = 600_000  # ns from the barrier to the common start
LOST = 0.03  # share of its window that a thread may lose to other processes or to a late start
LEFT = 0.5  # share of the cores that other processes must leave to crowded threads

# ---- workloads -----------------------------------------------------------------------------------


class Steps(NamedTuple):
    """What a thread does over and over; `undo` gives back what it holds if a get() fails."""

    body: str
    pairs: int
    undo: str = "pass"


PAIR = Steps("{put}({get}())", 1)
THREE = Steps(
    "a = b = None; a = {get}(); b = {get}(); c = {get}(); {put}(c); {put}(b); {put}(a)",
    3,
    "[{put}(held) for held in (b, a) if held is not None]",
)
SWAP = Steps("{put}(swap({get}()))", 1)  # returns what another thread has taken


class Workload(NamedTuple):
    name: str
    steps: Steps
    threads: int
    items: int
    own: bool = False  # a store for each thread: what the machine gives when nothing is shared

    @property
    def crowded(self) -> bool:
        return self.threads > len(CORES)

    @property
    def window(self) -> int:  # ns; crowded threads must all get their turns
        return 100_000_000 if self.crowded else 2_000_000

    @property
    def windows(self) -> int:
        return 5 if self.crowded else 15


PARALLEL = [
    Workload("alone", PAIR, threads=1, items=8),
    Workload("own", PAIR, threads=2, items=8, own=True),
    Workload("pair", PAIR, threads=2, items=8),
    Workload("three", THREE, threads=2, items=8),
    Workload("swap", SWAP, threads=2, items=8),
    Workload("1 item", PAIR, threads=2, items=1),
]
CROWDED = [
    Workload("pair", PAIR, threads=4, items=8),
    Workload("three", THREE, threads=4, items=16),
]
PLAN = {  # with the GIL nothing runs in parallel, but a thread can still be preempted in mid-pair
    "bound": [*PARALLEL, *CROWDED] if FREE_THREADED else CROWDED,
    "attribute": PARALLEL if FREE_THREADED else [],
}


# ---- measuring -----------------------------------------------------------------------------------

ONE_THREAD = """
def run(clock, loops, store):
    get, put = store.{get}, store.{put}
    start = clock()
    for _ in loops:
        {body}
    return clock() - start
"""

THREADED = """
def run(clock, end, store, empty, swap):
    get, put = store.{get}, store.{put}
    done = failed = 0
    while clock() < end:
        for _ in range({batch}):
            try:
                {body}
            except empty:
                failed += 1
                {undo}
        done += {batch}
    return done - failed, failed
"""


def compiled(template: str, one: Contestant, form: str, **code: Any) -> Callable[..., Any]:
    """Write the loop out for the contestant's method names, so that no wrapper is measured.

    `form` is "bound" (get = pool.get once per thread) or "attribute" (pool.get() every time).
    """
    bound = form == "bound"
    get, put = ("get", "put") if bound else (f"store.{one.get}", f"store.{one.put}")
    text = {k: v.format(get=get, put=put) if isinstance(v, str) else v for k, v in code.items()}
    space: dict[str, Any] = {}
    exec(template.format(get=one.get, put=one.put, **text), space)
    return space["run"]


def resources(n: int) -> list[object]:
    """Distinct objects large enough that no two reference counts share a cache line."""
    return [bytes(160) for _ in range(n)]


def one_thread(contestants: list[Contestant]) -> dict[str, dict[str, float]]:
    """Nanoseconds of thread CPU time a pair, for each contestant and column."""
    columns = {
        "bound": (PAIR, "bound"),
        "attribute": (PAIR, "attribute"),
        "three": (THREE, "bound"),
    }
    runs = []
    for one in contestants:
        store = one.make(resources(8))
        for column, (steps, form) in columns.items():
            run = compiled(ONE_THREAD, one, form, body="\n        ".join([steps.body] * UNROLL))
            runs.append((run, store, steps.pairs, one.name, column))
    empty = compiled(ONE_THREAD, contestants[0], "bound", body="\n        ".join(["pass"] * UNROLL))
    runs.append((empty, contestants[0].make([]), 1, "", "loop"))

    samples: dict[tuple[str, str], list[float]] = {}
    for _ in range(ROUNDS):
        for run, store, pairs, name, column in runs:
            spent = run(time.thread_time_ns, repeat(None, LOOPS), store) / (LOOPS * UNROLL)
            samples.setdefault((name, column), []).append(spent / pairs)
    loop = statistics.median(samples["", "loop"])
    return {
        one.name: {
            column: statistics.median(samples[one.name, column]) - loop / steps.pairs
            for column, (steps, _) in columns.items()
        }
        for one in contestants
    }


class Window(NamedTuple):
    rate: float  # million pairs a second, all threads together
    failed: float  # share of the steps in which get() found nothing
    clean: bool  # as the module's text says


def waited_for_core() -> int:
    """Nanoseconds that the calling thread has been ready to run but had no core to run on.

    A yield or a futex wait inside a lock does not count, as an involuntary context switch would.
    """
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1])


def busy() -> float:
    """Seconds that all cores together have worked for anybody, in clock ticks of 10 ms or so."""
    user, nice, system, _, _, *other = Path("/proc/stat").read_text().split("\n")[0].split()[1:9]
    return sum(map(int, [user, nice, system, *other])) / os.sysconf("SC_CLK_TCK")


def window(one: Contestant, run: Callable[..., Any], work: Workload) -> Window:
    items = [resources(work.items) for _ in range(work.threads if work.own else 1)]
    stores = [one.make(list(some)) for some in items]
    box = candidates.Box(getattr(stores[0], one.get)()) if work.steps is SWAP else None
    begin = 0

    def set_begin() -> None:
        nonlocal begin
        begin = time.perf_counter_ns() + LEAD

    barrier = threading.Barrier(work.threads, action=set_begin)
    reports: list[tuple[int, int, int, int]] = []

    def body(i: int) -> None:
        os.sched_setaffinity(0, {CORES[i % len(CORES)]})  # this thread only
        store, swap = stores[i % len(stores)], box and box.swap
        barrier.wait()
        waited = waited_for_core()
        while (now := time.perf_counter_ns()) < begin:
            pass
        done, failed = run(time.perf_counter_ns, begin + work.window, store, one.empty, swap)
        taken = time.perf_counter_ns() - begin
        reports.append((done, failed, taken, waited_for_core() - waited + now - begin))

    threads = [threading.Thread(target=body, args=(i,)) for i in range(work.threads)]
    others = busy() - time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    others = busy() - time.process_time() - others
    if len(reports) != work.threads:
        raise RuntimeError(f"{one.name}: a thread died, see its traceback above")

    for some, store in zip(items, stores):
        check_conservation(one, store, some, box)
    done, failed, taken, lost = map(list, zip(*reports))
    rate = work.steps.pairs * sum(done) / statistics.mean(taken) * 1e3
    clean = max(lost) < LOST * work.window
    if work.crowded:
        usable = len(CORES) if FREE_THREADED else 1
        left = min(1.0, (len(CORES) - others * 1e9 / work.window) / usable)
        rate, clean = rate / max(left, LEFT), left > LEFT
    return Window(rate, sum(failed) / max(sum(done) + sum(failed), 1), clean)


def check_conservation(one: Contestant, store: Any, items: list[object], box: Any) -> None:
    found = [box.swap(None)] if box else []
    try:
        while len(found) <= len(items):
            found.append(getattr(store, one.get)())
    except one.empty:
        pass
    if sorted(map(id, found)) != sorted(map(id, items)):
        raise RuntimeError(f"{one.name} lost or doubled items: {len(found)} of {len(items)} found")


def several_threads(
    contestants: list[Contestant], work: Workload, form: str, patience: float
) -> dict[str, dict[str, Any]]:
    """Summary of the clean windows of each contestant, within `patience` seconds for all."""
    code = {"batch": BATCH, "body": work.steps.body, "undo": work.steps.undo}
    runs = {one: compiled(THREADED, one, form, **code) for one in contestants}
    kept: dict[Contestant, list[Window]] = {one: [] for one in contestants}
    deadline = time.monotonic() + patience
    while min(map(len, kept.values())) < work.windows and time.monotonic() < deadline:
        for one, run in runs.items():
            if len(kept[one]) < work.windows:
                result = window(one, run, work)
                if result.clean:
                    kept[one].append(result)
    return {one.name: summary(windows) for one, windows in kept.items()}


def summary(windows: list[Window]) -> dict[str, Any]:
    if not windows:  # the machine was too busy with other things
        return {"median": None, "best": None, "failed": None, "windows": 0}
    return {
        "median": statistics.median(w.rate for w in windows),
        "best": max(w.rate for w in windows),
        "failed": statistics.median(w.failed for w in windows),
        "windows": len(windows),
    }


# ---- report --------------------------------------------------------------------------------------


def print_one_thread(figures: dict[str, dict[str, float]]) -> None:
    print("\nOne thread: ns a pair, less is better")
    print(f"{'':26}{'bound':>12}{'attribute':>12}{'three held':>12}")
    for name, row in figures.items():
        print(f"{name:26}{row['bound']:12.1f}{row['attribute']:12.1f}{row['three']:12.1f}")


def print_threads(form: str, columns: list[dict[str, dict[str, Any]]]) -> None:
    how = "get = pool.get" if form == "bound" else "pool.get()"
    print(f"\nSeveral threads, {how}: million pairs/s in all, more is better")
    header, shown = [], []
    for work, column in zip(PLAN[form], columns):
        header.append((f"{work.threads} thr", work.name))
        shown.append((column, "median", "{:.1f}"))
        if work.items < work.threads:  # then a get that finds nothing is part of the picture
            header.append(("found", "none"))
            shown.append((column, "failed", "{:.0%}"))
    for line in zip(*header):
        print(f"{'':26}" + "".join(f"{word:>6}" for word in line))
    for name in columns[0]:
        cells = [(column[name][key], style) for column, key, style in shown]
        texts = ("-" if value is None else style.format(value) for value, style in cells)
        print(f"{name:26}" + "".join(f"{text:>6}" for text in texts))
    windows = [row["windows"] for column in columns for row in column.values()]
    print(f"medians of {min(windows)} to {max(windows)} windows; -: none was undisturbed")


def machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(": ")[1] for line in lines if line.startswith("model name")), "?")
    return {
        "python": sys.version,
        "gil": not FREE_THREADED or sys._is_gil_enabled(),
        "cpu": model,
        "cores": len(CORES),
        "kernel": platform.release(),
        "compiler": platform.python_compiler(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares storage candidates for the core.")
    parser.add_argument("--seconds", type=float, default=80.0, help="at most, without the build")
    seconds = parser.parse_args().seconds
    facts, started = machine(), time.monotonic()
    print(f"CPython {PYTHON} ({platform.python_version()}), {'with' if facts['gil'] else 'no'} GIL")
    print(f"{facts['cpu']}, {facts['cores']} cores, {facts['compiler']}")
    # The first thread makes some objects of a free-threaded interpreter immortal: not in mid-run.
    threading.Thread(target=int).start()
    gc.disable()

    print("0 s: one thread", file=sys.stderr, flush=True)
    single = one_thread(CONTESTANTS)
    print_one_thread(single)

    usable = [one for one in CONTESTANTS if one.parallel or not FREE_THREADED]
    parallel: dict[str, dict[str, dict[str, Any]]] = {}
    left = sum(map(len, PLAN.values()))
    for form, workloads in PLAN.items():
        columns = parallel[form] = {}
        for work in workloads:
            spent, name = time.monotonic() - started, f"{work.threads} thr {work.name}"
            print(f"{spent:.0f} s: {form}, {name} ({left} left)", file=sys.stderr, flush=True)
            # What one workload leaves over goes to the next.
            columns[name] = several_threads(usable, work, form, (seconds - spent) / left)
            left -= 1
        if columns:
            print_threads(form, list(columns.values()))

    RESULTS.parent.mkdir(exist_ok=True)
    figures = {"machine": facts, "one_thread_ns": single, "threads_mpairs_per_s": parallel}
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n")
    print(f"\nWritten: bench/results/{RESULTS.name}")


if __name__ == "__main__":
    main()
