"""An asyncio server and a pool of connections to it, in one process.

    python examples/asyncio_service.py

The factory is a coroutine function: it runs as a task of the borrower's loop, and what it makes
stays on that loop.
"""

import asyncio

from fastpool import FastPool


class Connection:
    """A line out, a line back."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, question: str) -> str:
        self.writer.write(question.encode() + b"\n")
        answer = await self.reader.readline()
        if not answer:
            raise EOFError("the server has closed the connection")
        return answer.decode().rstrip()

    async def aclose(self) -> None:  # the pool calls it when it gives the connection up
        self.writer.close()
        await self.writer.wait_closed()


async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The server: answers each line with the same line in upper case."""
    while line := await reader.readline():
        writer.write(line.upper())
    writer.close()


async def main() -> None:
    server = await asyncio.start_server(upper, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()

    async def connect() -> Connection:
        return Connection(*await asyncio.open_connection(*address))

    async def ask(question: str) -> str:
        async with pool.lease(timeout=5) as connection:
            return await connection.ask(question)

    async with FastPool(4, factory=connect, name="upper") as pool:
        questions = [f"question {number}" for number in range(200)]
        answers = await asyncio.gather(*map(ask, questions))
        stats = pool.stats()
    server.close()
    await server.wait_closed()

    assert answers == [question.upper() for question in questions]
    print(f"{len(answers)} answers for {len(answers)} tasks over {stats.created} connections")
    print(f"closed at the end: {pool.stats().closed['closed']}")


if __name__ == "__main__":
    asyncio.run(main())
