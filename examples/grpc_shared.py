"""Parts of a program that know nothing of each other share one gRPC connection.

pip install 'fastpool[grpc]'
python examples/grpc_shared.py
"""

from concurrent.futures import ThreadPoolExecutor

import grpc

from fastpool.grpc import shared, stats, wait_ready

METHOD = "/example.Greeter/Greet"


def serve() -> tuple[grpc.Server, str]:
    """A server with one method; with generated code this would be your servicer."""

    def greet(request: bytes, context: grpc.ServicerContext) -> bytes:
        return b"hello " + request

    methods = {"Greet": grpc.unary_unary_rpc_method_handler(greet)}
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("example.Greeter", methods),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, f"127.0.0.1:{port}"


class Greeter:
    """One part of the program. It asks for its channel where it needs it, and closes its own."""

    def __init__(self, target: str) -> None:
        self.channel = shared(target)
        self.greet = self.channel.unary_unary(METHOD)  # or GreeterStub(self.channel)

    def close(self) -> None:
        self.channel.close()  # the connection ends with the last one


def main() -> None:
    server, target = serve()
    greeters = [Greeter(target) for _ in range(10)]
    wait_ready(greeters[0].channel, timeout=10)

    with ThreadPoolExecutor(10) as threads:
        names = [f"part {number}".encode() for number in range(10)]
        answers = list(
            threads.map(lambda pair: pair[0].greet(pair[1], timeout=5), zip(greeters, names))
        )
    assert answers == [b"hello " + name for name in names]

    for shared_channel in stats():
        print(f"{shared_channel.references} handles of one {shared_channel.kind} channel")
    for greeter in greeters:
        greeter.close()
    print(f"channels left: {len(stats())}")
    server.stop(None).wait()


if __name__ == "__main__":
    main()
