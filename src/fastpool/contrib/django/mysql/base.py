"""Django's MySQL backend over a pool, which it has none of."""

from __future__ import annotations

from typing import Any, ClassVar

from django.core.exceptions import ImproperlyConfigured
from django.db.backends.base.base import NO_DB_ALIAS
from django.db.backends.mysql import base

from .... import FastPool
from ....errors import PoolError
from ._pools import make_pool

__all__ = ["DatabaseWrapper"]


class DatabaseWrapper(base.DatabaseWrapper):
    """Through mysqlclient, or through PyMySQL by ``pymysql.install_as_MySQLdb()``.

    ``CONN_MAX_AGE`` has to be 0: each request borrows.  With ``CONN_HEALTH_CHECKS`` a connection is
    checked before it is lent that was idle for half a second.  What waits in vain is
    ``django.db.OperationalError``.
    """

    _connection_pools: ClassVar[dict[str, tuple[dict[str, Any], FastPool[Any]]]] = {}
    connection: Any
    _lease: Any = None  # of the connection; dropped with this wrapper, it closes that
    _ready = False  # a connection was lent whose session has what Django sets

    @property
    def pool(self) -> FastPool[Any] | None:
        """The pool of this alias in this process; None without one."""
        return self._pool_for(self.get_connection_params())

    def _pool_for(self, params: dict[str, Any]) -> FastPool[Any] | None:
        options = self.settings_dict["OPTIONS"].get("pool", True)
        if self.alias == NO_DB_ALIAS or options in (False, None):
            return None
        pools = self._connection_pools
        found = pools.get(self.alias)
        if found is not None and found[0] != params:
            found[1].close(0)  # of another database: that of the tests has begun, or ended
            pools.pop(self.alias, None)
            found = None
        if found is None:  # of two threads that make one, the first has made it: neither is open
            made = params, self._make_pool({} if options is True else options, params)
            found = pools.setdefault(self.alias, made)
        return found[1]

    def _make_pool(self, options: dict[str, Any], params: dict[str, Any]) -> FastPool[Any]:
        if self.settings_dict.get("CONN_MAX_AGE", 0) != 0:
            raise ImproperlyConfigured("Pooling doesn't support persistent connections.")
        # a wrapper that is no thread's: the pool keeps it
        own = base.DatabaseWrapper(self.settings_dict, self.alias)
        checked = self.settings_dict["CONN_HEALTH_CHECKS"]
        options = {"name": self.alias, **options}
        return make_pool(options, lambda: own.get_new_connection(params), checked)

    def close_pool(self) -> None:
        """Closes what is idle, and what is lent when it comes back.  The next use makes a pool."""
        found = self._connection_pools.pop(self.alias, None)
        if found is not None:
            found[1].close(0)

    def get_connection_params(self) -> dict[str, Any]:
        params: dict[str, Any] = super().get_connection_params()
        params.pop("pool", None)
        return params

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        pool = self._pool_for(conn_params)
        if pool is None:
            return super().get_new_connection(conn_params)
        try:
            self._lease = pool.acquire()
        except PoolError as error:
            raise self.Database.OperationalError(str(error)) from error
        connection = self._lease.resource
        self._ready = getattr(connection, "fastpool_level", "") == self.isolation_level
        return connection

    def init_connection_state(self) -> None:
        """Once for each connection of a pool, or when asked: the session keeps what it sets."""
        if self._ready:
            self._ready = False
            return
        super().init_connection_state()
        if self._lease is not None:
            self.connection.fastpool_level = self.isolation_level

    def is_usable(self) -> bool:
        """False too when it was given back."""
        return self.connection is not None and bool(super().is_usable())

    def _close(self) -> Any:
        if self._lease is None:
            return super()._close()
        lease, self._lease = self._lease, None
        connection, self.connection = self.connection, None  # in an atomic block it would be kept
        try:
            connection.rollback()
        except self.Database.Error:  # it is lost, or has results that nobody has read
            lease.discard()
        except BaseException:
            lease.discard()
            raise
        else:
            lease.release()
        return None
