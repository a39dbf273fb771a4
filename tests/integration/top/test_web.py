"""The page of `fastpool top --web`, by HTTP, on a program with a leak."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from fastpool import FastPool, debug
from fastpool.cli.top.watch import Watch
from fastpool.cli.top.web import FILES, PageServer
from integration.top.conftest import LEAK, Program
from support.helpers import PATIENCE, eventually

pytestmark = [pytest.mark.process, pytest.mark.once]


@pytest.fixture
def page(process: debug.Connection) -> Iterator[PageServer]:
    """The server of the page, which looks whenever it is asked."""
    with PageServer(Watch(process), 0, interval=0.0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetch(url: str, **headers: str) -> tuple[int, Any, bytes]:
    """Status, headers and body."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE)
    connection.request("GET", parts.path + ("?" + parts.query) * bool(parts.query), headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.headers, body


def pools(page: PageServer) -> dict[str, Any]:
    status, _, body = fetch(f"{page.url}pools.json")
    assert status == 200
    return json.loads(body)


def named(seen: dict[str, Any], name: str) -> dict[str, Any]:
    (row,) = (row for row in seen["rows"] if row["name"] == name)
    return row


# ---- what is served ----------------------------------------------------------------------------


def test_the_page_needs_nothing_from_elsewhere(page: PageServer) -> None:
    for name, (_, kind) in FILES.items():
        status, headers, body = fetch(page.url + name)
        assert status == 200 and headers["Content-Type"] == f"{kind}; charset=utf-8"
        text = body.decode()
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), name
        assert "innerHTML" not in text  # names are another process's
        assert "default-src 'none'" in headers["Content-Security-Policy"]
    status, _, body = fetch(page.url)
    asked_for = re.findall(r'(?:src|href)="([^"#:]+)"', body.decode())
    assert set(asked_for) == set(FILES) - {""}


def test_pools_are_seen_with_the_code_that_leaks(page: PageServer, program: Program) -> None:
    seen = pools(page)
    assert seen["pid"] == program.pid and seen["gone"] == ""
    assert named(seen, "orders")["oldest"]["place"].endswith(LEAK)
    program.tell("turn")
    seen = pools(page)
    row = named(seen, "orders")
    assert (row["used"], row["max"], row["timeouts"]) == (2, 3, 1)
    used, waiting = seen["series"][row["key"]]
    assert used[-1] == 2 and len(used) == len(waiting) >= 3


def test_one_pool_is_seen_closely(page: PageServer, program: Program) -> None:
    program.tell("leak")
    number = named(pools(page), "orders")["id"]
    _, _, body = fetch(f"{page.url}pool.json?id={number}")
    detail = json.loads(body)
    assert len(detail["holders"]) == 2
    assert detail["places"][0]["count"] == 2 and detail["places"][0]["place"].endswith(LEAK)
    assert detail["holders"][0]["thread"] == "checkout-7"
    assert fetch(f"{page.url}pool.json?id=1")[2] == b"null"


def test_the_end_of_the_process_leaves_what_was_seen(page: PageServer, program: Program) -> None:
    number = named(pools(page), "orders")["id"]
    program.end()
    for _ in range(2):
        seen = pools(page)
        assert "has closed the connection" in seen["gone"]
        assert named(seen, "orders")["used"] == 1
    assert fetch(f"{page.url}pool.json?id={number}")[2] == b"null"


def test_many_pages_cost_the_process_one_look(process: debug.Connection) -> None:
    watch = Watch(process)
    with PageServer(watch, 0, interval=3600.0) as server:
        first = server.pools()
        assert all(server.pools()["time"] == first["time"] for _ in range(5))


# ---- who may look ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/pools.json", "/x/pools.json", "/%6b/", "//", "/%C3%A9/"])
def test_without_the_key_nothing_is_shown(page: PageServer, path: str) -> None:
    url = f"http://127.0.0.1:{page.server_port}"
    status, _, body = fetch(url + path)
    assert status == 404 and b"address that was printed" in body


@pytest.mark.parametrize(
    "name",
    ["../__init__.py", "page.txt", "pool.json", "pool.json?id=x", f"pool.json?id={5000 * '9'}"],
    ids=["folder", "file", "no id", "no number", "long number"],
)
def test_nothing_else_is_there(page: PageServer, name: str) -> None:
    assert fetch(page.url + name)[0] == 404


def test_a_name_that_leads_to_loopback_is_refused(page: PageServer) -> None:
    """A page of elsewhere whose name is made to lead here has its own name in Host."""
    port = page.server_port
    assert fetch(page.url, Host=f"evil.example:{port}")[0] == 404
    assert fetch(page.url, Host="localhost:8080")[0] == 200  # a port that is forwarded


def test_it_listens_on_loopback_only(page: PageServer) -> None:
    assert page.server_address[0] == "127.0.0.1"
    assert len(page.key) >= 20 and page.key in page.url


# ---- the command -------------------------------------------------------------------------------


def served(program: Program, environment: dict[str, str], *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fastpool", "top", program.address, "--web"]
    return subprocess.Popen(
        [*command, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_the_command_serves_until_it_is_interrupted(
    program: Program, environment: dict[str, str]
) -> None:
    viewer = served(program, environment, "0")
    assert viewer.stdout is not None
    url = viewer.stdout.readline().strip()
    with urllib.request.urlopen(f"{url}pools.json", timeout=PATIENCE) as answer:
        assert named(json.load(answer), "orders")["creates_per_s"] is not None
    viewer.send_signal(signal.SIGINT)
    _, said = viewer.communicate()
    assert (viewer.returncode, said) == (130, "")


def test_a_port_that_is_taken_is_explained(program: Program, environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        viewer = served(program, environment, str(taken.getsockname()[1]))
        _, said = viewer.communicate()
    assert viewer.returncode == 1 and "in use" in said and "Traceback" not in said


def test_the_page_is_not_printed_too(top: Callable[..., Any]) -> None:
    done = top("--web", "0", "--once")
    assert done.returncode == 2 and "without --once" in done.stderr


def test_a_pool_that_is_gone_is_not_there(tmp_path: Any) -> None:
    with debug.serve("tcp:127.0.0.1:0", token="t") as server:
        with debug.connect(server.address, token="t") as here:
            pool = FastPool(1, factory=object, name="short")
            number = id(pool)
            with PageServer(Watch(here), 0) as page:
                assert page.pool(number) is not None
                pool.close()
                del pool
                eventually(lambda: page.pool(number) is None)
