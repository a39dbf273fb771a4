"""``connect`` and ``sockets``: the other end of the debug socket."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from fastpool import FastPool, debug
from fastpool.debug import _client, _server


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_server, "PAUSE", 0.0)


# ---- asking ------------------------------------------------------------------------------------


def test_a_connection_asks_one_thing_after_another(address: str) -> None:
    with (
        FastPool(2, factory=object, name="seen") as pool,
        debug.serve(address) as server,
        debug.connect(server.address) as process,
    ):
        assert process.ask(get="pools")["pid"] == os.getpid()
        (one,) = process.ask(get="pools", id=id(pool))["pools"]
        assert one["name"] == "seen"
        assert address in repr(process)


def test_the_oldest_holders_are_asked_for_by_their_number(address: str) -> None:
    with (
        FastPool(3, factory=object) as pool,
        debug.serve(address) as server,
        debug.connect(server.address) as process,
        pool.lease(),
        pool.lease(),
        pool.lease(),
    ):

        def ages(wanted: Any) -> list[float]:
            (one,) = process.ask(get="pools", id=id(pool), holders=wanted)["pools"]
            return [holder["age"] for holder in one.get("holders", ())]

        everybody = sorted(ages(True), reverse=True)
        assert len(everybody) == 3
        (first, second) = ages(2)
        assert first >= second >= everybody[1]  # time has gone on
        assert ages(0) == ages(False) == []
        for wrong in (-1, "all", None):
            with pytest.raises(ValueError, match='"holders" must be'):
                process.ask(get="pools", holders=wrong)


def test_what_is_wrong_is_an_exception(address: str) -> None:
    with debug.serve(address) as server, debug.connect(server.address) as process:
        with pytest.raises(ValueError, match="read-only"):
            process.ask(do="flush")
        assert "pools" in process.ask(get="pools")


def test_the_end_of_the_process_is_an_exception(address: str) -> None:
    server = debug.serve(address)
    with debug.connect(server.address) as process:
        server.close()
        with pytest.raises(ConnectionError):
            while True:  # an answer may be on its way still
                process.ask(get="pools")


def test_a_process_that_does_not_answer_is_an_exception(address: str) -> None:
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(address.removeprefix("unix:"))
        deaf.listen()
        with pytest.raises(TimeoutError, match=r"no answer within 0\.05 s"):
            debug.connect(address, timeout=0.05)


# ---- being let in ------------------------------------------------------------------------------


def test_a_token_lets_in() -> None:
    with debug.serve("tcp:localhost:0", token="sesame") as server:
        with debug.connect(server.address, token="sesame") as process:
            assert "pools" in process.ask(get="pools")
        with pytest.raises(PermissionError, match="token is wrong"):
            debug.connect(server.address, token="Sesame")
        with pytest.raises(PermissionError, match="wants a token"):
            debug.connect(server.address)


def test_a_token_that_nobody_wants_does_no_harm(address: str) -> None:
    with debug.serve(address) as server, debug.connect(server.address, token="t") as process:
        assert "pools" in process.ask(get="pools")


def test_nobody_there_is_an_exception(address: str) -> None:
    with pytest.raises(FileNotFoundError):
        debug.connect(address)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(address.removeprefix("unix:"))
    with pytest.raises(ConnectionRefusedError):
        debug.connect(address)


def test_an_address_is_a_string() -> None:
    for wrong in (None, 4711):
        with pytest.raises(TypeError, match="address must be a string"):
            debug.connect(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unix:PATH"):
        debug.connect("4711")


# ---- finding -----------------------------------------------------------------------------------


def test_sockets_are_found_where_serve_puts_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = tmp_path_factory.mktemp("r")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(base))
    with debug.serve() as server:
        (base / "fastpool" / "notes.sock").touch()
        (base / "fastpool" / "1.txt").touch()
        found = debug.sockets()
        assert found[os.getpid()] == server.address
    assert os.getpid() not in debug.sockets()
    assert all(isinstance(pid, int) for pid in found)


def test_a_folder_that_others_may_write_to_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "fastpool").mkdir(mode=0o700)
    (tmp_path / "fastpool" / "99999999.sock").touch()
    assert 99999999 in debug.sockets()
    (tmp_path / "fastpool").chmod(stat.S_IRWXU | stat.S_IWOTH)
    assert 99999999 not in debug.sockets()


def test_an_answer_without_end_is_not_read_to_its_end(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with debug.serve(address) as server, debug.connect(server.address) as process:
        monkeypatch.setattr(_client, "LONGEST", 10)
        with pytest.raises(ConnectionError):
            process.ask(get="pools")
