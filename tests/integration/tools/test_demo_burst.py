"""The demo's last chapter: a burst of gRPC calls over a server's limit of streams."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

from fastpool.cli import demo, main  # noqa: E402
from fastpool.cli.demo import burst  # noqa: E402
from fastpool.cli.demo.burst import Burst, Contestant, outcome_of  # noqa: E402
from fastpool.cli.demo.server_process import STREAM_LIMIT  # noqa: E402
from fastpool.cli.demo.servers import Server  # noqa: E402
from fastpool.cli.tables import PlainView  # noqa: E402
from fastpool.grpc import ChannelStats, aio_shared  # noqa: E402

pytestmark = [pytest.mark.process, pytest.mark.once]

FREE = ChannelStats("host:1", "insecure", 1, True, *[0] * (len(ChannelStats._fields) - 4))
UNAVAILABLE = Counter(UNAVAILABLE=500)


class Said(PlainView):
    """A view that keeps what it was told."""

    def __init__(self) -> None:
        self.text = ""

    def say(self, text: str = "") -> None:
        self.text += text + "\n"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server("burst") as server:
        yield server.ready()


def only(name: str, channels: Callable[[str], Sequence[Any]]) -> list[Contestant]:
    return [Contestant(name, name, channels)]


# -- what is measured --------------------------------------------------------------------------


def test_ours_loses_nothing_and_the_server_agrees(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = burst.contestants()[-1:]
    monkeypatch.setattr(burst, "contestants", lambda: ours)
    view = Said()
    outcome = burst.burst(server, view)
    assert [check.held for check in outcome.checks if check.held is not None] in (
        [True] * 4,
        [True] * 3,  # where the kernel has no table of connections
    )
    assert outcome.verdicts[0].startswith("aio_shared(): all 2,000 answered in ")
    row = next(line for line in view.text.splitlines() if line.startswith("  fastpool.grpc"))
    _, _, p50, p99, opened, errors, _ = row.split()
    assert 50 <= float(p50.replace(",", "")) <= float(p99.replace(",", ""))
    assert 1 <= int(opened) <= 8 and errors == "0"


def test_without_the_cap_ours_fails_the_demo(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The check can fail: this channel sends up to the limit, and the server refuses some."""

    def uncapped(target: str) -> Sequence[Any]:
        return [aio_shared(target, connections=1, streams_per_connection=None)]

    grpc_alone = [chapter for chapter in demo.chapters(8) if chapter.kind in ("grpc", "echo")]
    monkeypatch.setattr(demo, "chapters", lambda size: grpc_alone)
    monkeypatch.setattr(burst, "contestants", lambda: only("ours", uncapped))
    assert main(["demo", "--seconds", "2", "--threads", "4"]) == 1
    printed = capsys.readouterr().out
    # Where it is told, and again at the end, among what decides on the exit code.
    assert printed.count("[FAILED] none of 2,000 calls failed: UNAVAILABLE ") == 2


def test_the_server_allows_as_many_streams_as_it_is_said_to(server: Server) -> None:
    with grpc.insecure_channel(server.target) as channel:
        method = channel.unary_unary(burst.METHOD)
        method(b"0", timeout=10)
        futures = [method.future(b"3000", timeout=60) for _ in range(STREAM_LIMIT)]
        late = method.future(b"0", timeout=0.1)
        assert late.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)
        assert {future.code() for future in futures} == {grpc.StatusCode.OK}
        assert server.counts().accepted == 1


# -- what is said ------------------------------------------------------------------------------


def result(name: str, lost: Counter[str], opened: int = 8, left: int | None = 0) -> Burst:
    contestant = Contestant(name, name, lambda target: [])
    answered = [0.4] * (burst.CALLS - lost.total())
    return Burst(contestant, 0.5, answered, lost, opened, left)


def held(results: Sequence[Burst], stats: ChannelStats = FREE) -> list[bool | None]:
    return [check.held for check in outcome_of(results, stats).checks]


def test_what_others_lose_is_shown_and_asked_of_nobody() -> None:
    outcome = outcome_of([result("bare", UNAVAILABLE, opened=1), result("ours", Counter())], FREE)
    assert outcome.verdicts == [
        "ours: all 2,000 answered in 0.50 s; 8 connections",
        "bare: 500 of 2,000 lost, 25 % (UNAVAILABLE); 1 connection",
    ]
    assert [check.held for check in outcome.checks] == [True] * 4


@pytest.mark.parametrize(
    ("ours", "stats", "failed"),
    [
        (result("ours", UNAVAILABLE), FREE, 0),
        (result("ours", Counter(), opened=9), FREE, 1),
        (result("ours", Counter()), FREE._replace(in_use=1), 2),
        (result("ours", Counter()), FREE._replace(waiting=1), 2),
        (result("ours", Counter(), left=1), FREE, 3),
    ],
)
def test_each_check_can_fail(ours: Burst, stats: ChannelStats, failed: int) -> None:
    expected: list[bool | None] = [True] * 4
    expected[failed] = False
    assert held([result("bare", Counter()), ours], stats) == expected


def test_what_the_kernel_does_not_tell_is_not_judged() -> None:
    assert held([result("ours", Counter(), left=None)]) == [True, True, True, None]
