"""What the tests of the adapters share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.measure import NotRun
from integration.drivers import killed_servers


def killed(kind: type[killed_servers.Server]) -> Iterator[killed_servers.Server]:
    """A server of the module's own, to be killed and started again."""
    try:
        with killed_servers.running(kind) as server:
            yield server
    except NotRun as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def killed_redis() -> Iterator[killed_servers.Server]:
    yield from killed(killed_servers.Redis)


@pytest.fixture(scope="module")
def killed_postgresql() -> Iterator[killed_servers.Server]:
    yield from killed(killed_servers.PostgreSQL)


@pytest.fixture(scope="module")
def killed_mariadb() -> Iterator[killed_servers.Server]:
    yield from killed(killed_servers.MariaDB)
