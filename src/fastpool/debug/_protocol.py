"""What is asked of the debug socket, and what is answered: a JSON object a line.

    {"get": "pools"}            the process and all pools; "holders": true also who holds what,
                                "holders": 3 the three of each pool that have held longest
    {"get": "pools", "id": ID}  one pool only
    {"get": "dump"}             {"text": ...}
    {"do": "flush", "id": ID}   with ``control`` only; also "suspend", "resume", "resize" and "to"

A wrong request is answered by `{"error": ...}`.
"""

from __future__ import annotations

import json
from typing import Any

from .._runtime.launch import launch
from .._runtime.registry import pools
from ._dump import text
from ._views import process

__all__ = ["answer"]

CONTROLS = ("flush", "suspend", "resume", "resize")


def answer(line: bytes, control: bool) -> bytes:
    """The answer to one line, with its newline.  ``control``: whether pools may be changed."""
    try:
        said = _answer(json.loads(line), control)
    except (ValueError, TypeError, RecursionError) as error:
        said = {"error": str(error)[:200]}
    return json.dumps(said).encode() + b"\n"


def _answer(asked: Any, control: bool) -> dict[str, Any]:
    if not isinstance(asked, dict):
        raise ValueError("a request is an object")
    found = pools()
    if "id" in asked:
        found = [pool for pool in found if id(pool) == asked["id"]]
        if not found:
            raise ValueError(f"there is no pool {asked['id']!r}")
    if "do" in asked:
        if not control:
            raise ValueError("this socket is read-only: serve(control=True) allows changes")
        return _change(found, asked)
    what = asked.get("get")
    if what == "pools":
        return process(found, holders=_holders(asked.get("holders", False)))
    if what == "dump":
        return {"text": text(process(found, holders=True))}
    raise ValueError('a request has "get": "pools" or "dump", or "do"')


def _holders(asked: Any) -> bool | int:
    if isinstance(asked, int) and asked >= 0:
        return asked
    raise ValueError(f'"holders" must be true, false or a number, not {asked!r}')


def _change(found: list[Any], asked: dict[str, Any]) -> dict[str, Any]:
    """Has it done by a thread of its own: hooks may take their time."""
    what, to = asked["do"], asked.get("to")
    if "id" not in asked:
        raise ValueError("say which pool: its id")
    (pool,) = found
    if what not in CONTROLS or not hasattr(pool, what):
        raise ValueError(f"a {type(pool).__name__} has no {what!r}; there are {CONTROLS}")
    if what == "resize":
        if type(to) is not int or to < 1:
            raise ValueError(f'"to" must be a whole number of at least 1, not {to!r}')
        launch("fastpool-debug-control", pool.resize, to)
    else:
        launch("fastpool-debug-control", getattr(pool, what))
    return {"begun": what}
