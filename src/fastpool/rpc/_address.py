"""An http:// or https:// address, taken apart once."""

from __future__ import annotations

import os
import re
import socket
from base64 import b64encode
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, quote, unquote_to_bytes, urlsplit

__all__ = ["Address", "Origin", "taken_apart"]


ALLOWED = "/?%:@!$&'()*+,;=-._~[]"
"""What stays as it is in a path and a query."""

PORTS = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """What connections are made to: the key that they are pooled by."""

    scheme: str
    host: str
    port: int
    unix: str = ""  # the path of a socket, which is connected to in place of host and port

    def __str__(self) -> str:
        return self.unix or f"{self._host}:{self.port}"

    @property
    def header(self) -> str:
        """The host as requests name it."""
        return self._host if self.port == PORTS[self.scheme] else f"{self._host}:{self.port}"

    @property
    def _host(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    def __repr__(self) -> str:
        return f"{self.scheme}://{self}"


def taken_apart(who: str, url: str) -> SplitResult:
    """ValueError if it is no address that ``who`` can call."""
    if not isinstance(url, str):
        raise TypeError(f"{who}() needs an address as text, not {url!r}")
    parts, fault = _read(url)
    if parts is None or fault:
        raise ValueError(f"{who}() {fault}, not {masked(url)!r}")  # no context: it may be secret
    return parts


def _read(url: str) -> tuple[SplitResult | None, str]:
    """The parts, and what is wrong with them."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None, "needs an address that can be read"
    if parts.scheme not in PORTS:
        return parts, "needs an http:// or https:// address"
    if not parts.hostname:
        return parts, "needs the name of a host in its address"
    try:
        _ = parts.port
    except ValueError:
        return parts, "needs a number of at most 65535 as the port in its address"
    return parts, ""


def masked(url: str) -> str:
    """An address for errors: neither names and passwords nor a query, and what may be such."""
    address, query, _ = url.partition("?")
    scheme, slashes, rest = address.rpartition("//")
    before, at, host = rest.rpartition("@")
    return scheme + slashes + ("***@" if at else "") + host + ("?***" if query else "")


class Address:
    """Where a client sends its questions, and with which headers."""

    def __init__(
        self,
        who: str,
        url: str,
        headers: Mapping[str, str] | None,
        *,
        media: str = "application/json",
        path: str = "/",
        uds: str | os.PathLike[str] | None = None,
    ) -> None:
        parts = taken_apart(who, url)
        host = (parts.hostname or "").encode("idna").decode()
        port = parts.port or PORTS[parts.scheme]
        self.origin = Origin(parts.scheme, host, port, _unix(uds, parts.scheme))
        path = (parts.path or path) + (f"?{parts.query}" if parts.query else "")
        self.path = quote(path, safe=ALLOWED)
        self.headers = {
            "host": self.origin.header,
            "content-type": media,
            "accept": media,
            "accept-encoding": "gzip, deflate",
            "user-agent": "fastpool.rpc",
        }
        if parts.username is not None:
            name = unquote_to_bytes(parts.username) + b":" + unquote_to_bytes(parts.password or "")
            self.headers["authorization"] = "Basic " + b64encode(name).decode()
        for given in headers or {}:
            refuse_framing(given)
        self.headers |= {
            _name(name): header_value(name, given) for name, given in (headers or {}).items()
        }

    def __str__(self) -> str:
        return f"{self.origin!r}{self.path.partition('?')[0]}"  # a query may have secrets


def _unix(path: str | os.PathLike[str] | None, scheme: str) -> str:
    if path is None:
        return ""
    if not hasattr(socket, "AF_UNIX"):
        raise TypeError("this system has no Unix sockets: leave uds out")
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"uds must be the path of a Unix socket, not {path!r}")
    if scheme != "http":
        raise ValueError("a Unix socket needs no TLS: uds is for http:// addresses")
    if not (text := os.fspath(path)):
        raise ValueError("uds must be the path of a Unix socket, not an empty one")
    return text


FRAMING = ("content-length", "transfer-encoding", "connection", "upgrade", "expect", "trailer")


def refuse_framing(name: str) -> None:
    """ValueError for a header that says where a request ends, or what follows it: that is the
    client's to say, or the server takes part of one request for another."""
    if isinstance(name, str) and name.strip().lower() in FRAMING:
        raise ValueError(f"header {name}: is the client's own to send; leave it out")


def _name(name: str) -> str:
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
        raise ValueError(f"{name!r} is no name of a header")
    return name.lower()


def header_value(name: str, value: str) -> str:
    """The value as it is sent, or what is wrong with it."""
    if not isinstance(value, str):
        raise TypeError(f"header {name}: its value must be text, not {type(value).__name__}")
    if re.search(r"[^\t -~\x80-\xff]", value):  # it may be secret
        raise ValueError(f"header {name}: its value cannot be sent, it is not printable Latin-1")
    return value.strip(" \t")
