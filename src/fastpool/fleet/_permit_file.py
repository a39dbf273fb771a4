"""Permits of one machine, in a file: one lock of one byte for each permit.

The truth is the locks alone.  They are open file description locks (``F_OFD_SETLK``, Linux 3.15): a
byte is locked by one open file, whatever process has it, and the kernel frees it the moment the
last descriptor of that file is closed: when the process ends, whatever ends it.  A process that is
only stopped keeps its own.  Nothing has to be repaired, and no time limit can be too short.

A forked child shares the open file, so it has to close it (``close`` gives nothing up there), or it
would keep the locks of its parent.  ``exec`` closes it.  The file has to be on a file system of
this machine: on NFS such locks are those of another protocol, with other rules.

Layout: a header (magic, version, limit), then a table with a row for each member: what it has, what
it wants, when it said so.  The table is a hint, for fairness: a row that is stale or torn costs a
permit its way to the right member for a while, never the sum.  Locks lie beyond the end of the
file, where there is nothing: one for each row, that tells whether its member lives, then one for
each permit.
"""

from __future__ import annotations

import os
import struct
import time

from .. import _reports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NamedTuple
else:
    from collections import namedtuple

__all__ = ["MOST_PERMITS", "PERMITS", "PermitFile", "Row", "wanted_by"]

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

MAGIC = b"fpbudget"
VERSION = 1
HEADER = struct.Struct("<8sIII")  # magic, version, limit, how often it was set
MACHINE = 1024  # where it is said what this machine has of a budget of many
TABLE = 4096  # where the first row is
ROW = struct.Struct("<IIIIQ40s")  # pid, have, want, in use, when (ns of CLOCK_MONOTONIC), name
ROWS = 1024
UNUSED = bytes(16 * ROW.size)  # rows that were never written: most of the table
MOST_PERMITS = 1 << 24
STALE = 2.0  # seconds since a row was written: its member is stopped, or its process at rest
PATIENCE = 5.0  # seconds to wait for another process that writes the header
SETTING_UP, LIVES, PERMITS = 1 << 30, (1 << 30) + 16, (1 << 30) + (1 << 20)  # bytes that are locked

if TYPE_CHECKING:

    class Row(NamedTuple):
        """What one member says of itself; ``age``: seconds ago."""

        number: int
        pid: int
        have: int
        want: int
        in_use: int
        age: float
        name: str
else:
    Row = namedtuple("Row", "number pid have want in_use age name")


class PermitFile:
    """See the module.  For one thread at a time."""

    def __init__(self, path: str, limit: int | None, *, create: bool = True) -> None:
        if not hasattr(fcntl, "F_OFD_SETLK"):
            raise NotImplementedError(
                "LocalBudget needs open file description locks (F_OFD_SETLK): Linux 3.15 or newer "
                "has them, this system or this build of Python has not"
            )
        self.path = path
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        self.fd = os.open(path, flags, 0o600)
        try:
            self._set_up(limit)
        except BaseException:
            self.close()
            raise
        self.permits: set[int] = set()  # that are ours
        self.rows: set[int] = set()

    def close(self) -> None:
        """With the last descriptor of the open file every lock goes; in a forked child that is the
        parent's."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def _set_up(self, limit: int | None) -> None:
        """Write the header, if there is none yet; what stands there counts."""
        self._lock_header()
        try:
            found = self._header()
            if found is None:
                if os.fstat(self.fd).st_size:
                    raise ValueError(f"{self.path}: is no file of permits, and not empty")
                if limit is None:
                    raise ValueError(f"{self.path}: says no limit yet, so give one: limit=60")
                self._create(limit)
            elif limit not in (None, found[0]):
                _reports.warn(
                    "budget %s: the limit is %d, as it was first set, and not %d, as it is given "
                    "here; it is changed by `fastpool budget set`",
                    self.path,
                    found[0],
                    limit,
                )
        finally:
            self._unlock(SETTING_UP)

    def _create(self, limit: int) -> None:
        os.pwrite(self.fd, HEADER.pack(MAGIC, VERSION, limit, 1), 0)
        os.posix_fallocate(self.fd, 0, TABLE + ROW.size * ROWS)  # or a row might fail

    @property
    def has_parent(self) -> bool:
        """Whether its limit is what this machine has of a budget of many (``_machine.py``)."""
        return any(os.pread(self.fd, 1, MACHINE))

    def is_replaced(self) -> bool:
        """Whether another file, or none, has its name by now."""
        mine = os.fstat(self.fd)
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            return True
        return (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino)

    # ---- the limit -------------------------------------------------------------------------------

    def _header(self) -> tuple[int, int] | None:
        """(limit, how often it was set); None: nothing is written there."""
        read = os.pread(self.fd, HEADER.size, 0)
        if not read:
            return None
        if len(read) < HEADER.size or not read.startswith(MAGIC):
            raise ValueError(f"{self.path}: is no file of permits: it begins with {read[:8]!r}")
        _, version, limit, times = HEADER.unpack(read)
        if version != VERSION:
            raise ValueError(f"{self.path}: is of version {version}, this is version {VERSION}")
        return int(limit), int(times)

    @property
    def limit(self) -> int:
        """Permits in all."""
        found = self._header()
        if found is None:
            raise ValueError(f"{self.path}: was emptied by somebody; restart what uses it")
        return found[0]

    def set_limit(self, limit: int) -> None:
        """Change it, for all who use the file, within a second.  Where more are in force they are
        given up as resources are idle or come back."""
        self._lock_header()
        try:
            self._write_limit(limit)
        finally:
            self._unlock(SETTING_UP)

    def _write_limit(self, limit: int) -> None:
        _, times = self._header() or (0, 0)
        os.pwrite(self.fd, HEADER.pack(MAGIC, VERSION, limit, times + 1), 0)

    # ---- permits ---------------------------------------------------------------------------------

    def take(self, n: int, limit: int, start: int) -> list[int]:
        """Up to ``n`` permits that are free, numbers below ``limit``, looked for from ``start``
        on.  None is kept that lies beyond the limit which the file has *after* it was locked: so
        whoever lowers the limit, and counts the locks beyond it afterwards, sees all there are."""
        found: list[int] = []
        for i in range(limit):
            if len(found) >= n:
                break
            permit = (start + i) % limit
            if permit not in self.permits and self._lock(PERMITS + permit):
                self.permits.add(permit)
                found.append(permit)
        if found:
            limit = self.limit
            for permit in [permit for permit in found if permit >= limit]:
                self._unlock(PERMITS + permit)
                self.permits.remove(permit)
                found.remove(permit)
        return found

    def give(self, n: int) -> None:
        """Give up ``n`` of ours, those with the highest numbers: first what is beyond a limit that
        was lowered."""
        for permit in sorted(self.permits, reverse=True)[: max(0, n)]:
            self._unlock(PERMITS + permit)
            self.permits.remove(permit)

    def count_locked(self, start: int) -> int:
        """How many permits, from number ``start`` on, other open files have locked."""
        count, ranges = 0, [(PERMITS + start, PERMITS + MOST_PERMITS)]
        while ranges:
            begin, end = ranges.pop()
            if begin >= end:
                continue
            found = fcntl.fcntl(
                self.fd, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK, begin, end - begin)
            )
            kind, _, first, length = struct.unpack_from("hhqq", found)
            if kind == fcntl.F_UNLCK:
                continue
            last = first + length if length else end  # any of those in the range, not the first
            count += min(last, end) - max(first, begin)
            ranges += [(begin, first), (last, end)]
        return count

    # ---- the table -------------------------------------------------------------------------------

    def add_row(self) -> int:
        """A row of our own."""
        for number in range(ROWS):
            if number not in self.rows and self._lock(LIVES + number):
                self.rows.add(number)
                return number
        raise OSError(f"{self.path}: {ROWS} pools share this budget already, which is the most")

    def write_row(self, number: int, name: str, have: int, want: int, in_use: int) -> None:
        """Say what a member has."""
        label = name.encode(errors="replace")[:40]
        row = ROW.pack(os.getpid(), have, want, in_use, time.monotonic_ns(), label)
        os.pwrite(self.fd, row, TABLE + ROW.size * number)

    def remove_row(self, number: int) -> None:
        """The member has left."""
        os.pwrite(self.fd, bytes(ROW.size), TABLE + ROW.size * number)
        self.rows.discard(number)
        self._unlock(LIVES + number)

    def table(self) -> list[Row]:
        """The rows of all members that live, ours among them."""
        read = os.pread(self.fd, ROW.size * ROWS, TABLE)
        now, found = time.monotonic_ns(), []
        for start in range(0, len(read) // ROW.size * ROW.size, len(UNUSED)):
            rows = read[start : start + len(UNUSED)]
            if rows == UNUSED:
                continue
            for number, entry in enumerate(ROW.iter_unpack(rows), start // ROW.size):
                pid, have, want, in_use, at, name = entry
                if pid and (number in self.rows or self._is_locked(LIVES + number)):
                    text = name.rstrip(b"\0").decode(errors="replace")
                    found.append(Row(number, pid, have, want, in_use, (now - at) * 1e-9, text))
        return found

    # ---- locks -----------------------------------------------------------------------------------

    def _lock_header(self) -> None:
        """Be the only one who writes there; TimeoutError where somebody has that right and does
        not go on."""
        deadline = time.monotonic() + PATIENCE
        while not self._lock(SETTING_UP):
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"{self.path}: another process has been setting it up for {PATIENCE:g} s: it "
                    "may be stopped"
                )
            time.sleep(0.001)

    def _lock(self, byte: int) -> bool:
        try:
            fcntl.fcntl(self.fd, fcntl.F_OFD_SETLK, _flock(fcntl.F_WRLCK, byte))
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _unlock(self, byte: int) -> None:
        fcntl.fcntl(self.fd, fcntl.F_OFD_SETLK, _flock(fcntl.F_UNLCK, byte))

    def _is_locked(self, byte: int) -> bool:
        """By another open file than this one."""
        found = fcntl.fcntl(self.fd, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK, byte))
        kind: int = struct.unpack_from("h", found)[0]
        return bool(kind != fcntl.F_UNLCK)


def wanted_by(row: Row) -> int:
    """How many permits its member wants.  Who has said nothing for long wants no more than it has:
    it is at rest, or it is stopped, and nothing is kept free for it."""
    return row.want if row.age < STALE else min(row.want, row.have)


def _flock(kind: int, byte: int, length: int = 1) -> bytes:
    """struct flock of <fcntl.h>."""
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, byte, length, 0)
