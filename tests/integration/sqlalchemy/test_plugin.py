"""The entry point, as pyproject.toml has it and SQLAlchemy finds it."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")

ROOT = Path(__file__).parents[3]
PROGRAM = """
from sqlalchemy import create_engine, text
for url, options in (
    ("sqlite:///{base}", {{"plugins": ["fastpool"]}}),
    ("sqlite:///{base}?plugin=fastpool", {{}}),
):
    engine = create_engine(url, pool_size=3, **options)
    with engine.connect() as connection:
        connection.execute(text("select 1"))
    print(type(engine.pool).__name__, engine.pool.size())
    engine.dispose()
"""


@pytest.mark.process
@pytest.mark.light
def test_create_engine_finds_it_by_name(tmp_path: Path) -> None:
    """By the argument and in the URL."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    lines = [f"{name} = {target}" for name, target in groups["sqlalchemy.plugins"].items()]
    info = tmp_path / "fastpool-0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fastpool\nVersion: 0.0\n")
    (info / "entry_points.txt").write_text("[sqlalchemy.plugins]\n" + "\n".join(lines) + "\n")
    path = [str(tmp_path), *(entry for entry in sys.path if entry)]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM.format(base=tmp_path / "base")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("FastQueuePool 3\n" * 2, "")
