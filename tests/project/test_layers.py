"""The layers of the house: which folder may import which, and in which order inside a folder.

ROWS is the table by folder: a row imports only from rows above it, and only those that it names. A
module right below src/fastpool is a row of its own, and so is the compiled core with its parts in
core/ (its headers: test_headers.py). ORDER says the same of the modules inside a folder: each
imports only what stands above it there. So every arrow points up, and there is no circle. Imports
inside functions count, and so do those under `if TYPE_CHECKING:`: who names a type knows it. DOWN
holds those that point down still, for types alone; none may be added. When a new arrow is meant,
enter it here.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.once  # reads sources

PACKAGE = Path(__file__).resolve().parents[2] / "src/fastpool"

#: Row: the rows that it imports. "fastpool" is the public surface, src/fastpool/__init__.py.
ROWS: dict[str, set[str]] = {
    "errors": set(),
    "stats": set(),
    "_protocols": set(),
    "_gevent": set(),
    "_reports": set(),
    "_misuse": {"_reports"},
    "_blocking": {"errors", "_reports"},
    "_core": {"errors", "stats", "_gevent", "_reports", "_misuse", "_blocking"},
    "_runtime": {"_core", "_reports"},
    "_aio": {"_core", "_misuse", "_runtime"},
    "queue": {"errors", "_core"},
    "limits": {"errors", "_misuse", "_core", "_runtime"},
    # Knows no pool; its queue is the core's, and the scheduler has its budget look.
    "calls": {"errors", "stats", "_core", "_runtime"},
    "pool": {"errors", "stats", "_reports", "_misuse", "_blocking", "_core", "_runtime", "_aio"},
    "shared": {"errors", "stats", "_reports", "_misuse", "_core", "_runtime", "_aio", "pool"},
    "keyed": {
        "errors",
        "stats",
        "_reports",
        "_misuse",
        "_blocking",
        "_core",
        "_runtime",
        "_aio",
        "pool",
    },
    "cache": {"_core", "_runtime", "pool"},
    # Pools are handed in as shares, and budgets to pools as options: neither imports the other.
    "fleet": {"stats", "_reports", "_runtime"},
    "debug": {"stats", "_runtime"},  # pools are known to it by what they say of themselves
    "fastpool": {
        "errors",
        "_protocols",
        "_runtime",
        "limits",
        "pool",
        "shared",
        "keyed",
        "cache",
        "debug",
    },
    "testing": {
        "errors",
        "stats",
        "_core",
        "pool",
        "fastpool",
    },
    # Its calls are made by the core, which _aio tells of event loops.
    "grpc": {"errors", "_core", "_runtime", "_aio", "calls", "fastpool"},
    # Users of the pool: the public surface and public modules, nothing that begins with "_".
    "rpc": {"errors", "stats", "calls", "fastpool"},
    "contrib": {"errors", "stats", "queue", "debug", "fastpool"},
    "cli": {"errors", "stats", "queue", "fleet", "debug", "fastpool", "grpc", "rpc"},
    "__main__": {"cli"},
}

USERS = ("rpc", "contrib", "cli", "__main__")

#: Of them what has a part of its own in C: it may import that from `_core`.
IN_C = {"contrib._redis.silence", "contrib.dbapi._pool", "contrib.psycopg._connections"}

#: Folder: its modules, each of which imports only those before it. A package is its __init__.
ORDER: dict[str, str] = {
    "_runtime": "__init__ registry launch scheduler threads shutdown",
    "_aio": "__init__ wakeup timeouts loop hook_tasks offload slow_paths methods",
    "limits": "_options _threads _worker_pool _task_pool __init__",
    "calls": """
        _errors _fallback _clock _deadline _timeout _classify _permits _limit _adaptive_limit
        _window _breaker _retry _retry_after _attempts _waiting _functions
        _grpc _grpc.errors _grpc.stream_end _grpc.calls _grpc.channel _grpc.aio_course
        _grpc.aio_calls _grpc.aio_channel _grpc.wrap _policy __init__
    """,
    "pool": """
        _driver_errors _broken _options _policy _termination _budget _listeners _state
        _hook_deadlines _lease_tracking _own_blocks _closing
        _configuration _ended_waits _idle_checks _health_checks
        _attempt _creation _creation_in_caller _warming
        _opening _maintenance _returning _acquiring _manager _loop_hooks _awaiting_manager
        _closed_loops _loop_capacity _partitioned _on_loops _loop_pool _per_loop __init__
    """,
    "fleet": """
        _member _report _fairness _sockets _permit_file _thread
        _claim _distribution _redis_options _redis_engine _redis_report _redis
        _machine _local_options _local _postgres __init__
    """,
    "shared": """
        _options _termination _budget _loop_permits _lease_tracking _maintenance _manager
        _loop_pool _per_loop __init__
    """,
    "keyed": """
        _options _budget _key_pool _lazy_flag _idle_ages _capacity _manager
        _key_loops _loop_key_pool _loop_arbiter _per_loop __init__
    """,
    "testing": "script factory clock _leaks fixtures __init__",
    "debug": "_views _dump _signals _address _protocol _server _client __init__",
    "grpc": """
        _queue_order _options _channel_args _warm_up _channel_key _registry _handle _addresses
        _connectivity _health _open_streams _outliers _affinity _hedging _connection_set
        _sync _sync.errors _sync.callbacks _sync.subscriptions _sync.generator_stream
        _sync.dispatcher _sync.pending_call _sync.open_call _sync.connection _sync.health_watch
        _sync.liveness _sync.methods _sync.hedging _sync.connections _sync.channel
        _aio _aio.errors _aio.calls _aio.connection _aio.health_watch _aio.liveness _aio.affinity
        _aio.methods _aio.wait_queue _aio.loop_connections _aio.hedging _aio.connections
        _aio.channel
        _wait_ready __init__
    """,
    "rpc": """
        _errors _deadline _bounds _address _http_messages _jsonrpc_codec _jsonrpc_endpoint
        _jsonrpc_batch _xmlrpc_codec _socket_connection _exchange _pool_owner _socket_pool
        _plain_http
        _http_connection _jsonrpc _xmlrpc _aio_http_connection _aio_client _aio_jsonrpc _aio_xmlrpc
        __init__
    """,
    "contrib": """
        __init__ anyio prometheus otel
        _redis _redis.settings _redis.silence _redis.idle_lock _redis.threads _redis.loop_lock
        _redis.tasks
        redis._versions redis._metrics redis._threads redis redis._tasks redis.asyncio
        valkey valkey.asyncio
        dbapi._driver dbapi._returned dbapi._pool dbapi._pooled_db dbapi
        urllib3._lent urllib3._connections urllib3 urllib3.socks requests
        sqlalchemy._await sqlalchemy._records sqlalchemy._queue_pool
        sqlalchemy._async_queue_pool sqlalchemy._plugin sqlalchemy
        psycopg._settings psycopg._tries psycopg._connections psycopg._threads psycopg._tasks
        psycopg
        django django.postgresql django.postgresql.base
        django.mysql django.mysql._pools django.mysql.base
    """,
    "cli": """
        budget tables machine bench.competitors bench.timing bench.plot bench.claims bench
        demo.server_process demo.servers demo.accounting demo.load demo.clients demo.comparison
        demo.verdicts demo.outage demo.burst demo
        top.figures top.rates top.watch top.attach top.targets top.plain top.live_pool top.live
        top.web top
        __init__
    """,
}

#: Arrows that point down, for types alone: parts that hold their owner. To be cured one by one.
DOWN: set[tuple[str, str]] = {
    ("_aio.slow_paths", "pool._manager"),
    ("calls._grpc.wrap", "calls._policy"),
    ("calls._limit", "fleet"),
    ("calls._policy", "fleet"),
    ("grpc._aio.affinity", "grpc._aio.methods"),
    ("grpc._aio.connection", "grpc._aio.loop_connections"),
    ("grpc._aio.hedging", "grpc._aio.channel"),
    ("grpc._aio.liveness", "grpc._aio.loop_connections"),
    ("grpc._aio.methods", "grpc._aio.channel"),
    ("grpc._aio.methods", "grpc._aio.connections"),
    ("grpc._aio.methods", "grpc._aio.loop_connections"),
    ("grpc._aio.wait_queue", "grpc._aio.loop_connections"),
    ("grpc._sync.hedging", "grpc._sync.channel"),
    ("grpc._sync.liveness", "grpc._sync.connections"),
    ("grpc._sync.methods", "grpc._sync.channel"),
    ("grpc._sync.methods", "grpc._sync.connections"),
    ("grpc._sync.open_call", "grpc._sync.connections"),
    ("grpc._sync.subscriptions", "grpc._sync.connection"),
    ("keyed._key_pool", "keyed._manager"),
    ("pool._closing", "pool._manager"),
    ("pool._creation", "pool._manager"),
    ("pool._creation_in_caller", "pool._manager"),
    ("pool._health_checks", "pool._manager"),
    ("pool._lease_tracking", "pool._manager"),
    ("pool._loop_hooks", "pool._awaiting_manager"),
    ("pool._loop_pool", "pool._per_loop"),
    ("pool._maintenance", "pool._manager"),
    ("shared._maintenance", "shared._manager"),
}

SOURCES = (".py", ".pyx", ".pxi")


def module_of(path: Path) -> str:
    """The dotted name of a source file, below fastpool; "" is the package itself."""
    if path.suffix in (".pyx", ".pxi"):
        return "_core"
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def row_of(module: str) -> str:
    return module.partition(".")[0] or "fastpool"


def position_of(module: str) -> str:
    """What a module is called in the order of its folder."""
    return module.partition(".")[2] or "__init__"


def exists(module: str) -> bool:
    path = PACKAGE.joinpath(*module.split("."))
    return any(each.exists() for each in (path.with_suffix(".py"), path / "__init__.py"))


def resolve(path: Path, level: int, dotted: str, names: list[str]) -> Iterator[str]:
    """The modules that one import statement in `path` points at."""
    if level:
        package = ("fastpool", *path.relative_to(PACKAGE).parent.parts)
        if path.suffix == ".pxi":
            package = ("fastpool",)
        base = package[: len(package) - level + 1]
        dotted = ".".join(filter(None, [*base, dotted]))
    first, _, module = dotted.partition(".")
    if first != "fastpool":
        return
    for name in names or [""]:
        inner = ".".join(filter(None, [module, name]))
        yield inner if name and (inner == "_core" or exists(inner)) else module


def imports_of(path: Path) -> Iterator[tuple[str, int]]:
    """(module, line) of each import of fastpool in a source file."""
    text = path.read_text()
    if path.suffix != ".py":
        statement = r"^[ \t]*(?:from[ \t]+(?P<base>[\w.]+)[ \t]+c?import[ \t]+(?P<names>.+)"
        statement += r"|c?import[ \t]+(?P<plain>[\w.]+))"
        for match in re.finditer(statement, text, re.MULTILINE):
            dotted = match["base"] or match["plain"]
            bare = dotted.lstrip(".")
            names = re.findall(r"(\w+)(?:[ \t]+as[ \t]+\w+)?", match["names"] or "")
            line = text.count("\n", 0, match.start()) + 1
            for module in resolve(path, len(dotted) - len(bare), bare, names):
                yield module, line
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found = [each for name in node.names for each in resolve(path, 0, name.name, [])]
        elif isinstance(node, ast.ImportFrom):
            names = [name.name for name in node.names]
            found = list(resolve(path, node.level, node.module or "", names))
        elif isinstance(node, ast.Call) and is_import_call(node):
            dotted = node.args[0].value  # type: ignore[attr-defined]
            bare = dotted.lstrip(".")
            found = list(resolve(path, len(dotted) - len(bare), bare, []))
        else:
            continue
        for module in found:
            yield module, node.lineno


def is_import_call(node: ast.Call) -> bool:
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    constant = bool(node.args) and isinstance(node.args[0], ast.Constant)
    return name in ("import_module", "__import__") and constant


def sources() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*") if path.suffix in SOURCES)


def test_every_arrow_between_rows_points_up() -> None:
    order = list(ROWS)
    for row, arrows in ROWS.items():
        for arrow in arrows:
            assert order.index(arrow) < order.index(row), f"{row} stands above {arrow}"


def test_users_of_the_pool_are_granted_public_names_only() -> None:
    for row in USERS:
        assert not [arrow for arrow in ROWS[row] if arrow.startswith("_")], row


def test_the_tables_hold_what_there_is() -> None:
    modules = {module_of(path) for path in sources()}
    assert {row_of(module) for module in modules} == set(ROWS)
    folders = {row_of(module) for module in modules if "." in module}
    assert folders == set(ORDER)
    for folder in folders:
        inside = {position_of(module) for module in modules if row_of(module) == folder}
        assert sorted(ORDER[folder].split()) == sorted(inside), folder


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_the_tables_grant(path: Path) -> None:
    module = module_of(path)
    row, order = row_of(module), ORDER.get(row_of(module), "").split()
    new = set()
    for other, line in imports_of(path):
        if row_of(other) != row:
            granted = row_of(other) in ROWS[row] or (module in IN_C and other == "_core")
        elif other == module:
            granted = True
        else:
            granted = order.index(position_of(other)) < order.index(position_of(module))
        if not granted and (module, other) not in DOWN:
            new.add(f"{module or 'fastpool'} -> {other or 'fastpool'} (line {line})")
    assert not new, f"new arrows in {path.relative_to(PACKAGE)}: {sorted(new)}"


def test_arrows_that_point_down_are_still_there() -> None:
    """Whoever cures one takes it off the list."""
    drawn = {(module_of(path), other) for path in sources() for other, _ in imports_of(path)}
    assert drawn >= DOWN, f"cured: {sorted(DOWN - drawn)}"


def test_the_check_sees_an_arrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: each way to write an import is found."""
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    written = {
        "pool/_parts.py": "",
        "pool/__init__.py": "",
        "calls/__init__.py": "def late():\n    from ..pool._parts import Part\n",
        "calls/_inner/deep.py": "from ...pool import _parts\n",
        "stats.py": "import fastpool.pool._parts\n",
        "queue.py": "from fastpool.pool import _parts\n",
        "cache.py": "import importlib\nimportlib.import_module('fastpool.pool._parts')\n",
        "limits.py": "from .pool import _parts, errors\n",
        "_core.pyx": "cdef f():\n    from fastpool.pool._parts import FastPool as Pool\n",
        "core/pool.pxi": "cdef f():\n    from fastpool.pool import _parts\n",
        "keyed.py": "TYPE_CHECKING = False\nif TYPE_CHECKING:\n    import fastpool.pool._parts\n",
    }
    for name, text in written.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name in list(written)[2:]:
        seen = {module for module, _ in imports_of(tmp_path / name)}
        assert "pool._parts" in seen, name
