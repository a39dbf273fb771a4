"""What the server says of the next try: `Retry-After` of HTTP, pushback and `RetryInfo` of gRPC."""

from __future__ import annotations

import asyncio
import email.message
import urllib.error
from types import SimpleNamespace
from typing import Any
from xmlrpc.client import ProtocolError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpool.calls import CallPolicy, Retry
from fastpool.calls._retry_after import _in_status, retry_after
from fastpool.rpc import HttpError
from fastpool.testing import ManualClock

KINDS = pytest.mark.parametrize("kind", ["thread", "task"])
DATE = {"date": "Tue, 01 Dec 2026 21:00:00 GMT"}


class Clock(ManualClock):
    """Keeps a list of its pauses."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []

    def advance(self, seconds: float, settle: float = 5.0) -> None:
        self.pauses.append(round(seconds, 6))
        super().advance(seconds, settle)


class Refused(Exception):
    """As those of requests and httpx."""

    def __init__(self, headers: Any) -> None:
        super().__init__("503")
        self.response = SimpleNamespace(headers=headers)


def message(headers: dict[str, str]) -> Any:
    made = email.message.Message()
    for name, value in headers.items():
        made[name] = value
    return made


def errors(headers: dict[str, str]) -> list[Exception]:
    titled = {name.title(): value for name, value in headers.items()}
    return [
        HttpError(503, "busy", headers, b""),
        Refused(headers),
        Refused(titled),
        urllib.error.HTTPError("http://x/", 503, "busy", message(titled), None),
        ProtocolError("x/RPC2", 503, "busy", message(titled)),
    ]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 0 "}, 0.0),
        ({**DATE, "retry-after": "Tue, 01 Dec 2026 21:00:30 GMT"}, 30.0),
        ({**DATE, "retry-after": "Tue, 01 Dec 2026 20:59:00 GMT"}, 0.0),
        ({"retry-after": "Fri, 01 Jan 2010 00:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_header_says_how_long_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    made = errors(headers)
    assert [retry_after(error) for error in made] == [seconds] * 5
    for error in made:
        if isinstance(error, urllib.error.HTTPError):
            error.close()


@KINDS
@pytest.mark.parametrize("seconds", [0, 7, 60])
def test_what_the_server_asks_for_takes_the_place_of_the_pause(kind: str, seconds: int) -> None:
    clock = Clock()
    answers: list[Any] = [Refused({"Retry-After": str(seconds)}), "well"]
    policy = CallPolicy(retry=Retry(3, backoff=0.001, on=Refused), clock=clock)
    assert call(kind, policy, answers) == "well"
    assert clock.pauses == ([seconds] if seconds else [])


@KINDS
@pytest.mark.parametrize(("longest", "asked"), [(60.0, 61), (0, 1), (5, 86400)])
def test_nobody_waits_longer_than_max_retry_after(kind: str, longest: float, asked: int) -> None:
    """The failure is raised at once, and says why."""
    clock, error = Clock(), Refused({"Retry-After": str(asked)})
    retry = Retry(3, on=Refused, max_retry_after=longest)
    with pytest.raises(Refused) as caught:
        call(kind, CallPolicy(retry=retry, clock=clock), [error])
    assert clock.pauses == []
    note = f"since the server asks to wait {asked:.3g} s, and max_retry_after is {longest:.3g} s"
    assert note in caught.value.__notes__[0]


@KINDS
def test_without_a_cap_it_is_the_time_that_is_left(kind: str) -> None:
    clock, error = Clock(), Refused({"Retry-After": "100"})
    retry = Retry(3, on=Refused, max_retry_after=None)
    assert call(kind, CallPolicy(timeout=101, retry=retry, clock=clock), [error, "well"]) == "well"
    assert clock.pauses == [100]
    with pytest.raises(Refused):
        call(kind, CallPolicy(timeout=99, retry=retry, clock=clock), [error, "well"])


def call(kind: str, policy: CallPolicy, answers: list[Any]) -> Any:
    answers = list(answers)

    def answer() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def aanswer() -> Any:
        return answer()

    if kind == "thread":
        return policy(idempotent=True)(answer)()
    return asyncio.run(policy(idempotent=True)(aanswer)())  # type: ignore[arg-type]


def test_headers_that_cannot_be_read_are_not_there() -> None:
    class Hostile(Exception):
        @property
        def headers(self) -> Any:
            raise ZeroDivisionError

    for error in (Hostile(), Refused(5), Refused([1]), Refused({"retry-after": b"5"})):
        assert retry_after(error) is None


@given(st.binary(max_size=80))
def test_details_that_are_none_do_no_harm(status: bytes) -> None:
    try:
        found = _in_status(status)
    except (ValueError, IndexError):  # as `retry_after` expects it
        return
    assert found is None or found >= 0


@pytest.mark.parametrize("wrong", [-1, "60", True])
def test_max_retry_after_is_a_number_of_seconds(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="max_retry_after must be"):
        Retry(max_retry_after=wrong)
