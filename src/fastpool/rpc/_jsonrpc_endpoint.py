"""What a JSON-RPC client calls: an address, and the language spoken there.  Knows no connection."""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import urljoin

from ._address import Address
from ._jsonrpc_codec import Codec

__all__ = ["Endpoint"]


class Endpoint:
    """One address of a client made by ``maker``, which errors name."""

    def __init__(
        self,
        maker: str,
        url: str,
        headers: Mapping[str, str] | None,
        uds: str | os.PathLike[str] | None,
        language: Codec,
    ) -> None:
        self.address = Address(maker, url, headers, uds=uds)
        self.url = url
        self.language = language
        self._maker = maker
        self._headers = headers
        self._uds = uds

    def at(self, url: str, headers: Mapping[str, str] | None) -> Endpoint:
        """Another address, absolute or relative to this one.  This one's headers are sent to its
        own host only."""
        url = urljoin(self.url, url)
        origin = Address(self._maker, url, None, uds=self._uds).origin
        if origin == self.address.origin:
            headers = {**(self._headers or {}), **(headers or {})}
        return Endpoint(self._maker, url, headers, self._uds, self.language)
