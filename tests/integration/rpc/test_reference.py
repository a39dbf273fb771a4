"""The reference page of fastpool.rpc names every parameter with its default, and every member."""

from __future__ import annotations

import ast
import inspect
import re
import socket
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("urllib3", reason="urllib3 is not installed")
pytest.importorskip("httpx", reason="httpx is not installed")

from fastpool import rpc

PAGE = (Path(__file__).resolve().parents[3] / "docs/reference/rpc.md").read_text(encoding="utf-8")
MAKERS = ("xmlrpc", "aio_xmlrpc", "jsonrpc", "aio_jsonrpc", "sockets")
WITHOUT_DEFAULT_THERE = {"url", "address", "options", "dumps", "loads", "headers", "transport"}
OF_SERVER_PROXY = {"encoding", "verbose", "allow_none", "use_datetime", "use_builtin_types"}


@pytest.mark.parametrize("name", MAKERS)
def test_every_parameter_is_there_with_its_default(name: str) -> None:
    for parameter in inspect.signature(getattr(rpc, name)).parameters.values():
        assert f"`{parameter.name}" in PAGE or f"`**{parameter.name}" in PAGE
        if parameter.name in WITHOUT_DEFAULT_THERE | OF_SERVER_PROXY:
            continue
        row = re.search(rf"^\| `{parameter.name}` \| `([^`]*)` \|", PAGE, re.MULTILINE)
        assert row, parameter.name
        assert ast.literal_eval(row[1]) == parameter.default


def test_every_public_name_is_there() -> None:
    for name in rpc.__all__:
        assert re.search(rf"\b{name}\b", PAGE), name
        assert getattr(rpc, name).__module__ == "fastpool.rpc"


@pytest.mark.parametrize("name", ["JsonRpc", "Batch", "SocketPool", "Wire"])
def test_every_member_is_there(name: str) -> None:
    kind: Any = getattr(rpc, name)
    section = PAGE.partition(f"| member of `{name}` |")[2].partition("\n\n")[0]
    section = section or PAGE.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    hidden = {"alive", "begin", "check", "hang_up", "was_stale", "wire", "settimeout", "unread"}
    hidden |= {"born", "closed", "deadline", "name", "readers", "received", "sent", "tls", "unsent"}
    hidden |= {"take_unsent"}
    members = {each for each in dir(kind) if not each.startswith("_")} - hidden
    told = set(re.findall(r"`(\w+)", section))
    assert members <= told, members - told


def test_every_public_thing_has_a_docstring() -> None:
    for name in rpc.__all__:
        thing = getattr(rpc, name)
        assert inspect.getdoc(thing), name
        if inspect.isclass(thing):
            for each, member in vars(thing).items():
                if callable(member) and not each.startswith("_"):
                    assert member.__doc__ or hasattr(socket.socket, each), each
