"""A pool of database connections, of any driver that speaks PEP 249.

    pool = Pool(psycopg2, "dbname=app", maxsize=8)
    with pool.connect() as connection:              # commits or rolls back, and gives it back
        connection.cursor().execute("select 1")

What the pool raises where it lends is the driver's: OperationalError if no connection came free in
time, InterfaceError for one that was given back already.
"""

from __future__ import annotations

from ._connection import Connection
from ._pool import Pool

__all__ = ["Connection", "Pool"]
