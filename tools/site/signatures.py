"""The pages of the API reference: a module's public names, from its stub and docstrings.

mkdocstrings writes what a class and its members are.  The options of the compiled pools stand in
the stub, each under a comment that says what it does: here they become tables.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src/fastpool"
STUB = PACKAGE / "_core.pyi"
#: Their public names are names of `fastpool` itself, or they have none.
WITHIN = {"pool", "shared", "keyed", "limits", "cache", "cli", "core", "contrib"}
#: Module: the names that its page has, where that is not all that it lists.
NAMES = {"fastpool.queue": ("Queue", "LifoQueue")}  # the others are the standard library's
#: These are on the page of `fastpool.errors`.
ERRORS = re.compile(r"Pool[A-Z]\w+|\w+Warning")
FIRST = ("FastPool", "Lease")


def pages() -> Iterator[tuple[str, str]]:
    """(module, text of its page)"""
    options = tables()
    for module in modules():
        listed = NAMES.get(module) or public_names(module)
        if module == "fastpool":
            own = [name for name in listed if not ERRORS.fullmatch(name)]
            listed = tuple(sorted(own, key=lambda name: name not in FIRST))
        if listed:
            parts = [part for name in listed for part in described(module, name, options)]
            yield module, "\n\n".join([f"# {module}", *parts]) + "\n"


def modules() -> Iterator[str]:
    """All that users import: a new one has a page without an entry here."""
    yield "fastpool"
    for folder, prefix, without in (
        (PACKAGE, "fastpool", WITHIN),
        (PACKAGE / "contrib", "fastpool.contrib", set()),
    ):
        for path in sorted(folder.iterdir()):
            is_module = path.suffix == ".py" or (path / "__init__.py").exists()
            if is_module and not path.name.startswith("_") and path.stem not in without:
                yield f"{prefix}.{path.stem}"


def public_names(module: str) -> tuple[str, ...]:
    source = ROOT / "src" / module.replace(".", "/")
    source = source / "__init__.py" if source.is_dir() else source.with_suffix(".py")
    listed = re.search(r"^__all__ = \[(.*?)\]", source.read_text(encoding="utf-8"), re.M | re.S)
    return tuple(re.findall(r'"(\w+)"', listed[1])) if listed else ()


def described(module: str, name: str, options: dict[str, str]) -> Iterator[str]:
    yield f"## {name}"
    if name in options:
        yield options[name]
    yield (
        f"::: {module}.{name}\n    options:\n      show_root_heading: false\n"
        f"      show_root_toc_entry: false\n      heading_level: 3\n"
        f"      merge_init_into_class: {str(name not in options).lower()}"
    )


# ---- the options in the stub ---------------------------------------------------------------------


def tables() -> dict[str, str]:
    """Class of the stub: its constructors, one table for each way to call it."""
    text = STUB.read_text(encoding="utf-8")
    tree, lines = ast.parse(text), text.splitlines()
    aliases = {
        ast.unparse(node.target): ast.unparse(node.value)
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and node.value is not None
    }
    classes = {
        node.name: constructors(node) for node in tree.body if isinstance(node, ast.ClassDef)
    }
    comments = {
        name: [{one.arg: above(lines, one.lineno) for one, _ in parameters(init)} for init in inits]
        for name, inits in classes.items()
    }
    fullest = max(comments["FastPool"], key=lambda one: sum(map(bool, one.values())))
    found = {}
    for name, inits in classes.items():
        parts = []
        for init, own in zip(inits, comments[name]):
            pooled = any(one.arg in ("factory", "items") for one, _ in parameters(init))
            told = (fullest if pooled else {}) | {
                option: comment for option, comment in own.items() if comment
            }
            begin = init.decorator_list[0].lineno if init.decorator_list else init.lineno
            parts += [above(lines, begin), table(init, aliases, told)]
        if parts and not name.startswith("_"):
            found[name] = "\n\n".join(part for part in parts if part)
    return found


def constructors(node: ast.ClassDef) -> list[ast.FunctionDef]:
    return [one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"]


def parameters(init: ast.FunctionDef) -> list[tuple[ast.arg, ast.expr | None]]:
    """Those of a constructor, each with its default."""
    given = init.args
    required: list[ast.expr | None] = [None] * (len(given.args) - len(given.defaults))
    pairs = [*zip(given.args, [*required, *given.defaults])]
    return [*pairs, *zip(given.kwonlyargs, given.kw_defaults)][1:]


def table(init: ast.FunctionDef, aliases: dict[str, str], told: dict[str, str]) -> str:
    rows = ["| parameter | type | default | |", "|---|---|---|---|"]
    for one, default in parameters(init):
        kind = ast.unparse(one.annotation) if one.annotation else ""
        for alias, meaning in aliases.items():
            kind = re.sub(rf"\b{alias}\b(\[\w+\])?", lambda _, meaning=meaning: meaning, kind)
        kind = re.sub(r"\b_([A-Z]\w*)", r"\1", kind)
        value = "required" if default is None else f"`{ast.unparse(default)}`"
        comment = told.get(one.arg, "").replace("|", "\\|")
        rows.append(f"| `{one.arg}` | `{kind}` | {value} | {comment} |")
    return "\n".join(rows)


def above(lines: list[str], number: int) -> str:
    """The comment over a line, as one."""
    found: list[str] = []
    for line in reversed(lines[: number - 1]):
        if not line.strip().startswith("#"):
            break
        found.insert(0, line.strip().lstrip("# "))
    return " ".join(found)
