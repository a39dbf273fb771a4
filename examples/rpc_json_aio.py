"""A JSON-RPC client for many tasks, and for more than one event loop.

python examples/rpc_json_aio.py
"""

import asyncio
import threading
from http.server import ThreadingHTTPServer

from rpc_json import Handler

from fastpool.rpc import aio_jsonrpc


async def main(url: str) -> None:
    async with aio_jsonrpc(url, size=4) as client:
        sums = await asyncio.gather(*(client.call("add", number, 1) for number in range(200)))
        assert sums == list(range(1, 201))

        async with client.batch() as batch:
            replies = [batch.call("add", number, number) for number in range(3)]
        print(*(reply.result() for reply in replies))

        # A call that is cut off, here by a timeout, never leaves half a reply to the next one.
        try:
            async with asyncio.timeout(0):
                await client.call("add", 1, 1)
        except TimeoutError:
            print(await client.call("subtract", minuend=42, subtrahend=23))
        print(f"200 tasks, at most 4 connections: {client.pool.stats().open <= 4}")


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        asyncio.run(main("http://{}:{}/api".format(*server.server_address)))
        server.shutdown()
