"""Shared channels in servers of several processes: gunicorn, which forks, and uvicorn."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("grpc", reason="grpcio is not installed")
pytestmark = [
    pytest.mark.process,
    pytest.mark.once,
    pytest.mark.skipif(os.name != "posix", reason="gunicorn forks"),
]

from integration.grpc.greeter_server import GreeterServer  # noqa: E402
from support.helpers import eventually  # noqa: E402

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
WORKERS = 2


@pytest.fixture(scope="module")
def greeter() -> Iterator[GreeterServer]:
    with GreeterServer() as server:
        yield server


@contextmanager
def served(
    module: str, *arguments: str, log: Path, **environment: str
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A web server of several processes, and its address; afterwards it has ended by SIGTERM."""
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    paths = [str(HERE), *(path for path in sys.path if path.endswith("src"))]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(os.path.abspath, paths)),
        "GRPC_VERBOSITY": "NONE",
        **environment,
    }
    command = [sys.executable, "-m", module, f"--workers={WORKERS}", *arguments]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=environment, process_group=0
        )
    try:
        address = listening(process, log)
        eventually(lambda: answers(address), within=30)  # uvicorn's workers take their time
        yield address, process
        process.terminate()
        assert process.wait(20) == 0, log.read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert "Traceback" not in log.read_text(), log.read_text()


def listening(process: subprocess.Popen[bytes], log: Path) -> str:
    def address() -> str | None:
        assert process.poll() is None, log.read_text()
        found = re.search(
            r"(?:Listening at|running on):? (http://127\.0\.0\.1:\d+)", log.read_text()
        )
        return found and found[1]

    return eventually(address, within=30)


def answers(address: str) -> bool:
    try:
        return bool(ask(address))
    except OSError:
        return False


def ask(address: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(address, timeout=20) as answer:
        return answer.read().decode()


def answers_by_process(address: str) -> Counter[str]:
    """Ask, many at once, until every worker has answered; each must have said the same."""
    seen: Counter[str] = Counter()
    with ThreadPoolExecutor(8) as threads:
        for _ in range(50):
            for answer in threads.map(ask, [address] * 16):
                process, _, rest = answer.partition(": ")
                assert rest == "hello you, 1 connection"
                seen[process] += 1
            if len(seen) == WORKERS:
                break
    return seen


@pytest.mark.parametrize("first", ["", "1"])
def test_gunicorn_forks_with_a_handle_that_was_made_before(
    greeter: GreeterServer, tmp_path: Path, first: str
) -> None:
    """`first`: the parent has made a call, so that it has a connection."""
    arguments = ("--preload", "--bind=127.0.0.1:0", "workers_app:app")
    environment = {"GREETER": greeter.target, "CALL_FIRST": first}
    log = tmp_path / "log"
    with served("gunicorn", *arguments, log=log, **environment) as (address, process):
        seen = answers_by_process(address)
    assert len(seen) == WORKERS
    assert str(process.pid) not in seen


def test_uvicorn_s_workers_call_from_their_loops(greeter: GreeterServer, tmp_path: Path) -> None:
    arguments = ("--host=127.0.0.1", "--port=0", "--lifespan=on", "workers_app:asgi_app")
    log = tmp_path / "log"
    with served("uvicorn", *arguments, log=log, GREETER=greeter.target) as (address, process):
        assert len(answers_by_process(address)) == WORKERS
