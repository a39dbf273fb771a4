"""Every public compiled name says how it is called: to ``inspect``, to ``help`` and to autospec."""

from __future__ import annotations

import importlib
import inspect
import pydoc
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest

import fastpool
from fastpool import FastPool, _core
from fastpool.keyed._options import LIMITS, NOT_KEYED
from fastpool.pool._options import NAMES
from fastpool.shared._options import NOT_SHARED, OWN

MODULES = ("fastpool", "fastpool.queue", "fastpool.limits", "fastpool.testing")


def _types() -> Iterator[type]:
    """The compiled types that a public module names."""
    seen = set()
    for name in MODULES:
        module: Any = importlib.import_module(name)
        for public in module.__all__:
            found = getattr(module, public)
            if isinstance(found, type) and found.__module__ == _core.__name__:
                seen.add(found)
    yield from sorted(seen, key=lambda kind: kind.__name__)


def _calls(kind: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The type, and what can be called on its objects."""
    yield kind.__name__, kind
    for name in sorted(dir(kind)):
        found = inspect.getattr_static(kind, name)
        if not name.startswith("_") and callable(found):
            yield f"{kind.__name__}.{name}", getattr(kind, name)


CALLS = dict(call for kind in _types() for call in _calls(kind))

#: Type: the names of its options.
OPTIONS: dict[type, set[str]] = {
    FastPool: {"maxsize", *NAMES},
    fastpool.KeyedPool: {*LIMITS, *NAMES} - {*NOT_KEYED},
    fastpool.SharedPool: {*OWN, *NAMES} - ({*NOT_SHARED} - {*OWN}),
}


def test_there_are_many() -> None:
    """The walk finds what there is."""
    assert len(CALLS) >= 87
    assert {"FastPool.get", "Queue.put", "Lease.release", "SemaphoreHold.release"} <= {*CALLS}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_has_a_signature(name: str) -> None:
    """With a self that ``inspect`` takes away, and defaults that can be handed in again."""
    signature = inspect.signature(CALLS[name])
    names = list(signature.parameters)
    if isinstance(CALLS[name], type):
        assert "self" not in names
    else:
        assert names[0] == "self"
        assert len(names) == 1 or "self" not in names[1:]


@pytest.mark.parametrize("name", CALLS)
def test_its_docstring_says_what_it_does_and_no_more(name: str) -> None:
    """The signature is taken out of the text, and shown by ``help`` in front of it."""
    text = inspect.getdoc(CALLS[name]) or ""
    assert text and "--" not in text.splitlines() and "$self" not in text
    short = name.rpartition(".")[2]
    shown = pydoc.plain(pydoc.render_doc(CALLS[name]))
    assert f"{short}(" in shown and text.splitlines()[0].strip() in shown


@pytest.mark.parametrize("kind", OPTIONS, ids=lambda kind: kind.__name__)
def test_a_pool_names_all_its_options(kind: type) -> None:
    """What the options are is checked by hand, so the signature is written by hand too."""
    assert set(inspect.signature(kind).parameters) == OPTIONS[kind]


@pytest.mark.parametrize("kind", OPTIONS, ids=lambda kind: kind.__name__)
def test_a_default_is_a_value_that_may_be_given(kind: Any) -> None:
    """``apply_defaults`` and a wrapper that hands everything on make the pool that was meant."""
    made = inspect.signature(kind).bind(factory=object)
    made.apply_defaults()
    twin = kind(*made.args, **made.kwargs)
    plain = kind(factory=object)
    try:
        for name in plain.stats().__slots__:
            if name != "name":
                assert getattr(twin.stats(), name) == getattr(plain.stats(), name)
        options, expected = (_core.manager(pool, "test").options for pool in (twin, plain))
        for name in {*NAMES} - {"name", "discard_on"}:
            assert getattr(options, name, None) == getattr(expected, name, None), name
        assert type(options.discard_on) is type(expected.discard_on)
    finally:
        twin.close()
        plain.close()


def test_a_call_with_its_defaults_is_the_plain_call() -> None:
    """``...`` is what was not given."""
    with FastPool(items=[object()], timeout=0.01) as pool:
        given = inspect.signature(pool.get).bind()
        given.apply_defaults()
        assert given.arguments == {"block": True, "timeout": ...}
        pool.put(pool.get(*given.args))
        lease = pool.acquire(timeout=...)
        with pytest.raises(fastpool.PoolTimeout):
            pool.get(timeout=...)
        pool.put(lease.resource)


@pytest.mark.parametrize(
    ("name", "args", "kwargs"),
    [
        ("get", (), {"wait": 1}),
        ("put", (), {}),
        ("put_nowait", (), {"item": 1}),
        ("resize", (1, 2), {}),
        ("lease", (1, 2), {}),
    ],
)
def test_a_call_that_would_be_refused_does_not_bind(name: str, args: Any, kwargs: Any) -> None:
    """The signature is as strict as the call."""
    with FastPool(1, factory=object) as pool:
        call = getattr(pool, name)
        with pytest.raises(TypeError):
            inspect.signature(call).bind(*args, **kwargs)
        with pytest.raises(TypeError):
            call(*args, **kwargs)


def test_a_double_has_what_the_pool_has() -> None:
    """And nothing else: of compiled methods ``create_autospec`` knows the names."""
    double = mock.create_autospec(FastPool, instance=True)
    double.get(timeout=1)
    double.put(object())
    with pytest.raises(AttributeError):
        _ = double.connection
