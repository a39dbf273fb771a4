"""`fastpool bench`: a real run, its figures, its end, and what it says when a rival is missing."""

from __future__ import annotations

import importlib.util
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from fastpool.cli import bench, machine, main
from fastpool.cli.bench import claims, timing
from fastpool.cli.bench.competitors import COMPETITORS, Competitor, NotRun, warm
from fastpool.cli.bench.plot import Bar, Chart, svg
from fastpool.cli.bench.timing import (
    Borrower,
    Crowd,
    Statement,
    Times,
    paired,
    run_crowd,
    time_statements,
)

pytestmark = [pytest.mark.process, pytest.mark.once]

COMMAND = [sys.executable, "-m", "fastpool", "bench"]
HERE = {rival.name: importlib.util.find_spec(rival.module) is not None for rival in COMPETITORS}
QUEUES = ["queue.LifoQueue", "queue.Queue", "queue.SimpleQueue"]


@pytest.fixture(scope="module")
def whole() -> subprocess.CompletedProcess[str]:
    """One short run, not on a terminal."""
    return subprocess.run([*COMMAND, "--seconds", "2"], capture_output=True, text=True, timeout=60)


def test_it_runs_to_its_end(whole: subprocess.CompletedProcess[str]) -> None:
    """Exit code 0, the table on stdout, progress on stderr."""
    assert whole.returncode == 0, whole.stdout + whole.stderr
    assert whole.stderr.splitlines() == [
        "one thread", "8 threads, held for 1 ms", "8 threads, held for 0 ms",
    ]  # fmt: skip


def test_every_comparison_has_its_figures(whole: subprocess.CompletedProcess[str]) -> None:
    """Nanoseconds of both sides and a ratio that fits them, but for the noise between medians."""
    rows = re.findall(r"^  (\S+).*? +([\d.,]+) +([\d.,]+) +([\d.]+)x$", whole.stdout, re.M)
    names = [name.rstrip(":") for name, *_ in rows]
    assert names == QUEUES * 2 + [name for name, here in HERE.items() if here]
    for _name, theirs, ours, ratio in rows:
        above, below = (float(cell.replace(",", "")) for cell in (theirs, ours))
        assert above > 0 and below > 0
        assert above / below / 2 < float(ratio) < above / below * 2


def test_what_is_not_installed_is_named(whole: subprocess.CompletedProcess[str]) -> None:
    for name, here in HERE.items():
        assert (f"  {name}: not run: not installed" in whole.stdout) == (not here)


def test_every_crowd_has_its_figures(whole: subprocess.CompletedProcess[str]) -> None:
    """Turns, the longest wait and evenness; nothing but a wait where there is no pool."""
    crowd = whole.stdout.partition("8 threads, 2 resources")[2]
    labels = ["FastPool with a factory", '  fairness="throughput"', *QUEUES]
    for label in labels + [name for name, here in HERE.items() if here]:
        (row,) = re.findall(rf"^{re.escape(label)} +([\d.].*)$", crowd, re.M)
        held, wait, evenness, at_once, short = (
            float(each.replace(",", "")) for each in row.split()
        )
        assert 0 < held <= 2 / bench.HOLD and wait > 0 and 0 <= evenness <= 1
        # given back at once, in a short run no thread may have waited as much as 0.05 ms
        assert at_once > held and short >= 0
    assert re.search(r"^no pool, only threads +- +- +- +- +[\d.]+$", crowd, re.M)


def test_the_waits_say_how_long_a_round_is(whole: subprocess.CompletedProcess[str]) -> None:
    """A thread that starves waits for a whole one."""
    assert re.search(r"^wait: the longest of any thread in a round of \d+ ms;", whole.stdout, re.M)


def test_it_is_readable_at_80_columns_and_says_what_it_means(
    whole: subprocess.CompletedProcess[str],
) -> None:
    lines = whole.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert whole.stdout.isascii() and "\x1b" not in whole.stdout
    assert lines[-2].startswith("theirs/ours: above 1 fastpool is faster, below 1 slower")
    assert lines[-1].startswith("All over dummies:")
    assert re.search(r"^We lose: ", whole.stdout, re.M)


@pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
@pytest.mark.parametrize(
    "stage",
    [
        "one thread",
        pytest.param("held for 1 ms", marks=pytest.mark.long),
        pytest.param("held for 0 ms", marks=pytest.mark.long),
    ],
)
def test_ctrl_c_ends_it_cleanly(stage: str) -> None:
    """Whatever it was doing: exit code 130, one word, no traceback."""
    process = subprocess.Popen(
        [*COMMAND, "--seconds", "3"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if stage in line:
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=50)
    assert (process.returncode, errors) == (130, "\ninterrupted\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--quick"], "unrecognized arguments: --quick"),
        (["--seconds", "0.5"], "must be 1 to 3600, not 0.5"),
        (["--seconds", "soon"], "'soon'"),
    ],
)
def test_bad_arguments_are_named(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", *arguments])
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def test_the_command_alone_shows_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr()
    assert {"demo", "bench", "top"} <= set(shown.out.split()) and shown.err == ""


@pytest.mark.long
def test_a_plot_is_one_picture_with_all_comparisons(tmp_path: Path) -> None:
    """Well-formed, nothing fetched from anywhere, and what it shows also stands there as text."""
    picture = tmp_path / "out.svg"
    done = subprocess.run(
        [*COMMAND, "--seconds", "1", "--plot", str(picture)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    root = ElementTree.fromstring(picture.read_text(encoding="utf-8"))
    shown = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    for name in ["LifoQueue", *(name for name, here in HERE.items() if here)]:
        assert any(name in (text or "") for text in shown), name
    assert not re.search(r"href|url\(|@import|<script|<image", picture.read_text(encoding="utf-8"))
    assert len(root.findall(".//{http://www.w3.org/2000/svg}desc")) == 1


@pytest.mark.parametrize(
    ("path", "says"),
    [("out.png", "must end with .svg"), ("no/such/folder/out.svg", "there is no folder")],
)
def test_a_plot_that_cannot_be_written_is_refused_at_once(
    path: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "--plot", path])
    assert ended.value.code == 2 and says in capsys.readouterr().err


# -- its parts ---------------------------------------------------------------------------------


def test_lost_ratios_are_told_as_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Below 1 in the table, and once more in words."""
    monkeypatch.setattr(bench, "COMPETITORS", ())

    def timed(statements: dict[str, Statement], seconds: float, tell: Any) -> dict[str, Times]:
        return {name: Times([{"lifo": 40.0}.get(name, 20.0)]) for name in statements}

    def crowds(borrowers: Any, threads: int, hold: float, seconds: float, tell: Any) -> Any:
        quick = Crowd([100, 100], 0.001, 1.0)
        return {name: [quick if "Simple" in name else Crowd([50, 50], 0.002, 1.0)]
                for name in borrowers}  # fmt: skip

    monkeypatch.setattr(bench, "time_statements", timed)
    monkeypatch.setattr(bench, "run_crowds", crowds)
    said: list[str] = []
    bench.run(1, said.append, lambda text: None)
    text = " ".join("\n".join(said).split())
    assert "queue.LifoQueue 20.0 40.0 0.50x" in text
    assert (
        "We lose: one thread, queue.LifoQueue / lifo 0.50x; "
        "held for 1 ms, turns/s: queue.SimpleQueue 0.50x; "
        "held for 1 ms, wait: queue.SimpleQueue 0.50x; "
        "given back at once, turns/s: queue.SimpleQueue 0.50x; "
        "given back at once, wait: queue.SimpleQueue 0.50x."
    ) in text


@pytest.mark.long
def test_every_claim_has_a_line_with_its_verdict() -> None:
    """And what is not installed is not beaten."""
    command = [*COMMAND, "--claims", "--seconds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.splitlines() == ["one thread", "one task"]
    judged = "\n".join(re.findall(r"^(?:holds|FAILS|noise) .*$", done.stdout, re.M))
    for name in ("threading.Lock", "asyncio.Semaphore", "queue.Queue"):
        assert name in judged
    for name, here in HERE.items():
        assert name in judged or f"not run   {name}" in done.stdout
        assert here or name not in judged
    assert all(len(line) <= 80 for line in done.stdout.splitlines())


def test_a_claim_is_judged_by_its_ratio() -> None:
    times = {"theirs": Times([30.0] * 5), "ours": Times([10.0] * 5), "lost": Times([-1.0] * 5)}
    for least, verdict in ((2.9, "holds"), (3.0, "holds"), (3.1, "FAILS")):
        line = claims.line(claims.Claim("it", "theirs", "ours", least), times)
        assert line.split() == [verdict, "3.00x", f"{least:.2f}x", "it"]
    assert claims.line(claims.Claim("it", "lost", "ours", 3), times).startswith("noise")


def test_claims_are_not_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "--claims", "--plot", "out.svg"])
    assert "not allowed with argument" in capsys.readouterr().err


def test_the_cost_of_the_loop_is_taken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop of 25 ns a statement, 5 of which the empty loop takes as well."""
    cost = {"pass": 5, "work": 25}
    turn = {text: timing._UNROLLED * each for text, each in cost.items()}
    monkeypatch.setattr(timing, "_loop", lambda it, run: lambda n: n * turn[it.text])
    found = time_statements({"ours": Statement("work")}, 0.01, id)
    assert found["ours"].median == 20


def test_a_ratio_is_the_median_of_rounds() -> None:
    """A round that was slow for both sides changes nothing; noise is not called a ratio."""
    assert Times([20.0, 200.0, 21.0]).over(Times([10.0, 100.0, 10.0])) == 2.0
    assert math.isnan(Times([1.0, -1.0]).over(Times([-1.0, 1.0])))


def test_a_busy_second_does_not_change_what_is_said() -> None:
    """One round of seven in which all were slow, and ours most: the pairs leave it out."""
    ours = [Crowd([100, 100], 0.001, 1.0)] * 6 + [Crowd([1, 1], 0.5, 1.0)]
    theirs = [Crowd([50, 50], 0.002, 1.0)] * 6 + [Crowd([40, 40], 0.5, 1.0)]
    assert paired(ours, theirs, lambda run: run.rate) == 2.0
    assert paired(theirs, ours, lambda run: run.worst) == 2.0
    assert math.isnan(paired([Crowd([0], 0.0, 1.0)], [Crowd([1], 0.0, 1.0)], lambda run: run.rate))


def test_crowds_take_turns_in_seven_rounds_however_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each round begins with another one, so that nobody always runs after the same."""
    order: list[Borrower] = []

    def note(borrower: Borrower, threads: int, hold: float, seconds: float) -> Crowd:
        order.append(borrower)
        assert seconds >= 0.02
        return Crowd([1], 0.0, seconds)

    monkeypatch.setattr(timing, "run_crowd", note)
    two = {"one": Borrower(int, id), "other": Borrower(float, id)}
    timing.run_crowds(two, 2, 0.0, 0.01, id)
    assert len(order) == 14 and order[0] == order[3] == two["one"]


@pytest.mark.parametrize(
    ("others", "says"),
    [(0.0, ""), (0.3, ""), (1.0, "other programs took 25% of its CPU time")],
)
def test_a_busy_machine_is_told(others: float, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two seconds on two CPUs we use one; then others use so much."""
    times = iter([machine._Used(100.0, 10.0, 50.0), machine._Used(101.0 + others, 11.0, 52.0)])
    monkeypatch.setattr(machine, "_used", lambda: next(times))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    sentence = machine.Elsewhere().sentence()
    assert says in sentence and bool(says) == bool(sentence)


def test_where_nobody_knows_how_busy_it_was_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "_used", lambda: None)
    assert machine.Elsewhere().sentence() == ""


def test_a_bar_that_noise_has_drowned_is_still_in_the_picture() -> None:
    drawn = svg("a & b", [Chart("<turns>", [Bar("won", 2.0), Bar("noise", math.nan)])], ["note"])
    assert ElementTree.fromstring(drawn).tag.endswith("svg")
    assert "too noisy" in drawn and "2.00x" in drawn and "a &amp; b" in drawn


def test_a_rival_that_cannot_take_part_says_why() -> None:
    """Not there, or a version that wants something else of its connections."""
    absent = COMPETITORS[0]._replace(module="no_such_module_here")
    with pytest.raises(NotRun, match=r"^not installed$"):
        warm(absent, 2)

    def refuse(size: int) -> Any:
        raise AttributeError("no attribute\n'new'")

    strange: Competitor = COMPETITORS[0]._replace(module="queue", build=refuse)
    with pytest.raises(NotRun, match=r"^AttributeError: no attribute 'new'$"):
        warm(strange, 2)


def test_a_crowd_counts_turns_and_the_longest_wait() -> None:
    """And raises what a thread of it raised."""
    crowd = run_crowd(Borrower(lambda: time.sleep(0.01), id), 2, 0.0, 0.1)
    assert all(1 <= round_trips <= 11 for round_trips in crowd.round_trips)
    assert crowd.worst >= 0.009 and crowd.seconds >= 0.1
    assert crowd.rate == sum(crowd.round_trips) / crowd.seconds
    with pytest.raises(TypeError):
        run_crowd(Borrower(int, len), 2, 0.0, 0.1)


def test_an_interrupted_crowd_goes_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread of it is left, not even one that waited for the others."""

    class Interrupted(threading.Barrier):
        def wait(self, timeout: float | None = None) -> int:
            if threading.current_thread() is threading.main_thread():
                raise KeyboardInterrupt
            return super().wait(timeout)

    before = threading.active_count()
    with monkeypatch.context() as patch:
        patch.setattr(threading, "Barrier", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_crowd(Borrower(int, id), 3, 0.0, 60.0)
    assert threading.active_count() == before


def test_a_window_is_never_long_however_long_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that Ctrl-C is heard soon, and rounds stay many."""
    windows: list[float] = []

    def note(borrower: Borrower, threads: int, hold: float, seconds: float) -> Crowd:
        windows.append(seconds)
        return Crowd([1], 0.0, seconds)

    monkeypatch.setattr(timing, "run_crowd", note)
    timing.run_crowds({"one": Borrower(int, id)}, 2, 0.0, 3600.0, id)
    assert max(windows) <= 0.5
