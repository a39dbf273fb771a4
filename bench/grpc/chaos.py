"""`python -m bench.grpc.chaos`: calls through a bad proxy to a server that is killed.

Bare channels and ours make the same calls at the same time, at defaults, each through a proxy of
its own to which the same things happen: pieces are delayed, connections black-holed (one, or all,
or new ones too), reset, half-closed. Printed are the calls that were lost, the outages (spans of
more than a second in which no call went well) with their median and longest, and at last the slots
held and the calls in the queue when nobody calls any more. The exit code is 1 where that is not
nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

# grpc reads it when it is imported. Servers that are killed on purpose are not news.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
import grpc.aio

from bench import machine
from bench.command import progress
from bench.grpc.adapter import aio_shared, counters, shared
from bench.grpc.bad_link import BadLink
from bench.grpc.clients import path
from bench.grpc.server import GrpcServer
from bench.report import WIDTH

DEADLINE = 1.0
PAUSE = 0.02  # between two calls of a caller
CALLERS = 3  # of unary calls, and one of streams
ACTS = ("delay", "swallow one", "swallow those there are", "swallow all", "reset", "half-close")
BETWEEN = 4.0  # seconds on average between two acts
SWALLOWED = 2.0  # seconds for which new connections are swallowed too
KILLED_EVERY, AWAY = 60.0, 1.0
QUIET = 10.0  # seconds without acts at the end
SETTLES = 60.0  # seconds at most, from the last call until nothing is held


class Tally:
    """What became of the calls of one contestant. Thread-safe."""

    def __init__(self) -> None:
        self.codes: Counter[str] = Counter()
        self.gaps: list[float] = []
        self.left: tuple[int, int] | None = None  # slots and queue at the end; None: says nothing
        self._last = time.monotonic()
        self._lock = threading.Lock()

    def note(self, code: str) -> None:
        now = time.monotonic()
        with self._lock:
            self.codes[code] += 1
            if code == "OK":
                self.gaps.append(now - self._last)
                self._last = now

    def end(self) -> None:
        """No more calls: what lasts until now was an outage, too."""
        with self._lock:
            self.gaps.append(time.monotonic() - self._last)

    @property
    def calls(self) -> int:
        return self.codes.total()

    @property
    def lost(self) -> int:
        return self.calls - self.codes["OK"]

    def cells(self) -> tuple[str, ...]:
        outages = sorted(gap for gap in self.gaps if gap > DEADLINE)
        median = f"{outages[len(outages) // 2]:.1f} s" if outages else "-"
        return (
            f"{self.calls:,}",
            f"{self.lost:,}",
            f"{100 * self.lost / max(self.calls, 1):.2f} %",
            f"{len(outages)}",
            median,
            f"{max(self.gaps, default=0):.1f} s",
            "-" if self.left is None else "{}, {}".format(*self.left),
        )


HEADS = ("", "calls", "lost", "", "outages", "median", "longest", "left")
COLUMNS = "| {:<12} | {:>6} | {:>6} | {:>7} | {:>7} | {:>6} | {:>7} | {:>4} |"


def table(tallies: Mapping[str, Tally]) -> str:
    """Markdown that can be read as it is, at 80 columns; below it the errors."""
    lines = [COLUMNS.format(*HEADS), COLUMNS.format("---", *("--:",) * 7)]
    lines += [COLUMNS.format(name, *tally.cells()) for name, tally in tallies.items()]
    lines.append("")
    for name, tally in tallies.items():
        errors = ", ".join(f"{n:,} {code}" for code, n in tally.codes.most_common() if code != "OK")
        lines += textwrap.wrap(f"{name}: {errors or 'no errors'}", WIDTH, subsequent_indent="  ")
    return "\n".join(lines)


def left_of(channel: Any) -> tuple[int, int] | None:
    target = getattr(channel, "target", None)  # bare ones say nothing
    return None if target is None else tuple(counters(target)[:2])  # type: ignore[return-value]


def calls_of_threads(open_channel: Callable[[], Any], tally: Tally, over: threading.Event) -> None:
    with open_channel() as channel:
        say, count = channel.unary_unary(path("Say")), channel.unary_stream(path("Count"))

        def call(make: Callable[[], object]) -> None:
            while not over.is_set():
                try:
                    make()
                    tally.note("OK")
                except grpc.RpcError as error:
                    tally.note(error.code().name)
                time.sleep(PAUSE)

        makes: list[Callable[[], object]] = [lambda: say(b"x", timeout=DEADLINE)] * CALLERS
        makes.append(lambda: list(count(b"xyz", timeout=DEADLINE)))
        callers = [threading.Thread(target=call, args=(make,)) for make in makes]
        for each in callers:
            each.start()
        for each in callers:
            each.join()
        tally.end()
        until = time.monotonic() + SETTLES
        while any(left_of(channel) or ()) and time.monotonic() < until:
            time.sleep(0.1)
        tally.left = left_of(channel)


def calls_of_tasks(open_channel: Callable[[], Any], tally: Tally, over: threading.Event) -> None:
    async def main() -> None:
        async with open_channel() as channel:
            say, count = channel.unary_unary(path("Say")), channel.unary_stream(path("Count"))

            async def one() -> None:
                await say(b"x", timeout=DEADLINE)

            async def stream() -> None:
                async for _ in count(b"xyz", timeout=DEADLINE):
                    pass

            async def call(make: Callable[[], Any]) -> None:
                while not over.is_set():
                    try:
                        await make()
                        tally.note("OK")
                    except grpc.aio.AioRpcError as error:
                        tally.note(error.code().name)
                    await asyncio.sleep(PAUSE)

            await asyncio.gather(*(call(one) for _ in range(CALLERS)), call(stream))
            tally.end()
            until = time.monotonic() + SETTLES
            while any(left_of(channel) or ()) and time.monotonic() < until:
                await asyncio.sleep(0.1)
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
    """The tally of each contestant after so many seconds of acts, and some quiet ones."""
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
        killed_every = min(KILLED_EVERY, seconds / 2)
        next_kill = begun + killed_every
        while (now := time.monotonic()) - begun < seconds:
            time.sleep(min(dice.expovariate(1 / BETWEEN), seconds / 4))
            what = dice.choice(ACTS)
            lost = ", ".join(f"{name} {each.lost}" for name, each in tallies.items())
            say(f"{now - begun:5.0f} s of {seconds:.0f}; lost: {lost}; {what}")
            for link in links.values():
                act(what, link, random.Random(dice.random()))
            if what == "swallow all":
                time.sleep(SWALLOWED)
                for link in links.values():
                    link.all_lost = False
            if time.monotonic() > next_kill:
                say("the server is killed")
                server.kill()
                server.start(time.monotonic() + AWAY)
                next_kill = time.monotonic() + killed_every
        say("quiet")
        time.sleep(min(QUIET, seconds))
        over.set()
        for thread in threads:
            thread.join()
    return tallies


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    described = machine.describe()
    described["peers"] = {"grpcio": machine.version_of("grpcio")}
    print("\n".join(machine.in_words(described)), end="\n\n", flush=True)
    others = machine.watch()
    tallies = chaos(asked.seconds, asked.seed, progress)
    print(table(tallies))
    if others is not None:
        print(
            f"\n{asked.seconds:g} s; other programs took {100 * others.share():.0f} % of the CPUs"
        )
    return 1 if any(any(tally.left or ()) for tally in tallies.values()) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
