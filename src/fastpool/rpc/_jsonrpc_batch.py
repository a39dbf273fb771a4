"""The calls of a batch, before they are sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._http_messages import Request
from ._jsonrpc_codec import Codec, Entries, Reply

__all__ = ["Collected"]


class Collected:
    """What batches for threads and for tasks have in common."""

    def __init__(self, language: Codec, ask: Callable[[Request], Any]) -> None:
        self._language = language
        self._ask = ask
        self._entries: Entries = []

    def call(self, method: str, /, *params: Any, **named: Any) -> Reply:
        """Its ``result()`` is there when the block has ended."""
        language, reply = self._language, Reply(method)
        self._entries.append((language.message(method, params, named, language.next_id()), reply))
        return reply

    def notify(self, method: str, /, *params: Any, **named: Any) -> None:
        """One that the server does not answer."""
        self._entries.append((self._language.message(method, params, named, None), None))

    def _question(self, error: BaseException | None) -> Request | None:
        """What is to be sent, if anything."""
        if error is not None or not self._entries:
            return None
        entries, self._entries = self._entries, []
        return self._language.batch(entries)
