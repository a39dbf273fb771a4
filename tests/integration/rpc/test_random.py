"""Random trouble, by seed: no caller ever sees another's answer, and no connection is lost."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import Callable
from http.client import HTTPException
from typing import Any
from xml.parsers.expat import ExpatError
from xmlrpc.client import Error, dumps, loads

import pytest

from fastpool.calls import budget
from fastpool.rpc import RpcError, xmlrpc
from integration.rpc.servers import ScriptedServer, http, serving
from support.helpers import ThreadRunner, eventually

THREADS, CALLS = 16, 25
EXPECTED = (OSError, HTTPException, Error, ExpatError, RpcError)


class Trouble:
    """A script: most replies are well, others break off, are too long, late, or missing."""

    def __init__(self, seed: int, reply: Callable[[bytes], bytes]) -> None:
        self.random, self.lock, self.reply = random.Random(seed), threading.Lock(), reply
        self.over = threading.Event()

    def __call__(self, number: int, body: bytes, write: Any) -> bool:
        with self.lock:
            what, part = self.random.randrange(20), self.random.random()
        whole = self.reply(body)
        if what == 0:
            return True
        if what == 1:
            write(whole[: int(part * len(whole))])
            return True
        if what == 2:
            write(whole + whole)
            return False
        if what == 3:
            write(http(b"busy", "503 Busy"))
            return False
        if what == 4:
            self.over.wait(0.1)  # later than its caller waits
        write(whole)
        return what == 5


def xml_reply(body: bytes) -> bytes:
    (number,), _ = loads(body)
    return http(dumps((number,), methodresponse=True).encode())


def json_reply(body: bytes) -> bytes:
    asked = json.loads(body)
    return http(
        json.dumps({"jsonrpc": "2.0", "result": asked["params"][0], "id": asked["id"]}).encode()
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["xmlrpc", "jsonrpc"])
def test_threads(kind: str, seed: int, runner: ThreadRunner) -> None:
    trouble = Trouble(seed, xml_reply if kind == "xmlrpc" else json_reply)
    with serving(ScriptedServer(trouble)) as server:
        if kind == "xmlrpc":
            client: Any = xmlrpc(server.url, size=4)
            ask, pool = client.echo, client("transport").pool
        else:
            pytest.importorskip("urllib3", reason="urllib3 is not installed")
            from fastpool.rpc import jsonrpc

            client = jsonrpc(server.url, size=4)
            ask, pool = lambda number: client.call("echo", number), client.pool

        def run(thread: int) -> int:
            answered = 0
            for number in range(thread * CALLS, (thread + 1) * CALLS):
                try:
                    with budget(0.05 if number % 5 == 0 else None):
                        assert ask(number) == number
                    answered += 1
                except EXPECTED:
                    pass
            return answered

        runner.together(THREADS, run)
        assert sum(runner.finish()) > THREADS * CALLS / 4
        trouble.over.set()
        assert server.most <= 4
        assert pool.stats().leased == 0
        eventually(lambda: len(server.open) <= pool.stats().open <= 4)
        assert pool.close() is True
        eventually(lambda: not server.open)


@pytest.mark.parametrize("seed", range(3))
def test_tasks(seed: int) -> None:
    pytest.importorskip("httpx", reason="httpx is not installed")
    from fastpool.rpc import aio_jsonrpc

    trouble = Trouble(seed, json_reply)
    answered = 0

    async def main(url: str) -> None:
        async with aio_jsonrpc(url, size=4) as client:

            async def run(task: int) -> None:
                nonlocal answered
                for number in range(task * CALLS, (task + 1) * CALLS):
                    try:
                        async with asyncio.timeout(0.05 if number % 5 == 0 else None):
                            assert await client.call("echo", number) == number
                        answered += 1
                    except EXPECTED:
                        pass

            await asyncio.gather(*map(run, range(THREADS)))
            assert client.pool.stats().leased == 0
            assert client.pool.stats().open <= 4

    with serving(ScriptedServer(trouble)) as server:
        asyncio.run(main(server.url))
        trouble.over.set()
        assert answered > THREADS * CALLS / 4
        assert server.most <= 4
        eventually(lambda: not server.open)
