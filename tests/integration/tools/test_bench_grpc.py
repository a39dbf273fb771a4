"""The measurements of shared channels: their table, what is not built, and that they can fail."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

from bench.grpc import adapter, report  # noqa: E402
from bench.grpc.adapter import NotBuilt  # noqa: E402
from bench.grpc.cases import (  # noqa: E402
    QUICK,
    ROWS,
    Figure,
    Reading,
    accounting,
    limits,
    measure,
    missing,
    streams,
    take_turns,
)
from bench.grpc.targets import BY_KEY, MARKS  # noqa: E402
from bench.measure import NotRun  # noqa: E402
from integration.grpc.server import SERVICE, GrpcServer  # noqa: E402

pytestmark = [pytest.mark.process, pytest.mark.once]

ONCE = replace(QUICK, turns=1, operations=600)


def figures_of(row: str) -> dict[str, Figure]:
    return {figure.key: figure for figure in measure(row, ONCE)}


def verdicts(figures: dict[str, Figure]) -> dict[str, str]:
    return {key: report.verdict(figure) for key, figure in figures.items()}


# -- the table -----------------------------------------------------------------------------------


def test_every_mark_has_a_row_and_fits_the_table() -> None:
    assert {mark.row for mark in MARKS} == set(ROWS)
    assert len(BY_KEY) == len(MARKS)
    for mark in MARKS:
        worst = mark.known[1] if mark.known else mark.must or 0
        for reading in (Reading(worst), missing(NotBuilt("no"))):
            line = report.line(Figure(mark.key, Reading(worst), reading))
            assert len(line) <= report.WIDTH, line


def test_verdicts_are_arithmetic() -> None:
    (under,) = [mark for mark in MARKS if mark.key == "G4b"]
    (over,) = [mark for mark in MARKS if mark.key == "G2e"]
    for mark, good, bad in ((under, 0.45, 0.4501), (over, 0.98, 0.9799)):
        assert report.verdict(Figure(mark.key, ours=Reading(good))) == "reached"
        assert report.verdict(Figure(mark.key, ours=Reading(bad))) == "falls short"
    for error, said in (
        (NotBuilt(""), "not built"),
        (NotRun(""), "not run"),
        (OSError(), "failed"),
    ):
        assert report.verdict(Figure("G4b", Reading(1.0), missing(error))) == said


def test_the_notes_name_what_lacks_and_what_bare_grpcio_did_not_do() -> None:
    figures = [
        Figure("G4a", Reading(0.0), missing(NotBuilt("no such function"))),
        Figure("G4b", Reading(1.0), missing(NotBuilt("no such function"))),
    ]
    lack, unlike = report.notes(figures)
    assert lack == "G4a, G4b not built: no such function"
    assert unlike == "G4a bare grpcio gave 0 %, and is known for 5 % to 75 %"
    (first, second) = report.record(figures, {}, "quick")["figures"]
    assert (first["reproduced"], second["reproduced"]) == (False, True)


def test_a_contestant_that_fails_does_not_stop_the_others() -> None:
    def fail() -> float:
        raise OSError("gone")

    turns = take_turns({"bare": lambda: 1.0, "ours": fail}, 3)
    assert turns.median("bare", float).samples == (1.0, 1.0, 1.0)
    assert (turns.median("ours", float).lack, turns.worst("ours", float).lack) == ("failed",) * 2


# -- what is not built ---------------------------------------------------------------------------


def with_package(monkeypatch: pytest.MonkeyPatch, **names: Any) -> None:
    monkeypatch.setitem(sys.modules, "fastpool.grpc", SimpleNamespace(**names))
    import fastpool

    monkeypatch.setattr(fastpool, "grpc", sys.modules["fastpool.grpc"], raising=False)


def test_what_is_not_built_is_said_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with_package(monkeypatch, shared=lambda target, *, bulk=(): (target, bulk))
    assert adapter.shared("here", bulk=("m",)) == ("here", ("m",))
    with pytest.raises(NotBuilt, match="has no connections, no max_age"):
        adapter.shared("here", connections=1, max_age=2)
    with pytest.raises(NotBuilt, match=r"has no aio_shared\(\)"):
        adapter.aio_shared("here")
    with pytest.raises(NotBuilt, match="takes no grace"):
        adapter.graceful(SimpleNamespace(close=lambda: None))


def test_counters_are_added_up_over_the_channels_to_a_target(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entries = [
        SimpleNamespace(target=target, in_use=1, waiting=2, connections=3)
        for target in ("here", "here", "there")
    ]
    kind = SimpleNamespace(in_use=0, waiting=0, connections=0)
    with_package(monkeypatch, ChannelStats=kind, stats=lambda: entries)
    assert adapter.counters("here") == (2, 4, 6)
    with_package(monkeypatch, ChannelStats=SimpleNamespace(in_use=0), stats=list)
    with pytest.raises(NotBuilt, match="no waiting, no connections"):
        adapter.counters("here")


# -- bare grpcio in our place: each row must find it wanting -------------------------------------


@pytest.fixture
def impostor(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let a row take bare channels for ours."""

    def stand_in(module: Any) -> None:
        def shared(target: str, **parameters: Any) -> Any:
            return grpc.insecure_channel(target)

        def aio_shared(target: str, **parameters: Any) -> Any:
            return grpc.aio.insecure_channel(target)

        monkeypatch.setattr(module, "shared", shared)
        monkeypatch.setattr(module, "aio_shared", aio_shared)

    return stand_in


def test_lost_calls_are_counted(
    impostor: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def skip() -> Any:
        raise NotRun("it loses calls as well")

    def the_two(contestants: dict[str, Any], turns: int) -> Any:
        """Of all contestants, which take seconds each."""
        skipped = {name: skip for name in contestants if name not in ("bare", "ours")}
        return take_turns({**contestants, **skipped}, min(turns, 1))

    impostor(limits)
    monkeypatch.setattr(limits, "take_turns", the_two)
    figures = figures_of("G4")
    assert verdicts(figures)["G4a"] == verdicts(figures)["G4e"] == "falls short"
    lost = figures["G4a"].detail["ours"]
    assert lost["OK"] + lost["UNAVAILABLE"] == 2_000


def test_abandoned_streams_are_noticed(impostor: Callable[..., None]) -> None:
    impostor(streams)
    figures = figures_of("G7")
    assert verdicts(figures) == {"G7a": "falls short", "G7b": "falls short"}
    assert figures["G7a"].detail["left"] == {"bare": [4], "ours": [4]}


def test_what_is_still_held_is_noticed(
    impostor: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Server(GrpcServer):
        """Asked as often as a processor can, it would need one itself."""

        def counts(self) -> Any:
            time.sleep(0.02)
            return super().counts()

    impostor(accounting)
    monkeypatch.setattr(accounting, "GrpcServer", Server)
    # First for the handlers: those that a bare channel does not end do not end in 5 s either.
    quiet, patience = accounting.quiet, cycle((0.2, 20.0))
    monkeypatch.setattr(accounting, "quiet", lambda count: quiet(count, next(patience)))
    monkeypatch.setattr(accounting, "counters", lambda target: adapter.Counters(0, 0, 4))
    monkeypatch.setattr(accounting, "BETWEEN_DEATHS", 0.3)
    figures = figures_of("G8")
    # A bare channel has no cap, so every call of the last look is let through: no slot is lost.
    assert verdicts(figures)["G8a"] == verdicts(figures)["G8c"] == "reached"
    assert figures["G8b"].ours.value is not None

    monkeypatch.setattr(accounting, "counters", lambda target: adapter.Counters(1, 2, 4))
    with Server(streams=accounting.STREAMS) as server:
        with grpc.insecure_channel(server.target) as channel:
            assert accounting.own_accounts(server, channel) == 3
            channel.unary_unary(f"/{SERVICE}/Say")(b"", timeout=10)
            lost = accounting.unusable(server, channel)  # one connection of four
            assert lost == (accounting.CONNECTIONS - 1) * accounting.STREAMS


# -- the command ---------------------------------------------------------------------------------


@pytest.mark.long
def test_the_command_writes_what_it_prints(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.grpc", "--quick", "--only", "g11", "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= report.WIDTH
    (path,) = tmp_path.glob("*.json")
    figures = {each["key"]: each for each in json.loads(path.read_text())["figures"]}
    assert figures["G11c"]["bare"]["value"] == 1
    assert all(f"\n{key:<5}" in done.stdout for key in figures)


def test_the_command_knows_its_rows() -> None:
    command = [sys.executable, "-m", "bench.grpc", "--only", "G99"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "no such row: G99" in done.stderr
