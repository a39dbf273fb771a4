"""What gunicorn and uvicorn serve in the tests: a handle made at import, used by every worker.

Each answer is the process that gave it, and what the gRPC server said to it.
"""

from __future__ import annotations

import os
from typing import Any

from fastpool.grpc import aio_shared, shared, stats

TARGET = os.environ["GREETER"]
METHOD = "/example.Greeter/Slowly"
TIMEOUT = 10.0

channel = shared(TARGET)
greet = channel.unary_unary(METHOD)
if os.environ.get("CALL_FIRST"):  # the parent has a connection when it forks
    greet(b"parent", timeout=TIMEOUT)

tasks_channel = aio_shared(TARGET)
tasks_greet = tasks_channel.unary_unary(METHOD)


def said(answer: bytes) -> bytes:
    used = max(each.connections for each in stats())  # of the two kinds of channel
    return b"%d: %s, %d connection" % (os.getpid(), answer, used)


def app(environ: Any, start_response: Any) -> list[bytes]:
    answer = greet(b"you", timeout=TIMEOUT)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [said(answer)]


async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        assert (await receive())["type"] == "lifespan.startup"
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        await tasks_channel.close(grace=5)
        await send({"type": "lifespan.shutdown.complete"})
        return
    answer = await tasks_greet(b"you", timeout=TIMEOUT)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": said(answer)})
