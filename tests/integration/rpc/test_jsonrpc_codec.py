"""JSON-RPC 2.0 as the specification has it: what is sent, and what is made of an answer."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from fastpool.rpc import BadReply, HttpError, RemoteError, Reply, RpcError
from fastpool.rpc._jsonrpc_codec import Codec, HttpResponse, dumps


@pytest.fixture
def language() -> Codec:
    return Codec(dumps, json.loads)


def answer(value: Any, status: int = 200) -> HttpResponse:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return HttpResponse(status, "", {}, body)


def ok(result: Any, id: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "result": result, "id": id}


def error(code: Any, message: Any, id: Any = 1, **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "error": {"code": code, "message": message, **more}, "id": id}


def sent(question: Any) -> Any:
    return json.loads(question.body)


# ---- What is sent -------------------------------------------------------------------------------


def test_positional_and_named_parameters(language: Codec) -> None:
    assert sent(language.call("subtract", (42, 23), {})) == {
        "jsonrpc": "2.0",
        "method": "subtract",
        "params": [42, 23],
        "id": 1,
    }
    named = sent(language.call("subtract", (), {"minuend": 42}))
    assert (named["params"], named["id"]) == ({"minuend": 42}, 2)
    assert "params" not in sent(language.call("foobar", (), {}))


def test_a_notification_has_no_id(language: Codec) -> None:
    message = sent(language.notification("update", (1, 2), {}))
    assert message == {"jsonrpc": "2.0", "method": "update", "params": [1, 2]}


@pytest.mark.parametrize(
    ("method", "params", "named", "error"),
    [
        ("f", (1,), {"x": 1}, TypeError),
        (b"f", (), {}, TypeError),
        ("f", (float("nan"),), {}, ValueError),
        ("f", (object(),), {}, TypeError),
    ],
)
def test_what_json_rpc_does_not_have_is_refused_at_once(
    language: Codec, method: Any, params: Any, named: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        language.call(method, params, named)


# ---- What comes back ----------------------------------------------------------------------------


@pytest.mark.parametrize("value", [19, None, False, [], {"a": 1}, "text"])
def test_a_result(language: Codec, value: Any) -> None:
    assert language.call("f", (), {}).read(answer(ok(value))) == value


@pytest.mark.parametrize("status", [200, 400, 404, 500])
@pytest.mark.parametrize("id", [1, None])
def test_an_error_object(language: Codec, status: int, id: Any) -> None:
    """With whatever status; the id is null if the server could not tell it."""
    question = language.call("f", (), {})
    with pytest.raises(RemoteError) as raised:
        question.read(answer(error(-32601, "Method not found", id, data=[1]), status))
    assert (raised.value.code, raised.value.message) == (-32601, "Method not found")
    assert raised.value.data == [1] and str(raised.value) == "Method not found (-32601)"


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"rubbish",
        b'{"jsonrpc": "2.0", "result": 1, "id": 1',
        b"\xff\xfe",
        [],
        [ok(1)],
        None,
        "text",
        {"result": 1, "id": 1},
        {"jsonrpc": "1.0", "result": 1, "id": 1},
        {"jsonrpc": "2.0", "result": 1},
        {"jsonrpc": "2.0", "id": 1},
        {**ok(1), "error": None},
        {**error(1, "x"), "result": None},
        ok(1, 2),
        ok(1, "1"),
        ok(1, 1.0),
        ok(1, True),
        ok(1, None),
        error("1", "x"),
        error(1, None),
        error(1, "x", 2),
        {"jsonrpc": "2.0", "error": "x", "id": 1},
        {"jsonrpc": "2.0", "error": None, "id": 1},
    ],
)
def test_what_is_no_reply_is_said_so(language: Codec, reply: Any) -> None:
    question = language.call("f", (), {})
    with pytest.raises(BadReply) as raised:
        question.read(answer(reply))
    assert len(str(raised.value)) < 250
    with pytest.raises(HttpError, match="HTTP 503"):
        question.read(answer(reply, 503))


def test_a_result_with_the_status_of_an_error_is_none(language: Codec) -> None:
    with pytest.raises(HttpError, match="HTTP 500"):
        language.call("f", (), {}).read(answer(ok(1), 500))


def test_a_notification_is_done_when_the_server_takes_it(language: Codec) -> None:
    question = language.notification("f", (), {})
    for status in (200, 202, 204):
        assert question.read(answer(b"whatever", status)) is None
    with pytest.raises(HttpError, match="HTTP 404"):
        question.read(answer(b"", 404))


# ---- Batches ------------------------------------------------------------------------------------


@pytest.fixture
def batch(language: Codec) -> tuple[Any, Reply, Reply]:
    """A question with two calls, 1 and 2, and a notification."""
    one, two = Reply("one"), Reply("two")
    entries = [
        (language.message("one", (), {}, 1), one),
        (language.message("said", (), {}, None), None),
        (language.message("two", (), {}, 2), two),
    ]
    return language.batch(entries), one, two


def test_each_call_of_a_batch_gets_its_reply_in_any_order(batch: Any) -> None:
    question, one, two = batch
    assert [message.get("id") for message in sent(question)] == [1, None, 2]
    with pytest.raises(RuntimeError, match="no reply to 'one': its batch was not sent yet"):
        one.result()
    question.read(answer([error(-1, "no", 2, data="d"), ok("yes", 1)]))
    assert one.result() == "yes"
    for _ in range(2):
        with pytest.raises(RemoteError, match=r"no \(-1\)"):
            two.result()


@pytest.mark.parametrize(
    ("reply", "raised"),
    [
        ([ok(1, 1)], "no reply to two"),
        ([], "no reply to one, two"),
        ([ok(1, 1), ok(2, 2), ok(3, 3)], "nobody asked for"),
        ([ok(1, 1), ok(2, 1)], "nobody asked for"),
        ([ok(1, 1), ok(2, "2")], "nobody asked for"),
        ([ok(1, 1), ok(2, None)], "nobody asked for"),
        ([ok(1, 1), "two"], "no JSON-RPC"),
        (ok(1, 1), "instead of"),
        ("text", "no replies"),
        (b"", "not JSON"),
    ],
)
def test_replies_that_do_not_fit_a_batch(batch: Any, reply: Any, raised: str) -> None:
    question, one, two = batch
    with pytest.raises(BadReply, match=raised):
        question.read(answer(reply))
    for each in (one, two):
        with pytest.raises(RuntimeError):
            each.result()


@pytest.mark.parametrize("wrap", [lambda reply: reply, lambda reply: [ok(1, 1), reply]])
def test_a_batch_that_is_refused_as_a_whole(batch: Any, wrap: Any) -> None:
    with pytest.raises(RemoteError, match="Invalid Request"):
        batch[0].read(answer(wrap(error(-32600, "Invalid Request", None))))


def test_a_batch_of_notifications_is_not_answered(language: Codec) -> None:
    question = language.batch([(language.message("f", (), {}, None), None)])
    assert question.read(answer(b"", 204)) is None


# ---- The rest -----------------------------------------------------------------------------------


def test_ones_own_json() -> None:
    mine = Codec(lambda message: b"dumped", lambda body: ok(body.decode(), 1))
    question = mine.call("f", (), {})
    assert question.body == b"dumped" and question.read(answer(b"body")) == "body"


@pytest.mark.parametrize(
    "error",
    [RemoteError(-1, "no", {"a": 1}), BadReply("what"), HttpError(503, "Busy", {"a": "b"}, b"c")],
)
def test_errors_pickle(error: RpcError) -> None:
    same = pickle.loads(pickle.dumps(error))
    assert type(same) is type(error) and str(same) == str(error) and vars(same) == vars(error)
