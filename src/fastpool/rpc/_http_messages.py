"""A request over HTTP and the answer to it, as the codecs see them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class HttpResponse(NamedTuple):
    """A reply of HTTP; names of headers are in lower case."""

    status: int
    reason: str
    headers: dict[str, str]
    body: bytes


class Request(NamedTuple):
    """A body to be sent, and what is made of the answer to it."""

    body: bytes
    read: Callable[[HttpResponse], Any]
