"""JSON-RPC 2.0 itself: what is sent, and what may come back.  Knows no connection."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable
from typing import Any, NoReturn

from ._errors import BadReply, HttpError, RemoteError
from ._http_messages import HttpResponse, Request

__all__ = ["Codec", "HttpResponse", "Reply", "Request", "dumps", "is_no_answer"]


class Reply:
    """The answer to one call of a batch."""

    __module__ = "fastpool.rpc"

    __slots__ = ("_error", "_there", "_value", "method")

    def __init__(self, method: str) -> None:
        self.method = method
        self._there = False
        self._value: Any = None
        self._error: RemoteError | None = None

    def result(self) -> Any:
        """What the call returned, or its RemoteError; RuntimeError before the batch was sent, and
        if it failed as a whole."""
        if not self._there:
            raise RuntimeError(
                f"no reply to {self.method!r}: its batch was not sent yet, which happens at the "
                "end of the block, or failed as a whole"
            )
        if self._error is not None:
            raise self._error
        return self._value

    def _resolve(self, reply: dict[str, Any]) -> None:
        self._there = True
        try:
            self._value = outcome(reply)
        except RemoteError as error:
            self._error = error


Entries = list[tuple[dict[str, Any], Reply | None]]


def dumps(message: Any) -> str:
    """The default for ``dumps=``: compact, and nothing that JSON does not have."""
    return json.dumps(message, separators=(",", ":"), allow_nan=False)


def reader(loads: Callable[[bytes], Any], refuse_nan: bool) -> Callable[[bytes], Any]:
    """``loads``, or the one that refuses what JSON does not have."""
    if not refuse_nan:
        return loads
    if loads is not json.loads:
        raise TypeError("refuse_nan is for the JSON that is read here; have your loads refuse it")
    return functools.partial(json.loads, parse_constant=_refuse)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"JSON has no {constant}")


class Codec:
    """Makes questions; the ids of its calls are numbered from 1."""

    def __init__(
        self,
        dumps: Callable[[Any], str | bytes],
        loads: Callable[[bytes], Any],
        lenient: bool = False,
        refuse_nan: bool = False,
    ) -> None:
        self._dumps, self._loads, self._lenient = dumps, reader(loads, refuse_nan), lenient
        self._ids = itertools.count(1)

    def call(self, method: str, params: tuple[Any, ...], named: dict[str, Any]) -> Request:
        message = self.message(method, params, named, next(self._ids))

        def read(answer: HttpResponse) -> Any:
            return self._meaning(answer, lambda reply: outcome(matching(reply, message["id"])))

        return Request(self._encode(message), read)

    def notification(self, method: str, params: tuple[Any, ...], named: dict[str, Any]) -> Request:
        return Request(self._encode(self.message(method, params, named, None)), accepted)

    def batch(self, entries: Entries) -> Request:
        replies = {message["id"]: reply for message, reply in entries if reply is not None}
        body = self._encode([message for message, _ in entries])
        if not replies:
            return Request(body, accepted)
        return Request(body, lambda answer: self._meaning(answer, lambda all: deal(all, replies)))

    def message(
        self, method: str, params: tuple[Any, ...], named: dict[str, Any], id: int | None
    ) -> dict[str, Any]:
        if not isinstance(method, str):
            raise TypeError(f"the name of a method is a str, not {method!r}")
        if params and named:
            raise TypeError(f"{method}: JSON-RPC takes positional or named parameters, not both")
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
        if params or named:
            message["params"] = params or named
        if id is not None:
            message["id"] = id
        return message

    def next_id(self) -> int:
        return next(self._ids)

    def _encode(self, message: Any) -> bytes:
        text = self._dumps(message)
        return text.encode() if isinstance(text, str) else text

    def _meaning(self, answer: HttpResponse, understand: Callable[[Any], Any]) -> Any:
        """What the answer says; some servers say it with a status that is an error, too."""
        bad, value = None, None
        try:
            try:
                reply = self._loads(answer.body)
            except (ValueError, RecursionError) as error:
                raise BadReply(f"not JSON: {shown(answer.body[:200])} ({error})") from None
            value = understand(modern(reply) if self._lenient else reply)
        except BadReply as error:
            bad = error
        accepted(answer)  # what a refusal says is not for its context
        if bad is not None:
            raise bad
        return value


def is_no_answer(error: BaseException, connection: Any) -> bool:
    """An error object is an answer.  After anything else the rest of one may still be coming."""
    return not isinstance(error, RemoteError)


# ---- What comes back ----------------------------------------------------------------------------


def accepted(answer: HttpResponse) -> None:
    """HttpError unless the status says that all is well."""
    if not 200 <= answer.status < 300:
        raise HttpError(*answer)


def modern(reply: Any) -> Any:
    """What version 1 says, in the words of version 2; a batch of it likewise."""
    if isinstance(reply, list):
        return [modern(one) for one in reply]
    if not isinstance(reply, dict):
        return reply
    normalized = {**reply, "jsonrpc": "2.0"}
    if "result" in normalized and "error" in normalized:  # the one that is not meant is null
        del normalized["error" if normalized["error"] is None else "result"]
    error = normalized.get("error")
    if error is not None and not _is_error_object(error):
        text = error if isinstance(error, str) else shown(error)
        normalized["error"] = {"code": 0, "message": text, "data": error}
    return normalized


def _is_error_object(error: Any) -> bool:
    return (
        isinstance(error, dict)
        and isinstance(error.get("code"), int)
        and isinstance(error.get("message"), str)
    )


def matching(reply: Any, id: int) -> dict[str, Any]:
    """The reply, if it is one to the call of this id."""
    checked(reply)
    if not same(reply["id"], id) and not (reply["id"] is None and "error" in reply):
        raise BadReply(f"a reply to {reply['id']!r} instead of {id}")
    return reply  # type: ignore[no-any-return]


def same(given: Any, id: int) -> bool:
    return type(given) is int and given == id


def checked(reply: Any) -> None:
    """BadReply unless it is one reply of JSON-RPC 2.0."""
    if not isinstance(reply, dict) or reply.get("jsonrpc") != "2.0" or "id" not in reply:
        raise BadReply(f"no JSON-RPC 2.0: {shown(reply)}")
    if ("result" in reply) == ("error" in reply):
        raise BadReply(f"either a result or an error is due: {shown(reply)}")
    if "error" in reply:
        if not _is_error_object(reply["error"]):
            raise BadReply(f"an error object needs a code and a message: {shown(reply)}")


def outcome(reply: dict[str, Any]) -> Any:
    """The result, or RemoteError."""
    if "error" in reply:
        error = reply["error"]
        raise RemoteError(error["code"], error["message"], error.get("data"))
    return reply["result"]


def deal(replies: Any, due: dict[int, Reply]) -> None:
    """Gives each call of a batch its reply, in whatever order they come."""
    if isinstance(replies, dict):  # the batch as a whole was refused
        outcome(matching(replies, 0))
    if not isinstance(replies, list):
        raise BadReply(f"no replies to a batch: {shown(replies)}")
    found: dict[int, dict[str, Any]] = {}
    for reply in replies:
        checked(reply)
        id = reply["id"]
        if id is None:
            outcome(reply)  # it does not say to what
        if type(id) is not int or id not in due or id in found:
            raise BadReply(f"a reply that nobody asked for: {shown(reply)}")
        found[id] = reply
    if missing := [reply.method for id, reply in due.items() if id not in found]:
        raise BadReply(f"no reply to {', '.join(missing)}")
    for id, reply in due.items():
        reply._resolve(found[id])


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
