"""A policy with a budget around gRPC channels, of threads and of tasks: calls and streams."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

from fastpool.calls import CallPolicy, DeadlineExceeded  # noqa: E402
from integration.calls.channels import count, in_loop, say, until  # noqa: E402
from integration.calls.server import ScriptServer  # noqa: E402
from support.budgets import ScriptedBudget  # noqa: E402
from support.helpers import ThreadRunner, eventually  # noqa: E402

pytestmark = [pytest.mark.process, pytest.mark.light]


@pytest.fixture(scope="module")
def script() -> Iterator[ScriptServer]:
    server = ScriptServer()
    yield server
    server.close()


def test_calls_and_streams_of_threads_hold_permits(
    script: ScriptServer, runner: ThreadRunner
) -> None:
    """One permit, held by a stream until it ends; then a call has it."""
    budget = ScriptedBudget()
    policy = CallPolicy(limit=budget)
    with policy.wrap(grpc.insecure_channel(script.target)) as channel:
        started = runner.start(count(channel), b"first hang")
        budget.grants(1)
        stream = started.result()
        assert next(stream) == b"first"
        with pytest.raises(DeadlineExceeded) as caught:
            say(channel)(b"OK", timeout=0.01)
        assert caught.value.phase == "budget"
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert caught.value.budget.limit == 60
        assert "permits in force" in caught.value.details()
        call = runner.start(say(channel), b"OK thread")
        eventually(lambda: budget.member.wants(2))
        stream.cancel()
        assert call.result() == b"OK 1"
    eventually(lambda: budget.member.has_open(0))


def test_calls_and_streams_of_tasks_hold_permits(script: ScriptServer) -> None:
    budget = ScriptedBudget()
    policy = CallPolicy(limit=budget)

    async def main(channel: Any) -> None:
        stream = count(channel)(b"first hang")
        await until(lambda: budget.member.wants(1))
        budget.member.allow(1)
        assert await stream.read() == b"first"
        with pytest.raises(DeadlineExceeded) as caught:
            await say(channel)(b"OK", timeout=0.01)
        assert caught.value.phase == "budget" and caught.value.budget.limit == 60
        call = say(channel)(b"OK task")
        await until(lambda: budget.member.wants(2))
        stream.cancel()
        assert await call == b"OK 1"

    in_loop(script, policy, main)
    eventually(lambda: budget.member.has_open(0))
