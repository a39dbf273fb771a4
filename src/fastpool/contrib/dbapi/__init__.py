"""A pool of database connections, of any driver that speaks PEP 249, and DBUtils' PooledDB on it.

    pool = Pool(psycopg2, "dbname=app", maxsize=8)
    with pool.connect() as connection:              # commits or rolls back, and gives it back
        connection.cursor().execute("select 1")

    from fastpool.contrib.dbapi import PooledDB     # in place of dbutils.pooled_db's

What the pool raises where it lends is the driver's: OperationalError if no connection came free in
time, InterfaceError for one that was given back already.
"""

from __future__ import annotations

from ._pool import Connection, Pool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._pooled_db import PooledDB as PooledDB


__all__ = ["Connection", "Pool", "PooledDB"]  # the last is loaded when it is asked for


def __getattr__(name: str) -> Any:
    if name != "PooledDB":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ._pooled_db import PooledDB

    return PooledDB
