"""A producer that is faster than its consumers: the queue between them has an end, and so has the
memory that is in flight.

python examples/worker_pool.py
"""

import asyncio
import hashlib
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from fastpool import PoolOverloaded, TaskPool, WeightedSemaphore, WorkerPool

SIZES = [1000 * (1 + number % 40) for number in range(200)]


class Handler(BaseHTTPRequestHandler):
    """Sends as many bytes as it is asked for, and counts how many requests it serves at once."""

    lock = threading.Lock()
    now = peak = 0

    def do_GET(self) -> None:
        with Handler.lock:
            Handler.now += 1
            Handler.peak = max(Handler.peak, Handler.now)
        body = b"x" * int(self.path.rpartition("/")[2])
        with Handler.lock:
            Handler.now -= 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 64


def main() -> None:
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = "http://{}:{}".format(*server.server_address[:2])
    memory = WeightedSemaphore(100_000, name="memory")
    most = 0

    def fetch(size: int) -> str:
        """Its memory is taken first; a big one is not starved by small ones."""
        nonlocal most
        with memory.hold(size):
            most = max(most, memory.in_use)
            with urllib.request.urlopen(f"{url}/{size}", timeout=10) as response:
                return hashlib.sha256(response.read()).hexdigest()

    longest = refused = 0
    with WorkerPool(8, 16) as workers:
        futures = []
        for size in SIZES:
            futures.append(workers.submit(fetch, size))  # waits once 24 are under way
            now = workers.stats()
            longest = max(longest, now.running + now.queued)
        for _ in range(100):  # this one is optional: only if there is free capacity
            try:
                futures.append(workers.try_submit(fetch, 1000))
            except PoolOverloaded:
                refused += 1
        sums = [future.result(10) for future in futures]
        again = list(workers.map(fetch, SIZES))
    server.shutdown()
    server.server_close()

    async def in_tasks() -> int:
        async def double(number: int) -> int:
            await asyncio.sleep(0)
            return 2 * number

        async with TaskPool(10, 20) as pool:
            return sum([number async for number in pool.map(double, range(1000))])

    assert sums[: len(SIZES)] == again and len(set(again)) == len(set(SIZES))
    print(f"{len(again)} downloads, never more than 8 at once: {Handler.peak <= 8}")
    print(f"never more than 24 under way: {longest <= 24}, in memory: {most <= 100_000}")
    print(f"done or refused: {len(futures) - len(SIZES) + refused} of 100")
    print(f"sum of the tasks: {asyncio.run(in_tasks())}")


if __name__ == "__main__":
    main()
