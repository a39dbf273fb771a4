"""``serve``: who may connect, what is answered, and that nobody can make it cost anything."""

from __future__ import annotations

import os
import socket
import stat
import struct
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from fastpool import FastPool, PoolTimeout, debug
from fastpool.debug import _server
from support.helpers import PATIENCE, eventually


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_server, "PAUSE", 0.0)


# ---- where it listens --------------------------------------------------------------------------


def test_it_listens_in_a_folder_of_this_user_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, visit: Any
) -> None:
    base = tmp_path_factory.mktemp("r")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(base))
    with debug.serve() as server:
        path = base / "fastpool" / f"{os.getpid()}.sock"
        assert server.address == f"unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert visit(server).ask(get="pools")["pid"] == os.getpid()
    assert not path.exists()


def test_a_folder_that_others_may_look_into_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "fastpool").mkdir(mode=0o755)
    with pytest.raises(PermissionError, match="mode 0700"):
        debug.serve()


def test_the_socket_of_a_killed_process_is_replaced(address: str, visit: Any) -> None:
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(address.removeprefix("unix:"))
    dead.close()
    with debug.serve(address) as server:
        assert "pools" in visit(server).ask(get="pools")


def test_a_socket_in_use_is_left_alone(address: str, visit: Any) -> None:
    with debug.serve(address) as server:
        with pytest.raises(OSError, match="in use"):
            debug.serve(address)
        assert "pools" in visit(server).ask(get="pools")


def test_a_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("mine")
    with pytest.raises(OSError, match="in use"):
        debug.serve(f"unix:{path}")
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("address", "options", "message"),
    [
        ("/tmp/s", {}, "unix:PATH"),
        ("unix:", {}, "unix:PATH"),
        ("tcp:127.0.0.1:x", {"token": "t"}, "tcp:HOST:PORT"),
        ("tcp:0.0.0.0:0", {"token": "t"}, "loopback only"),
        ("tcp:example.org:0", {"token": "t"}, "loopback only"),
        ("tcp:127.0.0.1:0", {}, "needs a token"),
        ("tcp:127.0.0.1:0", {"token": ""}, "token must be"),
        ("unix:/" + 200 * "a", {}, "at most 100 bytes"),
    ],
)
def test_a_wrong_address_is_refused(address: str, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        debug.serve(address, **options)


def test_an_address_is_a_string() -> None:
    with pytest.raises(TypeError, match="not int"):
        debug.serve(8080)  # type: ignore[arg-type]


# ---- what it answers ---------------------------------------------------------------------------


def test_pools_are_shown_with_their_holders(address: str, visit: Any) -> None:
    with (
        FastPool(2, factory=object, name="seen", leak_after=1000) as pool,
        debug.serve(address) as server,
        pool.lease(),
    ):
        visitor = visit(server)
        (one,) = visitor.ask(get="pools", id=id(pool))["pools"]
        assert one["name"] == "seen" and one["numbers"]["leased"] == 1 and "holders" not in one
        (one,) = visitor.ask(get="pools", id=id(pool), holders=True)["pools"]
        (holder,) = one["holders"]
        assert holder["resource"] == "builtins.object" and __file__ in holder["stack"][0]
        assert "FastPool 'seen': 1 of 2 leased" in visitor.ask(get="dump")["text"]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"{", "Expecting"),
        (b"[]", "an object"),
        (b"[" * 2000, ""),
        (b"\xff\xfe", ""),
        (b"{}", '"get"'),
        (b'{"get": "secrets"}', '"get"'),
        (b'{"get": "pools", "id": 1}', "no pool 1"),
        (b'{"do": "flush"}', "read-only"),
    ],
)
def test_a_wrong_request_is_answered(address: str, visit: Any, line: bytes, error: str) -> None:
    with debug.serve(address) as server:
        visitor = visit(server)
        visitor.say(line + b"\n")
        assert error in visitor.hear()["error"]
        assert "pools" in visitor.ask(get="pools")


def test_requests_that_come_together_are_answered_one_by_one(address: str, visit: Any) -> None:
    with debug.serve(address) as server:
        visitor = visit(server)
        visitor.say(b'{"get": "dump"}\n[]\n{"get": "pools"}\n')
        assert "text" in visitor.hear()
        assert "error" in visitor.hear()
        assert "pools" in visitor.hear()


def refuses(pool: Any) -> bool:
    """Whether it lends not even what is idle."""
    try:
        pool.acquire(0).release()
    except PoolTimeout:
        return True
    return False


def test_pools_are_changed_only_with_control(address: str, visit: Any) -> None:
    with (
        FastPool(2, factory=object, name="changed") as pool,
        debug.serve(address, control=True) as server,
    ):
        visitor = visit(server)
        assert visitor.ask(do="resize", id=id(pool), to=7) == {"begun": "resize"}
        eventually(lambda: pool.maxsize == 7)
        with pool.lease(timeout=PATIENCE):
            pass  # one is idle from here on
        assert visitor.ask(do="suspend", id=id(pool)) == {"begun": "suspend"}
        eventually(lambda: refuses(pool))
        visitor.ask(do="resume", id=id(pool))
        with pool.lease(timeout=PATIENCE):
            pass
        visitor.ask(do="flush", id=id(pool))
        eventually(lambda: pool.stats().closed == {"flushed": 1})
        for wrong in ({"do": "close"}, {"do": "resize", "to": 0}, {"do": "resize", "to": True}):
            assert "error" in visitor.ask(id=id(pool), **wrong)
        assert "error" in visitor.ask(do="flush")


# ---- the token ---------------------------------------------------------------------------------


def test_a_port_wants_its_token_first(visit: Any) -> None:
    with debug.serve("tcp:localhost:0", token="sesame") as server:
        assert server.address.startswith("tcp:127.0.0.1:")
        visitor = visit(server)
        assert visitor.ask(token="sesame") == {"welcome": True}
        assert "pools" in visitor.ask(get="pools")


@pytest.mark.parametrize(
    "line", [b'{"token": "Sesame"}', b'{"get": "pools"}', b"{", b"[]", b'{"token": null}']
)
def test_without_it_nothing_is_said(visit: Any, line: bytes) -> None:
    with debug.serve("tcp:localhost:0", token="sesame") as server:
        visitor = visit(server)
        visitor.say(line + b"\n")
        assert visitor.hear() is None
        visitor = visit(server)
        assert visitor.ask(token="sesame") == {"welcome": True}


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="the system tells no peer's user")
def test_only_this_user_and_root_may_come() -> None:
    """What the system says of the other end decides, whoever got past the folder's mode."""

    class Peer:
        family = socket.AF_UNIX

        def __init__(self, user: int) -> None:
            self.user = user

        def getsockopt(self, *asked: int) -> bytes:
            assert asked[:2] == (socket.SOL_SOCKET, socket.SO_PEERCRED)
            return struct.pack("3i", 1, self.user, 1)

    me = os.getuid()
    assert [_server._is_allowed(Peer(user)) for user in (me, 0, me + 1)] == [True, True, False]


# ---- hostile clients ---------------------------------------------------------------------------


def test_an_endless_line_ends_the_connection(address: str, visit: Any) -> None:
    with debug.serve(address) as server:
        visitor = visit(server)
        with pytest.raises(OSError):
            while True:
                visitor.say(1000 * b"x")
        assert "pools" in visit(server).ask(get="pools")


def test_who_says_nothing_has_to_go(
    address: str, visit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_server, "QUIET", 0.01)
    with debug.serve(address) as server:
        assert visit(server).hear() is None


def test_who_does_not_read_is_not_waited_for(
    address: str, visit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_server, "answer", lambda line, control: 10_000_000 * b"x")
    monkeypatch.setattr(_server, "PATIENCE", 0.05)
    with debug.serve(address) as server:
        lazy = visit(server)
        lazy.say(b"{}\n")
        eventually(lambda: len(server._clients) == 1)
        eventually(lambda: not server._clients)


def test_it_rests_fifty_times_as_long_as_it_has_computed(
    address: str, visit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that questions without end about many pools take a fiftieth of a CPU."""

    def think(line: bytes, control: bool) -> bytes:
        begun = time.thread_time()
        while time.thread_time() - begun < 0.002:
            pass
        return b"{}\n"

    monkeypatch.setattr(_server, "answer", think)
    with debug.serve(address) as server:
        visitor = visit(server)
        visitor.ask(get="pools")
        begun = time.perf_counter()
        for _ in range(3):
            visitor.ask(get="pools")
        assert time.perf_counter() - begun >= 3 * _server.REST * 0.002 * 0.9


def test_more_clients_than_there_may_be_are_turned_away(address: str, visit: Any) -> None:
    with debug.serve(address) as server:
        kept = [visit(server) for _ in range(_server.MOST_CLIENTS)]
        for visitor in kept:
            assert "pools" in visitor.ask(get="pools")
        assert visit(server).hear() is None
        kept[0].close()
        eventually(lambda: len(server._clients) < _server.MOST_CLIENTS)
        assert "pools" in visit(server).ask(get="pools")


# ---- its end -----------------------------------------------------------------------------------


def test_closing_ends_its_connections_and_its_thread(address: str, visit: Any) -> None:
    server = debug.serve(address)
    visitor = visit(server)
    visitor.ask(get="pools")
    server.close()
    server.close()
    assert visitor.hear() is None
    assert "closed" in repr(server)
    eventually(lambda: not any(t.name == "fastpool-debug" for t in threading.enumerate()))
    with debug.serve(address) as again:  # the address is free
        assert "pools" in visit(again).ask(get="pools")
