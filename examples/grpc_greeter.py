"""The server that the pages on gRPC talk to: `example.Greeter`, until Ctrl-C.

pip install 'fastpool[grpc]'
python examples/grpc_greeter.py [PORT]

Greet    replies b"hello " + the request
Slowly   the same, 20 ms later
Count    a stream of the numbers up to the request; b"" = it never ends
Chat     for a stream, a stream of greetings
"""

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc

STREAMS = 100  # at once on one connection


def make_server() -> grpc.Server:
    """With generated code its methods would be those of your servicer."""
    server = grpc.server(ThreadPoolExecutor(64), options=[("grpc.max_concurrent_streams", STREAMS)])
    methods = {
        "Greet": grpc.unary_unary_rpc_method_handler(greet),
        "Slowly": grpc.unary_unary_rpc_method_handler(slowly),
        "Count": grpc.unary_stream_rpc_method_handler(count),
        "Chat": grpc.stream_stream_rpc_method_handler(chat),
    }
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("example.Greeter", methods),)
    )
    return server


def greet(request: bytes, context: grpc.ServicerContext) -> bytes:
    return b"hello " + request


def slowly(request: bytes, context: grpc.ServicerContext) -> bytes:
    time.sleep(0.02)
    return greet(request, context)


def count(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    number = 0
    while context.is_active() and (not request or number < int(request)):
        number += 1
        yield b"%d" % number
        time.sleep(0.001)


def chat(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
    for request in requests:
        yield greet(request, context)


def main() -> None:
    server = make_server()
    wanted = sys.argv[1] if len(sys.argv) > 1 else "50051"
    port = server.add_insecure_port(f"localhost:{wanted}")
    server.start()
    print(f"example.Greeter on localhost:{port}", flush=True)
    try:
        server.wait_for_termination()
    except KeyboardInterrupt:
        server.stop(None).wait()


if __name__ == "__main__":
    main()
