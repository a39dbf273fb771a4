"""What a JSON-RPC client raises of its own.  All of it pickles.

Broken connections are ConnectionError, deadlines TimeoutError, the pool's refusals PoolError.
"""

from __future__ import annotations

from typing import Any

__all__ = ["BadReply", "HttpError", "RemoteError", "RpcError"]


class RpcError(Exception):
    """Base of the three below."""

    __module__ = "fastpool.rpc"


class RemoteError(RpcError):
    """The server's error object: ``.code``, ``.message`` and ``.data`` (None if it sent none).

    An answer like any other: the connection is kept.
    """

    __module__ = "fastpool.rpc"

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(code, message, data)
        self.code = code
        self.message = message
        self.data = data

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"


class BadReply(RpcError):
    """What came is no JSON-RPC 2.0 reply to what was asked; the connection is closed."""

    __module__ = "fastpool.rpc"


class HttpError(RpcError):
    """The server refused, and not in JSON-RPC: ``.status``, ``.reason``, ``.headers`` (names in
    lower case) and ``.body``.  The connection is closed."""

    __module__ = "fastpool.rpc"

    def __init__(self, status: int, reason: str, headers: dict[str, str], body: bytes) -> None:
        super().__init__(status, reason, headers, body)
        self.status = status
        self.reason = reason
        self.headers = headers
        self.body = body

    def __str__(self) -> str:
        return f"HTTP {self.status} {self.reason}".rstrip()

    def __repr__(self) -> str:  # headers and body may have secrets
        return f"HttpError({self.status}, {self.reason!r})"
