"""For pytest, by `-p`: in psycopg's own tests its ConnectionPool and AsyncConnectionPool are ours.

The tests read three private attributes all the time, so they are given them here: `_pool` (what is
idle), `_waiting` (one entry for each that waits) and `_nconns` (how many are open).
"""

import psycopg_pool

from fastpool.contrib import psycopg

PRIVATE = {
    "_pool": lambda pool: list(pool.fastpool.queue),
    "_waiting": lambda pool: [None] * pool.fastpool.stats().waiting,
    "_nconns": lambda pool: pool.fastpool.stats().open,
}


def ignore(pool: object, value: object) -> None:
    """The host's constructor assigns them."""


for name in ("ConnectionPool", "AsyncConnectionPool"):
    ours = getattr(psycopg, name)
    for attribute, read in PRIVATE.items():
        setattr(ours, attribute, property(read, ignore))
    setattr(psycopg_pool, name, ours)
