"""An http:// or https:// address, taken apart once."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

__all__ = ["Address", "Origin", "taken_apart"]


class Origin(NamedTuple):
    """What connections are made to: the key that they are pooled by."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def taken_apart(who: str, url: str) -> SplitResult:
    """ValueError if it is no address that ``who`` can call."""
    if not isinstance(url, str):
        raise TypeError(f"{who}() needs an address as text, not {url!r}")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"{who}() needs an http:// or https:// address, not {url!r}")
    if not parts.hostname:
        raise ValueError(f"{who}() needs the name of a host in its address, not {url!r}")
    _ = parts.port  # which is a ValueError if it is no number
    return parts


class Address:
    """Where a client sends its questions, and with which headers."""

    def __init__(self, who: str, url: str, headers: Mapping[str, str] | None) -> None:
        parts = taken_apart(who, url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        self.origin = Origin(parts.scheme, parts.hostname or "", port)
        self.path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self.headers = {
            "content-type": "application/json",
            "accept": "application/json",
            "accept-encoding": "gzip, deflate",
            "user-agent": "fastpool.rpc",
        }
        if parts.username is not None:
            name = unquote_to_bytes(parts.username) + b":" + unquote_to_bytes(parts.password or "")
            self.headers["authorization"] = "Basic " + b64encode(name).decode()
        self.headers |= {name.lower(): value for name, value in (headers or {}).items()}
