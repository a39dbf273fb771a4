"""G12: 64 targets, four connections each, and nothing to do.

Bare grpcio has no way to see a channel's state but to subscribe to it, which costs a thread a
channel that looks five times a second. Run as a script, this is one contestant.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import grpc

from bench import child
from bench.grpc.adapter import NotBuilt, shared
from bench.grpc.cases import Effort, Figure, take_turns
from bench.grpc.clients import PATIENCE, connection_of_its_own, unary
from bench.grpc.server import GrpcServer

CONNECTIONS = 4
CLOSED = 8  # as many closes as are timed: bare ones take long
NAMES = ("bare", "ours")


class Idle(NamedTuple):
    threads: int  # more than after a first target
    cpu: float  # per cent of one
    close: float  # milliseconds


def g12(effort: Effort) -> Iterator[Figure]:
    with GrpcServer(ports=effort.targets) as server:
        targets = ",".join(server.targets)

        def contestant(name: str) -> Idle:
            command = ("-m", "bench.grpc.cases.idle", name, str(effort.seconds), targets)
            said = json.loads(child.python(*command))
            if "lack" in said:
                raise NotBuilt(said["lack"])
            return Idle(**said)

        turns = take_turns(
            {name: partial(contestant, name) for name in NAMES},
            max(1, effort.turns // 2),
        )
    for key, field in (("G12a", "threads"), ("G12b", "cpu"), ("G12c", "close")):
        readings = (turns.median(who, lambda each, f=field: getattr(each, f)) for who in NAMES)
        yield Figure(key, *readings)


# -- the child ---------------------------------------------------------------------------------


def bare(target: str) -> list[Any]:
    channels = []
    for i in range(CONNECTIONS):
        channel = grpc.insecure_channel(target, connection_of_its_own(i))
        channel.subscribe(lambda state: None)
        channels.append(channel)
    return channels


def ours(target: str) -> list[Any]:
    return [shared(target, connections=CONNECTIONS)]


def threads() -> int:
    """Those of the process, grpc's own included, where the kernel says; else Python's."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("Threads"))
    except OSError:
        return threading.active_count()


def main(name: str, seconds: str, targets: str) -> None:
    creator = {"bare": bare, "ours": ours}[name]
    several = targets.split(",")
    try:
        # What a process has once, however many targets, is there before: grpc's own threads from
        # the first call on, fastpool's scheduler from the first pool on.
        with grpc.insecure_channel(several[0]) as first:
            unary(first)(b"", timeout=PATIENCE)
            for channel in creator(several[0]):
                unary(channel)(b"", timeout=PATIENCE)
                channel.close()
            time.sleep(1.0)  # the thread of a closed subscription has ended
            before = threads()
            opened = [creator(target) for target in several]
            for channels in opened:
                for channel in channels:
                    unary(channel)(b"", timeout=PATIENCE)
            time.sleep(1.0)  # what the calls left to do is done
            threads_more = threads() - before
            begun, used = time.perf_counter(), time.process_time()
            time.sleep(float(seconds))
            cpu = 100 * (time.process_time() - used) / (time.perf_counter() - begun)
    except NotBuilt as lack:
        print(json.dumps({"lack": str(lack)}))
        return
    took = []
    for channels in opened[:CLOSED]:
        begun = time.perf_counter()
        for channel in channels:
            channel.close()
        took.append(1_000 * (time.perf_counter() - begun) / len(channels))
    print(json.dumps(Idle(threads_more, cpu, median(took))._asdict()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
