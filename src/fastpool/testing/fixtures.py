"""For pytest: ``pytest_plugins = ["fastpool.testing.fixtures"]`` in the topmost conftest.py."""

from __future__ import annotations

from collections.abc import Iterator

try:
    import pytest
except ImportError as error:
    raise ImportError("fastpool.testing.fixtures needs pytest: pip install pytest") from error

from ._leaks import LeakWatch

__all__ = ["no_pool_leaks"]


@pytest.fixture
def no_pool_leaks() -> Iterator[None]:
    """The test fails at its end if a pool that it made has resources leased, if a lease that it
    took from an older pool is held still, or if a lease was collected unreleased.

    The message names the pool, how many, who holds them and for how long.  What is about to come
    back has a second for it.  pytest reports it as an error at the teardown of that test.  Name it
    before fixtures that make pools, or set it for all tests by ``usefixtures`` in the settings.
    """
    with LeakWatch() as watch:
        yield
        if findings := watch.findings():
            pytest.fail("\n".join(findings), pytrace=False)
