"""What a holder has of a shared channel: one reference, given back once."""

from __future__ import annotations

from typing import Any, ClassVar, Generic, Self, TypeVar

from .._core import ClosedFlag
from . import _registry
from ._registry import Entry, Shareable

C = TypeVar("C", bound=Shareable)


class Handle(Generic[C]):
    """The part of `SharedChannel` and `AioSharedChannel` that knows of closing."""

    _made_by: ClassVar[str]
    _closed_error: ClassVar[staticmethod[[], Exception]]

    # The instance's own from `__init__` until `close` or `__del__` takes it out.
    _entry: Entry[C] | None = None

    def __init__(self, entry: Entry[C]) -> None:
        if not isinstance(entry, Entry):
            raise TypeError(f"a {type(self).__name__} is made by fastpool.grpc.{self._made_by}")
        self._target = entry.key.target
        self._closed_flag = ClosedFlag()
        self._entry = entry

    def __repr__(self) -> str:
        return f"<{type(self).__name__} to {self._target!r}{', closed' if self.closed else ''}>"

    @property
    def target(self) -> str:
        """The target as it was given when the channel was asked for."""
        return self._target

    @property
    def closed(self) -> bool:
        """Whether this handle is closed. The channel may live on for others."""
        return self._entry is None

    def __copy__(self) -> Self:
        """Another handle of the channel, with a reference of its own."""
        entry = self._entry
        if entry is None:
            raise self._closed_error()
        return type(self)(_registry.again(entry))

    def __deepcopy__(self, memo: object) -> Self:
        return self.__copy__()

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(
            f"a {type(self).__name__} belongs to its process and cannot be pickled: ask for"
            f" fastpool.grpc.{self._made_by} there"
        )

    def __del__(self) -> None:
        entry = self._give_up()
        if entry is not None:
            _registry.drop(entry)

    def _give_up(self) -> Entry[C] | None:
        """Take the entry out of the instance. That is one atomic step, so of several threads that
        close at once one gets it; everybody sees the class's None from then on. A lock would not do
        here: a forked child could inherit it locked."""
        own = self.__dict__
        entry: Entry[C] | None = own.pop("_entry", None)  # pyright: ignore
        if entry is not None:
            self._closed_flag.shut = True
        return entry

    def _live(self) -> C:
        entry = self._entry
        if entry is None:
            raise self._closed_error()
        return entry.connections
