"""Key affinity: calls with the same value of a metadata key go to the same connection.

Each value ranks the connections by a hash of both (rendezvous hashing), so that one which comes or
goes moves its own values and no others. Connections to an address of the target are known by that,
and then every process ranks them alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, Protocol, TypeVar


class Ranked(Protocol):
    address: str | None
    ordinal: int


C = TypeVar("C", bound=Ranked)


def value_of(metadata: Iterable[Any] | None, key: str) -> bytes | None:
    """The value of the key, the last one of several; None: the call has none."""
    found = None
    for name, value in metadata or ():
        if name == key:
            found = value
    return found.encode() if isinstance(found, str) else found


def ranked(value: bytes, connections: Iterable[C]) -> list[C]:
    """The connections, that of this value first."""

    def rank(connection: C) -> tuple[bytes, bytes]:
        ordinal = _hash(value, str(connection.ordinal))
        address = connection.address
        return (b"" if address is None else _hash(value, address), ordinal)

    return sorted(connections, key=rank)


def _hash(value: bytes, identity: str) -> bytes:
    return blake2b(value, key=identity.encode()[:64], digest_size=8).digest()
