"""`python -m bench.scaling`: one short round, and what it writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from support.helpers import PATIENCE

pytestmark = [pytest.mark.process, pytest.mark.once]
ROOT = Path(__file__).parents[3]


@pytest.mark.timeout(3 * PATIENCE)
def test_a_round_is_a_table_and_a_picture(tmp_path: Path) -> None:
    """Each contestant has a rate for each number of threads, in the table and in the record; more
    threads than CPUs are run when asked for."""
    command = [sys.executable, "-m", "bench.scaling", "--out", str(tmp_path)]
    done = subprocess.run(
        [*command, "--rounds", "1", "--threads", "1,3", "--window", "0.002"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = tmp_path.glob("scaling-*.json")
    rates = json.loads(record.read_text())["rates"]
    assert {"fastpool, get and put", "queue.SimpleQueue"} <= set(rates)
    for name, sizes in rates.items():
        assert list(sizes) == ["1", "3"], name
        assert record.with_suffix(".md").read_text().count(f"| {name} |") == 3
    assert record.with_suffix(".md").read_text() in done.stdout
    ElementTree.parse(record.with_suffix(".svg"))
