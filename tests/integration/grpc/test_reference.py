"""The reference page of `fastpool.grpc` says what the code says, name by name."""

from __future__ import annotations

import ast
import inspect
import pydoc
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("grpc", reason="grpcio is not installed")

import fastpool.grpc as fg

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/reference/grpc.md").read_text(encoding="utf-8")
#: Parameter: its default as it is written there; those of `shared` first, then what is added.
PARAMETERS = dict(re.findall(r"^\| `(\w+)` \| `(.*?)` \|", PAGE, re.M))
FIELDS = [
    name
    for row in re.findall(r"^\| (`.*?) \|", PAGE.partition("## stats()")[2], re.M)
    for name in re.findall(r"`(\w+)`", row)
]


def keywords(function: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}


def test_every_public_name_is_there() -> None:
    assert [name for name in fg.__all__ if not re.search(rf"\b{name}\b", PAGE)] == []


def test_every_parameter_stands_in_the_order_and_with_the_default_of_the_code() -> None:
    shared = keywords(fg.shared)
    assert [*PARAMETERS] == [*shared, "interceptors"]
    assert {name: ast.literal_eval(text) for name, text in PARAMETERS.items()} == {
        **shared,
        "interceptors": (),
    }


def test_both_kinds_have_the_same_parameters() -> None:
    threads = {**keywords(fg.shared), "interceptors": ()}
    assert threads == keywords(fg.aio_shared)


def test_the_options_stand_once() -> None:
    """Both makers take them from ChannelOptions, and `inspect` and `help` show each of them."""
    named = fg.ChannelOptions.__annotations__
    assert {*named} == {*keywords(fg.shared)}
    written = inspect.signature(fg.shared).parameters["keepalive"].annotation
    assert written == "float | None"
    shown = pydoc.plain(pydoc.render_doc(fg.aio_shared)).replace("'", "")  # none from 3.14 on
    assert "keepalive: float | None = 310.0" in shown


def test_every_field_of_the_statistics_is_there() -> None:
    assert (*FIELDS,) == fg.ChannelStats._fields


@pytest.mark.parametrize("kind", ["SharedChannel", "AioSharedChannel"])
def test_what_is_a_channel_s_own_is_there(kind: str) -> None:
    import grpc

    channel, base = getattr(fg, kind), {"SharedChannel": grpc.Channel}.get(kind, grpc.aio.Channel)
    own = {name for name in vars(channel) if not name.startswith("_")} - set(dir(base))
    section = PAGE.partition(f"\n## {kind}\n")[2].partition("\n## ")[0]
    assert {name for name in {*own, "close"} if name not in section} == set()
