"""Django's PostgreSQL backend, with our pool in the place of psycopg_pool's."""

from __future__ import annotations

from typing import Any, ClassVar

from django.core.exceptions import ImproperlyConfigured
from django.db.backends.base.base import NO_DB_ALIAS
from django.db.backends.postgresql import base

from ...psycopg import ConnectionPool

__all__ = ["DatabaseWrapper"]


class Pool(ConnectionPool):
    """Lends by leases, so that a thread that ends without giving back its connection costs none."""

    database: str

    def getconn(self, timeout: float | None = None) -> Any:
        lease, connection = self._take(self.fastpool.acquire, timeout)
        connection.fastpool_lease = lease  # for the wrapper, which takes it away
        return connection


class DatabaseWrapper(base.DatabaseWrapper):
    """Django 5.1 or newer, with psycopg 3.

    ``CONN_MAX_AGE`` has to be 0: each request borrows, and ``CONN_HEALTH_CHECKS`` has every
    connection checked that is about to be lent.
    """

    _connection_pools: ClassVar[dict[str, Pool]] = {}
    _lease: Any = None  # of the connection; dropped with this wrapper, it closes that

    @property
    def pool(self) -> Any:
        """The pool of this alias in this process; None without one."""
        options = self.settings_dict["OPTIONS"].get("pool", True)
        if self.alias == NO_DB_ALIAS or options in (False, None):
            return None
        pools = self._connection_pools
        pool = pools.get(self.alias)
        if pool is not None and pool.database != self.settings_dict["NAME"]:
            pool.close()  # of another database: that of the tests has begun, or ended
            pools.pop(self.alias, None)
            pool = None
        if pool is None:  # of two threads that make one, the first has made it: neither is open yet
            pool = pools.setdefault(self.alias, self._make_pool({} if options is True else options))
        return pool

    def _make_pool(self, options: dict[str, Any]) -> Pool:
        if not base.is_psycopg3:
            raise ImproperlyConfigured("fastpool.contrib.django.postgresql needs psycopg 3")
        if self.settings_dict.get("CONN_MAX_AGE", 0) != 0:
            raise ImproperlyConfigured("Pooling doesn't support persistent connections.")
        # a wrapper that is no thread's: the pool keeps it
        own = type(self)(self.settings_dict, self.alias)
        checked = self.settings_dict["CONN_HEALTH_CHECKS"]
        pool = Pool(
            kwargs={**own.get_connection_params(), "autocommit": True},
            open=False,
            configure=own._configure_connection,
            check=Pool.check_connection if checked else None,
            **{"name": self.alias, **options},
        )
        pool.database = self.settings_dict["NAME"]
        return pool

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        connection = super().get_new_connection(conn_params)
        self._lease = connection.__dict__.pop("fastpool_lease", None)
        return connection
