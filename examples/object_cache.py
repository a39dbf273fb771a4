"""Many threads download from an HTTP server through buffers that they use again.

    python examples/object_cache.py

The server here is the standard library's, so that the example runs by itself.
"""

import hashlib
import http.client
import http.server
import threading
from concurrent.futures import ThreadPoolExecutor

from fastpool import ObjectCache

SIZE = 300_000  # bytes of an answer
made: list[int] = []


def new() -> bytearray:
    made.append(1)
    return bytearray(64 * 1024)


buffers = ObjectCache(new)


class Pattern(http.server.BaseHTTPRequestHandler):
    """Answers /7 with SIZE bytes of value 7."""

    def do_GET(self) -> None:
        body = bytes([int(self.path[1:])]) * SIZE
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = False  # the end of its block waits for them


def digest(address: tuple[str, int], number: int) -> str:
    """The hash of an answer, which is never in memory as a whole."""
    connection = http.client.HTTPConnection(*address, timeout=10)
    connection.request("GET", f"/{number}")
    answer = connection.getresponse()
    found = hashlib.sha256()
    buffer = buffers.get()
    try:
        with memoryview(buffer) as view:  # so that none outlives the put
            while size := answer.readinto(view):
                found.update(view[:size])
    finally:
        buffers.put(buffer)
        connection.close()
    return found.hexdigest()


def main() -> None:
    with Server(("127.0.0.1", 0), Pattern) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(lambda n: digest(server.server_address, n), range(200)))
        server.shutdown()

    right = [hashlib.sha256(bytes([number]) * SIZE).hexdigest() for number in range(200)]
    print(f"{len(found)} downloads, all of them right: {found == right}")
    print(f"fewer than 30 buffers were made for them: {len(made) < 30}")


if __name__ == "__main__":
    main()
