"""P7: Go's buffered channel as a pool of the same size, where Go is installed.

The Go program is compiled once and then takes turns with ours. Alone: CPU time per pair of both.
On two threads: wall time per pair over both, of windows that the scheduler left alone; so Go's are
short as well, and those with an involuntary context switch are thrown away like ours.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.adapter import SIZE, pool_use
from bench.cases import Effort, Figure, of_ratio
from bench.cases.parallel import floor_case
from bench.measure import Case, NotRun, Series, pair_times, parallel_rates
from bench.targets import free_threaded

SOURCE = Path(__file__).resolve().parent.parent / "go"
# Go's `<-pool` waits, and so does get; put never waits in pool use, under either name. The
# interpreter calls a bound method of one plain argument faster than one that takes options.
BOUND = ("get = q.get", "put = q.put_nowait")
BOUND_PUT = ("get = q.get", "put = q.put")
RESULT = re.compile(
    r"^Benchmark.*?(?P<wall>[\d.]+) ns/op.*?(?P<cpu>[\d.]+) cpu-ns/op.*?(?P<switches>\d+) switches",
    re.MULTILINE,
)
PAIRS = 200_000  # in one run of the Go program: about as long as a window of ours


def compiled(folder: str) -> str:
    """Path of the compiled Go benchmark, or NotRun."""
    go = shutil.which("go")
    if go is None:
        raise NotRun("go is not installed (Debian: apt-get install golang-go)")
    binary = str(Path(folder) / "pool.test")
    build = [go, "test", "-c", "-o", binary, "."]
    done = subprocess.run(build, cwd=SOURCE, capture_output=True, text=True)
    if done.returncode:
        raise NotRun(f"the Go program does not compile: {done.stderr.strip()[:200]}")
    return binary


def go_runs(binary: str, name: str, cpus: int, count: int) -> list[dict[str, float]]:
    """Wall time and CPU time per pair, and context switches, of each of so many runs."""
    arguments = ["-test.run=none", f"-test.bench=^Benchmark{name}$", f"-test.cpu={cpus}"]
    arguments += [f"-test.benchtime={PAIRS}x", f"-test.count={count}"]
    done = subprocess.run([binary, *arguments], capture_output=True, text=True, timeout=60)
    runs = [
        {key: float(value) for key, value in found.groupdict().items()}
        for found in RESULT.finditer(done.stdout)
    ]
    if not runs:
        raise NotRun(f"the Go program printed no result: {done.stdout.strip()[:200]}")
    return runs


def p7(effort: Effort) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        binary = compiled(folder)
        pool = pool_use(SIZE)
        case, case_put = (Case("put(get())", {"q": pool}, how) for how in (BOUND, BOUND_PUT))
        try:
            yield from alone({"P7a": case, "P7c": case_put}, binary, effort)
            if not free_threaded():
                raise NotRun("needs a free-threaded interpreter: with the GIL threads take turns")
            yield from on_two_threads(case, binary, effort)
        finally:
            pool.close()


def alone(cases: dict[str, Case], binary: str, effort: Effort) -> Iterator[Figure]:
    ours: dict[str, list[float]] = {key: [] for key in cases}
    go = []
    for _ in range(max(5, effort.rounds // 2)):
        for key, series in pair_times(cases, rounds=3).items():
            ours[key].append(series.median)
        go.append(Series(tuple(run["cpu"] for run in go_runs(binary, "Alone", 1, 3))).median)
    for key in cases:
        yield of_ratio(key, Series(tuple(ours[key])), Series(tuple(go)))


def on_two_threads(case: Case, binary: str, effort: Effort) -> Iterator[Figure]:
    runs = go_runs(binary, "Parallel", 2, 8 * effort.windows)
    quiet = tuple(run["wall"] for run in runs if not run["switches"])
    go = Series(quiet, f"machine too busy: {len(quiet)} undisturbed Go runs in {len(runs)}")
    rates = parallel_rates(
        {"P7b": (2, lambda: case, 200), "P7d": (2, floor_case, 200)},
        windows=effort.windows,
        patience=effort.patience,
    )
    for key, series in rates.items():
        times = Series(tuple(1e9 / each for each in series.samples), series.why)
        yield of_ratio(key, times, go, paired=False)
