"""How long the other side asks to wait before another try: by gRPC's trailers or HTTP headers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from ._classify import code_of

__all__ = ["NEVER", "retry_after"]

NEVER = -1.0
"""The server asks not to try again."""

PUSHBACK = "grpc-retry-pushback-ms"
DETAILS = "grpc-status-details-bin"
RETRY_INFO = "google.rpc.RetryInfo"


def retry_after(error: BaseException) -> float | None:
    """Seconds, or NEVER; None where the exception does not say.

    Of gRPC's errors the pushback, then the RetryInfo among the details of the status.  Of others
    the header Retry-After: of the exception (``urllib``, aiohttp, xmlrpc, fastpool.rpc) or of its
    ``.response`` (requests, httpx).  What cannot be read is not there.
    """
    try:
        if code_of(error) is not None:
            return _in_trailers(error)
        headers = getattr(error, "headers", None)
        if headers is None:
            headers = getattr(getattr(error, "response", None), "headers", None)
        return None if headers is None else _in_headers(headers)
    except Exception:  # the object of another library, or what a server has made up
        return None


# ---- HTTP ---------------------------------------------------------------------------------------


def _in_headers(headers: Any) -> float | None:
    """A number of seconds, or a date: then from the server's own now, if it tells that."""
    text = _header(headers, "retry-after")
    if text is None:
        return None
    if text.isascii() and text.isdecimal():
        return float(text)
    when, now = _date(text), _date(_header(headers, "date"))
    if when is None:
        return None
    return max(0.0, when - (time.time() if now is None else now))


def _header(headers: Any, name: str) -> str | None:
    """``name`` is in lower case; the mapping may or may not care."""
    value = headers.get(name)
    if value is None:
        value = headers.get(name.title())
    return value.strip() if isinstance(value, str) else None


def _date(text: str | None) -> float | None:
    from email.utils import mktime_tz, parsedate_tz

    parts = None if text is None else parsedate_tz(text)
    return None if parts is None else float(mktime_tz(parts))


# ---- gRPC ---------------------------------------------------------------------------------------


def _in_trailers(error: Any) -> float | None:
    trailers = dict(error.trailing_metadata() or ())
    pushback = trailers.get(PUSHBACK)
    if pushback is not None:
        try:
            return int(pushback) / 1000
        except ValueError:  # what cannot be read means never, says gRPC's design A6
            return NEVER
    status = trailers.get(DETAILS)
    return _in_status(status) if isinstance(status, bytes) else None


def _in_status(status: bytes) -> float | None:
    """The delay of the RetryInfo in a google.rpc.Status."""
    for number, detail in _fields(status):
        if number == 3 and isinstance(detail, bytes):  # a google.protobuf.Any
            found = dict(_fields(detail))
            kind, packed = found.get(1), found.get(2, b"")
            if isinstance(kind, bytes) and kind.decode().rpartition("/")[2] == RETRY_INFO:
                delay = dict(_fields(packed)).get(1, b"") if isinstance(packed, bytes) else b""
                parts = dict(_fields(delay)) if isinstance(delay, bytes) else {}
                seconds, nanos = parts.get(1, 0), parts.get(2, 0)
                if isinstance(seconds, int) and isinstance(nanos, int) and seconds < 1 << 63:
                    return seconds + nanos / 1e9
    return None


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protobuf message: no library is asked for, since none may be there."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = _varint(message, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"no kind of field: {kind}")
        if at + size > len(message):
            raise ValueError("the message breaks off")
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]  # an IndexError where it breaks off
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
