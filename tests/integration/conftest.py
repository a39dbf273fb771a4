"""What the tests with real servers share."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from bench.grpc.certificate import NoCertificate, make_certificate
from loops import KINDS, Run, run_in


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A key and a certificate for localhost, two PEM files."""
    try:
        return make_certificate(tmp_path_factory.mktemp("certificate"))
    except NoCertificate as reason:
        pytest.skip(str(reason))


@pytest.fixture(params=KINDS)
def on_loop(request: pytest.FixtureRequest) -> Run:
    """`on_loop(main())`, as asyncio.run, on event loops of both makes."""
    return partial(run_in, request.param)
