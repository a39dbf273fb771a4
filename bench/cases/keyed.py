"""K1: pools of many keys. What a lease costs, and who gets how much done when keys compete.

K1a to K1e: one thread, everything idle, as in P4. K1f to K1h: 16 threads for a fixed time, each
with a key of its own choosing: they share one key, which is full; or have more keys than there are
places, so that connections are closed for one another; K1j is K1h with a place for each key, hence
without that. K1i: memory.

generic-connection-pool has the same limits as ours. urllib3's PoolManager finds the pool of a host;
it has no limit over all hosts but their number, so it is only in the rows of one thread.
"""

from __future__ import annotations

import gc
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from bench import child
from bench.adapter import SIZE, Thing, fastpool, in_threads, pool_use
from bench.cases import Effort, Figure, of_ratio
from bench.cases.capacity import resident
from bench.measure import Case, NotRun, Series, pair_times
from bench.peers import PEER

KEYS = 1000
THREADS = 16
HELD = 0.001  # seconds, as a quick request

KEYED = "with pool.lease(key) as resource: pass"
GENERIC = "with pool.connection(key, timeout=30) as connection: pass"
URLLIB3 = "pool = manager.connection_from_url(key)\npool._put_conn(pool._get_conn())"
EACH = "key = next(keys)\n"


def hosts(n: int) -> list[str]:
    return [f"http://host-{i}:80" for i in range(n)]


def keyed(**limits: Any) -> Any:
    return fastpool().KeyedPool(lambda key: Thing(), **limits)


def generic(total: int, per_key: int) -> Any:
    """The same limits; nothing is closed for being idle before long, by a thread of its own."""
    try:
        from generic_connection_pool.threading import BaseConnectionManager, ConnectionPool
    except ImportError as error:
        raise NotRun(f"generic-connection-pool is not installed ({error})") from None

    class Manager(BaseConnectionManager[str, Thing]):
        def create(self, endpoint: str, timeout: float | None = None) -> Thing:
            return Thing()

        def dispose(self, endpoint: str, conn: Thing, timeout: float | None = None) -> None:
            pass

    return ConnectionPool(
        Manager(),
        idle_timeout=600.0,
        max_lifetime=1800.0,
        min_idle=per_key,
        max_size=per_key,
        total_max_size=total,
        background_collector=True,
    )


def urllib3_manager() -> Any:
    """Whose pools are those of P4d, found by the URL."""
    try:
        from urllib3 import PoolManager
    except ImportError as error:
        raise NotRun(f"urllib3 is not installed ({error})") from None
    manager = PoolManager(num_pools=KEYS, maxsize=SIZE, block=True)
    kind = type(PEER["urllib3"].make(SIZE))
    manager.pool_classes_by_scheme = {"http": kind}
    return manager


def one_thread(effort: Effort) -> Iterator[Figure]:
    keys = hosts(KEYS)
    ours, plain = keyed(max_total=None), pool_use()
    for key in keys:
        with ours.lease(key):
            pass
    cases = {
        "plain": Case("with pool.lease() as resource: pass", {"pool": plain}),
        "hot": Case(KEYED, {"pool": ours, "key": keys[0]}),
        "each": Case(EACH + KEYED, {"pool": ours, "keys": itertools.cycle(keys)}),
    }
    missing: dict[str, str] = {}
    rivals: list[Any] = []
    try:
        rival = generic(KEYS * SIZE, SIZE)
        rivals.append(rival)
        for key in keys:
            with rival.connection(key):
                pass
        cases["generic, hot"] = Case(GENERIC, {"pool": rival, "key": keys[0]})
        cases["generic, each"] = Case(
            EACH + GENERIC, {"pool": rival, "keys": itertools.cycle(keys)}
        )
    except NotRun as reason:
        missing["generic"] = str(reason)
    try:
        manager = urllib3_manager()
        for key in keys:
            pool = manager.connection_from_url(key)
            pool._put_conn(pool._get_conn())
        cases["urllib3, hot"] = Case(URLLIB3, {"manager": manager, "key": keys[0]})
    except NotRun as reason:
        missing["urllib3"] = str(reason)
    try:
        times = pair_times(cases, rounds=effort.rounds)
    finally:
        ours.close()
        plain.close()
        for rival in rivals:
            rival.close()
    for row, above, below in (
        ("K1a", "generic, hot", "hot"),
        ("K1b", "generic, each", "each"),
        ("K1c", "urllib3, hot", "hot"),
        ("K1d", "hot", "plain"),
        ("K1e", "each", "hot"),
    ):
        if above in times:
            yield of_ratio(row, times[above], times[below])
        else:
            yield Figure(row, None, note=missing[above.partition(",")[0]])


def rate(enter: Callable[[str], Any], keys: list[str], hold: float, seconds: float) -> float:
    """Leases a second of all threads together; thread i takes the i-th key, then every 16th."""
    turns = [0] * THREADS
    begun = time.perf_counter()
    end = begun + seconds

    def work(i: int) -> None:
        count = 0
        mine = itertools.cycle(keys[i % len(keys) :: THREADS] or keys)
        while time.perf_counter() < end:
            with enter(next(mine)):
                if hold:
                    time.sleep(hold)
            count += 1
        turns[i] = count

    in_threads(THREADS, work)
    return sum(turns) / (time.perf_counter() - begun)


#: Row: keys, places, places of one key, seconds that a lease is held.
CROWDS = {
    "K1f": (1, 2, 2, 0.0),
    "K1g": (1, 4, 4, HELD),
    "K1h": (4 * THREADS, 2 * THREADS, 2, HELD),
    "K1j": (4 * THREADS, 4 * THREADS, 2, HELD),  # nothing is closed: what K1h has on top of this
}


def crowds(effort: Effort) -> Iterator[Figure]:
    for row, (n, total, per_key, hold) in CROWDS.items():
        rates: dict[str, list[float]] = {"ours": [], "generic": []}
        try:
            for _ in range(effort.repeats):
                with keyed(max_total=total, max_per_key=per_key) as ours:
                    rates["ours"].append(rate(ours.lease, hosts(n), hold, effort.seconds / 2))
                rival = generic(total, per_key)
                # It may leave all who wait asleep for ever: they have 30 seconds, as in GENERIC.
                enter = partial(rival.connection, timeout=30)
                rates["generic"].append(rate(enter, hosts(n), hold, effort.seconds / 2))
                rival.close()
        except NotRun as reason:
            yield Figure(row, None, note=str(reason))
            continue
        except TimeoutError:
            yield Figure(row, None, note="generic-connection-pool woke no waiter for 30 s")
            continue
        yield of_ratio(row, *(Series(tuple(rates[who])) for who in ("ours", "generic")))


def k1(effort: Effort) -> Iterator[Figure]:
    yield from one_thread(effort)
    yield from crowds(effort)
    yield Figure("K1i", float(child.python("-m", "bench.cases.keyed")))


def grown_by() -> float:
    """Bytes of this process per key with one idle resource, those of the resource included."""
    n = 10_000
    pool = keyed(max_total=None)
    with pool.lease("first"):
        pass
    gc.collect()
    before = resident()
    for key in range(n):
        with pool.lease(key):
            pass
    gc.collect()
    return (resident() - before) / n


if __name__ == "__main__":
    print(grown_by())
    sys.stdout.flush()
