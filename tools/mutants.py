"""Mutants of the Python layers: is there a test for each decision?

    make mutants ARGS="[--count N] [--seed N] [--workers N] [--only pool/_creation.py] [--list]"

A mutant is a copy of the package with one operator, number, condition or loop of one module
changed; the mutations are Cosmic Ray's, whose runner is not used: it edits the working tree. The
tests that matter for the module (MODULES) have to fail for it, or to hang; else it survives. What
survives must stand in tests/mutants.txt with the reason why no test can tell it from the original,
or why none is worth having. Mutants that differ in annotations alone are left out, so are those of
`__repr__`.

Status 1 if one survives that is not listed, or the tests fail without a mutation.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src/fastpool"
SURVIVORS = ROOT / "tests/mutants.txt"

POOL = "tests/contract/pool/test_"
CALLS = "tests/contract/calls/test_"

#: Module: the tests that matter for it, the quickest to tell first.
MODULES: dict[str, list[str]] = {
    "pool/_creation.py": [
        f"{POOL}{name}.py"
        for name in (
            *("backoff", "creation", "attempts", "on_create_error", "min_size", "min_idle_rest"),
            *("warm", "errors", "stats", "create_in_caller", "hook_timeout", "timeout_phase"),
            *("context", "listeners", "closed_reasons", "faulty_hooks", "bad_input"),
        )
    ],
    "calls/_breaker.py": [f"{CALLS}breaker.py", f"{CALLS}breaker_options.py", f"{CALLS}faults.py"],
}

#: A mutant that takes so much longer than the tests without a mutation, or so many seconds, hangs.
SLOWER, AT_LEAST = 10, 120


@dataclass(frozen=True)
class Mutant:
    """One change of one module."""

    module: str
    where: str  # the function or class, dotted
    before: str  # the lines that change, without their indentation
    after: str
    text: str  # the whole module

    @property
    def key(self) -> tuple[str, ...]:
        return self.module, self.where, self.before, self.after

    def __str__(self) -> str:
        return f"{self.module} {self.where}\n  - {self.before}\n  + {self.after}"


class _Plain(ast.NodeTransformer):
    """Takes away what is never run: annotations, imports for types alone."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if node.value is None:
            return None
        target = self.visit(node.target)
        return ast.Assign(targets=[target], value=self.visit(node.value), lineno=node.lineno)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST | None:
        if node.name == "__repr__":
            return None
        node.returns = None
        return self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        if ast.unparse(node.targets[0]) == "TYPE_CHECKING":
            return None
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt] | None:
        if "TYPE_CHECKING" in ast.unparse(node.test):
            return None
        return self.generic_visit(node)


def what_runs(text: str) -> str | None:
    """The module as it is run, for comparison; None: it is no Python."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return None
    return ast.dump(_Plain().visit(tree))


def changed(text: str, other: str) -> tuple[int, str, str]:
    """The line, and what stood and stands there."""
    before, after = text.splitlines(), other.splitlines()
    for op, a, b, c, d in difflib.SequenceMatcher(
        None, before, after, autojunk=False
    ).get_opcodes():
        if op != "equal":
            return a + 1, _one_line(before[a:b]), _one_line(after[c:d])
    raise ValueError("nothing is changed")


def _one_line(lines: list[str]) -> str:
    return " ".join(" ".join(lines).split())


def names_at(text: str) -> dict[int, str]:
    """Line: the function or class that it is part of."""
    found: dict[int, str] = {}

    def walk(node: ast.AST, name: str) -> None:
        for child in ast.iter_child_nodes(node):
            inner = name
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                inner = f"{name}.{child.name}" if name else child.name
                first = min([child.lineno, *(each.lineno for each in child.decorator_list)])
                for line in range(first, (child.end_lineno or first) + 1):
                    found[line] = inner
            walk(child, inner)

    walk(ast.parse(text), "")
    return found


def mutations(module: str, text: str) -> list[tuple[str, str, int]]:
    """(module, operator, occurrence) of each that there is."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.operators.provider import OperatorProvider

    provider = OperatorProvider()
    nodes = list(ast_nodes(get_ast(text)))
    found = []
    for name in provider:
        if not name.startswith("Variable"):  # these want to be told which
            operator = provider[name]()
            count = sum(1 for node in nodes for _ in operator.mutation_positions(node))
            found += [(module, name, occurrence) for occurrence in range(count)]
    return found


def draw(modules: list[str], count: int, seed: int) -> Iterator[Mutant]:
    """So many mutants that differ in what is run, each once; 0: all there are."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.operators.provider import OperatorProvider

    provider = OperatorProvider()
    texts = {module: (PACKAGE / module).read_text() for module in modules}
    names = {module: names_at(text) for module, text in texts.items()}
    seen = {module: {what_runs(text), None} for module, text in texts.items()}
    everything = [each for module in modules for each in mutations(module, texts[module])]
    random.Random(seed).shuffle(everything)
    drawn = 0
    for module, name, occurrence in everything:
        if count and drawn == count:
            return
        text = texts[module]
        mutated = mutate_code(text, provider[name](), occurrence)
        runs = what_runs(mutated)
        if runs not in seen[module]:
            seen[module].add(runs)
            drawn += 1
            line, before, after = changed(text, mutated)
            yield Mutant(module, names[module].get(line, "-"), before, after, mutated)


def listed(text: str) -> dict[tuple[str, ...], str]:
    """Key of a survivor: its reason. Four lines each: reason, place, `- before`, `+ after`."""
    found = {}
    entries = [each for each in text.split("\n\n") if each.strip() and not each.startswith("#")]
    for entry in entries:
        reason, head, before, after = entry.strip().splitlines()
        module, where = head.split()
        found[module, where, before.removeprefix("- "), after.removeprefix("+ ")] = reason
    return found


def stands(module: str, where: str, before: str, after: str) -> bool:
    """Whether the module has still what this mutant changes."""
    return before in _one_line((PACKAGE / module).read_text().splitlines())


class Copy:
    """The package and the tests in a folder of their own, for one mutant after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ignore = shutil.ignore_patterns("__pycache__", "core", "*.pyx", "*.pyi", ".hypothesis")
        shutil.copytree(PACKAGE, folder / "src/fastpool", ignore=ignore)
        shutil.copytree(ROOT / "tests", folder / "tests", ignore=ignore)
        (folder / "bench").symlink_to(ROOT / "bench")
        shutil.copy(ROOT / "pyproject.toml", folder)

    def run(self, module: str, limit: float | None) -> str:
        """How the tests of a module end: "passed", "failed" or "hung"."""
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p"]
        command += ["no:randomly", "--no-header", "--tb=no", *MODULES[module]]
        environment = {
            **os.environ,
            "PYTHONPATH": str(self.folder / "src"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        child = subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            return "failed" if child.wait(limit) else "passed"
        except subprocess.TimeoutExpired:
            return "hung"
        finally:
            try:
                os.killpg(child.pid, signal.SIGKILL)  # what it has started, too
            except ProcessLookupError:
                pass
            child.wait()

    def test(self, mutant: Mutant, limit: float) -> str:
        path = self.folder / "src/fastpool" / mutant.module
        original = path.read_text()
        path.write_text(mutant.text)
        try:
            return self.run(mutant.module, limit)
        finally:
            path.write_text(original)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=300, help="mutants, drawn by the seed; 0: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1))
    parser.add_argument("--only", action="append", choices=MODULES, metavar="MODULE")
    parser.add_argument("--list", action="store_true", help="show the mutants, run nothing")
    options = parser.parse_args()

    modules = options.only or list(MODULES)
    reasons = listed(SURVIVORS.read_text())
    gone = [key for key in reasons if key[0] in modules and not stands(*key)]
    for key in gone:
        print(f"listed in {SURVIVORS.name}, but the line is gone: {' | '.join(key)}")
    mutants = list(draw(modules, options.count, options.seed))
    drawn = [each for each in mutants if each.key not in reasons]
    known = len(mutants) - len(drawn)
    print(f"{len(mutants)} mutants of {len(modules)} modules, {known} of them listed", flush=True)
    if options.list:
        print(*drawn, sep="\n")
        return 0

    survivors: list[Mutant] = []
    with tempfile.TemporaryDirectory(prefix="fastpool-mutants-") as name:
        copies: SimpleQueue[Copy] = SimpleQueue()
        for i in range(options.workers):
            copies.put(Copy(Path(name, str(i))))
        limits = {}
        for module in {each.module for each in drawn}:
            copy = copies.get()
            begun = time.monotonic()
            if copy.run(module, None) != "passed":
                print(f"the tests of {module} fail without a mutation")
                return 1
            limits[module] = max(AT_LEAST, SLOWER * (time.monotonic() - begun))
            copies.put(copy)

        def test(mutant: Mutant) -> str:
            copy = copies.get()
            try:
                return copy.test(mutant, limits[mutant.module])
            finally:
                copies.put(copy)

        with ThreadPoolExecutor(options.workers) as pool:
            for mutant, outcome in zip(drawn, pool.map(test, drawn), strict=True):
                if outcome == "passed":
                    survivors.append(mutant)
                    print(f"survived: {mutant}", flush=True)
    found = len(drawn) - len(survivors)
    print(f"{found} of {len(drawn)} found: {found / max(1, len(drawn)):.1%}")
    return 1 if survivors or gone else 0


if __name__ == "__main__":
    sys.exit(main())
