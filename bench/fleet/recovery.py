"""Half of the processes are killed: how soon the other half has what they had.

    python -m bench.fleet.recovery BUDGET     (one of the processes)

Each borrows `EACH` resources for each line that it reads, and keeps them; it prints the time of
each, of a clock that all processes share. `BUDGET` is JSON: its `name`, and the
arguments of a RedisBudget, of a LocalBudget, which has a `path`, or of both.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from typing import Any

from bench.child import environment
from bench.fleet import engine
from bench.measure import NotRun

HEIRS = VICTIMS = 4
EACH = 4  # permits of each process, before the heirs have those of the others too
LIMIT = (HEIRS + VICTIMS) * EACH
PATIENCE = 60.0


class Process:
    """One member of the fleet."""

    def __init__(self, budget: dict[str, Any]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.fleet.recovery", json.dumps(budget)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            text=True,
            bufsize=1,
        )

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")

    def hear(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise NotRun("a process of the fleet has ended early")
        return line.strip()

    def granted(self) -> float:
        """When it had been lent all that it wanted last."""
        return max(float(self.hear()) for _ in range(EACH))

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


def measure(budget: dict[str, Any]) -> float:
    """Seconds from the death of the victims until the heirs have been lent all that was theirs."""
    if "url" in budget:
        engine.learn(budget["url"], budget["name"], LIMIT)
    heirs = [Process(budget) for _ in range(HEIRS)]
    victims = [Process(budget) for _ in range(VICTIMS)]
    everybody = heirs + victims  # an heir comes first: it leads, where one does
    try:
        for process in everybody:
            process.say("borrow")
            process.granted()
        for heir in heirs:
            heir.say("borrow")
            heir.say("wait")
        for heir in heirs:
            assert heir.hear() == "waiting"
        for victim in victims:
            victim.process.kill()
        killed = time.monotonic()
        return max(heir.granted() for heir in heirs) - killed
    finally:
        for process in everybody:
            process.end()


def main(given: str) -> None:
    from fastpool import FastPool
    from fastpool.fleet import LocalBudget, RedisBudget

    options = json.loads(given)
    path, name = options.pop("path", None), options.pop("name")
    if "url" in options:
        parent = RedisBudget(options.pop("url"), name, LIMIT, **options)
        budget: Any = LocalBudget(path, parent=parent) if path else parent
    else:
        budget = LocalBudget(path, LIMIT)
    pool = FastPool(LIMIT, factory=object, budget=budget, timeout=PATIENCE)
    said = threading.Lock()

    def say(line: str) -> None:
        with said:
            print(line, flush=True)

    def borrow() -> None:
        kept = pool.acquire()
        say(f"{time.monotonic()}")
        threading.Event().wait()
        kept.release()

    for line in sys.stdin:
        if line == "borrow\n":
            for _ in range(EACH):
                threading.Thread(target=borrow, daemon=True).start()
        else:
            while pool.stats().waiting < EACH:
                time.sleep(0.001)
            say("waiting")


if __name__ == "__main__":
    main(*sys.argv[1:])
