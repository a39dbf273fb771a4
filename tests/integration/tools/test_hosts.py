"""`tools/hosts.py --quick`: ends in time with all that it has started, and fails for tests only."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from support.helpers import PATIENCE, eventually

pytestmark = [pytest.mark.process, pytest.mark.light, pytest.mark.once]

TOOLS = Path(__file__).resolve().parents[3] / "tools"


def loaded() -> Any:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("hosts", TOOLS / "hosts.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("code", "good"), [(0, True), (1, False)])
def test_a_host_is_as_good_as_its_script_says(code: int, good: bool) -> None:
    command = [sys.executable, "-S", "-c", f"raise SystemExit({code})"]
    assert loaded().run("host", command, time.monotonic() + PATIENCE) is good


def test_at_the_end_of_the_time_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script that has started a server and hears no signal: both are ended, and that is a line
    and no failure."""
    server = """
import socket, time
with socket.create_server(("127.0.0.1", 0)) as listening:
    print(listening.getsockname()[1], flush=True)
    time.sleep(600)
"""
    script = f"""
import signal, subprocess, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
with open(sys.argv[1], "w") as out:
    subprocess.run([sys.executable, "-c", {server!r}], stdout=out)
"""
    hosts, port = loaded(), tmp_path / "port"
    port.touch()
    hosts.PATIENCE = 0.1
    end = hosts.end

    def when_it_serves(process: Any) -> None:
        eventually(lambda: port.read_text().strip())
        end(process)

    hosts.end = when_it_serves
    assert hosts.run("redis", [sys.executable, "-c", script, str(port)], time.monotonic())
    assert "redis: NOT RUN to its end" in capsys.readouterr().out
    with pytest.raises(ConnectionRefusedError):
        eventually(lambda: socket.create_connection(("127.0.0.1", int(port.read_text()))).close())


@pytest.mark.parametrize("host", ["dbutils", "redis", "sqlalchemy"])
def test_tests_that_cannot_be_had_are_a_line(host: str, tmp_path: Path) -> None:
    """Without a network, and nothing kept from before: NOT RUN, and the run is good."""
    nothing = {"XDG_CACHE_HOME": str(tmp_path), "PIP_NO_INDEX": "1", "PIP_RETRIES": "0"}
    done = subprocess.run(
        [sys.executable, TOOLS / "hosts.py", "--quick", host],
        capture_output=True, text=True, env={**os.environ, **nothing},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NOT RUN" in done.stdout, done.stdout
