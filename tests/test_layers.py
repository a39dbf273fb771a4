"""The layers of the house: who may import whom. An arrow that is not in the table fails.

A module imports only what stands above it, so every arrow points up and there is no cycle. A
package counts as one module, and the compiled core with its includes as `_core`. Imports inside
functions count; those under `if TYPE_CHECKING:` do not, since they are never run. A module that is
not written yet holds its place in the order. When an arrow is meant, enter it here.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "src/fastpool"

#: Module: what it imports of fastpool. "fastpool" is the public surface, src/fastpool/__init__.py.
ARROWS: dict[str, set[str]] = {
    "errors": set(),
    "_types": set(),
    "_gevent": set(),
    "_notices": set(),
    "_misuse": {"_notices"},
    "_blocking": {"errors", "_notices"},
    "_core": {"errors", "_gevent", "_notices", "_misuse", "_blocking"},
    "_policy": set(),
    "_drivers": set(),
    "_broken": {"errors", "_drivers"},
    "_options": {"_broken", "_misuse"},
    "_keeper": {"_core", "_notices"},
    "_workers": {"_core", "_keeper", "_notices"},
    "_deadlines": {"_keeper"},
    "_opener": {"errors", "_core", "_blocking", "_notices", "_policy", "_keeper", "_workers"},
    "_caller_opener": {"_core", "_blocking", "_notices", "_keeper", "_opener"},
    "_closing": {"_core", "_workers"},
    "_checking": {"_core", "_blocking", "_policy", "_workers", "_deadlines"},
    "stats": set(),
    "_tracking": {"stats", "_notices"},
    "_housekeeping": {"_core", "_policy", "_keeper"},
    "_bell": set(),
    "_expiry": {"_core"},
    "_aio": {"_core", "_keeper", "_bell", "_expiry"},
    "_faces": {"_core", "_aio", "_misuse"},
    "_manager": {
        "_core",
        "errors",
        "_blocking",
        "_broken",
        "_notices",
        "_misuse",
        "_keeper",
        "_workers",
        "_deadlines",
        "_opener",
        "_caller_opener",
        "_closing",
        "_checking",
        "stats",
        "_tracking",
        "_housekeeping",
    },
    "_tasks": {"_keeper"},
    "_shard": {
        "errors",
        "_core",
        "_policy",
        "_keeper",
        "_opener",
        "_closing",
        "_checking",
        "_housekeeping",
        "_manager",
        "_tasks",
    },
    "_shards": {
        "errors",
        "_notices",
        "_misuse",
        "_core",
        "_options",
        "_keeper",
        "_workers",
        "stats",
        "_aio",
        "_manager",
        "_shard",
    },
    "_exit": {"_keeper"},
    "pool": {"_core", "_options", "_keeper", "_exit", "_faces", "_manager", "_shards"},
    "queue": {"errors", "_core"},
    "_shared_options": {"_broken", "_misuse", "_options"},
    "_tickets": {"stats", "_tracking"},
    "_shared_housekeeping": {"_policy", "_housekeeping"},
    "_sharing": {
        "_core",
        "_broken",
        "_notices",
        "_keeper",
        "_opener",
        "_closing",
        "stats",
        "_tickets",
        "_shared_housekeeping",
        "_manager",
        "_shared_options",
    },
    "shared": {"_core", "pool", "_shared_options", "_sharing"},
    "_keyed_options": {"_misuse", "_options"},
    "_branch": {"errors", "_core", "_policy", "_keeper", "_opener", "_manager"},
    "_switch": set(),
    "_ages": set(),
    "_places": {"_core", "_keeper", "_ages", "_switch"},
    "_keyed": {
        "errors",
        "_blocking",
        "_notices",
        "_core",
        "_keeper",
        "_workers",
        "stats",
        "_manager",
        "_branch",
        "_places",
    },
    "keyed": {"_core", "_faces", "pool", "_keyed_options", "_keyed"},
    "cache": {"_core", "_options", "_keeper", "_workers", "pool"},
    "_crew": {"errors", "_keeper", "_core"},
    "_limit_options": set(),
    "_worker_pool": {"errors", "_misuse", "_core", "_crew", "_limit_options"},
    "_task_pool": {"errors", "_misuse", "_core", "_limit_options"},
    "limits": {"_core", "_worker_pool", "_task_pool"},
    "calls": {"errors", "_core"},  # knows no pool; its line is the core's
    "fastpool": {"errors", "_broken", "_types", "pool", "shared", "keyed", "cache", "limits"},
    "testing": {"fastpool", "errors", "_core", "pool"},  # the core's clock; all pools there are
    # Its calls are made by the core, which _aio tells of event loops.
    "grpc": {"fastpool", "errors", "calls", "_core", "_aio"},
    # Users of the pool: the public surface and public modules, nothing that begins with "_".
    "rpc": {"fastpool", "errors", "stats", "calls"},
    "contrib": {"fastpool", "errors", "queue"},
    "cli": {"fastpool", "errors", "queue", "grpc", "rpc"},
    "__main__": {"cli"},
}

USERS = ("rpc", "contrib", "cli", "__main__")


SOURCES = (".py", ".pyx", ".pxi")


def module_of(path: Path) -> str:
    """The row of the table that a source file belongs to."""
    top = path.relative_to(PACKAGE).parts[0]
    if path.suffix in (".pyx", ".pxi"):
        return "_core"
    name = top.removesuffix(".py")
    return "fastpool" if name == "__init__" else name


def resolve(path: Path, level: int, dotted: str, names: list[str]) -> Iterator[str]:
    """The rows that one import statement in `path` points at."""
    if level:
        package = ("fastpool", *path.relative_to(PACKAGE).parts[:-1])
        base = package[: len(package) - level + 1]
        dotted = ".".join(filter(None, [*base, dotted]))
    parts = dotted.split(".")
    if parts[0] != "fastpool":
        return
    if len(parts) > 1:
        yield parts[1]
    else:
        yield from (name if name in ARROWS else "fastpool" for name in names or ["fastpool"])


def imports_of(path: Path) -> Iterator[tuple[str, int]]:
    """(row, line) of each import of fastpool in a source file."""
    text = path.read_text()
    if path.suffix != ".py":
        statement = r"^[ \t]*(?:from[ \t]+(?P<base>[\w.]+)[ \t]+c?import[ \t]+(?P<names>.+)"
        statement += r"|c?import[ \t]+(?P<plain>[\w.]+))"
        for match in re.finditer(statement, text, re.MULTILINE):
            dotted = match["base"] or match["plain"]
            bare = dotted.lstrip(".")
            names = re.findall(r"(\w+)(?:[ \t]+as[ \t]+\w+)?", match["names"] or "")
            line = text.count("\n", 0, match.start()) + 1
            for row in resolve(path, len(dotted) - len(bare), bare, names):
                yield row, line
        return
    for node in run_time_nodes(ast.parse(text)):
        if isinstance(node, ast.Import):
            found = [row for name in node.names for row in resolve(path, 0, name.name, [])]
        elif isinstance(node, ast.ImportFrom):
            names = [name.name for name in node.names]
            found = list(resolve(path, node.level, node.module or "", names))
        elif isinstance(node, ast.Call) and is_import_call(node):
            dotted = node.args[0].value  # type: ignore[attr-defined]
            bare = dotted.lstrip(".")
            found = list(resolve(path, len(dotted) - len(bare), bare, []))
        else:
            continue
        for row in found:
            yield row, node.lineno


def run_time_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but what stands under `if TYPE_CHECKING:`."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield other
                yield from run_time_nodes(other)
            continue
        yield child
        yield from run_time_nodes(child)


def is_import_call(node: ast.Call) -> bool:
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    constant = bool(node.args) and isinstance(node.args[0], ast.Constant)
    return name in ("import_module", "__import__") and constant


def sources() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*") if path.suffix in SOURCES)


def test_every_arrow_of_the_table_points_up() -> None:
    order = list(ARROWS)
    for module, arrows in ARROWS.items():
        for arrow in arrows:
            assert order.index(arrow) < order.index(module), f"{module} stands above {arrow}"


def test_users_of_the_pool_are_granted_public_names_only() -> None:
    for module in USERS:
        assert not [arrow for arrow in ARROWS[module] if arrow.startswith("_")], module


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_the_table_grants(path: Path) -> None:
    module = module_of(path)
    assert module in ARROWS, f"{path.name} has no place in the order of ARROWS"
    granted = ARROWS[module] | {module}
    new = {
        f"{module} -> {row} (line {line})" for row, line in imports_of(path) if row not in granted
    }
    assert not new, f"new arrows in {path.relative_to(PACKAGE)}: {sorted(new)}"


def test_the_check_sees_an_arrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: each way to write an import is found."""
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    (tmp_path / "calls").mkdir()
    written = {
        "calls/__init__.py": "def late():\n    from ..pool import FastPool\n",
        "stats.py": "import fastpool.pool\n",
        "queue.py": "from fastpool import pool\n",
        "cache.py": "import importlib\nimportlib.import_module('fastpool.pool')\n",
        "limits.py": "from . import pool, errors\n",
        "_core.pyx": "cdef f():\n    from fastpool.pool import FastPool as Pool\n",
        "keyed.py": "TYPE_CHECKING = False\nif TYPE_CHECKING:\n    import fastpool.pool\n",
    }
    for name, text in written.items():
        path = tmp_path / name
        path.write_text(text)
        seen = {row for row, _ in imports_of(path)}
        assert ("pool" in seen) == (name != "keyed.py"), name
