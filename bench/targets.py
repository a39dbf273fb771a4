"""What each measurement must reach, per interpreter: the one table behind every verdict.

A must belongs to a kind of interpreter, because the rivals' cost and ours shift by different
amounts between them. Versions that the table does not name take the nearest column (`column`).
None means that nothing was promised there: the figure is published and judged by nobody.
"""

from __future__ import annotations

import sys
import sysconfig
from dataclasses import dataclass

SLACK = 0.7  # what a guard in the test command still accepts, as a share of the must

# Promises that are not kept. The verdict in the table stays what it is; the guard holds the line
# where it was when this was written, instead of being red or silent all the time. By interpreter,
# the newest standing for those after it, or for all with the GIL ("") or without it ("t").
SO_FAR: dict[str, dict[str, float]] = {
    # Each version is faster at running the standard library's Python. Profile-guided builds.
    "P1a": {"3.14": 39, "3.15": 29},
    "P1b": {"3.14": 30, "3.15": 28},
    "P3b": {"3.14": 26, "3.15": 22},
    # The floor (P6j, P6k) lay below both promises there, so that no pool could keep them.
    "P6b": {"t": 2.1},
    "P6c": {"t": 1.7},
    # Reading more modules costs free-threaded builds more than `import asyncio` does: 0.24 to 0.31.
    "P15a": {"": 0.2, "t": 0.26},
}


@dataclass(frozen=True)
class Must:
    """One line of the printed table. `sense` is ">=" or "<="; `values` is 3.11, 3.13, 3.13t."""

    key: str
    what: str
    sense: str
    unit: str
    values: tuple[float | None, float | None, float | None]

    @property
    def row(self) -> str:
        return self.key.rstrip("abcdefghijklmnop")

    def value(self) -> float | None:
        return self.values[column()]

    def reached_by(self, measured: float) -> bool | None:
        """Whether the figure is good enough; None where nothing was promised."""
        must = self.value()
        if must is None:
            return None
        return measured >= must if self.sense == ">=" else measured <= must

    def guarded_at(self) -> float | None:
        """The figure that fails the build: SLACK of the must, or of what was reached so far.  None
        for times: a machine of another speed has others, so only ratios are guarded."""
        must = self.value()
        if must is None or self.unit in TIMES:
            return None
        must = _so_far(self.key, must)
        return must * SLACK if self.sense == ">=" else must / SLACK


TIMES = ("ns", "us", "ms")


def _so_far(key: str, must: float) -> float:
    reached = SO_FAR.get(key, {})
    if free_threaded():
        return reached.get(interpreter(), reached.get("t", must))
    newest = min(sys.version_info[:2], (3, 15))
    return reached.get("{}.{}".format(*newest), reached.get("", must))


def free_threaded() -> bool:
    """Whether threads of this process run Python code at once."""
    built = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    return built and not getattr(sys, "_is_gil_enabled", lambda: True)()


def column() -> int:
    """Which of the three columns holds for the running interpreter."""
    if free_threaded():
        return 2
    return 1 if sys.version_info >= (3, 13) else 0


def interpreter() -> str:
    """The running interpreter's short name, as in "3.13t"."""
    major, minor = sys.version_info[:2]
    return f"{major}.{minor}{'t' if free_threaded() else ''}"


def _all(value: float) -> tuple[float, float, float]:
    return value, value, value


NOTHING = (None, None, None)

MUSTS: tuple[Must, ...] = (
    # Pairs of get and put in one thread.                                    3.11, 3.13, 3.13t
    Must("P1a", "LifoQueue / queue use, *_nowait pair", ">=", "x", (60, 68, 33)),
    Must("P1b", "LifoQueue / queue use, put(get())", ">=", "x", (42, 55, 30)),
    Must("P2a", "SimpleQueue / queue use, *_nowait pair", ">=", "x", (1.8, 1.2, 1.0)),
    Must("P2b", "SimpleQueue / queue use, put(get())", ">=", "x", (1.3, 1.0, 0.92)),
    Must("P2c", "floor: SimpleQueue / a bare deque's pair", "", "x", NOTHING),
    Must("P3a", "pool use / queue use, put(get())", "<=", "x", _all(1.4)),
    Must("P3b", "LifoQueue / pool use, put(get())", ">=", "x", (32, 40, 25)),
    # One lease, or what a peer calls one.
    Must("P4a", "psycopg_pool connection() / lease()", ">=", "x", (30, 30, None)),
    Must("P4b", "SQLAlchemy connect+close / lease()", ">=", "x", (32, 32, None)),
    Must("P4c", "redis blocking get+release / lease()", ">=", "x", (38, 38, None)),
    Must("P4d", "urllib3 get+put / lease()", ">=", "x", (12, 12, None)),
    Must("P4e", "DBUtils connection+close / lease()", ">=", "x", (14, 14, None)),
    # The same for a task.
    Must("P5a", "psycopg async connection() / lease()", ">=", "x", (22, 22, None)),
    Must("P5b", "asyncpg acquire(timeout=) / lease()", ">=", "x", (65, 65, None)),
    Must("P5c", "redis.asyncio blocking get+release / same", ">=", "x", (38, 38, None)),
    Must("P5d", "async with lease() / asyncio.Lock", "<=", "x", _all(0.75)),
    Must("P5e", "SQLAlchemy async connect+close / lease()", "", "x", NOTHING),
    Must("P5f", "aiologic SimpleLifoQueue pair / lease()", "", "x", NOTHING),
    Must("P5g", "culsans LifoQueue pair / lease()", "", "x", NOTHING),
    Must("P5h", "generic-connection-pool / lease()", "", "x", NOTHING),
    Must("P5i", "async factory: lease() / asyncio.Lock", "", "x", NOTHING),
    # Two threads really at once; methods bound once per thread unless said.
    Must("P6a", "pool use, 2 threads / 1 thread", ">=", "x", (None, None, 1.9)),
    Must("P6b", "2 threads: pool use / SimpleQueue", ">=", "x", (None, None, 3.0)),
    Must("P6c", "2 threads: pool use / deque, own lock", ">=", "x", (None, None, 2.4)),
    Must("P6d", "2 threads: pool use / deque + Lock", ">=", "x", (None, None, 2.4)),
    Must("P6e", "2 threads: pool use / queue.Queue", ">=", "x", (None, None, 120)),
    Must("P6f", "with lease(), 2 threads / 1 thread", ">=", "x", (None, None, 1.8)),
    Must("P6g", "same, shared object: with pool.lease()", ">=", "x", (None, None, 1.15)),
    Must("P6h", "same, shared object: put(get())", "", "x", NOTHING),
    Must("P6i", "2 threads: queue use / SimpleQueue", ">=", "x", (None, None, 1.1)),
    Must("P6j", "floor: 2 deques unshared / SimpleQueue", "", "x", NOTHING),
    Must("P6k", "floor: 2 deques unshared / deque", "", "x", NOTHING),
    Must("P7a", "pool use, bound / Go channel pool, 1 thr.", "<=", "x", (1.0, 1.0, None)),
    Must("P7b", "same, wall time on two threads", "<=", "x", (None, None, 0.7)),
    Must("P7c", "as P7a, with put for put_nowait", "", "x", NOTHING),
    Must("P7d", "floor of P7b: a deque for each thread", "", "x", NOTHING),
    # More borrowers than resources.
    Must("P8a", "fair: fewest / most turns of a thread", ">=", "", _all(0.95)),
    Must("P8b", "throughput: fewest / most turns", ">=", "", _all(0.95)),
    Must("P8c", "fair: turns / LifoQueue's turns", ">=", "x", _all(0.97)),
    Must("P8d", "throughput: turns / LifoQueue's turns", ">=", "x", _all(0.97)),
    Must("P8e", "psycopg_pool: fewest / most turns", "", "", NOTHING),
    Must("P8f", "LifoQueue: fewest / most turns", "", "", NOTHING),
    Must("P9a", "zero hold: throughput / LifoQueue", ">=", "x", _all(10)),
    Must("P9b", "zero hold: throughput, worst wait", "<=", "ms", _all(50)),
    Must("P9c", "zero hold: fair / psycopg_pool", ">=", "x", _all(2)),
    Must("P9d", "zero hold: LifoQueue, worst wait", "", "ms", NOTHING),
    Must("P9e", "8 busy threads, no pool: worst pause", "", "ms", NOTHING),
    # From one thread's put to another's get.
    Must("P10a", "hand-off / SimpleQueue's, no spin (1 CPU)", "<=", "x", _all(1.1)),
    Must("P10b", "hand-off / SimpleQueue's, bounded spin", "<=", "x", _all(0.5)),
    Must("P10c", "hand-off: CPU, ours", "", "us", NOTHING),
    Must("P10d", "hand-off: CPU, SimpleQueue", "", "us", NOTHING),
    Must("P10e", "task hand-off, 2 queues / a bare future's", "<=", "x", _all(1.3)),
    Must("P10f", "same over one resource, with lease()", "", "x", NOTHING),
    Must("P10g", "same over 2 asyncio.Queues", "", "x", NOTHING),
    Must("P10h", "floor: bare futures in two coroutines", "", "x", NOTHING),
    Must("P10i", "hand-off from loop to loop, 2 queues", "", "us", NOTHING),
    Must("P10j", "floor: call_soon_threadsafe, bare futures", "", "us", NOTHING),
    Must("P10k", "hand-off thread to task and back, each", "", "us", NOTHING),
    # A thousand tasks, fifty resources, 1 ms each.
    Must("P11a", "tasks, fair: wait, p99.9 / p50", "<=", "x", _all(1.4)),
    Must("P11b", "fair: p50 / asyncio.Semaphore's p50", "<=", "x", _all(1.1)),
    Must("P11c", "throughput: p99.9 / p50", "", "x", NOTHING),
    Must("P11d", "throughput: p50 / asyncio.Semaphore's p50", "", "x", NOTHING),
    Must("P11e", "asyncio.Semaphore: p99.9 / p50", "", "x", NOTHING),
    Must("P11f", "fair: p50", "", "ms", NOTHING),
    # A million resources.
    Must("P12a", "queue, lifo: pair at 10^6 / at 16", "<=", "x", _all(1.1)),
    Must("P12b", "queue, fifo: pair at 10^6 / at 16", "<=", "x", _all(1.1)),
    Must("P12c", "pool, lifo: pair at 10^6 / at 16", "<=", "x", _all(1.1)),
    Must("P12d", "pool, fifo: pair at 10^6 / at 16", "<=", "x", _all(1.1)),
    Must("P12e", "deque, fifo: pair at 10^6 / at 16", "", "x", NOTHING),
    Must("P12f", "queue use: memory per idle slot", "<=", "B", _all(16)),
    Must("P12g", "pool use: memory per idle slot", "<=", "B", _all(96)),
    # Fifty threads at once, a slow connect.
    Must("P13a", "spike from empty: opened", "<=", "", _all(8)),
    Must("P13b", "same: last served / opening all 50", "<=", "x", _all(1.25)),
    Must("P13c", "spike from 5 idle: opened in all", "<=", "", _all(9)),
    Must("P13d", "psycopg_pool from empty: opened", "", "", NOTHING),
    Must("P13e", "SQLAlchemy from empty: opened", "", "", NOTHING),
    # Real servers, 16 threads: with our queue in place of their own.
    Must("P14a", "redis-py: queries/s ours / own", ">=", "x", _all(0.98)),
    Must("P14b", "urllib3: requests/s ours / own", ">=", "x", _all(0.98)),
    Must("P14c", "SQLAlchemy: queries/s ours / own", ">=", "x", _all(0.98)),
    Must("P15a", "import fastpool / import asyncio", "<=", "x", _all(0.15)),
    Must("P15b", "wheel size", "<=", "MB", _all(1)),
    # Very many waits that time out at one instant. A return that looked through the line would cost
    # a hundred times more there; what 1.5 allows for is a head that no cache holds.
    Must("R1a", "20,000 tasks time out: goodput / without", ">=", "", _all(0.9)),
    Must("R1b", "1,000 threads time out: goodput / without", ">=", "", _all(0.9)),
    Must("R1c", "same, 20,000 timeouts beside the pool", "", "", NOTHING),
    Must("R1d", "cost of a return: 20,000 wait / 200 wait", "<=", "x", _all(1.5)),
    # An object out of a cache and back. "New" is what a cache saves.
    Must("O1a", "new bytearray(64 KiB) / cache get+put", ">=", "x", _all(1)),
    Must("O1b", "new json.JSONEncoder() / cache get+put", ">=", "x", _all(1)),
    Must("O1c", "plain list, append(pop()) / same", "", "x", NOTHING),
    Must("O1d", "a list in threading.local / same", "", "x", NOTHING),
    Must("O1e", "SimpleQueue / same", "", "x", NOTHING),
    Must("O1f", "LifoQueue / same", "", "x", NOTHING),
    Must("O1g", "three at once: pairs / one at a time", "", "x", NOTHING),
    Must("O2a", "cache, bound: 2 threads / 1 thread", "", "x", NOTHING),
    Must("O2b", "2 threads: cache / plain list", "", "x", NOTHING),
    Must("O2c", "2 threads: cache / SimpleQueue", "", "x", NOTHING),
    Must("O2d", "2 threads: cache / LifoQueue", "", "x", NOTHING),
    Must("O3a", "4 threads: cache / new bytearray(64 KiB)", "", "x", NOTHING),
    Must("O3b", "4 threads: cache / plain list", "", "x", NOTHING),
    Must("O3c", "4 threads: cache / SimpleQueue", "", "x", NOTHING),
    Must("O3d", "4 threads: cache / LifoQueue", "", "x", NOTHING),
    # Pools of many keys; as many places for the others.
    Must("K1a", "generic-connection-pool / lease(key)", "", "x", NOTHING),
    Must("K1b", "same, 1,000 keys in turn", "", "x", NOTHING),
    Must("K1c", "urllib3 PoolManager get+put / lease(key)", "", "x", NOTHING),
    Must("K1d", "lease(key) / lease() of a FastPool", "", "x", NOTHING),
    Must("K1e", "1,000 keys in turn / one key", "", "x", NOTHING),
    Must("K1f", "16 threads, 2 places: ours / generic's", "", "x", NOTHING),
    Must("K1g", "same, 4 places, held for 1 ms", "", "x", NOTHING),
    Must("K1h", "64 keys, 32 places, held for 1 ms", "", "x", NOTHING),
    Must("K1j", "same, 64 places: nothing is closed", "", "x", NOTHING),
    Must("K1i", "memory per key with one idle", "", "B", NOTHING),
    # The buffered-channel pool: as many open as are wanted, a few kept.
    Must("B1a", "a pool around queue.Queue / max_idle, pair", "", "x", NOTHING),
    Must("B1b", "max_idle=0: closed and opened anew", "", "us", NOTHING),
    Must("B1c", "same, around nothing", "", "us", NOTHING),
    # A call under a policy, with nothing wrong. Times are of the whole call.
    Must("C1a", "a function that does nothing", "", "us", NOTHING),
    Must("C1b", "same, all four parts of a policy", "", "us", NOTHING),
    Must("C1c", "tenacity, 3 tries / Retry(3)", "", "x", NOTHING),
    Must("C1d", "pybreaker / CircuitBreaker", "", "x", NOTHING),
    Must("C1e", "a coroutine function that does nothing", "", "us", NOTHING),
    Must("C1f", "same, all four parts of a policy", "", "us", NOTHING),
    Must("C1g", "tenacity, 3 tries / Retry(3), async", "", "x", NOTHING),
    Must("C1h", "timeout=2, async / asyncio.timeout(2)", "", "x", NOTHING),
    # What must not grow with the size: each large, and large over small.
    Must("C2a", "a return after close(), 10,000 lent", "<=", "us", _all(50)),
    Must("C2b", "same / with 100 lent", "<=", "x", _all(3)),
    Must("C2c", "get_nowait() with all 10^5 lent", "<=", "us", _all(5)),
    Must("C2d", "same / with 100", "<=", "x", _all(3)),
    Must("C2e", "put() above max_idle, 10,000 open", "<=", "us", (5, 5, None)),
    Must("C2f", "same / with 100 open", "<=", "x", (3, 3, None)),
    Must("C2g", "a loan that evicts, 10,000 keys", "", "us", NOTHING),
    Must("C2h", "same / with 100 keys", "<=", "x", _all(3)),
    Must("C3a", "1,000 idle pools with min_idle=1: CPU", "<=", "%", _all(0.05)),
    Must("C3b", "memory, 20,000 pools dropped / closed", "<=", "x", _all(1.3)),
    # Units of a semaphore that are free: acquire and release.
    Must("L1a", "WeightedSemaphore: acquire+release", "", "ns", NOTHING),
    Must("L1b", "threading.Semaphore / same", "", "x", NOTHING),
    Must("L1c", "threading.BoundedSemaphore / same", "", "x", NOTHING),
    Must("L1d", "aiologic.Semaphore / same", "", "x", NOTHING),
    Must("L1e", "with threading.Semaphore / with hold()", "", "x", NOTHING),
    Must("L1f", "acquire(3)+release(3) / of one", "", "x", NOTHING),
    Must("L1g", "asyncio.Semaphore pair / aacquire+release", "", "x", NOTHING),
    Must("L1h", "async with asyncio.Semaphore / hold()", "", "x", NOTHING),
    Must("L1i", "async with anyio.CapacityLimiter / hold()", "", "x", NOTHING),
    Must("L1j", "async with aiologic.Semaphore / hold()", "", "x", NOTHING),
    # Tasks that do nothing: wall time of ThreadPoolExecutor over ours.
    Must("L2a", "executor, submit().result(), 1 worker", "", "x", NOTHING),
    Must("L2b", "same, 8 workers", "", "x", NOTHING),
    Must("L2c", "same, 32 workers", "", "x", NOTHING),
    Must("L2d", "executor, burst of 2,000, 1 worker", "", "x", NOTHING),
    Must("L2e", "same, 8 workers", "", "x", NOTHING),
    Must("L2f", "same, 32 workers", "", "x", NOTHING),
    Must("L2g", "executor, map of 2,000, 1 worker", "", "x", NOTHING),
    Must("L2h", "same, 8 workers", "", "x", NOTHING),
    Must("L2i", "same, 32 workers", "", "x", NOTHING),
    Must("L2j", "same as L2c, by 32 callers at once", "", "x", NOTHING),
    # Being looked at: metrics, a listener and the debug socket.
    Must("V1a", "lease(), looked at / not", "<=", "x", _all(1.02)),
    Must("V1b", "async lease(), looked at / not", "<=", "x", _all(1.02)),
    Must("V2a", "one Prometheus scrape of 100 pools", "<=", "ms", _all(10)),
    Must("V2b", "of this: the collector of fastpool", "", "ms", NOTHING),
    Must("V2c", "floor: prometheus_client's text alone", "", "ms", NOTHING),
    # Half of the processes are killed: until the others have been lent what was theirs.
    Must("F2a", "recovery, LocalBudget", "<=", "ms", _all(200)),
    Must("F2b", "recovery, RedisBudget, after ttl + grace", "<=", "ms", _all(300)),
    Must("F2c", "recovery, machine with a member in Redis", "<=", "ms", _all(200)),
    # What a budget costs a lease and a call that find what they want.
    Must("F3a", "lease() under a budget / lease()", "<=", "x", _all(1.01)),
    Must("F3b", "call, limit=budget / limit=Limit(8)", "<=", "x", _all(1.05)),
)

BY_KEY = {must.key: must for must in MUSTS}
