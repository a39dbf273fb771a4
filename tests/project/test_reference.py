"""The stub, the reference pages and the docstrings say what the code says, name by name.

The stub is read as text: it holds every public method, and every option with its default, once for
each use of FastPool (with a factory, with items, as a queue).
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fastpool
import fastpool.calls
from fastpool import FastPool
from fastpool._aio.methods import OF_RESOURCES
from fastpool.keyed import _options
from fastpool.pool._options import NAMES, Options, parse
from fastpool.shared import _options as shared_options
from fastpool.testing import ManualClock
from support.budgets import ScriptedBudget

pytestmark = pytest.mark.once  # compares text with what every interpreter has alike

REFERENCE = Path(__file__).resolve().parents[2] / "docs/reference"
PAGES = {page.stem: page.read_text(encoding="utf-8") for page in REFERENCE.glob("*.md")}
SOURCE = Path(__file__).resolve().parents[2] / "src/fastpool"
STUB = SOURCE / "_core.pyi"

MODULES = (
    "fastpool",
    "fastpool.errors",
    "fastpool.queue",
    "fastpool.stats",
    "fastpool.calls",
    "fastpool.testing",
)
#: Use of FastPool: what makes it this use. The order is that of the columns in fastpool.md.
USES: dict[str, dict[str, Any]] = {"factory": {"factory": object}, "items": {"items": [[]]}, "": {}}
HOOKS = ("close", "check", "reset")

#: Compiled type: the page that has its members.
COMPILED = {
    "FastPool": "fastpool",
    "Lease": "fastpool",
    "Queue": "queue",
    "LifoQueue": "queue",
    "QueueView": "queue",
    "SharedPool": "shared",
    "SharedLease": "shared",
    "KeyedPool": "keyed",
    "KeyedLease": "keyed",
    "ObjectCache": "cache",
}

#: What the standard library's queues have and these do not; an AttributeError says why.
NOT_SHARED = {"mutex", "not_empty", "not_full", "all_tasks_done"}

#: Option: a value that is not its default.
OTHER: dict[str, Any] = {
    "factory": list,
    "items": [[], []],
    **dict.fromkeys(HOOKS, lambda resource: None),
    "min_idle": 1,
    "min_size": 1,
    "max_idle": 3,
    "order": "fifo",
    "timeout": 0.5,
    "create_timeout": 0.5,
    "hook_timeout": 0.5,
    "max_creating": 2,
    "create_in": "caller",
    "check_after": 0.25,
    "keepalive": 0.5,
    "idle_timeout": 0.5,
    "max_lifetime": 0.5,
    "max_uses": 5,
    "max_waiting": 0,
    "fairness": {"fair": "throughput", "throughput": "fair"},
    "leak_after": 0.5,
    "discard_on": ("broken", LookupError),
    "on_create_error": "wait",
    "open": False,
    "warn_unclosed": False,
    "budget": ScriptedBudget(),
    "name": "reference",
    "clock": ManualClock(),
}


class _Unset:
    """The default of an option that is not in the stub."""


def stub_classes() -> dict[str, ast.ClassDef]:
    tree = ast.parse(STUB.read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def stub_members(name: str) -> set[str]:
    """Public methods and attributes of a class, the inherited ones included."""
    node = stub_classes()[name]
    own = {one.name for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}
    own |= {ast.unparse(one.target) for one in node.body if isinstance(one, ast.AnnAssign)}
    bases = {ast.unparse(base).partition("[")[0] for base in node.bases}
    found = own.union(*(stub_members(base) for base in bases & {"Store", "Lease"}))
    return {member for member in found if not member.startswith("_")}


def public_members() -> Iterator[tuple[type, str]]:
    """(class, name) of every public method and attribute of the compiled types."""
    for name in COMPILED:
        kind = getattr(fastpool._core, name)
        yield from ((kind, member) for member in sorted(stub_members(name)))


def public_names() -> Iterator[tuple[str, Any]]:
    """(dotted name, object) of what the modules offer and fastpool itself defines."""
    for module in MODULES:
        for name in importlib.import_module(module).__all__:
            value = getattr(importlib.import_module(module), name)
            if value.__module__.startswith("fastpool"):
                yield f"{module}.{name}", value


def options_of(name: str) -> dict[str, Any]:
    """The options of SharedPool or KeyedPool in the stub, with their defaults."""
    for node in stub_classes()[name].body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            given = node.args
            defaults = [None if one is None else ast.literal_eval(one) for one in given.kw_defaults]
            return dict(zip((one.arg for one in given.kwonlyargs), defaults))
    raise LookupError


def stub_options() -> dict[str, dict[str, Any]]:
    """Use: its options with their defaults; ``...`` for one that the stub does not spell out."""
    uses = {}
    for node in stub_classes()["FastPool"].body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == "__init__":
            given = node.args
            defaults = [None if one is None else ast.literal_eval(one) for one in given.kw_defaults]
            options = dict(zip((one.arg for one in given.kwonlyargs), defaults))
            options["maxsize"] = ast.literal_eval(given.defaults[0])
            uses["factory" if "factory" in options else "items" if "items" in options else ""] = (
                options
            )
    return uses


def parsed(use: str) -> Options:
    return parse(_Unset, _Unset, dict(USES[use]))


def as_given(options: Options, name: str) -> Any:
    """An option as a user would write it: None where the parsed one is infinite."""
    value = getattr(options.hooks if name in HOOKS else options, name)
    if value is options.broken:
        return "broken"
    return None if value == float("inf") else value


PUBLIC = dict(public_names())
MEMBERS = list(public_members())
STUB_OPTIONS = stub_options()
EACH_OPTION = [(use, name) for use, options in STUB_OPTIONS.items() for name in options]
#: Without what makes the use, what the stub writes as ``...``, and the name, which is counted up.
WITH_DEFAULT = [
    (use, name)
    for use, name in EACH_OPTION
    if name not in (use, "name") and STUB_OPTIONS[use][name] is not ...
]


def each(names: str | tuple[str, ...], cases: Iterable[Any]) -> Callable[..., Any]:
    """Make one test of hundreds of small cases; each that fails is reported by itself."""
    keys = (names,) if isinstance(names, str) else names
    rows = [case if isinstance(case, tuple) else (case,) for case in cases]
    assert rows

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        def test(subtests: pytest.Subtests) -> None:
            for row in rows:
                with subtests.test(**dict(zip(keys, map(str, row), strict=True))):
                    function(*row)

        test.__name__, test.__doc__ = function.__name__, function.__doc__
        return test

    return decorate


# ---- Docstrings ---------------------------------------------------------------------------------


def text_of(doc: str | None, name: str) -> str:
    """A docstring without the signature that Cython, or a dataclass, puts there by itself."""
    first, _, rest = (doc or "").strip().partition("\n")
    return rest.strip() if re.match(rf"([\w.]+\.)?{name}\b[(:]", first) else first


@each("name", PUBLIC)
def test_every_public_name_has_a_docstring(name: str) -> None:
    value = PUBLIC[name]
    doc = value.__dict__["__doc__"] if isinstance(value, type) else value.__doc__
    assert text_of(doc, value.__name__)


@each(("kind", "name"), MEMBERS)
def test_every_public_member_has_a_docstring(kind: type, name: str) -> None:
    assert text_of(getattr(kind, name).__doc__, name)


# ---- Pages --------------------------------------------------------------------------------------


@each("name", PUBLIC)
def test_every_public_name_is_in_the_reference(name: str) -> None:
    assert re.search(rf"`{name.rpartition('.')[2]}\b", "".join(PAGES.values()))


@each(("kind", "name"), MEMBERS)
def test_every_public_member_is_in_its_page(kind: type, name: str) -> None:
    assert re.search(rf"`{name}\b", PAGES[COMPILED[kind.__name__]])


@each(
    "kind",
    [
        "PoolStats",
        "SharedStats",
        "KeyedStats",
        "BudgetStats",
        "Histogram",
        "Holder",
        "ResourceInfo",
    ],
)
def test_every_field_is_in_the_reference(kind: str) -> None:
    section = PAGES["stats"].partition(f"\n## {kind}\n")[2].partition("\n## ")[0]
    members = [name for name in dir(getattr(fastpool.stats, kind)) if not name.startswith("_")]
    if kind in ("SharedStats", "KeyedStats"):
        members = [name for name in members if not hasattr(fastpool.stats.PoolStats, name)]
    assert members
    assert [name for name in members if not re.search(rf"`{name}\b", section)] == []


@each("kind", ["CallStats", "BreakerStats", "LimitStats"])
def test_every_field_of_calls_is_in_the_reference(kind: str) -> None:
    section = PAGES["calls"].partition(f"\n## {kind}\n")[2].partition("\n## ")[0]
    members = [name for name in dir(getattr(fastpool.calls, kind)) if not name.startswith("_")]
    assert members
    assert [name for name in members if not re.search(rf"`{name}\b", section)] == []


CALLS = ("CallPolicy", "Retry", "RetryThrottle", "CircuitBreaker", "Limit")


@each("kind", CALLS)
def test_every_option_of_calls_is_in_the_reference_with_its_default(kind: str) -> None:
    given = inspect.signature(getattr(fastpool.calls, kind)).parameters.values()
    call = re.search(rf"`{kind}\(([^`]*)\)`", PAGES["calls"])
    assert call
    written = ast.parse(f"def f({call[1].replace('(...)', '...')}): pass").body[0]
    assert isinstance(written, ast.FunctionDef)
    args = written.args
    told = dict(zip([one.arg for one in args.args][::-1], args.defaults[::-1]))
    told |= {one.arg: default for one, default in zip(args.kwonlyargs, args.kw_defaults) if default}
    names = [one.arg for one in (*args.args, *args.kwonlyargs)]
    assert names == [one.name for one in given]
    for one in given:
        default = told.get(one.name)
        if default is None:
            assert one.default is one.empty
        elif ast.unparse(default) != "...":
            assert eval(ast.unparse(default)) == one.default, one.name


def test_every_reason_of_a_close_is_in_the_reference() -> None:
    reasons = re.search(
        r"CLOSED_FOR = (\(.*?\))", (SOURCE / "core/snapshots.pxi").read_text(), re.DOTALL
    )
    assert reasons
    told = re.findall(r'^\| `"(\w+)"`', PAGES["stats"], re.MULTILINE)
    assert sorted(told) == sorted(ast.literal_eval(reasons[1]))


# ---- The stub -----------------------------------------------------------------------------------


def test_the_stub_has_every_type_of_the_core() -> None:
    types = [value for value in vars(fastpool._core).values() if isinstance(value, type)]
    ours = {kind.__name__ for kind in types if kind.__module__ == "fastpool._core"}
    assert {*stub_classes()} == ours


@each("name", stub_classes())
def test_the_stub_has_every_member_of_a_type(name: str) -> None:
    kind = getattr(fastpool._core, name)
    inherited = dir(BaseException) if issubclass(kind, BaseException) else ()
    real = {one for one in dir(kind) if not one.startswith("_")}.difference(inherited)
    lease = "Lease" in name or issubclass(kind, fastpool.Lease)
    assert stub_members(name) == real - NOT_SHARED - ({*OF_RESOURCES} if lease else set())


# ---- Options ------------------------------------------------------------------------------------


def test_the_stub_has_every_option() -> None:
    assert set().union(*STUB_OPTIONS.values()) == {*NAMES, "maxsize"}


@each(("use", "name"), WITH_DEFAULT)
def test_the_default_in_the_stub_is_the_real_one(use: str, name: str) -> None:
    assert as_given(parsed(use), name) == STUB_OPTIONS[use][name]


@each(("use", "name"), EACH_OPTION)
def test_an_option_of_the_stub_is_accepted(use: str, name: str) -> None:
    """By FastPool itself, as a keyword and with a value that is not its default."""
    value = 2 if name == "maxsize" else OTHER[name]
    if name == "fairness":
        value = value[as_given(parsed(use), name)]
    more = {"check": OTHER["check"]} if name == "keepalive" else {}
    FastPool(**{**USES[use], **more, name: value}).close()


@each("name", [*NAMES, "maxsize"])
def test_an_option_is_in_the_reference_with_its_defaults(name: str) -> None:
    page = PAGES["fastpool"]
    table = page.partition("| option | F | I | Q |")[2].partition("\n\n")[0]
    (row,) = [row for row in table.splitlines() if re.match(rf"\| [^|]*`{name}`[^|]*\|", row)]
    for use, cell in zip(USES, (cell.strip() for cell in row.strip("|").split("|")[1:])):
        assert bool(cell) == (name in STUB_OPTIONS[use]), use
        if literal := re.match(r"`?(None|True|\d[\d.]*|\"\w+\")`?(;|$)", cell):
            default = ast.literal_eval(literal[1])
            if name == "name":
                assert re.fullmatch(r"pool-\d+", parsed(use).name)
                assert default is None or default == "pool-N"
            else:
                assert as_given(parsed(use), name) == default, use
    effects = page.partition("| option | unit or values | effect |")[2].partition("\n\n")[0]
    assert re.search(rf"^\|.*`{name}`.*\|.*\|.*\|$", effects, re.MULTILINE)


@each("name", [*NAMES, "maxsize"])
def test_an_option_has_its_default_in_the_guide(name: str) -> None:
    """In pool use.  The guide says when to change it."""
    guide = (REFERENCE.parent / "howto/options.md").read_text(encoding="utf-8")
    [(told, advice)] = re.findall(rf"^\| `{name}` \| (\S+) \| (.+) \|$", guide, re.MULTILINE)
    assert advice
    if told == "none":
        assert name in ("factory", "items")
    elif name == "name":
        assert told == '`"pool-N"`'
    else:
        assert as_given(parsed("factory"), name) == ast.literal_eval(told.strip("`"))


@each("name", sorted(set(NAMES) - set(STUB_OPTIONS[""]) - {"factory", "items"}))
def test_a_queue_refuses_what_is_not_for_it(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} means nothing without a factory"):
        FastPool(**{name: OTHER[name]})


# ---- Options of KeyedPool ----------------------------------------------------------------------


def test_the_stub_has_every_option_of_a_keyed_pool() -> None:
    refused = {"factory", *_options.NOT_KEYED}
    assert {*options_of("KeyedPool")} == {*_options.LIMITS, *NAMES} - refused


@each("name", options_of("KeyedPool"))
def test_an_option_of_a_keyed_pool_is_in_the_reference(name: str) -> None:
    """With its default, which is the real one."""
    (row,) = re.findall(rf"^\| `{name}` \|.*", PAGES["keyed"], re.MULTILINE)
    told = row.split("|")[2].strip().strip("`")
    default = options_of("KeyedPool")[name]
    if name == "name":
        assert told == '"pool-N"'
    elif default is ...:
        assert told
    else:
        assert ast.literal_eval(told) == default
        options = _options.parse_keyed(object, _Unset, {})
        real = {"max_per_key": "maxsize", "max_idle_per_key": "max_idle"}.get(name, name)
        assert as_given(options, real) == default


# ---- Options of SharedPool ----------------------------------------------------------------------


def test_the_stub_has_every_option_of_a_shared_pool() -> None:
    refused = {"factory", *shared_options.NOT_SHARED}
    assert {*options_of("SharedPool")} == {*shared_options.OWN, *NAMES} - refused


@each("name", options_of("SharedPool"))
def test_an_option_of_a_shared_pool_is_in_the_reference(name: str) -> None:
    """With its default, which is the real one."""
    page = PAGES["shared"].partition("| option | default | unit or values | effect |")[2]
    rows = page.partition("\n\n")[0].splitlines()
    (row,) = [row for row in rows if re.match(rf"\| [^|]*`{name}`[^|]*\|", row)]
    told = row.split("|")[2].strip().strip("`")
    default = options_of("SharedPool")[name]
    if name == "name":
        assert told == '"pool-N"'
    elif default is ...:
        assert told
    else:
        assert ast.literal_eval(told) == default
        options = shared_options.parse_shared(object, _Unset, {})
        real = (options.least, options.maxsize) if name == "items" else as_given(options, name)
        assert real == default
