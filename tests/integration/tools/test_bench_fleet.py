"""`python -m bench.fleet`: a small deploy on a real PostgreSQL, where nobody is to be refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from support.helpers import PATIENCE

pytest.importorskip("psycopg", reason="psycopg is not installed")

pytestmark = [
    pytest.mark.servers,
    pytest.mark.costly,
    pytest.mark.once,
    pytest.mark.skipif(sys.platform != "linux", reason="open file description locks"),
]
ROOT = Path(__file__).parents[3]


@pytest.mark.timeout(6 * PATIENCE)
@pytest.mark.long
def test_nobody_is_refused_in_a_deploy(tmp_path: Path) -> None:
    """Four times twenty threads, a budget of all that the server lets in, and a close hook that
    waits for the server: it refuses none, and no caller has an error."""
    command = [sys.executable, "-m", "bench.fleet", "--only", "fastpool", "--processes", "2"]
    files = ["--json", str(tmp_path / "runs.json"), "--plot", str(tmp_path / "plot.svg")]
    done = subprocess.run(
        [*command, "--seconds", "0.5", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=5 * PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    if "not run: " in done.stdout:
        pytest.skip(done.stdout.strip().splitlines()[-1])
    (run,) = json.loads((tmp_path / "runs.json").read_text())
    assert (run["refusals"], run["errors"]) == ([], {})
    assert 0 < max(n for _, n in run["counts"]) <= 60
    assert sum(run["turns"].values()) > 0
    assert "| fastpool, one budget of 60 |" in done.stdout
    ElementTree.parse(tmp_path / "plot.svg")


@pytest.mark.long
def test_borrowers_notice_nothing_of_an_engine_that_is_away(tmp_path: Path) -> None:
    """No error, and turns as before; a tenth, because the machine may be busy with other things."""
    pytest.importorskip("redis", reason="redis is not installed")
    file = tmp_path / "outage.json"
    done = subprocess.run(
        [sys.executable, "-m", "bench.fleet.outage", "--seconds", "3", "--json", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=5 * PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    if "not run: " in done.stdout:
        pytest.skip(done.stdout.strip().splitlines()[-1])
    found = json.loads(file.read_text())
    assert (found["errors"], found["most"]) == ({}, 16)
    assert found["turns"]["away"] > found["turns"]["before"] / 10
