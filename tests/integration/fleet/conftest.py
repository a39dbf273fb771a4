"""What the tests of budgets share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from bench.measure import NotRun
from integration.drivers import killed_servers


@pytest.fixture
def engine() -> Iterator[Any]:
    """A Redis of its own, empty."""
    try:
        with killed_servers.running(killed_servers.Redis) as server:
            yield server
    except NotRun as reason:
        pytest.skip(str(reason))
