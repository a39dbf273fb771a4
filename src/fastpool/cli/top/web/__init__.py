"""The page: what the live screen shows, served on loopback by the viewer's process.

Every path begins with a key that is drawn at random and part of the printed address: any user of
the machine can reach a port on loopback, and any page that a browser has open can try to.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
import sys
import threading
import time
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..watch import Gone, Watch

__all__ = ["PageServer"]

FILES = {
    "": ("page.html", "text/html"),
    "page.css": ("page.css", "text/css"),
    "page.js": ("page.js", "text/javascript"),
}
HOSTS = ("127.0.0.1", "localhost", "[::1]")  # by any port: it may be forwarded
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class PageServer(ThreadingHTTPServer):
    """Serves what ``watch`` sees, which looks once an ``interval`` at most, however many pages
    there are.  ``port``: 0 for any.  OSError: the port is taken."""

    daemon_threads = True

    def __init__(self, watch: Watch, port: int, interval: float = 1.0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.key = secrets.token_urlsafe(16)
        self._watch = watch
        self._interval = interval
        self._lock = threading.Lock()  # of the next two
        self._seen: dict[str, Any] = {"interval": interval, "gone": ""}
        self._looked_at = -interval
        watch.look()  # so that the first page has rates

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # a browser that goes away is no news
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        """What to open in a browser."""
        return f"http://127.0.0.1:{self.server_port}/{self.key}/"

    def pools(self) -> dict[str, Any]:
        """All pools, for the page; "gone": why nothing is new."""
        with self._lock:
            if not self._seen["gone"] and time.monotonic() - self._looked_at > self._interval * 0.9:
                self._looked_at = time.monotonic()
                try:
                    self._seen |= asdict(self._watch.look())
                except Gone as error:
                    self._seen["gone"] = str(error)
            return self._seen.copy()

    def pool(self, number: int) -> dict[str, Any] | None:
        """One pool closely; None: it is gone, or the process is."""
        try:
            detail = self._watch.closely(number)
        except Gone:
            return None
        return detail.as_json() if detail is not None else None


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server_version = "fastpool"
    sys_version = ""
    timeout = 10

    def do_GET(self) -> None:
        page: Any = self.server
        asked = urlsplit(self.path)
        key, _, name = asked.path.removeprefix("/").partition("/")
        host = (self.headers.get("Host") or "").rsplit(":", 1)[0]
        if host not in HOSTS or not hmac.compare_digest(key.encode(), page.key.encode()):
            self._reply(404, "text/plain", b"not found: use the address that was printed\n")
        elif name in FILES:
            file, kind = FILES[name]
            self._reply(200, kind, Path(__file__).with_name(file).read_bytes())
        elif name == "pools.json":
            self._json(page.pools())
        elif name == "pool.json" and (number := re.fullmatch(r"id=(\d{1,20})", asked.query)):
            self._json(page.pool(int(number[1])))
        else:
            self._reply(404, "text/plain", b"not found\n")

    def _json(self, said: dict[str, Any] | None) -> None:
        self._reply(200, "application/json", json.dumps(said).encode())

    def _reply(self, code: int, kind: str, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal is the user's."""
