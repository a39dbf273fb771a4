"""`fastpool budget show | set | watch`: the permits of a LocalBudget, from outside."""

from __future__ import annotations

import sys
import time

from ..fleet import BudgetReport, LocalBudget

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
        LocalBudget(path).limit = limit
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
        return LocalBudget.report(path)
    except (OSError, ValueError, NotImplementedError) as error:
        raise BudgetFailed(str(error)) from error


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
