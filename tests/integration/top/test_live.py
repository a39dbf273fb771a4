"""The live screens of `fastpool top`, driven by textual's own pilot, on a program with a leak."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from fastpool import debug
from fastpool.cli.top.watch import Watch
from integration.top.conftest import LEAK, Program
from support.helpers import PATIENCE

pytest.importorskip("textual", reason="textual is not installed")

from textual.widgets import DataTable, Static

from fastpool.cli.top.live import PoolScreen, PoolsScreen, TopApp

pytestmark = [pytest.mark.process, pytest.mark.once]

Drive = Callable[[Callable[[TopApp, Any], Coroutine[Any, Any, None]]], None]


@pytest.fixture
def drive(process: debug.Connection) -> Drive:
    """`drive(play)` runs the app on a screen of 160 by 40 while `play(app, pilot)` uses it."""

    def drive(play: Any) -> None:
        async def main() -> None:
            app = TopApp(Watch(process), interval=0.1)
            async with app.run_test(size=(160, 40)) as pilot:
                await play(app, pilot)

        asyncio.run(main())

    return drive


async def until(pilot: Any, condition: Callable[[], Any]) -> None:
    """Let the app go on until this is so."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, screen_text(pilot.app)
        await pilot.pause(0.02)


def screen_text(app: TopApp) -> str:
    """All that the topmost screen says."""
    said = [str(each.render()) for each in app.screen.query(Static) if each.display]
    for table in app.screen.query(DataTable):
        said += [" | ".join(map(str, table.get_row(key))) for key in table.rows]
    return "\n".join(said)


def wait_queue_of(app: TopApp, name: str) -> list[str]:
    """The cells of one pool, or of one holder."""
    for line in screen_text(app).splitlines():
        if line.startswith(f"{name} | "):
            return [cell.strip() for cell in line.split(" | ")]
    return []


def test_the_screen_names_the_code_that_leaks(drive: Drive, program: Program) -> None:
    async def play(app: TopApp, pilot: Any) -> None:
        await until(pilot, lambda: wait_queue_of(app, "orders")[2:3] == ["1/3"])
        assert isinstance(app.screen, PoolsScreen)
        assert f"process {program.pid}" in screen_text(app)
        assert LEAK in screen_text(app)  # of the pool under the cursor, which is the first
        program.tell("leak")
        await until(pilot, lambda: wait_queue_of(app, "orders")[2:3] == ["2/3"])
        await pilot.press("enter")
        await until(pilot, lambda: f"2 of 2 taken at {LEAK}" in shortened(app))
        assert isinstance(app.screen, PoolScreen)
        assert "threading.py" in screen_text(app)  # the stack of the first
        table = app.screen.query_one(DataTable)
        assert [str(cell) for cell in table.get_row_at(0)][1:3] == [
            "checkout-7",
            "__main__.Connection",
        ]

    drive(play)


def shortened(app: TopApp) -> str:
    """The screen without the folders of the program."""
    return screen_text(app).replace(str(os.path.dirname(__file__)) + os.sep, "")


def test_keys_move_enter_opens_and_escape_goes_back(drive: Drive) -> None:
    async def play(app: TopApp, pilot: Any) -> None:
        await until(pilot, lambda: wait_queue_of(app, "memory"))
        assert "checkout-7" in screen_text(app)
        await pilot.press("down")
        await until(pilot, lambda: "known of pools with leak_after" in screen_text(app))
        await pilot.press("enter")
        await until(pilot, lambda: "key a.example: 1 leased" in screen_text(app))
        assert "stack of a lease is known of pools with leak_after" in screen_text(app)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, PoolsScreen))
        table = app.screen.query_one(DataTable)
        assert table.cursor_row == 1  # also while the rows are written anew
        await pilot.press("down", "down", "down", "enter")  # no leases in it
        await until(pilot, lambda: "nobody holds anything" in screen_text(app))
        assert "reports   WorkerPool" in screen_text(app)
        await pilot.press("q")

    drive(play)


def test_the_last_looks_are_drawn(drive: Drive, program: Program) -> None:
    async def play(app: TopApp, pilot: Any) -> None:
        await until(pilot, lambda: wait_queue_of(app, "memory"))
        program.tell("turn")
        await until(pilot, lambda: wait_queue_of(app, "orders")[10] == "1")  # timeouts
        await until(pilot, lambda: wait_queue_of(app, "orders")[2] == "2/3")
        assert wait_queue_of(app, "orders")[3].endswith("▅")
        await pilot.press("enter")
        await until(pilot, lambda: "1 timeouts" in screen_text(app))
        assert "▃" in screen_text(app)

    drive(play)


def test_the_end_of_the_process_leaves_what_was_seen(drive: Drive, program: Program) -> None:
    async def play(app: TopApp, pilot: Any) -> None:
        await until(pilot, lambda: wait_queue_of(app, "orders"))
        program.end()
        await until(pilot, lambda: "has closed the connection; this is" in screen_text(app))
        assert LEAK in screen_text(app)
        await pilot.press("enter")  # nobody is asked, and nothing breaks
        await until(pilot, lambda: isinstance(app.screen, PoolScreen))
        await pilot.press("q")

    drive(play)


def test_names_are_no_markup(process: debug.Connection) -> None:
    from fastpool import FastPool

    async def main(watch: Watch) -> None:
        app = TopApp(watch, interval=0.1)
        async with app.run_test(size=(160, 40)) as pilot:
            await until(pilot, lambda: wait_queue_of(app, "[red]x[/nothing]"))
            names = [line.split(" | ")[0] for line in screen_text(app).splitlines() if "|" in line]
            here = names.index("[red]x[/nothing]")  # other tests may have left pools
            app.screen.query_one(DataTable).move_cursor(row=here)
            await pilot.press("enter")
            await until(pilot, lambda: "[red]x[/nothing]   FastPool" in screen_text(app))

    with FastPool(1, factory=object, name="[red]x[/nothing]") as pool, pool.lease():
        with debug.serve("tcp:127.0.0.1:0", token="t") as server:
            with debug.connect(server.address, token="t") as here:
                asyncio.run(main(Watch(here)))


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_it_is_live_on_a_terminal(program: Program, environment: dict[str, str]) -> None:
    import pty

    master, slave = pty.openpty()
    viewer = subprocess.Popen(
        [sys.executable, "-m", "fastpool", "top", program.address, "--interval", "0.1"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment | {"TERM": "xterm-256color", "COLUMNS": "150", "LINES": "40"},
    )
    os.close(slave)
    seen = b""
    while b"checkout-7" not in seen:
        seen += os.read(master, 65536)
    os.write(master, b"q")
    try:
        while os.read(master, 65536):
            pass
    except OSError:  # the other end has gone
        pass
    assert viewer.wait() == 0
    os.close(master)


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_without_textual_it_says_what_to_install(
    program: Program, environment: dict[str, str]
) -> None:
    import pty

    master, slave = pty.openpty()
    code = (
        "import sys; sys.modules['textual'] = None; from fastpool.cli import main;"
        "sys.exit(main(['top', *sys.argv[1:]]))"
    )
    viewer = subprocess.run(
        [sys.executable, "-c", code, program.address],
        stdin=slave,
        stdout=slave,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    os.close(slave)
    os.close(master)
    assert viewer.returncode == 1
    assert "pip install 'fastpool[top]'" in viewer.stderr and "--once" in viewer.stderr
