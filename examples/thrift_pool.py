"""Many threads share a few Thrift clients, each of which can make one call at a time.

python examples/thrift_pool.py    (needs Apache Thrift: pip install thrift)

`Calculator` and `Processor` are what the Thrift compiler would make of this, by hand:

    service Calculator { i32 divide(1: i32 a, 2: i32 b) }
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from thrift.protocol.TBinaryProtocol import TBinaryProtocol, TBinaryProtocolFactory
from thrift.protocol.TProtocol import TProtocolException
from thrift.server.TServer import TThreadedServer
from thrift.Thrift import TApplicationException, TMessageType, TProcessor, TType
from thrift.transport.TSocket import TServerSocket, TSocket
from thrift.transport.TTransport import (
    TBufferedTransport,
    TBufferedTransportFactory,
    TTransportException,
)

from fastpool import FastPool


class Calculator:
    """The client."""

    def __init__(self, protocol: TBinaryProtocol) -> None:
        self.protocol = protocol

    def divide(self, a: int, b: int) -> int:
        write_numbers(self.protocol, "divide", TMessageType.CALL, a, b)
        return read_numbers(self.protocol)[0]


class Processor(TProcessor):
    """The server's side."""

    def process(self, protocol: TBinaryProtocol, out: TBinaryProtocol) -> bool:
        a, b = read_numbers(protocol)
        try:
            write_numbers(out, "divide", TMessageType.REPLY, a // b)
        except ZeroDivisionError as error:
            out.writeMessageBegin("divide", TMessageType.EXCEPTION, 0)
            TApplicationException(TApplicationException.INTERNAL_ERROR, str(error)).write(out)
            out.writeMessageEnd()
            out.trans.flush()
        return True


def main() -> None:
    port = start_server()

    # ---- The pool: a factory, how a client is closed, and which errors break a connection --------

    def connect() -> Calculator:
        transport = TBufferedTransport(TSocket("127.0.0.1", port))
        transport.open()
        return Calculator(TBinaryProtocol(transport))

    pool = FastPool(
        4,
        factory=connect,
        close=lambda client: client.protocol.trans.close(),
        check=lambda client: client.protocol.trans.isOpen(),  # peeks at the socket
        discard_on=(TTransportException, TProtocolException, OSError),
        name="calculator",
    )

    def divide(a: int, b: int) -> int:
        with pool.lease(timeout=5) as client:
            return client.divide(a, b)

    # ----------------------------------------------------------------------------------------------

    with pool:
        with ThreadPoolExecutor(32) as threads:
            results = list(threads.map(lambda number: divide(number, 7), range(200)))
        try:
            divide(1, 0)
        except TApplicationException as error:  # an answer: the connection is kept
            print(f"the server says: {error}")
        stats = pool.stats()

    assert results == [number // 7 for number in range(200)]
    print(f"{len(results)} calls by 32 threads through {stats.created} clients")
    print(f"closed before the end: {stats.closed_total}")


def start_server() -> int:
    """A real Thrift server in a thread; returns its port."""
    listening = threading.Event()

    class Listener(TServerSocket):
        def listen(self) -> None:
            super().listen()
            listening.set()

    listener = Listener("127.0.0.1", 0)
    server = TThreadedServer(
        Processor(), listener, TBufferedTransportFactory(), TBinaryProtocolFactory(), daemon=True
    )
    threading.Thread(target=server.serve, daemon=True).start()
    assert listening.wait(10)
    port: int = listener.handle.getsockname()[1]
    return port


def write_numbers(protocol: TBinaryProtocol, name: str, kind: int, *numbers: int) -> None:
    """A message whose struct has these fields, numbered from 1 (0 in a reply)."""
    protocol.writeMessageBegin(name, kind, 0)
    protocol.writeStructBegin(name)
    for field, number in enumerate(numbers, 1 if kind == TMessageType.CALL else 0):
        protocol.writeFieldBegin("", TType.I32, field)
        protocol.writeI32(number)
        protocol.writeFieldEnd()
    protocol.writeFieldStop()
    protocol.writeStructEnd()
    protocol.writeMessageEnd()
    protocol.trans.flush()


def read_numbers(protocol: TBinaryProtocol) -> list[Any]:
    """The fields of the next message, or the exception that it is."""
    _, kind, _ = protocol.readMessageBegin()
    if kind == TMessageType.EXCEPTION:
        error = TApplicationException()
        error.read(protocol)
        protocol.readMessageEnd()
        raise error
    numbers = []
    protocol.readStructBegin()
    while protocol.readFieldBegin()[1] != TType.STOP:
        numbers.append(protocol.readI32())
        protocol.readFieldEnd()
    protocol.readStructEnd()
    protocol.readMessageEnd()
    return numbers


if __name__ == "__main__":
    main()
