"""Whether an exception that left a block means that the resource is broken.

Asked in this order: errors of the operating system and what is no ``Exception``; what the resource
says of itself; what the exception says.  Drivers are recognised by the names of their classes, so
nothing is imported, and nothing is called that does not stand in the tables of
``_driver_errors.py``.

No generators here: a signal handler that raises may end one at any point, and Python then says so.
"""

from __future__ import annotations

from ..errors import PoolError
from ._driver_errors import ALIVE_DECIDES, ERRORS, RESOURCES, TIMEOUTS, Code, Inner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = [
    "Rule",
    "are_exceptions",
    "evidence",
    "is_broken",
    "is_broken_for_all",
    "matches_any",
]

NO_NUMBER = (0, -1)  # of PyMySQL and of mysql-connector, where the server has said none
DEEPEST = 8  # errors that stand for others: nobody nests more, and nothing goes in circles

_members_of = BaseExceptionGroup.__dict__["exceptions"].__get__  # whatever a subclass says


def is_broken(exc: BaseException, resource: object = None) -> bool:
    """Says whether ``exc``, or a member of it if it is a group, means that ``resource`` is broken.

    The rule behind ``discard_on="broken"``; never raises.  See docs/reference/broken.md.
    """
    found = evidence(exc)
    return bool(found) and _is_dead(resource, found)


def is_broken_for_all(exc: BaseException, resource: object = None) -> bool:
    """The rule of a SharedPool, whose resource others use: a timeout may be one caller's own, and
    one who is cancelled has just gone away."""
    found = evidence(exc)
    return bool(found) and _is_dead(resource, [one for one in found if not _is_ones_own(one)])


class Rule:
    """``("broken", MyError)``: a rule, and classes beside it."""

    __slots__ = ("classes", "rule")

    def __init__(
        self,
        rule: Callable[[BaseException, object], object],
        classes: tuple[type[BaseException], ...],
    ) -> None:
        self.rule = rule
        self.classes = classes

    def __call__(self, exc: BaseException, resource: object) -> bool:
        found = evidence(exc)
        return matches_any(found, self.classes) or bool(self.rule(exc, resource))


def matches_any(found: list[BaseException], classes: tuple[type[BaseException], ...]) -> bool:
    """Whether any of them is of one of the classes."""
    return bool([one for one in found if isinstance(one, classes)])


def are_exceptions(found: list[BaseException]) -> bool:
    """Whether each of them is an ``Exception``."""
    return not [one for one in found if not isinstance(one, Exception)]


def evidence(exc: BaseException) -> list[BaseException]:
    """What may say something of the resource: the exception and, of a group, its members at any
    depth.  A PoolError, from this pool or another, says nothing, nor does a group of them alone."""
    leaves: list[BaseException] = []
    groups: list[BaseException] = []
    rest = [exc]
    while rest:
        one = rest.pop()
        kind = type(one)
        if issubclass(kind, BaseExceptionGroup):
            groups.append(one)
            rest.extend(_members_of(one))
        elif issubclass(kind, BaseException) and not issubclass(kind, PoolError):
            leaves.append(one)
    return leaves + groups if leaves else []


def _is_fatal(one: BaseException) -> bool:
    """An error of the operating system, or one that ended the block anywhere, within a read too."""
    kind = type(one)  # __class__ may be a property that raises
    return issubclass(kind, (OSError, EOFError)) or not issubclass(kind, Exception)


def _is_ones_own(one: BaseException) -> bool:
    kind = type(one)
    if issubclass(kind, TimeoutError) or not issubclass(kind, Exception):
        return True
    try:
        return not TIMEOUTS.isdisjoint(_names(one))
    except Exception:  # a class may say anything of its module
        return False


def _is_dead(resource: object, found: list[BaseException]) -> bool:
    if [one for one in found if _is_fatal(one)]:
        return True
    said = _of_resource(resource)
    if said is not None:
        return said
    return bool([one for one in found if _of_error(one)])


def _names(thing: object) -> list[str]:
    """The qualified names of its class and of the bases of that, nearest first."""
    return [f"{base.__module__}.{base.__qualname__}" for base in type(thing).__mro__]


def _of_resource(resource: object) -> bool | None:
    """Whether the resource says that it is dead (True) or alive (False); None: it does not say."""
    try:
        for name in _names(resource):
            if name in RESOURCES:
                dead = _shows_dead(resource, RESOURCES[name])
                return True if dead else False if name in ALIVE_DECIDES else None
    except Exception:  # of a resource that is half torn down, for instance
        pass
    return None


def _shows_dead(resource: object, path: str) -> bool:
    negated = path.startswith("not ")
    return bool(_follow(resource, path.removeprefix("not "))) != negated


def _of_error(one: BaseException) -> bool:
    try:
        return _says(one, DEEPEST)
    except Exception:
        return False


def _says(one: object, depth: int) -> bool:
    for name in _names(one):
        entry = ERRORS.get(name)
        if isinstance(entry, bool):
            return entry
        if isinstance(entry, Code):
            return _by_code(one, entry)
        if isinstance(entry, Inner) and depth:
            if entry.flag and getattr(one, entry.flag):
                return True
            inner = getattr(one, entry.path)
            return issubclass(type(inner), (OSError, EOFError)) or _says(inner, depth - 1)
    return False


def _by_code(one: object, entry: Code) -> bool:
    try:
        code = _follow(one, entry.path)
    except (AttributeError, LookupError):
        code = None
    if isinstance(code, tuple) and code:  # (number, text)
        code = code[0]
    if isinstance(entry.dead, tuple):
        return code.startswith(entry.dead) if code and isinstance(code, str) else entry.otherwise
    if isinstance(code, int) and code not in NO_NUMBER:
        return code in entry.dead
    return entry.otherwise


def _follow(thing: Any, path: str) -> Any:
    """Attributes, calls, indices and keys, one after the other; None as soon as one is None."""
    for step in path.split("."):
        if thing is None:
            return None
        if step.endswith("()"):
            thing = getattr(thing, step.removesuffix("()"))()
        elif step.isdigit():
            thing = thing[int(step)]
        elif type(thing) is dict:
            thing = thing.get(step)
        else:
            thing = getattr(thing, step)
    return thing
