"""`fastpool demo`: its figures and verdicts, its exit codes, and that it leaves nothing behind."""

from __future__ import annotations

import io
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fastpool import FastPool
from fastpool.cli import demo, main
from fastpool.cli.demo import Chapter, verdicts
from fastpool.cli.demo import clients as demo_clients
from fastpool.cli.demo.accounting import audit, cap_kept, no_errors
from fastpool.cli.demo.clients import EchoClient, Running, Way, XmlRpcClient
from fastpool.cli.demo.comparison import Pace, Result, compare
from fastpool.cli.demo.load import Load, clock
from fastpool.cli.demo.servers import Server, ServerFailed
from fastpool.cli.tables import PlainView, Row
from support.helpers import eventually

pytestmark = [pytest.mark.process, pytest.mark.once]

COMMAND = [sys.executable, "-m", "fastpool", "demo"]
HAS_GRPC = __import__("importlib.util").util.find_spec("grpc") is not None
PROC = Path("/proc/self/stat").exists()

with_grpc = pytest.mark.skipif(not HAS_GRPC, reason="grpcio is not installed")
on_posix = pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")


def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """The demo in a process group of its own, as a shell starts it."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen([*COMMAND, *arguments], text=True, process_group=0, **options)


def children_of(pid: int) -> set[int]:
    """The processes that a process has started and that still run, by the kernel's account."""
    if not PROC:
        pytest.skip("this system has no /proc")
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it has ended meanwhile
            continue
        if int(parent) == pid and state != "Z":
            found.add(int(path.parent.name))
    return found


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Said(PlainView):
    """A view that keeps what it was told."""

    def __init__(self) -> None:
        self.text = ""

    def say(self, text: str = "") -> None:
        self.text += text + "\n"


# -- the whole of it ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole() -> subprocess.CompletedProcess[str]:
    """One short run, not on a terminal."""
    return subprocess.run(
        [*COMMAND, "--seconds", "4", "--threads", "12"], capture_output=True, text=True, timeout=60
    )


def test_all_checks_hold_and_the_exit_code_is_0(
    whole: subprocess.CompletedProcess[str],
) -> None:
    assert whole.returncode == 0, whole.stdout + whole.stderr
    held, announced = re.search(r"^(\d+) of (\d+) checks held", whole.stdout, re.M).groups()
    assert held == announced == str(whole.stdout.count("[ok]"))
    assert "[FAILED]" not in whole.stdout
    assert whole.stderr == ""


def test_every_way_has_its_figures(whole: subprocess.CompletedProcess[str]) -> None:
    labels = ["a connection per call", "queue.LifoQueue of 8", "FastPool(8)"]
    for label in labels:
        rows = re.findall(rf"^  {re.escape(label)} +(.+)$", whole.stdout, re.M)
        assert len(rows) == 2, label  # XML-RPC and TCP echo
        for row in rows:
            rate, p50, p99, opened, errors, evenness = (
                float(cell.replace(",", "")) for cell in row.split()
            )
            assert rate > 0 and 0 < p50 <= p99 and errors == 0 and 0 <= evenness <= 1
            assert opened > 8 if label == labels[0] else opened == 8
    assert whole.stdout.count("  stats(): ") == 3 + 2 * HAS_GRPC
    assert re.search(
        r"first answer [\d.]+ ms after the server's return, 0 errors since", whole.stdout
    )


def test_it_is_readable_at_80_columns_and_without_colour(
    whole: subprocess.CompletedProcess[str],
) -> None:
    assert max(map(len, whole.stdout.splitlines())) <= 80
    assert whole.stdout.isascii() and "\x1b" not in whole.stdout


def test_grpc_has_its_chapters_where_grpcio_is(whole: subprocess.CompletedProcess[str]) -> None:
    if HAS_GRPC:
        assert "  fastpool.grpc.shared() " in whole.stdout
        assert "[ok] one connection for all threads (at the server: 1)" in whole.stdout
        assert "  aio_shared(): all 2,000 answered in " in whole.stdout
        assert "[ok] none of 2,000 calls failed\n" in whole.stdout
    else:
        assert "not run, grpcio is missing (pip install 'fastpool[grpc]')" in whole.stdout


def test_without_grpcio_the_rest_is_run_and_decides() -> None:
    code = "import sys; sys.modules['grpc'] = None; from fastpool.cli import main;"
    code += "sys.exit(main(['demo', '--seconds', '2', '--threads', '4']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "gRPC chapters: not run, grpcio is missing" in done.stdout
    assert "XML-RPC" in done.stdout and "fastpool.grpc" not in done.stdout
    assert "ms at once" not in done.stdout


@on_posix
@pytest.mark.long
def test_on_a_terminal_the_table_moves() -> None:
    pytest.importorskip("rich", reason="rich is not installed")
    import pty

    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    process = start("--seconds", "2", "--threads", "4", stdout=theirs, env=environment)
    os.close(theirs)
    text = b""
    while select.select([ours], [], [], 30)[0]:
        try:
            text += os.read(ours, 65536)
        except OSError:  # the other end is closed: the process has ended
            break
    _, errors = process.communicate(timeout=30)
    os.close(ours)
    assert (process.returncode, errors) == (0, "")
    assert text.count(b"FastPool(8)") > 4  # drawn again and again
    assert b"\x1b[?25h" in text[text.rfind(b"\x1b[?25l") :]  # the cursor is shown again
    assert re.search(rb"\d+ of \d+ checks held\.\s*$", text)


# -- its end -----------------------------------------------------------------------------------


def until(process: subprocess.Popen[str], words: str) -> None:
    """Read what the demo prints up to a line with these words."""
    assert process.stdout is not None
    for line in process.stdout:
        if words in line:
            return
    raise AssertionError(f"ended with {process.wait()} before {words!r}: {process.stderr}")


@on_posix
@pytest.mark.parametrize(
    "moment",
    [
        "opened: connections",
        pytest.param("XML-RPC", marks=pytest.mark.long),
        pytest.param("killed and restarted", marks=pytest.mark.long),
        pytest.param("ms at once", marks=[with_grpc, pytest.mark.long]),
        # which is told when it is over
        pytest.param("4 channels by hand", marks=[with_grpc, pytest.mark.long]),
    ],
)
def test_ctrl_c_ends_it_cleanly(moment: str) -> None:
    process = start("--seconds", "6", "--threads", "8")
    until(process, moment)
    children = children_of(process.pid) if PROC else set()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130, errors
    assert errors == "\ninterrupted; the servers have been stopped\n"
    # One that was being started as the signal came is not waited for; it sees the end of its pipe.
    eventually(lambda: not any(map(running, children)))


def test_ctrl_c_within_an_exec_is_as_any_other() -> None:
    """As when it comes while a module that has a dataclass is imported. CPython 3.13 ended by the
    signal, though it was handled."""
    code = "import sys; from fastpool import cli\n"
    code += "cli._demo = lambda options: exec('raise KeyboardInterrupt')\n"
    code += "sys.exit(cli.main(['demo']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 130
    assert done.stderr == "\ninterrupted; the servers have been stopped\n"


@on_posix
def test_the_servers_die_with_a_killed_parent() -> None:
    process = start("--seconds", "6", "--threads", "4")
    until(process, "XML-RPC")
    children = children_of(process.pid)
    assert len(children) == 2 + 2 * HAS_GRPC
    process.kill()
    process.communicate()
    eventually(lambda: not any(map(running, children)))


@on_posix
def test_a_reader_who_has_seen_enough_is_no_error_to_trace() -> None:
    process = start("--seconds", "2", "--threads", "4")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(30) == 1
    assert errors == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["demo", "--seconds", "1"], "must be 2 to 3600, not 1"),
        (["demo", "--seconds", "nan"], "must be 2 to 3600, not nan"),
        (["demo", "--threads", "0"], "must be 1 to 1000, not 0"),
        (["demo", "--threads", "many"], "'many'"),
    ],
)
def test_bad_arguments_are_named(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


# -- what the checks see -----------------------------------------------------------------------


@pytest.fixture
def echo() -> Iterator[Server]:
    with Server("echo") as server:
        yield server.ready()


@contextmanager
def leaking(server: Server) -> Iterator[Running]:
    """A pool one of whose leases is never given back while anybody looks."""
    with FastPool(8, factory=lambda: EchoClient(server.address), name="leaking") as pool:
        lost = pool.acquire()

        def call() -> None:
            with pool.lease() as connection:
                connection.call()

        try:
            yield Running(call, pool, lambda: "")
        finally:
            lost.release()


@contextmanager
def too_large(server: Server) -> Iterator[Running]:
    with demo_clients.fast_pool(EchoClient, 9, server) as running:
        yield running


@contextmanager
def lying(server: Server) -> Iterator[Running]:
    """A connection is opened that the pool knows nothing of."""
    with EchoClient(server.address), demo_clients.fast_pool(EchoClient, 7, server) as running:
        yield running


@contextmanager
def failing(server: Server) -> Iterator[Running]:
    with demo_clients.fast_pool(EchoClient, 8, server) as running:
        calls = iter(range(10**9))

        def call() -> None:
            running.call()
            if next(calls) == 5:
                raise ValueError("one wrong reply")

        yield running._replace(call=call)


@pytest.mark.parametrize(
    ("way", "failed"),
    [
        (leaking, "none leaked: made 8 = closed 0 + open 8, leased 1; server has 8 open"),
        (too_large, "never more than 8 connections at once (most at the server: 9)"),
        (lying, "none leaked: made 7 = closed 0 + open 7, leased 0; server has 8 open"),
        (failing, "no call failed: ValueError 1"),
    ],
)
def test_what_is_wrong_fails_the_demo(
    way: Callable[[Server], Any],
    failed: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    chapter = Chapter("echo", "echo", [WAY, Way("ours", "ours", way)], verdicts.pool_checks)
    monkeypatch.setattr(demo, "chapters", lambda size: [chapter])
    monkeypatch.setattr(
        Server.wait_until, "__defaults__", (0.2,)
    )  # what never comes is not awaited
    assert main(["demo", "--seconds", "2", "--threads", "12"]) == 1
    printed = capsys.readouterr().out
    assert f"[FAILED] {failed}" in printed
    assert re.search(r"\d+ of \d+ checks held, \d+ failed\.\n$", printed)


def per_call(server: Server) -> Any:
    return demo_clients.connection_per_call(EchoClient, server)


WAY = Way("a connection per call", "a connection per call", per_call)


def test_a_check_that_cannot_be_looked_at_is_neither_held_nor_failed() -> None:
    assert cap_kept([None, None], 8).held is None
    view = Said()
    assert demo._conclude(view, [cap_kept([None], 8), no_errors(Counter())])
    assert "1 of 2 checks held, 1 not run." in view.text


def test_the_audit_shows_what_is_wrong_not_what_came_last(echo: Server) -> None:
    pace = Pace(threads=4, rounds=1, warm=0.01, measured=0.03)
    open_ = [Way("w", "w", lambda server: demo_clients.fast_pool(EchoClient, 2, server))]

    def in_order() -> Any:
        """Accounts that are right: on a busy machine the server may hear of an end too late."""
        accounts = compare("t", open_, echo, pace, Said())[0].runs[0].accounts
        assert accounts is not None
        return accounts if all(check.held for check in audit([accounts])) else None

    good = eventually(in_order)
    assert [check.held for check in audit([good, good])] == [True, True]
    bad = good._replace(idle_server=7, closed_server=1)
    first, second = audit([good, bad, good])
    assert (first.held, second.held) == (False, False)
    assert "server has 7 open" in first.text and second.text.endswith("server 1")


# -- its sentences -----------------------------------------------------------------------------


def result(
    name: str, rate: float, opened: int, evenness: float = 1.0, p50: float = 0.001
) -> Result:
    class Fixed(Result):
        rate = property(lambda self: FIGURES[self.way.name][0])  # type: ignore[assignment]
        opened = property(lambda self: FIGURES[self.way.name][1])  # type: ignore[assignment]
        evenness = property(lambda self: FIGURES[self.way.name][2])  # type: ignore[assignment]
        p50 = property(lambda self: FIGURES[self.way.name][3])  # type: ignore[assignment]

    FIGURES[name] = (rate, opened, evenness, p50)
    return Fixed(Way(name, name, per_call), [])


FIGURES: dict[str, tuple[float, int, float, float]] = {}


@pytest.mark.parametrize(
    ("ours", "rival", "says"),
    [
        ((3100, 8), (1000, 12345), "ours: 3.1x the calls/s of rival; 8 connections, not 12,345"),
        ((1300, 1), (1000, 9), "ours: 1.30x the calls/s of rival; 1 connection, not 9"),
        ((1020, 8), (1000, 9), "ours: as many calls/s as rival (1.02x); 8 connections, not 9"),
        ((980, 8), (1000, 9), "ours: as many calls/s as rival (0.98x); 8 connections, not 9"),
        ((590, 8), (1000, 9), "ours: slower than rival, 0.59x its calls/s; 8 connections, not 9"),
        ((0, 8), (1000, 9), "ours: 0 calls/s, rival 1,000; 8 connections, not 9"),
        (
            (900, 8, 0.97),
            (1000, 8, 0.004),
            "ours: slower than rival, 0.90x its calls/s; least/most 0.97, not 0.00",
        ),
    ],
)
def test_verdicts_say_who_was_faster(ours: Any, rival: Any, says: str) -> None:
    assert verdicts.verdict(result("ours", *ours), result("rival", *rival)) == says


@pytest.mark.parametrize(
    ("ours", "rival", "is_told"),
    [
        ((1000, 8, 0.9, 0.010), (1000, 8, 0.0, 0.002), True),
        ((1000, 8, 0.9, 0.010), (1000, 8, 0.8, 0.002), False),  # it starves nobody
        ((1000, 8, 0.9, 0.010), (1000, 8, 0.0, 0.010), False),  # its p50 is no better
        ((1000, 8, 0.9, 0.010), (1500, 8, 0.0, 0.002), False),  # it is faster, and so is its p50
    ],
)
def test_a_better_median_of_a_queue_that_starves_is_explained(
    ours: Any, rival: Any, is_told: bool
) -> None:
    told = verdicts.better_median(result("ours", *ours), result("rival", *rival))
    assert bool(told) == is_told
    if is_told:
        assert "The p50 of rival is lower (2.00 ms, not 10.00) because it starves threads" in told
        assert told.endswith("least/most: 0.00, not 0.90")


@pytest.mark.parametrize(
    ("opened", "rivals", "held"), [(8, 9, True), (3, 4, True), (4, 3, None), (9, 9, False)]
)
def test_connections_are_compared_when_there_were_enough(
    opened: int, rivals: int, held: bool | None
) -> None:
    """A turn on a busy machine may end after the rival's first calls."""
    ours, rival = result("ours", 1, opened), result("rival", 1, rivals)
    assert verdicts.fewer_connections(ours, rival, 8).held is held


def test_rows_stay_in_their_columns() -> None:
    row = Row("queue.LifoQueue, 8 channels", 123456.7, 0.0123, 1.23456, 123456, 123456, 0.5)
    view = Said()
    view.begin("title", [row.label])
    view.complete(0, row)
    heading, line = view.text.splitlines()[-2:]
    assert len(heading) == len(line) == 80
    assert line.split()[-6:] == ["123,457", "12.30", "1,234.6", "123,456", "123,456", "0.50"]
    view.complete(0, Row("as slow as it may be", p50=12.3456, p99=123.456))
    assert view.text.split()[-6:] == ["-", "12,346", "123,456", "-", "-", "-"]
    view.complete(0, Row("nothing measured", p50=float("nan")))
    assert view.text.splitlines()[-1].split()[2:] == ["-"] * 6


# -- its parts ---------------------------------------------------------------------------------


def test_servers_count_what_is_open(echo: Server) -> None:
    clients = [EchoClient(echo.address) for _ in range(3)]
    for client in clients:
        client.call()
        assert client.alive()
    assert echo.counts() == (3, 3, 3)
    clients.pop().close()
    assert echo.wait_until(lambda now: now.open == 2) == (3, 2, 3)
    assert echo.mark().peak == 2
    for client in clients:
        client.close()
    assert echo.wait_until(lambda now: now.open == 0) == (3, 0, 2)


def test_a_killed_server_comes_back_on_its_port(echo: Server) -> None:
    with EchoClient(echo.address) as client:
        client.call()
        port = echo.port
        echo.kill()
        eventually(lambda: not client.alive())
        with pytest.raises((OSError, EOFError)):
            client.call()
        with pytest.raises(OSError):
            EchoClient(echo.address)
    echo.restart()
    assert (echo.port, echo.counts()) == (port, (0, 0, 0))
    with EchoClient(echo.address) as client:
        client.call()


def test_a_server_that_is_gone_is_an_error_with_a_name(echo: Server) -> None:
    echo.kill()
    with pytest.raises(ServerFailed, match="echo server"):
        echo.counts()
    echo.close()
    echo.close()


def test_a_server_that_cannot_start_fails_the_demo(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        demo, "chapters", lambda size: [Chapter("t", "nonsense", [WAY], verdicts.pool_checks)]
    )
    assert main(["demo"]) == 1
    assert "the nonsense server ended unexpectedly (exit code 1)" in capsys.readouterr().err


def test_the_xml_rpc_server_keeps_connections_open() -> None:
    with Server("xmlrpc") as server:
        server.ready()
        with XmlRpcClient(server.address) as client:
            for _ in range(5):
                client.call()
            assert server.counts() == (1, 1, 1)
        assert server.wait_until(lambda now: now.open == 0) == (1, 0, 1)


def test_a_load_notes_calls_errors_and_evenness() -> None:
    calls = iter(range(10**9))

    def call() -> None:
        if next(calls) % 3 == 0:
            raise KeyError

    begun = clock()
    with Load(call, 4, pause=0.001) as load:
        eventually(lambda: load.calls() > 40)
    ended = clock()
    figures = load.between(begun, ended)
    assert figures.calls == load.calls() > 40
    assert figures.rate == pytest.approx(figures.calls / (ended - begun))
    assert 0 <= figures.p50 <= figures.p99 and 0 <= figures.evenness <= 1
    assert figures.errors == load.errors() == Counter(KeyError=figures.errors.total())
    assert figures.errors.total() >= 20
    assert load.between(ended, ended + 1).calls == 0
    assert load.errors(begun_after=ended) == Counter()
    assert begun < load.first_success(begun_after=begun) < ended
    assert load.first_success(begun_after=ended) is None


def test_percentiles_are_of_all_threads_together() -> None:
    with Load(lambda: time.sleep(0), 1) as load:
        pass
    log = load._logs[0]
    log.ends[:] = [float(second) for second in range(1, 101)]
    log.times[:] = [second / 1000 for second in range(1, 101)]
    figures = load.between(0, 100)
    assert (figures.calls, figures.rate) == (100, 1.0)
    assert (figures.p50, figures.p99) == (0.051, 0.1)
    assert load.between(1, 10).p99 == 0.01


def test_the_plain_view_prints_when_a_row_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    view = PlainView()
    view.begin("title", ["row"])
    before = out.getvalue()
    view.progress(0, Row("row", 1))
    assert out.getvalue() == before
    view.complete(0, Row("row", 2))
    assert out.getvalue().endswith("\n") and out.getvalue().splitlines()[-1].split()[:2] == [
        "row",
        "2",
    ]
