"""Where the debug socket listens: a Unix socket of the user's own, or a port on loopback."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import stat
import tempfile
from pathlib import Path

__all__ = ["Address", "folder", "folders", "parse"]

LONGEST = 100  # bytes of a path: the systems take from 103 up to 108


class Address:
    """One place to listen.  ``text``: as the user writes it."""

    def __init__(self, path: str | None, host: str = "", port: int = 0) -> None:
        self.path = path
        self.host = host
        self.port = port

    @property
    def text(self) -> str:
        return f"unix:{self.path}" if self.path is not None else f"tcp:{self.host}:{self.port}"

    def bound(self) -> socket.socket:
        """A socket that listens there.  OSError: it is taken, or not to be had."""
        if self.path is not None:
            return _unix(self.path)
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listener = socket.socket(family)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self.host, self.port))
            listener.listen(8)
        except BaseException:
            listener.close()
            raise
        self.port = listener.getsockname()[1]
        return listener

    def connected(self, timeout: float) -> socket.socket:
        """A client's socket that is connected to it.  OSError: nobody listens there."""
        if self.path is None:
            return socket.create_connection((self.host, self.port), timeout)
        client = socket.socket(socket.AF_UNIX)
        try:
            client.settimeout(timeout)
            client.connect(self.path)
        except BaseException:
            client.close()
            raise
        return client

    def gone(self) -> None:
        """Remove what a listener leaves behind."""
        if self.path is not None:
            Path(self.path).unlink(missing_ok=True)

    def for_child(self) -> Address:
        """Where a forked child listens: its parent keeps this one."""
        if self.path is None:
            return Address(None, self.host, 0)
        path = Path(self.path)
        if path.parent == folder():
            return Address(str(path.with_name(f"{os.getpid()}.sock")))
        return Address(f"{self.path}.{os.getpid()}")


def _unix(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        try:
            listener.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or _answers(path):
                raise
            Path(path).unlink()  # of a process that was killed
            listener.bind(path)
        os.chmod(path, 0o600)  # before it listens: nobody can be there yet
        listener.listen(8)
    except BaseException:
        listener.close()
        raise
    return listener


def _answers(path: str) -> bool:
    """Whether somebody listens there.  What is no socket is never taken for a stale one."""
    if not stat.S_ISSOCK(os.stat(path).st_mode):
        return True
    try:
        Address(path).connected(1.0).close()
    except ConnectionRefusedError:
        return False
    except OSError:
        return True
    return True


def folder() -> Path:
    """The folder of this user's sockets, made if it is not there.  PermissionError: somebody else's
    is in its place, or others may look into it."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and Path(base).is_dir():
        path = Path(base) / "fastpool"
    else:
        path = Path(tempfile.gettempdir()) / f"fastpool-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(
            f"{path} must be a folder of this user's with mode 0700 (it is of user "
            f"{found.st_uid}, mode {stat.S_IMODE(found.st_mode):o}); give an address: unix:PATH"
        )
    return path


def folders() -> list[Path]:
    """The folders in which this user's processes may have their sockets, whatever their environment
    was; of root: those of all users.  Folders that others may write to are left out."""
    if not hasattr(os, "getuid"):  # Windows
        return []
    me, temporary = os.getuid(), Path(tempfile.gettempdir())
    candidates = [Path("/run/user", str(me), "fastpool"), temporary / f"fastpool-{me}"]
    if base := os.environ.get("XDG_RUNTIME_DIR"):
        candidates.insert(0, Path(base) / "fastpool")
    if me == 0:
        candidates += [*Path("/run/user").glob("*/fastpool"), *temporary.glob("fastpool-*")]
    return [path for path in dict.fromkeys(candidates) if _is_private(path, me)]


def _is_private(path: Path, me: int) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    ours = me in (0, found.st_uid)
    return stat.S_ISDIR(found.st_mode) and ours and not found.st_mode & 0o077


def parse(address: str | None) -> Address:
    """The Address for "unix:PATH", "tcp:HOST:PORT" or None: a Unix socket named after the process
    in ``folder()``.  ValueError, TypeError: what else was given."""
    if address is None:
        return Address(str(folder() / f"{os.getpid()}.sock"))
    if not isinstance(address, str):
        raise TypeError(f"address must be a string or None, not {type(address).__name__}")
    kind, _, rest = address.partition(":")
    if kind == "unix" and rest:
        if len(os.fsencode(rest)) > LONGEST:
            raise ValueError(f"a socket's path has at most {LONGEST} bytes, not {rest!r}")
        return Address(rest)
    host, _, port = rest.rpartition(":")
    if kind == "tcp" and host and port.isdecimal() and int(port) < 65536:
        return Address(None, _loopback(host.strip("[]")), int(port))
    raise ValueError(f'address must be "unix:PATH" or "tcp:HOST:PORT", not {address!r}')


def _loopback(host: str) -> str:
    name = "127.0.0.1" if host == "localhost" else host
    try:
        if ipaddress.ip_address(name).is_loopback:
            return name
    except ValueError:
        pass
    raise ValueError(
        f"the debug socket listens on loopback only, not on {host!r}; to reach it from elsewhere "
        "forward a port, with ssh -L for one"
    )
