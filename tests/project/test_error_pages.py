"""The text of every exception of a pool, and of every warning, ends with the page about it."""

from __future__ import annotations

import ast
import gc
import importlib.util
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fastpool
from fastpool import FastPool, PoolError, PoolTimeout, SharedPool, WeightedSemaphore
from fastpool.calls import CallError, CircuitOpen, DeadlineExceeded, Overloaded
from fastpool.errors import WARNINGS_PAGE

pytestmark = pytest.mark.once  # compares text with what every interpreter has alike

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src/fastpool"
PHASES = ("wait", "create", "check", "budget")


def kinds(of: type[PoolError] = PoolError) -> Iterator[type[PoolError]]:
    """PoolError and all that derive from it, in all of the package."""
    if importlib.util.find_spec("grpc") is not None:
        import fastpool.grpc  # noqa: F401
    yield of
    for kind in of.__subclasses__():
        if kind.__module__.startswith("fastpool"):
            yield from kinds(kind)


def made(kind: Any) -> list[PoolError]:
    """One of a kind; of PoolTimeout, one for each phase."""
    if kind is PoolTimeout:
        return [PoolTimeout("orders", phase, 1.0, {}) for phase in PHASES]
    if kind.__name__ == "NotReady":
        return [kind({"stock:443": "IDLE"}, 1.0)]
    return [kind("orders", "a text")]


def test_every_exception_ends_with_a_page_that_is_there(subtests: pytest.Subtests) -> None:
    found = {kind.__name__: kind for kind in kinds()}
    assert {"PoolClosed", "PoolDeadlock", "PoolInterrupted", "PoolOverloaded"} < set(found)
    for name, kind in found.items():
        for error in made(kind):
            with subtests.test(kind=name, page=error.page):
                assert str(error) == f"{error.pool}: {error.text}; see {error.page}"
                assert str(pickle.loads(pickle.dumps(error))) == str(error)
                page = (ROOT / error.page).read_text(encoding="utf-8")
                assert page.startswith(f"# {name}")


def test_no_exception_makes_its_text_by_itself() -> None:
    """Or one of them would end without its page."""
    assert [kind.__name__ for kind in kinds() if "__str__" in vars(kind)] == ["PoolError"]


CALLS = [
    CallError("stock", "a text"),
    DeadlineExceeded("stock", "call", 1.0, 1.0),
    CircuitOpen("stock", "stock", 1.0),
    Overloaded("stock", 1, 0),
]


@pytest.mark.parametrize("error", CALLS, ids=lambda error: type(error).__name__)
def test_every_error_of_a_call_ends_with_its_section(error: CallError) -> None:
    """Those that are RpcErrors as well derive from these."""
    assert str(error) == f"{error.call}: {error.text}; see {error.page}"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    page, _, section = error.page.partition("#")
    headings = re.findall(r"^## (\w+)", (ROOT / page).read_text(encoding="utf-8"), re.M)
    assert section in [*map(str.lower, headings), ""]


def test_there_is_no_other_error_of_a_call() -> None:
    assert {type(error) for error in CALLS} == {CallError, *CallError.__subclasses__()}


def test_every_kind_has_a_page_of_its_own() -> None:
    pages = [error.page for kind in kinds() for error in made(kind)]
    assert len(set(pages)) == len(pages)
    listed = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs/errors").glob("*.md")}
    assert listed >= {*pages, WARNINGS_PAGE}


def test_every_phase_that_is_documented_has_a_page() -> None:
    told = set(re.findall(r'"(\w+)"', PoolTimeout.__doc__ or ""))
    assert {"wait", "create", "check"} <= told <= set(PHASES)


def test_several_lines_end_with_a_line_for_the_page() -> None:
    """The last holder is not mistaken for a part of it."""
    error = PoolTimeout("orders", "wait", 1.0, {}, ("thread-1 for 2 s",))
    assert str(error).splitlines()[1:] == [
        "  held by thread-1 for 2 s",
        "  see docs/errors/pool-timeout-wait.md",
    ]


# ---- Warnings -----------------------------------------------------------------------------------


def test_every_warning_of_a_class_of_ours_ends_with_its_page() -> None:
    """Read from the source: whoever writes a new one is told."""
    checked = 0
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "warnings.warn":
                kind = ast.unparse(node.args[1])
                if kind in ("ResourceWarning", "EventLoopWarning"):
                    checked += 1
                    assert "WARNINGS_PAGE" in ast.unparse(node.args[0]), path
    assert checked >= 4


def lose_a_lease() -> None:
    with FastPool(1, factory=object) as pool:
        pool.acquire()
        gc.collect()


def lose_a_shared_lease() -> None:
    with SharedPool(object, items=1) as pool:
        pool.acquire()
        gc.collect()


def lose_a_pool() -> None:
    pool = FastPool(1, factory=object)
    pool.warm(1)
    del pool
    gc.collect()


def lose_units() -> None:
    WeightedSemaphore(1).hold().__enter__()
    gc.collect()


@pytest.mark.parametrize("lose", [lose_a_lease, lose_a_shared_lease, lose_a_pool, lose_units])
def test_a_warning_ends_with_the_page_of_warnings(lose: Any) -> None:
    with pytest.warns(ResourceWarning, match=f"; see {re.escape(WARNINGS_PAGE)}$"):
        lose()


def test_the_page_of_warnings_has_each_of_them() -> None:
    page = (ROOT / WARNINGS_PAGE).read_text(encoding="utf-8")
    for words in ("EventLoopWarning", "lease was collected unreleased", "unclosed fastpool"):
        assert words in page
    assert "hold was collected unreleased" in page
    assert fastpool.EventLoopWarning.__doc__
