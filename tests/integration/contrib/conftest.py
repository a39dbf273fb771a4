"""What the tests of the adapters share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.measure import NotRun
from integration.drivers import killed_servers


@pytest.fixture(scope="module")
def killed_redis() -> Iterator[killed_servers.Server]:
    """A redis-server of the module's own, to be killed and started again."""
    try:
        with killed_servers.running(killed_servers.Redis) as server:
            yield server
    except NotRun as reason:
        pytest.skip(str(reason))
