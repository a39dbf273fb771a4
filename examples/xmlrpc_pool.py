"""Many threads share a few XML-RPC clients, each of which can make one call at a time.

python examples/xmlrpc_pool.py
"""

import socketserver
import threading
from concurrent.futures import ThreadPoolExecutor
from xmlrpc.client import Fault, ServerProxy
from xmlrpc.server import SimpleXMLRPCRequestHandler, SimpleXMLRPCServer

from fastpool import FastPool


class KeepAlive(SimpleXMLRPCRequestHandler):
    protocol_version = "HTTP/1.1"  # otherwise the server closes the connection after each call


class Server(socketserver.ThreadingMixIn, SimpleXMLRPCServer):
    daemon_threads = True


def main() -> None:
    with Server(("127.0.0.1", 0), KeepAlive, logRequests=False) as server:
        server.register_function(divmod)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = "http://{}:{}".format(*server.server_address)

        # A ServerProxy takes any attribute for the name of a remote method, `close` included, so
        # it has to be told apart how one of them is closed.
        with FastPool(
            4,
            factory=lambda: ServerProxy(url),
            close=lambda proxy: proxy("close")(),
            name="xmlrpc",
        ) as pool:

            def divide(a: int, b: int) -> list[int]:
                with pool.lease(timeout=5) as proxy:
                    return proxy.divmod(a, b)

            with ThreadPoolExecutor(16) as threads:
                results = list(threads.map(lambda number: divide(number, 7), range(200)))
            try:
                divide(1, 0)
            except Fault as fault:
                # The server's own answer: nothing is wrong with the connection, which is kept.
                print(f"fault: {fault.faultString.rpartition(':')[2].strip()}")
            stats = pool.stats()
        server.shutdown()

    assert results == [list(divmod(number, 7)) for number in range(200)]
    print(f"{len(results)} calls by 16 threads through {stats.created} clients")
    print(f"closed before the end: {stats.closed_total}")


if __name__ == "__main__":
    main()
