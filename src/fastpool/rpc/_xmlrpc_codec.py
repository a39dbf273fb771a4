"""XML-RPC itself, for threads and tasks: what is sent, what may come back.  Knows no connection."""

from __future__ import annotations

import math
import re
from typing import Any
from xmlrpc.client import Fault, ProtocolError, Unmarshaller, dumps, getparser

from ._address import Address
from ._errors import BadReply
from ._http_messages import HttpResponse, Request

__all__ = ["Codec", "is_no_fault", "read_finite", "refuse_host", "refuse_infinite"]


def refuse_host(name: Any) -> None:
    """ValueError for a header of this name, which is sent already."""
    if isinstance(name, str) and name.strip().lower() == "host":
        raise ValueError("header Host: is sent already, as the address has it; leave it out")


def is_no_fault(error: BaseException, connection: Any) -> bool:
    """A Fault is an answer.  After anything else the rest of one may still be coming."""
    return not isinstance(error, Fault)


def _finite(unmarshaller: Any, text: str) -> None:
    if not math.isfinite(float(text)):
        raise BadReply(f"XML-RPC has no {text.strip()}")
    Unmarshaller.dispatch["double"](unmarshaller, text)


FINITE = {"double": _finite, "float": _finite}


def read_finite(unmarshaller: Any) -> None:
    """Have it read no NaN and no infinity: BadReply."""
    unmarshaller.dispatch = unmarshaller.dispatch | FINITE


NOT_FINITE = re.compile(rb"<double>-?(nan|inf)</double>")
"""As the standard library writes it; in text it would be &lt;double>."""


def refuse_infinite(body: bytes) -> None:
    """ValueError for a call that has what XML-RPC has not."""
    if found := NOT_FINITE.search(body):
        raise ValueError(f"XML-RPC has no {found[1].decode()}")


class Codec:
    """Makes questions of XML-RPC."""

    def __init__(
        self,
        address: Address,
        encoding: str | None,
        allow_none: bool,
        use_datetime: bool,
        use_builtin_types: bool,
        refuse_nan: bool,
    ) -> None:
        self._address = address
        self._encoding = encoding or "utf-8"
        self._allow_none = allow_none
        self._types = use_datetime, use_builtin_types
        self._refuse_nan = refuse_nan

    def question(self, method: str, params: tuple[Any, ...]) -> Request:
        text = dumps(params, method, encoding=self._encoding, allow_none=self._allow_none)
        body = text.encode(self._encoding, "xmlcharrefreplace")
        if self._refuse_nan:
            refuse_infinite(body)
        return Request(body, self._read)

    def _read(self, answer: HttpResponse) -> Any:
        """The result, or the Fault."""
        if answer.status != 200:
            where = f"{self._address.origin}{self._address.path.partition('?')[0]}"
            raise ProtocolError(where, answer.status, answer.reason, answer.headers)
        parser, unmarshaller = getparser(*self._types)
        if self._refuse_nan:
            read_finite(unmarshaller)
        parser.feed(answer.body)
        parser.close()
        values = unmarshaller.close()
        return values[0] if len(values) == 1 else values
