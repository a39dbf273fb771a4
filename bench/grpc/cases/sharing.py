"""G1: a hundred parts of a program that each want a stub of one server, over TLS.

Run as a script, `python -m bench.grpc.cases.sharing {bare,ours,one} TARGET OTHER CERTIFICATE`, it
is one contestant in a process of its own, whose memory is thus its own as well; `one` is a single
part on a bare channel.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from bench import child
from bench.grpc.adapter import NotBuilt, shared
from bench.grpc.cases import Effort, Figure, take_turns
from bench.grpc.certificate import NoCertificate, make_certificate
from bench.grpc.clients import PATIENCE, unary
from bench.grpc.server import GrpcServer
from bench.measure import NotRun

STUBS = 100


class Shared(NamedTuple):
    connections: int
    kibibytes: float


def g1(effort: Effort) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        try:
            key, certificate = make_certificate(Path(folder))
        except NoCertificate as reason:
            raise NotRun(str(reason)) from None
        with GrpcServer((key, certificate)) as server, GrpcServer((key, certificate)) as other:

            def contestant(name: str) -> Shared:
                before = server.counts().peers
                arguments = (name, server.target, other.target, str(certificate))
                said = json.loads(child.python("-m", "bench.grpc.cases.sharing", *arguments))
                if "lack" in said:
                    raise NotBuilt(said["lack"])
                return Shared(server.counts().peers - before, said["kibibytes"])

            turns = take_turns(
                {name: partial(contestant, name) for name in ("bare", "ours", "one")}, effort.turns
            )

    def connections(result: Shared) -> float:
        return result.connections

    def memory(result: Shared) -> float:
        return result.kibibytes

    yield Figure("G1a", turns.median("bare", connections), turns.worst("ours", connections))
    yield Figure("G1b", turns.median("bare", memory), turns.median("ours", memory))
    yield Figure("G1c", turns.median("one", memory))


# -- the child ---------------------------------------------------------------------------------


def resident() -> float:
    """KiB of memory that this process occupies."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        raise NotRun("needs /proc/self/statm to see how much memory is used") from None
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


def use(creator: Callable[[], Any], stubs: int) -> list[tuple[Any, Any]]:
    """That many channels with a stub and a call each; they stay open while the list is held."""
    opened = []
    for _ in range(stubs):
        channel = creator()
        stub = unary(channel)
        stub(b"x", timeout=PATIENCE)
        opened.append((channel, stub))
    return opened


def main(name: str, target: str, other: str, certificate: str) -> None:
    credentials = grpc.ssl_channel_credentials(Path(certificate).read_bytes())

    def bare(to: str) -> Any:
        return grpc.secure_channel(to, credentials)

    def ours(to: str) -> Any:
        return shared(to, credentials=credentials)

    creator = ours if name == "ours" else bare
    try:
        # Whatever is made once a process is made now, with a server that does not count.
        warm = use(partial(creator, other), 3)
        before = resident()
        held = use(partial(creator, target), 1 if name == "one" else STUBS)
        print(json.dumps({"kibibytes": resident() - before}))
    except NotBuilt as lack:
        print(json.dumps({"lack": str(lack)}))
        return
    for channel, _ in warm + held:
        channel.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
