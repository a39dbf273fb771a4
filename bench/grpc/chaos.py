"""`python -m bench.grpc.chaos`: calls through a bad proxy to a server that is killed.

Bare channels and ours make the same calls at the same time, each through a proxy of its own to
which the same things happen: pieces are delayed, connections black-holed (one, or all, or new ones
too), reset, half-closed. Printed are the calls that were lost, how long at most no call went well,
and what is still held at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import grpc
import grpc.aio

from bench.grpc.adapter import aio_shared, counters, shared
from bench.grpc.bad_link import BadLink
from bench.grpc.clients import path
from bench.grpc.server import GrpcServer

DEADLINE = 1.0
PAUSE = 0.02  # between two calls of a caller
CALLERS = 3
ACTS = ("delay", "swallow one", "swallow those there are", "swallow all", "reset", "half-close")
DAYLIGHT = 4.0  # seconds on average between two acts
KILLED_EVERY, AWAY = 60.0, 1.0
SETTLES = 2 * DEADLINE  # from the last call until what is held is counted


class Tally:
    """Of one contestant."""

    def __init__(self) -> None:
        self.codes: Counter[str] = Counter()
        self.gaps: list[float] = []
        self.left: Any = None  # slots and line once no call is made any more
        self._last = time.monotonic()
        self._lock = threading.Lock()

    def note(self, code: str) -> None:
        now = time.monotonic()
        with self._lock:
            self.codes[code] += 1
            if code == "OK":
                self.gaps.append(now - self._last)
                self._last = now

    def row(self, name: str) -> str:
        calls, lost = self.codes.total(), self.codes.total() - self.codes["OK"]
        outages = sorted(gap for gap in self.gaps if gap > DEADLINE)
        median = outages[len(outages) // 2] if outages else 0.0
        return (
            f"{name:<16}{calls:>8}{lost:>8}{100 * lost / max(calls, 1):>8.2f} %"
            f"{len(outages):>9}{median:>9.2f} s{max(self.gaps, default=0):>9.2f} s"
            f"   {dict(self.codes)}{'' if self.left is None else f', left {self.left}'}"
        )


def left_of(channel: Any) -> Any:
    target = getattr(channel, "target", None)  # bare ones say nothing
    return None if target is None else tuple(counters(target)[:2])


def calls_of_threads(open_channel: Callable[[], Any], tally: Tally, over: threading.Event) -> None:
    with open_channel() as channel:
        say = channel.unary_unary(path("Say"))

        def call() -> None:
            while not over.is_set():
                try:
                    say(b"x", timeout=DEADLINE)
                    tally.note("OK")
                except grpc.RpcError as error:
                    tally.note(error.code().name)
                time.sleep(PAUSE)

        callers = [threading.Thread(target=call) for _ in range(CALLERS)]
        for each in callers:
            each.start()
        for each in callers:
            each.join()
        time.sleep(SETTLES)
        tally.left = left_of(channel)


def calls_of_tasks(open_channel: Callable[[], Any], tally: Tally, over: threading.Event) -> None:
    async def main() -> None:
        async with open_channel() as channel:
            say = channel.unary_unary(path("Say"))

            async def call() -> None:
                while not over.is_set():
                    try:
                        await say(b"x", timeout=DEADLINE)
                        tally.note("OK")
                    except grpc.aio.AioRpcError as error:
                        tally.note(error.code().name)
                    await asyncio.sleep(PAUSE)

            await asyncio.gather(*(call() for _ in range(CALLERS)))
            await asyncio.sleep(SETTLES)
            tally.left = left_of(channel)

    asyncio.run(main())


CONTESTANTS: dict[str, tuple[Callable[[str], Any], Any]] = {
    "bare": (grpc.insecure_channel, calls_of_threads),
    "ours": (shared, calls_of_threads),
    "ours, 4": (lambda target: shared(target, connections=4), calls_of_threads),
    "bare aio": (grpc.aio.insecure_channel, calls_of_tasks),
    "ours aio": (aio_shared, calls_of_tasks),
}


def act(what: str, link: BadLink, dice: random.Random) -> None:
    one = link.one(dice)
    if one is None:
        return
    if what == "delay":
        one.delay = dice.choice((0.02, 0.2))
    elif what == "swallow one":
        link.swallow(one)
    elif what == "swallow those there are":
        link.swallow()
    elif what == "swallow all":
        link.swallow(all=True)
    elif what == "reset":
        one.reset()
    elif what == "half-close":
        one.half_close()


def chaos(seconds: float, seed: int, say: Callable[[str], object]) -> dict[str, Tally]:
    dice, over = random.Random(seed), threading.Event()
    tallies = {name: Tally() for name in CONTESTANTS}
    with ExitStack() as stack:
        server = stack.enter_context(GrpcServer())
        links = {name: stack.enter_context(BadLink(server.port)) for name in CONTESTANTS}
        threads = []
        for name, (creator, calls) in CONTESTANTS.items():
            target = links[name].target

            def open_channel(creator: Any = creator, target: str = target) -> Any:
                return creator(target)

            args = (open_channel, tallies[name], over)
            threads.append(threading.Thread(target=calls, args=args))
            threads[-1].start()
        begun = time.monotonic()
        next_kill = begun + KILLED_EVERY
        while time.monotonic() - begun < seconds:
            time.sleep(dice.expovariate(1 / DAYLIGHT))
            what = dice.choice(ACTS)
            say(what)
            for link in links.values():
                act(what, link, random.Random(dice.random()))
            if what == "swallow all":
                time.sleep(2)
                for link in links.values():
                    link.all_lost = False
            if time.monotonic() > next_kill:
                say("the server is killed")
                server.kill()
                server.start(time.monotonic() + AWAY)
                next_kill = time.monotonic() + KILLED_EVERY
        time.sleep(10)  # and a clear sky
        over.set()
        for thread in threads:
            thread.join()
    return tallies


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    tallies = chaos(asked.seconds, asked.seed, lambda text: print(text, file=sys.stderr))
    print(f"{'':<16}{'calls':>8}{'lost':>8}{'':>10}{'outages':>9}{'median':>11}{'longest':>11}")
    for name, tally in tallies.items():
        print(tally.row(name))


if __name__ == "__main__":
    main()
