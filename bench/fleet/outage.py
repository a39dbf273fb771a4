"""Redis is away for a minute: what borrowers notice of it.

    python -m bench.fleet.outage [--seconds 60] [--json FILE]

Four pools, each with a RedisBudget of its own, so four members, share 16 permits; 24 threads borrow
for 20 ms in turn, so somebody waits all the time. Redis is ended, and comes back empty. Turns are
counted by second: before, while it is away, and after.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import threading
import time
from collections import Counter
from pathlib import Path

from bench import machine, servers
from bench.measure import NotRun

POOLS, THREADS, LIMIT = 4, 6, 16
HOLD = 0.02  # seconds of a use
TTL, GRACE = 10.0, 2.0


class Resources:
    """Counts what is open."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.open = self.most = 0

    def create(self) -> object:
        with self.lock:
            self.open += 1
            self.most = max(self.most, self.open)
        return object()

    def close(self, _: object) -> None:
        with self.lock:
            self.open -= 1


def measure(seconds: float) -> dict[str, object]:
    """Turns per second in each phase (medians), errors of borrowers, the most that was open."""
    from fastpool import FastPool
    from fastpool.fleet import RedisBudget

    logging.getLogger("fastpool").setLevel(logging.CRITICAL)  # of each outage, and each end
    resources, over = Resources(), threading.Event()
    turns: Counter[int] = Counter()
    errors: Counter[str] = Counter()

    def work(pool: FastPool[object]) -> None:
        while not over.is_set():
            try:
                with pool.lease():
                    time.sleep(HOLD)
            except Exception as error:
                errors[type(error).__name__] += 1
            else:
                turns[int(time.monotonic())] += 1

    with servers.redis() as port:
        pools = []
        for n in range(POOLS):
            url = f"redis://127.0.0.1:{port}"
            budget = RedisBudget(url, "orders", LIMIT, ttl=TTL, grace=GRACE)
            pools.append(
                FastPool(
                    LIMIT, factory=resources, budget=budget, timeout=5 * TTL, max_lifetime=None,
                    name=f"orders-{n}",
                )
            )  # fmt: skip
        threads = [
            threading.Thread(target=work, args=(pool,)) for pool in pools for _ in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        while resources.open < LIMIT:  # until it has learned that nobody else is there
            time.sleep(0.1)
        time.sleep(1.0)
        before = time.monotonic()
        time.sleep(seconds)
    killed = time.monotonic()
    time.sleep(seconds)
    with servers.redis(port=port):
        back = time.monotonic()
        time.sleep(max(seconds, TTL + GRACE))
        end = time.monotonic()
        over.set()
        for thread in threads:
            thread.join()
        for pool in pools:
            pool.close()
    phases = {"before": (before, killed), "away": (killed, back), "back": (back, end)}
    rates = {
        name: statistics.median(turns[s] for s in range(int(first) + 1, int(last)))
        for name, (first, last) in phases.items()
    }
    return {"turns": rates, "errors": dict(errors), "most": resources.most, "seconds": seconds}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.fleet.outage", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each phase (60)")
    parser.add_argument("--json", type=Path, help="write what was counted")
    given = parser.parse_args()
    print("\n".join(machine.in_words(machine.describe())), flush=True)
    try:
        found = measure(given.seconds)
    except NotRun as reason:
        print(f"not run: {reason}")
        return 0
    print("| Redis | turns/s | errors of borrowers | most open of 16 |\n|---|--:|--:|--:|")
    for phase, rate in dict(found["turns"]).items():  # type: ignore[call-overload]
        print(f"| {phase} | {rate:.0f} | {found['errors'] or 0} | {found['most']} |")
    if given.json:
        given.json.write_text(json.dumps(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
