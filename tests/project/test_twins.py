"""What must stay alike for threads and tasks: the syntax trees of each pair are compared.

The tree of the one for tasks is made into that of a plain function: ``async`` and ``await`` go, and
names become those of RENAMES. Docstrings and annotations are not looked at. What is left must be
the tree of the one for threads, but for the differences that twins.txt lists, each with its reason;
a difference that is gone has to leave the list. So who changes one of two hears of the other.

twins.txt has a paragraph for each pair: the function for threads, the one for tasks, then each
difference as ``# why``, the lines of the one (``- ...``) and of the other (``+ ...``).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.once  # `ast.unparse` of another Python may write the lines otherwise

PACKAGE = Path(__file__).resolve().parents[2] / "src/fastpool"
LIST = Path(__file__).with_name("twins.txt")

#: A name for tasks: what threads call it.
RENAMES = {
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "aclose": "close",
    "aenter": "enter",
    "aacquire": "acquire",
    "asleep": "sleep",
    "atake": "take",
    "AioBatch": "Batch",
    "AioJsonRpc": "JsonRpc",
    "aio_jsonrpc": "jsonrpc",
    "AioBound": "Bound",
    "AioPolicyChannel": "PolicyChannel",
    "AioSharedChannel": "SharedChannel",
    "aio_shared": "shared",
    "AioConnection": "Connection",
    "AioConnections": "Connections",
    "_dispatcher": "_connections",  # of one loop, which does for it what those of a channel do
}


class Pair(NamedTuple):
    threads: str  # file:Class.function
    tasks: str
    differences: dict[tuple[str, str], str]  # lines for threads, lines for tasks: why


def listed() -> Iterator[Pair]:
    for paragraph in LIST.read_text(encoding="utf-8").strip().split("\n\n"):
        threads, tasks, *lines = paragraph.splitlines()
        pair = Pair(threads, tasks, {})
        for block in re.split(r"^# ", "\n".join(lines), flags=re.M)[1:]:
            why, _, rest = block.partition("\n")
            sides = [
                "\n".join(line[2:] for line in rest.splitlines() if line.startswith(mark))
                for mark in ("- ", "+ ")
            ]
            pair.differences[sides[0], sides[1]] = why
        yield pair


PAIRS = [*listed()]


class _Plain(ast.NodeTransformer):
    """The tree of a plain function, without annotations and docstrings; the names of threads."""

    def visit(self, node: ast.AST) -> ast.AST:
        node = self.generic_visit(node)
        kinds = {
            ast.AsyncFunctionDef: ast.FunctionDef,
            ast.AsyncFor: ast.For,
            ast.AsyncWith: ast.With,
        }
        if type(node) in kinds:
            node = kinds[type(node)](**{name: getattr(node, name) for name in node._fields})
        if isinstance(node, ast.Await):
            return node.value
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            node.name = RENAMES.get(node.name, node.name)
            if ast.get_docstring(node, clean=False) is not None:
                node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            return ast.Assign([node.target], node.value)
        if isinstance(node, ast.Name):
            node.id = RENAMES.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            node.attr = RENAMES.get(node.attr, node.attr)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = RENAMES.get(node.value, node.value)
        return node


def lines_of(spec: str) -> list[str]:
    """The statements of a function, as `ast.unparse` writes them, its own name left out."""
    file, _, path = spec.partition(":")
    node: ast.AST = ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
    for name in path.split("."):
        found = [each for each in ast.iter_child_nodes(node) if getattr(each, "name", "") == name]
        assert found, f"{spec}: there is no {name}"
        node = found[-1]
    plain = ast.fix_missing_locations(_Plain().visit(node))
    lines = ast.unparse(plain).splitlines()
    return [re.sub(r"^(def|class) \w+", r"\1 _", lines[0]), *lines[1:]]


def differences(threads: list[str], tasks: list[str]) -> Iterator[tuple[str, str]]:
    for kind, a, b, c, d in SequenceMatcher(None, threads, tasks, autojunk=False).get_opcodes():
        if kind != "equal":
            yield dedented(threads[a:b]), dedented(tasks[c:d])


def dedented(lines: list[str]) -> str:
    """Their text, whatever they are inside of."""
    return "\n".join(line.strip() for line in lines).strip()


def told(differences: Iterable[tuple[str, str]]) -> str:
    """As twins.txt has them, to be copied there with the reason."""
    marked = [
        f"{mark} {line}"
        for sides in differences
        for mark, text in zip(("#", "-", "+"), ("why", *sides), strict=True)
        for line in text.splitlines()
    ]
    return "\n".join(["", *marked])


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.threads)
def test_twins_are_alike_but_for_what_is_listed(pair: Pair) -> None:
    found = [*differences(lines_of(pair.threads), lines_of(pair.tasks))]
    new = [each for each in found if each not in pair.differences]
    gone = [each for each in pair.differences if each not in found]
    assert not new, f"make {pair.tasks} alike, or list with the reason: {told(new)}"
    assert not gone, f"listed for {pair.tasks}, and no difference any more: {told(gone)}"
    assert all(pair.differences.values()), "each has a reason"


def test_a_change_of_one_twin_is_found() -> None:
    """The control: of two that are alike, one that is changed is a difference."""
    threads = lines_of("calls/_waiting.py:take")
    tasks = lines_of("calls/_waiting.py:atake")
    assert threads == tasks
    for number in range(1, len(tasks)):
        without = tasks[:number] + tasks[number + 1 :]
        assert len([*differences(threads, without)]) == 1
