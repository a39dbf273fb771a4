"""The documents are true: their Python runs as it stands, their links lead somewhere.

All Python blocks of a document are one program, run in a process of its own in an empty folder.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix() for path in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
)

#: Document: modules it needs.
NEEDS = {
    "docs/howto/budget.md": ["redis"],
    "docs/howto/calls-grpc.md": ["grpc"],
    "docs/howto/celery.md": ["celery"],
    "docs/howto/fastapi.md": ["fastapi", "uvicorn"],
    "docs/howto/dbapi.md": ["dbutils"],
    "docs/howto/gevent.md": ["gevent"],
    "docs/howto/grpc-aio.md": ["grpc"],
    "docs/howto/grpc-channel.md": ["grpc"],
    "docs/howto/grpc-load.md": ["grpc"],
    "docs/howto/grpc-observability.md": [
        "grpc",
        "opentelemetry.instrumentation.grpc",
        "opentelemetry.sdk",
    ],
    "docs/howto/grpc-streams.md": ["grpc"],
    "docs/howto/grpc-tls.md": ["grpc"],
    "docs/howto/grpc-workers.md": ["grpc"],
    "docs/howto/http.md": ["urllib3", "requests"],
    "docs/howto/metrics.md": ["prometheus_client", "opentelemetry.sdk"],
    "docs/howto/django.md": ["django", "psycopg_pool"],
    "docs/howto/psycopg.md": ["psycopg_pool"],
    "docs/howto/redis.md": ["redis"],
    "docs/howto/recipes/asyncpg.md": ["asyncpg"],
    "docs/howto/recipes/clients.md": ["httpx"],
    "docs/howto/recipes/ldap.md": ["ldap3"],
    "docs/howto/recipes/ssh.md": ["paramiko"],
    "docs/howto/replace-a-queue.md": ["redis", "urllib3"],
    "docs/howto/rpc.md": ["urllib3", "httpx"],
    "docs/howto/sqlalchemy.md": ["sqlalchemy"],
    "docs/howto/trio.md": ["anyio", "trio"],
    "docs/tutorial/first-grpc-channel.md": ["grpc"],
}
#: Document: address written there, and the fixture that serves it here.
SERVERS = {
    "docs/howto/calls-grpc.md": ("localhost:50051", "greeter"),
    "docs/howto/grpc-aio.md": ("localhost:50051", "greeter"),
    "docs/howto/grpc-channel.md": ("localhost:50051", "greeter"),
    "docs/howto/grpc-load.md": ("localhost:50051", "greeter"),
    "docs/howto/grpc-observability.md": ("localhost:50051", "greeter"),
    "docs/howto/grpc-streams.md": ("localhost:50051", "greeter"),
    "docs/howto/grpc-tls.md": ("localhost:50051", "greeter_over_tls"),
    "docs/howto/grpc-workers.md": ("localhost:50051", "greeter"),
    "docs/tutorial/first-grpc-channel.md": ("localhost:50051", "greeter"),
    "docs/howto/http.md": ("8000", "web_server"),
    "docs/howto/replace-a-queue.md": ("8000", "web_server"),
    "docs/howto/recipes/asyncpg.md": ("5432", "postgresql"),
    "docs/howto/recipes/clients.md": ("8000", "web_server"),
    "docs/howto/recipes/ldap.md": ("3389", "ldap"),
    "docs/howto/recipes/ssh.md": ("2222", "ssh"),
    "docs/howto/coming-from-redigo.md": ("6379", "redis_server"),
    "docs/howto/redis.md": ("6379", "redis_server"),
    "docs/howto/django.md": ("5432", "postgresql_server"),
    "docs/howto/psycopg.md": ("5432", "postgresql_server"),
}
#: Document: a warning of what it uses that is none of ours.
IGNORED = {"docs/howto/recipes/ldap.md": "ignore::DeprecationWarning:ldap3.utils.asn1"}
#: Document: what it prints, as a regular expression; nothing for the others.
PRINTS = {
    "docs/howto/calls.md": r"circuit breaker stock: closed -> open, 4 of 4 calls failed\n"
    r"stock: not tried: circuit breaker 'stock' is open .* probe in 30 s; see .*\n"
    r"circuit breaker breaker-1: closed -> open, tripped by hand",
    "docs/howto/asyncio.md": r"190\n42\n\['a', 'from', 'thread'\]\n7\n7\n2 \{'loop': 2\}",
    "docs/howto/dbapi.md": r"pool-1: cursor: .* given back .*\nCannot operate on a closed cursor.*",
    "docs/howto/django.md": r"True True 0",
    "docs/howto/gevent.md": r"190",
    "docs/howto/grpc-channel.md": r".*localhost:1 \(TRANSIENT_FAILURE\).*",
    "docs/howto/budget.md": r"budget 'orders': 1 of 60 permits in force, .*\n"
    r"WHO HAS WHAT\? budget 'partner': 1 of 100 permits in force, .*\n"
    r"1 budget 'streams': 1 of 500 permits in force, .*",
    "docs/reference/fleet.md": r"budget 'orders': 1 of 60 permits in force, .*",
    "docs/howto/limits.md": r"upload memory: n is 100000001, .*\nreports: full: 1 tasks .*",
    "docs/howto/psycopg.md": r"1\ncouldn't get .* 1 leased, .*\n  held by MainThread for .*\n"
    r"  see docs.*",
    "docs/howto/replace-a-queue.md": r"Queue has no 'mutex'.*\nOrdered has no '_put'.*",
    "docs/howto/sqlalchemy.md": r"1 0 0 0",
    "docs/howto/trio.md": r"10 turns, True True\n10 turns, True True",
    "docs/howto/shared-pool.md": r"search: no slot within 0\.\d+ s .* 2 leases on 1 resources .*",
    "docs/howto/who-holds-it.md": r"fastpool [\s\S]*in report\n[\s\S]*unix:.*\ntcp:127.*",
    "docs/howto/resource-pool.md": r"db: the caller holds all 1.*\nhalf of the waits were over.*",
}


def blocks(document: str) -> str:
    """The Python of a document, in order, as one program whose line numbers are the document's."""
    program, inside = [], False
    for line in (ROOT / document).read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            inside = not inside and line == "```python"
            line = ""
        program.append(line if inside else "")
    return "\n".join(program).rstrip()


def installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even what it is a part of
        return False


WITH_CODE = [document for document in DOCUMENTS if blocks(document)]


@pytest.mark.process
@pytest.mark.light
@pytest.mark.once  # it uses what `contract/` shows on each interpreter
@pytest.mark.parametrize("document", WITH_CODE)
def test_its_code_runs(document: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    for module in NEEDS.get(document, []):
        if not installed(module):
            pytest.skip(f"{module} is not installed")
    program = blocks(document)
    if document in SERVERS:
        written, fixture = SERVERS[document]
        program = program.replace(written, request.getfixturevalue(fixture))
    warnings = ",".join(filter(None, ["error", IGNORED.get(document)]))
    environment = {**os.environ, "PYTHONWARNINGS": warnings, "GRPC_VERBOSITY": "NONE"}
    if paths := environment.get("PYTHONPATH"):  # the program runs in another folder
        absolute = (str(Path(path).resolve()) for path in paths.split(os.pathsep) if path)
        environment["PYTHONPATH"] = os.pathsep.join(absolute)
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=50,
        env=environment,
        cwd=tmp_path,
    )
    # The program's own traceback is the message: its lines are those of the document.
    assert done.returncode == 0, f"{document} ended with {done.returncode}\n{done.stderr}"
    assert not done.stderr, done.stderr
    assert re.fullmatch(PRINTS.get(document, ""), done.stdout.strip()), done.stdout


def test_the_readme_and_the_guides_have_code() -> None:
    """Or the test above would pass on documents that it does not understand."""
    assert {"README.md", "docs/tutorial/first-pool.md", *NEEDS, *SERVERS, *PRINTS} <= {*WITH_CODE}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_its_links_lead_somewhere(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        found = (ROOT / document).parent / path if path else ROOT / document
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found.read_text(encoding="utf-8")), target


def anchors(text: str) -> set[str]:
    """How the headings of a document are linked to."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#+ (.*)$", text, re.M):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


@pytest.fixture
def greeter() -> Iterator[str]:
    """The target of the server that the documents on gRPC talk to."""
    from integration.grpc.greeter_server import GreeterServer

    with GreeterServer() as server:
        yield server.target


@pytest.fixture
def greeter_over_tls(certificate: tuple[Path, Path], tmp_path: Path) -> Iterator[str]:
    """The same, and `ca.pem` where the program runs."""
    from integration.grpc.greeter_server import GreeterServer

    shutil.copy(certificate[1], tmp_path / "ca.pem")
    with GreeterServer(certificate) as server:
        yield server.target


@pytest.fixture
def postgresql_server() -> Iterator[str]:
    """The port of a PostgreSQL that has a database `app` of a user `app`."""
    from bench import servers
    from bench.hosts.sqlalchemy import servers_ready
    from bench.measure import NotRun

    with ExitStack() as stack:
        try:
            port = stack.enter_context(servers.postgresql())
            servers_ready(port)
        except NotRun as reason:
            pytest.skip(str(reason))
        psql = [servers.postgresql_programs() / "psql", "-q", "-h", "127.0.0.1", "-p", str(port)]
        for made in ("create role app login", "create database app owner app"):
            subprocess.run([*psql, "-U", "bench", "-c", made, "postgres"], check=True)
        yield str(port)


@contextmanager
def server_of(kind: str) -> Iterator[Any]:
    from bench.measure import NotRun
    from integration.drivers import killed_servers

    with ExitStack() as stack:
        try:
            server = stack.enter_context(killed_servers.running(getattr(killed_servers, kind)))
        except NotRun as reason:
            pytest.skip(str(reason))
        yield server


@pytest.fixture
def postgresql() -> Iterator[str]:
    """The port of a server that trusts loopback."""
    with server_of("PostgreSQL") as server:
        yield str(server.port)


@pytest.fixture
def ldap() -> Iterator[str]:
    """The port of an empty directory."""
    with server_of("LDAP") as server:
        yield str(server.port)


@pytest.fixture
def ssh(tmp_path: Path) -> Iterator[str]:
    """The port of an SSH server, and `key` where the program runs."""
    with server_of("SSH") as server:
        shutil.copy(server.key, tmp_path / "key")
        yield str(server.port)


class Page(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def web_server() -> Iterator[str]:
    """The port of a server that says yes."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield str(server.server_address[1])
        server.shutdown()
        thread.join()
