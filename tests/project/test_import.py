"""What `import fastpool` costs: CPU, beside `import asyncio`, and the modules that it loads."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import fastpool

#: Where this very fastpool lies; child interpreters get it from there and from nowhere else.
HOME = Path(fastpool.__file__).resolve().parent.parent

#: What of the standard library the core and the manager cannot do without, and what it loads.
MAY_LOAD = {
    "__future__",
    "_collections",
    "_collections_abc",
    "_functools",
    "_heapq",
    "_operator",
    "_queue",
    "_random",
    "_stat",
    "_thread",
    "_weakref",
    "_weakrefset",
    "atexit",
    "collections",
    "collections.abc",
    "errno",
    "functools",
    "gc",
    "genericpath",
    "heapq",
    "itertools",
    "keyword",
    "math",
    "operator",
    "os",
    "os.path",
    "posixpath",
    "queue",
    "reprlib",
    "stat",
    "threading",
    "time",
    "types",
    "warnings",
    "weakref",
    # Newer versions have moved parts of those into modules of their own.
    "_abc",
    "_contextvars",
    "_math_integer",
    "_types",
    "abc",
    "math.integer",
}

#: Named one by one, so that the message says which promise is broken.
NEVER = {"asyncio", "concurrent", "dataclasses", "grpc", "inspect", "logging", "rich", "typing"}


pytestmark = [pytest.mark.process, pytest.mark.light]


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The start of a command: isolated, byte code kept as it is for a user, and kept apart."""
    bytecode = tmp_path_factory.mktemp("bytecode")
    return [sys.executable, "-I", "-X", f"pycache_prefix={bytecode}"]


def child(interpreter: list[str], statement: str, *flags: str) -> str:
    code = f"import sys; sys.path.insert(0, {str(HOME)!r}); {statement}"
    command = [*interpreter, *flags, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_import_brings_only_what_it_needs(interpreter: list[str]) -> None:
    listing = "print(*sys.modules)"  # -S: site may have loaded anything
    bare = set(child(interpreter, listing, "-S").split())
    loaded = set(child(interpreter, f"import fastpool; {listing}", "-S").split()) - bare
    assert "fastpool._core" in loaded
    ours = ("fastpool", "_cython_", "cython_runtime")
    foreign = {name for name in loaded if not name.startswith(ours)}
    assert not {name.partition(".")[0] for name in foreign} & NEVER
    assert not foreign - MAY_LOAD
    optional = (
        "fastpool.grpc",
        "fastpool.rpc",
        "fastpool.cli",
        "fastpool.calls",
        "fastpool._aio.loop",
        "fastpool._aio.slow_paths",
        "fastpool.pool._",  # what a pool needs comes with the first one
    )
    assert not {name for name in loaded if name.startswith(optional)}


def test_the_call_layer_imports_no_grpc_and_no_asyncio(interpreter: list[str]) -> None:
    """A policy around a plain function needs neither, and its first call does not import them."""
    code = (
        "from fastpool.calls import *; assert CallPolicy(timeout=1, retry=Retry(), limit=Limit(1),"
    )
    code += " breaker=CircuitBreaker())(len)('ab') == 2; print(*sys.modules)"
    loaded = set(child(interpreter, code, "-S").split())
    assert "fastpool.calls" in loaded
    assert not loaded & {"grpc", "asyncio", "concurrent.futures", "logging"}


#: What a name of a package with many clients may not bring in: costly, and for others.
NOT_FOR = {
    "fastpool.calls": {"typing", "contextlib", "dataclasses", "inspect", "random", "re"},
    "fastpool.calls:remaining": {"typing", "dataclasses", "inspect", "random", "re"},
    "fastpool.calls:budget": {"typing", "dataclasses", "inspect", "random", "re"},
    "fastpool.calls:DeadlineExceeded": {"typing", "dataclasses", "inspect", "random", "re"},
    "fastpool.calls:Limit": {"random", "fastpool.calls._retry", "fastpool.calls._breaker"},
    "fastpool.calls:Retry": {"fastpool.calls._limit", "fastpool.calls._breaker"},
    "fastpool.rpc": {"socket", "ssl", "typing", "re", "fastpool.calls"},
    "fastpool.rpc:RpcError": {"socket", "ssl", "http", "json", "inspect", "fastpool.calls"},
    "fastpool.rpc:sockets": {"http", "json", "xmlrpc", "email", "urllib", "dataclasses", "inspect"},
    "fastpool.rpc:xmlrpc": {"json", "inspect", "dataclasses", "fastpool.rpc._socket_pool"},
    "fastpool.rpc:Reply": {"socket", "ssl", "http", "xmlrpc", "fastpool.calls"},
}


@pytest.mark.parametrize("named", NOT_FOR)
def test_a_name_brings_in_what_it_needs_and_no_more(interpreter: list[str], named: str) -> None:
    package, _, name = named.partition(":")
    code = f"from {package} import {name}" if name else f"import {package}"
    loaded = set(child(interpreter, f"{code}; print(*sys.modules)", "-S").split())
    assert package in loaded
    assert not loaded & NOT_FOR[named]


@pytest.mark.parametrize("package", ["fastpool.calls", "fastpool.rpc"])
def test_a_lazy_package_shows_all_its_names_and_refuses_others(package: str) -> None:
    module = importlib.import_module(package)
    assert set(module.__all__) <= set(dir(module))
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        module.nothing  # noqa: B018 - the look is what is tried


@pytest.mark.skipif(not hasattr(sys, "_is_gil_enabled"), reason="older than free threading")
def test_the_import_leaves_the_gil_as_it_was(interpreter: list[str]) -> None:
    state = "print(sys._is_gil_enabled())"
    assert child(interpreter, f"import fastpool; {state}") == child(interpreter, state)


@pytest.mark.measures
def test_import_costs_a_fraction_of_asyncio() -> None:
    """P15 of the benchmark, in short: the best of six attempts, with slack for a busy machine."""
    pytest.importorskip("resource")  # the benchmark counts the CPU time of its children by it
    from bench.cases import GUARD, measure
    from bench.targets import BY_KEY

    most = BY_KEY["P15a"].guarded_at()
    assert most is not None
    figures = []
    for _attempt in range(6):
        figure = next(measure("P15", GUARD))
        assert figure.key == "P15a" and figure.value is not None, figure.note
        figures.append(figure.value)
        if figure.value <= most:
            break
    assert min(figures) <= most, f"of `import asyncio`: {figures}, guarded at {most:.3g}"
