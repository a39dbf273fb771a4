"""gevent: where its patches make waiting in a pool impossible, that is said at construction.

Whoever waits for a pool sleeps in the core, without Python.  Where gevent has turned threads into
greenlets, that stops its hub and all of them, the pool's own threads included.
"""

from __future__ import annotations

import sys

__all__ = ["refuse"]


def refuse(what: str) -> None:
    """RuntimeError if gevent has patched threads.  Asked when ``gevent.monkey`` was imported."""
    patched = sys.modules["gevent.monkey"].is_module_patched
    if patched("threading") or patched("_thread"):
        raise RuntimeError(
            f"{what} does not work in this process: gevent has patched its threads, and whoever "
            "waits in a pool of fastpool would stop the hub, and every greenlet with it. Patch "
            "with monkey.patch_all(thread=False) and use pools in real threads "
            "(gevent.get_hub().threadpool), or use gevent.queue"
        )
