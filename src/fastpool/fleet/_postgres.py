"""PostgresFence: ends the sessions that an expired member has at a PostgreSQL server.

A session is known by its ``application_name``, which ends with the id of the member that opened it:
the server has it from the first packet of the connection, before it lets the client in, so there is
no moment at which a session that can do anything is not marked.  Sessions that are still logging in
are not to be seen yet; PostgreSQL ends those by itself after ``authentication_timeout``.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["PostgresFence"]

MOST = 63  # bytes of an application_name that the server keeps
MARK = "#"
TIMEOUT = 10.0  # seconds that a session may take to end, and a connection to open
BETWEEN = 0.02  # seconds between two looks

# Of a session of another role whoever may not see it is told that it is there, and nothing else.
HIDDEN = """
    SELECT usename FROM pg_stat_activity
    WHERE query = '<insufficient privilege>' AND usename IS NOT NULL LIMIT 1
"""
# One's own session is named otherwise, and parallel workers end with their leaders.
TERMINATE = """
    SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE right(application_name, %(length)s) = %(mark)s AND backend_type = 'client backend'
"""
SETTINGS = """
    SELECT rolconnlimit, coalesce(
        (SELECT split_part(setting, '=', 2)
         FROM pg_db_role_setting, unnest(setconfig) AS setting
         WHERE setrole = pg_roles.oid
         AND setting LIKE 'client_connection_check_interval=%%' LIMIT 1),
        current_setting('client_connection_check_interval', true))
    FROM pg_roles WHERE rolname = %(role)s
"""


class PostgresFence:
    """Ends the sessions of an expired member at a PostgreSQL server, before its permits are used
    again: ``RedisBudget(..., fence=PostgresFence(conninfo))``.

    ``conninfo``: how psycopg 3 connects to the server itself, not to a proxy in front of it.  Its
    role has to see and end the sessions of others: ``GRANT pg_read_all_stats, pg_signal_backend TO
    warden``, or a superuser.  It needs a connection while it works, so keep one free for it.

    Each connection of the pool says whose it is: ``connect(..., application_name=
    fence.application_name(budget.member, "orders"))``.  Sessions without that are not ended.

    Thread-safe; a connection is opened for each call and closed after it.  ``timeout``: seconds for
    a session to end.  psycopg.ProgrammingError for a conninfo that is none; ImportError without
    psycopg.
    """

    def __init__(self, conninfo: str, *, timeout: float = TIMEOUT) -> None:
        try:
            import psycopg
        except ImportError as error:
            raise ImportError(
                "PostgresFence needs psycopg: pip install 'psycopg[binary]'"
            ) from error
        if not isinstance(conninfo, str):
            raise TypeError(f"PostgresFence: conninfo must be a str, not {conninfo!r}")
        if not timeout > 0:
            raise ValueError(f"PostgresFence: timeout must be above 0 seconds, not {timeout!r}")
        self._psycopg: Any = psycopg
        self._conninfo = conninfo
        given = psycopg.conninfo.conninfo_to_dict(conninfo)
        given.pop("password", None)
        self._shown = psycopg.conninfo.make_conninfo("", **given)
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"PostgresFence({self._shown!r})"

    @staticmethod
    def application_name(member: str, name: str = "") -> str:
        """What the connections of this member are to be called: ``name``, then its id.  What does
        not fit into the 63 bytes of the server is cut from the name.  ValueError for an id that
        the server would not keep as it is."""
        mark = _mark_of(member)
        return name.encode("ascii", "replace")[: MOST - len(mark)].decode() + mark

    def __call__(self, member: str, /) -> None:
        """End the sessions of this member; returned, there is none any more.

        TimeoutError: the server has not ended one in time; PermissionError: there are sessions that
        this role may not see; psycopg.Error: the server cannot be reached, or does not let this
        role end one.
        """
        mark = _mark_of(member)
        deadline = time.monotonic() + self._timeout
        with self._connect() as connection:
            hidden = connection.execute(HIDDEN).fetchone()
            if hidden is not None:
                raise PermissionError(
                    f"PostgresFence: role {connection.info.user!r} may not see whose the sessions "
                    f"of role {hidden[0]!r} are: GRANT pg_read_all_stats, pg_signal_backend TO "
                    f"{connection.info.user}"
                )
            while True:
                asked = {"mark": mark, "length": len(mark)}
                found = [pid for pid, _ in connection.execute(TERMINATE, asked).fetchall()]
                if not found:
                    return
                if time.monotonic() >= deadline:
                    raise TimeoutError(
                        f"PostgresFence: {len(found)} sessions of member {member!r} have not ended "
                        f"within {self._timeout:g} s; first of them: pid {found[0]}"
                    )
                time.sleep(BETWEEN)

    def check(self, role: str) -> list[str]:
        """What is missing at the server for a limit that holds whatever a client does; each with
        what to do.  ``role``: that of the pool's connections.  Empty: nothing."""
        with self._connect() as connection:
            found = connection.execute(SETTINGS, {"role": role}).fetchone()
        if found is None:
            return [f"there is no role {role!r}"]
        most, interval = found
        missing = []
        if interval in (None, "0"):
            missing.append(
                "client_connection_check_interval is 0: a session whose client was killed goes on "
                "to the end of its query; set it to 1s (PostgreSQL 14 and newer)"
            )
        if most < 0:
            missing.append(
                f"role {role!r} has no limit of its own: ALTER ROLE {role} CONNECTION LIMIT n, "
                "with n a few above the limit of the budget"
            )
        return missing

    def _connect(self) -> Any:
        return self._psycopg.connect(
            self._conninfo,
            autocommit=True,
            application_name="fastpool fence",
            connect_timeout=max(2, int(self._timeout)),
        )


def _mark_of(member: str) -> str:
    """What the names of its sessions end with."""
    mark = f"{MARK}{member}"
    if not (member and mark.isascii() and mark.isprintable() and len(mark) <= MOST):
        raise ValueError(
            f"PostgresFence: the id of a member must be 1 to {MOST - 1} printable ASCII "
            f"characters, which is what application_name can hold, not {member!r}"
        )
    return mark
