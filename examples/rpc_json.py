"""A JSON-RPC client for many threads: calls, named parameters, notifications, batches, errors.

python examples/rpc_json.py
"""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from fastpool.rpc import RemoteError, jsonrpc

said: list[str] = []
METHODS = {
    "add": lambda a, b: a + b,
    "subtract": lambda minuend, subtrahend: minuend - subtrahend,
    "say": said.append,
}


class Handler(BaseHTTPRequestHandler):
    """JSON-RPC 2.0 in a few lines."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if isinstance(asked, list):
            replies: Any = [answer for one in asked if (answer := self.answer(one))]
        else:
            replies = self.answer(asked)
        body = json.dumps(replies).encode() if replies else b""
        self.send_response(200 if body else 204)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer(self, asked: dict[str, Any]) -> dict[str, Any] | None:
        params = asked.get("params", [])
        reply = {"jsonrpc": "2.0", "id": asked.get("id")}
        try:
            method = METHODS[asked["method"]]
            reply["result"] = method(**params) if isinstance(params, dict) else method(*params)
        except KeyError:
            reply["error"] = {"code": -32601, "message": "Method not found"}
        return reply if "id" in asked else None

    def log_message(self, *args: object) -> None:
        pass


def main() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()

        with jsonrpc("http://{}:{}/api".format(*server.server_address), size=4) as client:
            with ThreadPoolExecutor(32) as threads:
                sums = list(threads.map(lambda number: client.call("add", number, 1), range(200)))
            assert sums == list(range(1, 201))

            print(client.call("subtract", minuend=42, subtrahend=23))
            client.notify("say", "hello")  # answered by nobody
            with client.batch() as batch:  # one request for all of them
                one, two = batch.call("add", 1, 1), batch.call("add", 2, 2)
                batch.notify("say", "and again")
            print(one.result(), two.result(), said)

            try:
                client.call("divide", 1, 0)
            except RemoteError as error:
                print(error)
            print(f"{len(sums)} calls by 32 threads over {client.pool.stats().created} connections")
        server.shutdown()


if __name__ == "__main__":
    main()
