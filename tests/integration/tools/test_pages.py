"""What pages of the documentation claim beyond their own code: under real servers, in a browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench import servers
from bench.measure import NotRun
from support.helpers import eventually

ROOT = Path(__file__).resolve().parents[3]
HOWTO = ROOT / "docs/howto"
pytestmark = [pytest.mark.process, pytest.mark.once]


def blocks(page: str) -> list[str]:
    """The Python blocks of a page."""
    text = (HOWTO / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)


# ---- How big should my pool be? ------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        (200, 10, 6, 0.25, 4, 800, 0.020),
        (100, 3, 10, 1, 8, 50, 0.5),
        (5000, 0, 1, 0, 1, 0, 0),
        (500, 7, 3, 0.34, 5, 12345, 0.0123),
    ],
)
def test_the_calculator_says_what_the_formula_says(given: tuple[float, ...]) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    formula: dict[str, object] = {}
    exec(next(block for block in blocks("pool-size.md") if "def pool_size" in block), formula)
    python = formula["pool_size"]
    assert callable(python)
    script = (ROOT / "docs/pool-size.js").read_text(encoding="utf-8")
    program = f"{script}\nconsole.log(JSON.stringify(poolSize(...{json.dumps(given)})))"
    done = subprocess.run([node, "-e", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert tuple(json.loads(done.stdout)[:2]) == python(*given)


def test_the_calculator_shows_itself(tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("Chromium is not installed")
    page = tmp_path / "page.html"
    script = (ROOT / "docs/pool-size.js").as_uri()
    page.write_text(f'<div id="pool-size-calculator"></div><script src="{script}"></script>')
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    done = subprocess.run(
        [chromium, *flags, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=60
    )
    assert "maxsize=3; each of 32 processes may have up to 5." in done.stdout, done.stderr


# ---- Gunicorn, uvicorn and fork ------------------------------------------------------------------


@pytest.fixture
def application(tmp_path: Path) -> Path:
    """The program of the page, as far as it stands in an application; it also names its process."""
    parts = [one for one in blocks("processes.md") if "assert " not in one]
    parts.insert(0, blocks("processes.md")[0].partition("if hasattr(os")[0])
    source = "\n".join(parts).replace("str(answer())", "str((os.getpid(), answer(), made()))")
    made = "\n\ndef made():\n    return pool.stats().created\n"
    (tmp_path / "app.py").write_text(source + made)
    return tmp_path


@contextmanager
def running(command: list[str], folder: Path) -> Iterator[None]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{folder}"}
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (0, -signal.SIGTERM)


def ask(port: int) -> str | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
            body = answer.read()
            assert isinstance(body, bytes)
            return body.decode()
    except OSError:
        return None


@pytest.mark.parametrize("preload", [True, False])
def test_each_worker_of_gunicorn_has_connections_of_its_own(
    application: Path, preload: bool
) -> None:
    pytest.importorskip("gunicorn", reason="gunicorn is not installed")
    port = servers.free_port()
    where = ["--bind", f"127.0.0.1:{port}", "--workers", "2", "--threads", "8"]
    command = ["gunicorn", *where, *["--preload"] * preload, "app:app"]
    answers: set[str] = set()

    def both_have_answered() -> bool:
        answers.update(filter(None, [ask(port)]))
        return len({answer.partition(",")[0] for answer in answers}) == 2

    with running(command, application):
        eventually(both_have_answered)
    assert {answer.partition(",")[2] for answer in answers} == {" 42, 1)"}


def test_uvicorn_serves_the_page(application: Path) -> None:
    pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    port = servers.free_port()
    where = ["--host", "127.0.0.1", "--port", str(port), "--workers", "2"]
    with running(["uvicorn", *where, "app:asgi_app"], application):
        eventually(lambda: ask(port) == "42")


# ---- Celery --------------------------------------------------------------------------------------

IN_MEMORY = 'broker="memory://", backend="cache+memory://"'
WHO_SERVED = """

@app.task
def served(number):
    import os
    import time

    time.sleep(0.1)  # the other process gets tasks too
    return os.getpid(), double(number), pool.stats().created
"""


@pytest.mark.servers
@pytest.mark.parametrize("kind", ["prefork", "threads"])
def test_each_process_of_celery_has_connections_of_its_own(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("celery", reason="celery is not installed")
    with ExitStack() as stack:
        try:
            redis = f"redis://127.0.0.1:{stack.enter_context(servers.redis())}/0"
        except NotRun as reason:
            pytest.skip(str(reason))
        page = blocks("celery.md")[0]
        assert IN_MEMORY in page
        source = page.replace(IN_MEMORY, f"broker={redis!r}, backend={redis!r}")
        (tmp_path / "shop.py").write_text(source + WHO_SERVED)
        shop: dict[str, Any] = {"__name__": "shop"}
        exec(source + WHO_SERVED, shop)
        worker = ["celery", "--app", "shop", "worker", "--pool", kind, "--concurrency", "2"]
        stack.enter_context(running(worker, tmp_path))
        pids: set[int] = set()
        for _ in range(100):
            sent = [shop["served"].delay(number) for number in range(4)]
            answers = [result.get(timeout=60) for result in sent]
            assert [answer for _, answer, _ in answers] == [0, 2, 4, 6]
            assert all(1 <= created <= 2 for *_, created in answers)
            pids.update(pid for pid, *_ in answers)
            if len(pids) == (2 if kind == "prefork" else 1):
                break
        assert len(pids) == (2 if kind == "prefork" else 1)
        shop["app"].close()


# ---- mod_wsgi ------------------------------------------------------------------------------------

MODULES = Path("/usr/lib/apache2/modules")  # of Debian
WSGI = """\
import os

from fastpool import FastPool

pool = FastPool(4, factory=object, min_idle=1, name="shop")


def application(environ, start_response):
    with pool.lease(timeout=10):
        answer = f"{os.getpid()} {pool.stats().created <= 4}".encode()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [answer]
"""


@contextmanager
def apache(port: int) -> Iterator[None]:
    """Apache with the lines of the page; it ends without a word in its log.  Root lends a user."""
    module = MODULES / f"mod_wsgi.so-{sys.version_info[0]}.{sys.version_info[1]}"
    program = shutil.which("apache2", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    if program is None or not module.exists():
        pytest.skip("no Apache with a mod_wsgi of this Python (Debian: libapache2-mod-wsgi-py3)")
    if sysconfig.get_config_var("Py_DEBUG") or sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("mod_wsgi has a Python of another ABI")
    page = (HOWTO / "subinterpreters.md").read_text(encoding="utf-8")
    lines = re.findall(r"^    (WSGI.*)$", page, re.M)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copytree(ROOT / "src/fastpool", folder / "lib/fastpool")
        (folder / "app.wsgi").write_text(WSGI)
        setup = [
            f"ServerRoot {folder}",
            "ServerName localhost",
            f"PidFile {folder}/pid",
            f"Listen 127.0.0.1:{port}",
            f"ErrorLog {folder}/log",
            f"LoadModule mpm_event_module {MODULES}/mod_mpm_event.so",
            f"LoadModule authz_core_module {MODULES}/mod_authz_core.so",
            f"LoadModule wsgi_module {module}",
            *["User www-data", "Group www-data"] * (os.getuid() == 0),
            f"WSGIPythonPath {folder}/lib",
            f"WSGISocketPrefix {folder}/socket",
            *[line.replace("/srv/shop", name) for line in lines],
            f"<Directory {folder}>",
            "Require all granted",
            "</Directory>",
        ]
        setup = [
            f"{line} python-path={folder}/lib" if line.startswith("WSGIDaemonProcess") else line
            for line in setup
        ]
        (folder / "apache.conf").write_text("\n".join(setup))
        command = [program, "-d", name, "-f", f"{folder}/apache.conf", "-DFOREGROUND"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield
        finally:
            process.terminate()
            assert process.wait(60) == 0
            after = (folder / "log").read_text()
            assert not re.search(r"exit signal|Fatal Python|Traceback", after), after


@pytest.mark.servers
def test_apache_serves_the_page_by_its_processes() -> None:
    port = servers.free_port()
    answers: set[str] = set()

    def four_have_answered() -> bool:
        with ThreadPoolExecutor(8) as askers:
            answers.update(filter(None, askers.map(ask, [port] * 8)))
        return len(answers) == 4

    with apache(port):
        eventually(four_have_answered)
    assert all(answer.endswith(" True") for answer in answers)


# ---- When the server restarts --------------------------------------------------------------------


@pytest.mark.servers
def test_failover_second_by_second_is_measured() -> None:
    """The program that the page's figures come from; here for a moment only, and for half a minute
    where a busy machine has not had its server back by then."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    rows = failover(before=1, after=4)
    if not calls(rows, "up") or not calls(rows, "up again"):
        rows = failover(before=10, after=30)
    assert calls(rows, "up") and calls(rows, "up again"), rows
    first = next(row for row in rows if row[1] == "up")
    assert first[6].rstrip(" |") == "-"


def failover(before: int, after: int) -> list[list[str]]:
    """The rows that it prints, one a second."""
    seconds = ["--before", str(before), "--down", "1", "--after", str(after)]
    done = subprocess.run(
        [sys.executable, "-m", "bench.failover", *seconds],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=150,
    )
    if "NOT RUN" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    return [line.split(" | ") for line in done.stdout.splitlines() if re.match(r"\| \d", line)]


def calls(rows: list[list[str]], state: str) -> int:
    """How many there were while the server was in this state."""
    return sum(int(row[2]) for row in rows if row[1] == state)
