"""`fastpool budget show | set | watch`: the permits of a budget, from outside.

A path is that of a LocalBudget's file; a URL is that of a Redis, and after `#` the name of the
budget, which may be left out where there is but one.
"""

from __future__ import annotations

import sys
import time

from ..fleet import BudgetReport, LocalBudget, RedisBudget
from ..fleet._redis_engine import client_of
from ..fleet._redis_report import names_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["BudgetFailed", "set_limit", "show", "watch"]


class BudgetFailed(Exception):
    """There is no such budget, or it is not ours to read."""


def show(path: str) -> int:
    """Print who has what."""
    print(table(_report(path)), end="")
    return 0


def set_limit(path: str, limit: int) -> int:
    """Change the limit for all processes."""
    before = _report(path).limit
    try:
        _open(path).limit = limit
    except (OSError, ValueError) as error:
        raise BudgetFailed(str(error)) from error
    print(f"{path}: {before} -> {limit} permits")
    return 0


def watch(path: str, interval: float) -> int:
    """Print who has what, again and again, until it is interrupted."""
    while True:
        print(time.strftime("%H:%M:%S"), table(_report(path)), end="", flush=True)
        time.sleep(interval)


def _report(path: str) -> BudgetReport:
    try:
        if "://" in path:
            return RedisBudget.report(*_redis_of(path))
        return LocalBudget.report(path)
    except (OSError, ValueError, NotImplementedError) as error:
        raise BudgetFailed(str(error)) from error


def _open(path: str) -> LocalBudget | RedisBudget:
    return RedisBudget(*_redis_of(path)) if "://" in path else LocalBudget(path)


def _redis_of(url: str) -> tuple[Any, str]:
    """A client, and the name of the budget; BudgetFailed where it is not clear, or not there."""
    where, _, name = url.partition("#")
    try:
        client = client_of(where, 5.0)
        names = names_of(client)
    except ImportError as error:
        raise BudgetFailed(str(error)) from error
    except Exception as error:  # of redis-py, which need not be there
        raise BudgetFailed(f"{where}: {error}") from error
    if not name and len(names) == 1:
        (name,) = names
    if name not in names:
        there = ", ".join(names) or "none"
        raise BudgetFailed(f"say which budget: {where}#NAME; there are: {there}")
    return client, name


def table(report: BudgetReport) -> str:
    """The limit, and a line for each member, those that have most first."""
    one = len(report.members) == 1
    lines = [
        f"budget {report.name}: {report.in_force} of {report.limit} permits in force, "
        f"{len(report.members)} member{'' if one else 's'}"
    ]
    if report.members:
        lines.append(f"  {'PID':>8}  {'HAS':>6}  {'WANTS':>6}  {'OPEN':>6}  {'SAID':>6}  POOL")
    for member in sorted(report.members, key=lambda one: (-one.held, one.pid)):
        said = f"{member.age:.0f}s"
        lines.append(
            f"  {member.pid:>8}  {member.held:>6}  {member.wanted:>6}  {member.open:>6}  "
            f"{said:>6}  {printable(member.name)}"
        )
    return "\n".join(lines) + "\n"


def printable(name: str) -> str:
    """A name that another process gave, without what would move the cursor."""
    encoding = sys.stdout.encoding or "ascii"
    text = "".join(c if c.isprintable() else "?" for c in name)
    return text.encode(encoding, "replace").decode(encoding)
