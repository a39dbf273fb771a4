"""One turn of a contestant: all callers at once, a fixed number of calls, what the server counted.

Contestants take turns inside a round, beginning with another one each round, and a figure is the
median over the rounds. Each is warmed up in its turn, before the clock starts, by one call of each
caller; the connections of that are counted, too.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import threading
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.measure import NotRun
from bench.rpc.clients import Client, Contestant
from bench.rpc.server import Server

CALLERS = 32


@dataclass(frozen=True)
class Turn:
    rate: float
    """Right answers per second."""
    cpu: float
    """Microseconds of this process's CPU time for each call."""
    errors: int
    calls: int
    opened: int
    most: int


@dataclass
class Result:
    """The turns of one contestant, or why there are none."""

    contestant: str
    turns: list[Turn] = field(default_factory=list)
    why: str = ""

    def median(self, name: str) -> float:
        return statistics.median(getattr(turn, name) for turn in self.turns)

    def worst(self, name: str) -> int:
        return max(getattr(turn, name) for turn in self.turns)


def measure(
    contestants: Sequence[Contestant], server: Server, rounds: int, calls: int
) -> list[Result]:
    """So many rounds of so many calls by each caller."""
    results = [Result(contestant.name) for contestant in contestants]
    order = list(zip(contestants, results))
    for round_ in range(rounds):
        first = round_ % len(order)
        for contestant, result in order[first:] + order[:first]:
            if result.why:
                continue
            try:
                result.turns.append(turn(contestant, server, calls))
            except ImportError as error:
                result.why = f"not installed: {error.name or error}"
            except NotRun as error:
                result.why = str(error)
    return results


def turn(contestant: Contestant, server: Server, calls: int) -> Turn:
    settle(server)
    work = by_tasks if contestant.tasks else by_threads
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # what a shared ServerProxy loses
        seconds, cpu, errors = work(contestant, server.url, calls)
    counts = server.counts()
    asked = CALLERS * calls
    return Turn(
        rate=(asked - errors) / seconds,
        cpu=cpu / asked * 1e6,
        errors=errors,
        calls=asked,
        opened=counts.opened,
        most=counts.most,
    )


def settle(server: Server) -> None:
    """Wait until what the turn before has left is closed, and begin to count."""
    gc.collect()  # a shared ServerProxy loses sockets
    deadline = time.monotonic() + 10
    while server.counts().opened and time.monotonic() < deadline:
        time.sleep(0.01)


def by_threads(contestant: Contestant, url: str, calls: int) -> tuple[float, float, int]:
    client = contestant.open(url)
    start = threading.Barrier(CALLERS + 1)
    end = threading.Barrier(CALLERS + 1)
    errors = [0] * CALLERS

    def run(caller: int) -> None:
        ask(client, caller)
        start.wait()
        for number in range(calls):
            errors[caller] += not ask(client, caller * 100_000 + number)
        end.wait()

    threads = [threading.Thread(target=run, args=(caller,)) for caller in range(CALLERS)]
    for thread in threads:
        thread.start()
    start.wait()
    began, cpu = time.perf_counter(), time.process_time()
    end.wait()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    for thread in threads:
        thread.join()
    client.close()
    return seconds, cpu, sum(errors)


def ask(client: Client, number: int) -> bool:
    """Whether the answer came, and was the right one."""
    try:
        return bool(client.ask(number) == number)
    except Exception:
        return False


def by_tasks(contestant: Contestant, url: str, calls: int) -> tuple[float, float, int]:
    async def main() -> tuple[float, float, int]:
        client = contestant.open(url)

        async def run(caller: int, count: int) -> int:
            wrong = 0
            for number in range(count):
                try:
                    wrong += (
                        await client.ask(caller * 100_000 + number) != caller * 100_000 + number
                    )
                except Exception:
                    wrong += 1
            return wrong

        await asyncio.gather(*(run(caller, 1) for caller in range(CALLERS)))
        began, cpu = time.perf_counter(), time.process_time()
        wrong = await asyncio.gather(*(run(caller, calls) for caller in range(CALLERS)))
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        await client.close()
        return seconds, cpu, sum(wrong)

    return asyncio.run(main())
