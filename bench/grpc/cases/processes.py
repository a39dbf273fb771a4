"""G11: the same handle in forked children, in several event loops, and in a second one.

Each contestant runs in a process of its own, `python -m bench.grpc.cases.processes WHAT WHO
TARGET`, since forking, and loops that end, can leave a process in a state that nobody wants to go
on in.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import grpc
import grpc.aio

from bench import child
from bench.grpc.adapter import NotBuilt, aio_shared, shared
from bench.grpc.cases import Effort, Figure, take_turns
from bench.grpc.clients import unary
from bench.grpc.server import GrpcServer
from bench.measure import NotRun

CHILDREN, LOOPS = 8, 3
TIMEOUT = 5.0  # seconds, of a first call
OPENERS: dict[tuple[str, str], Callable[[str], Any]] = {
    ("sync", "bare"): grpc.insecure_channel,
    ("sync", "ours"): shared,
    ("aio", "bare"): grpc.aio.insecure_channel,
    ("aio", "ours"): aio_shared,
}


def g11(effort: Effort) -> Iterator[Figure]:
    with GrpcServer() as server:
        for key, what in (("G11a", "fork"), ("G11b", "loops"), ("G11c", "again")):
            turns = take_turns(
                {who: partial(failures, what, who, server.target) for who in ("bare", "ours")},
                effort.turns,
            )
            bare = turns.worst("bare", float) if what == "fork" else turns.median("bare", float)
            yield Figure(key, bare, turns.worst("ours", float))


def failures(what: str, who: str, target: str) -> int:
    """First calls that failed."""
    if what == "fork" and not hasattr(os, "fork"):
        raise NotRun("this system has no fork")
    command = ("-W", "ignore", "-m", "bench.grpc.cases.processes", what, who, target)
    try:
        said = json.loads(child.python(*command))
    except subprocess.TimeoutExpired:
        raise NotRun("the process that made the calls hangs") from None
    if "lack" in said:
        raise NotBuilt(said["lack"])
    return int(said["failed"])


# -- the child ---------------------------------------------------------------------------------


def fork(creator: Callable[[str], Any], target: str) -> int:
    channel = creator(target)
    say = unary(channel)
    say(b"", timeout=TIMEOUT)
    failed = 0
    for _ in range(CHILDREN):
        pid = os.fork()
        if not pid:
            status = 1
            try:
                status = int(say(b"x", timeout=TIMEOUT) != b"x")
            finally:
                os._exit(status)
        failed += ended_badly(pid)
    say(b"", timeout=TIMEOUT)  # the parent's own goes on
    return failed


def ended_badly(pid: int) -> bool:
    """Whether the child failed; one that hangs is killed, and has."""
    limit = time.monotonic() + 2 * TIMEOUT
    while time.monotonic() < limit:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status != 0
        time.sleep(0.01)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return True


def in_loop(use: Callable[[], Any]) -> bool:
    """Run it in a loop of its own; whether that failed."""

    async def quietly() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        async with asyncio.timeout(TIMEOUT):
            await use()

    try:
        asyncio.run(quietly())
    except Exception:
        return True
    return False


def loops(creator: Callable[[str], Any], target: str) -> int:
    """A handle that was made by one loop, used by three others in threads while that one runs."""
    failed: list[bool] = []

    async def main() -> None:
        channel = creator(target)
        say = unary(channel)
        await say(b"", timeout=TIMEOUT)

        def thread() -> None:
            failed.append(in_loop(lambda: say(b"x", timeout=TIMEOUT)))

        threads = [threading.Thread(target=thread) for _ in range(LOOPS)]
        for each in threads:
            each.start()
        for each in threads:
            await asyncio.to_thread(each.join)

    asyncio.run(main())
    return sum(failed)


def again(creator: Callable[[str], Any], target: str) -> int:
    """A handle that a loop made and used, in a loop that comes after it."""
    kept: list[Any] = []

    async def first() -> None:
        channel = creator(target)
        kept.extend((channel, unary(channel)))
        await kept[1](b"", timeout=TIMEOUT)

    asyncio.run(first())
    return int(in_loop(lambda: kept[1](b"x", timeout=TIMEOUT)))


def main(what: str, who: str, target: str) -> None:
    creator = OPENERS["sync" if what == "fork" else "aio", who]
    play = {"fork": fork, "loops": loops, "again": again}[what]
    try:
        said: dict[str, Any] = {"failed": play(creator, target)}
    except NotBuilt as lack:
        said = {"lack": str(lack)}
    print(json.dumps(said), flush=True)
    os._exit(0)  # what is left of loops and channels is not measured here


if __name__ == "__main__":
    main(*sys.argv[1:])
