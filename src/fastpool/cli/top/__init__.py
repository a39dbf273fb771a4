"""`fastpool top`: the pools of a running process, live, as a page, a table or JSON."""

from __future__ import annotations

import os
import sys
import time

from .plain import lines, table
from .targets import NoTarget, find
from .watch import Gone, Watch

__all__ = ["NoTarget", "run"]

VARIABLE = "FASTPOOL_DEBUG_TOKEN"


def run(
    target: str | None,
    *,
    once: bool = False,
    as_json: bool = False,
    web: int | None = None,
    token: str | None = None,
    interval: float = 1.0,
) -> int:
    """Show the pools of a process; return the exit code.  ``interval``: seconds between two looks.

    NoTarget: there is no such process, or it does not let us look.
    """
    with find(target, token or os.environ.get(VARIABLE) or None) as process:
        watch = Watch(process)
        try:
            if web is not None:
                return _served(watch, web, interval)
            if once or as_json or not sys.stdout.isatty():
                return _printed(watch, once, as_json, interval)
            return _live(watch, interval)
        except Gone as error:
            print(f"fastpool top: {error}", file=sys.stderr)
            return 1


def _served(watch: Watch, port: int, interval: float) -> int:
    """Serve the page until interrupted."""
    from .web import PageServer

    try:
        server = PageServer(watch, port, interval)
    except OSError as error:
        print(f"fastpool top: port {port} on loopback: {error}", file=sys.stderr)
        return 1
    with server:
        print(f"{server.url}\nInterrupt to end it.", flush=True)
        server.serve_forever()
    return 0


def _live(watch: Watch, interval: float) -> int:
    """Show it on the terminal until the user leaves."""
    try:
        from .live import TopApp
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("textual", "rich"):
            raise
        print(
            f"fastpool top: the live screen needs {missing}: pip install 'fastpool[top]'\n"
            "Without it: fastpool top --once, --json or --web PORT.",
            file=sys.stderr,
        )
        return 1
    app = TopApp(watch, interval)
    app.run()
    return app.return_code or 0


def _printed(watch: Watch, once: bool, as_json: bool, interval: float) -> int:
    """Print what is seen after each interval."""
    show = lines if as_json else table
    watch.look()  # rates need two
    while True:
        time.sleep(interval)
        print(show(watch.look()), end="", flush=True)
        if once or not as_json:
            return 0
