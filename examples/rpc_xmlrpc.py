"""One XML-RPC proxy for many threads.

python examples/rpc_xmlrpc.py
"""

import socketserver
import threading
from concurrent.futures import ThreadPoolExecutor
from xmlrpc.client import Fault, MultiCall
from xmlrpc.server import SimpleXMLRPCRequestHandler, SimpleXMLRPCServer

from fastpool.calls import budget
from fastpool.rpc import xmlrpc


class KeepAlive(SimpleXMLRPCRequestHandler):
    protocol_version = "HTTP/1.1"  # otherwise the server closes the connection after each call


class Server(socketserver.ThreadingMixIn, SimpleXMLRPCServer):
    daemon_threads = True


def main() -> None:
    with Server(("127.0.0.1", 0), KeepAlive, logRequests=False) as server:
        server.register_function(divmod)
        server.register_multicall_functions()
        threading.Thread(target=server.serve_forever, daemon=True).start()

        with xmlrpc("http://{}:{}".format(*server.server_address), size=4) as proxy:
            # Any number of threads call the same proxy.
            with ThreadPoolExecutor(32) as threads:
                results = list(threads.map(lambda number: proxy.divmod(number, 7), range(200)))

            # An answer that is an error keeps the connection.
            try:
                proxy.divmod(1, 0)
            except Fault as fault:
                print(f"fault: {fault.faultString.rpartition(':')[2].strip()}")

            # Two seconds for all that the block calls, waits in the queue included.
            with budget(2):
                calls = MultiCall(proxy)
                calls.divmod(9, 2)
                calls.divmod(8, 3)
                print(*calls())

            stats = proxy("transport").pool.stats()
        server.shutdown()

    assert results == [list(divmod(number, 7)) for number in range(200)]
    print(f"{len(results)} calls by 32 threads over {stats.created} connections")


if __name__ == "__main__":
    main()
