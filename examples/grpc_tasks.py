"""A thousand tasks call a server that allows a hundred calls at once on a connection.

pip install 'fastpool[grpc]'
python examples/grpc_tasks.py
"""

import asyncio

import grpc.aio

from fastpool.grpc import aio_shared, stats

METHOD = "/example.Greeter/Greet"


async def serve() -> tuple[grpc.aio.Server, str]:
    """A server with one method, which takes 20 ms."""

    async def greet(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        await asyncio.sleep(0.02)
        return b"hello " + request

    methods = {"Greet": grpc.unary_unary_rpc_method_handler(greet)}
    server = grpc.aio.server(options=[("grpc.max_concurrent_streams", 100)])
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("example.Greeter", methods),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, f"127.0.0.1:{port}"


async def main() -> None:
    server, target = await serve()
    async with aio_shared(target) as channel:
        greet = channel.unary_unary(METHOD)  # or GreeterStub(channel).Greet
        calls = (greet(b"task %d" % number, timeout=10) for number in range(1000))
        answers = await asyncio.gather(*calls)
        (seen,) = stats()
        print(f"{len({*answers})} answers, at most 8 connections: {seen.connections <= 8}")
        print(f"slots held now: {seen.in_use}, calls in the queue: {seen.waiting}")
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main())
